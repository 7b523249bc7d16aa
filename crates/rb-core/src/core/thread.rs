//! A thread of the store that is left behind if it hangs in the device.

use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, bounded};
use rb_io::Patience;

use crate::error::Error;

#[derive(Debug)]
pub(crate) struct Thread {
    handle: JoinHandle<()>,
    /// Disconnects when the thread's work ends.
    ended: Receiver<()>,
}

impl Thread {
    /// Starts a thread that runs `work`.
    ///
    /// # Errors
    /// `Resource`: the system cannot start another thread.
    pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread, Error> {
        let (ending, ended) = bounded::<()>(0);
        let handle = std::thread::Builder::new().name(name.into());
        let handle = handle.spawn(move || {
            // Dropped when the work ends, even by a panic.
            let _ending = ending;
            work();
        });
        let handle = handle.map_err(|why| Error::Resource {
            what: "a thread",
            why: why.to_string(),
        })?;
        Ok(Thread { handle, ended })
    }

    /// Returns whether the caller runs in this thread.
    pub(crate) fn is_current(&self) -> bool {
        self.handle.thread().id() == std::thread::current().id()
    }

    /// Returns whether the thread's work has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
            .try_recv()
            .is_err_and(|why| why.is_disconnected())
    }

    /// Waits for the end of the thread's work up to `patience`; returns whether it ended. A thread
    /// that hangs is left behind with everything it owns. A thread that would join itself is left,
    /// too.
    ///
    /// Thread exit itself is not awaited: a thread that submitted requests to the kernel cannot
    /// exit before they complete, and their buffers no longer belong to the store.
    pub(crate) fn join(self, patience: &mut Patience) -> bool {
        if self.is_current() {
            return false;
        }
        loop {
            if self.has_ended() {
                return true;
            }
            if patience.is_over() {
                return false;
            }
            // Nothing is ever sent: this returns when the step is over or the thread ended.
            let _ = patience.spend(|step| self.ended.recv_timeout(step));
        }
    }
}
