//! A thread of the store, which may hang with the device when it is to end.

use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, bounded};
use rb_io::Patience;

use crate::error::Error;

#[derive(Debug)]
pub(crate) struct Thread {
    handle: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl Thread {
    /// # Errors
    /// `Resource`: the system has no thread to give.
    pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread, Error> {
        let (ending, ended) = bounded::<()>(0);
        let handle = std::thread::Builder::new().name(name.into());
        let handle = handle.spawn(move || {
            let _ending = ending;
            work();
        });
        let handle = handle.map_err(|why| Error::Resource {
            what: "a thread",
            why: why.to_string(),
        })?;
        Ok(Thread { handle, ended })
    }

    /// Whether the caller runs in it.
    pub(crate) fn is_current(&self) -> bool {
        self.handle.thread().id() == std::thread::current().id()
    }

    /// Waits for its end as long as `patience` lasts; answers whether it came. A thread that hangs is left to itself, with
    /// all that belongs to it, and so is one that is to wait for itself.
    ///
    /// What comes after its work is not waited for: a thread that gave requests to the kernel cannot exit before they are
    /// answered, and what they use is no longer the store's.
    pub(crate) fn join(self, patience: &mut Patience) -> bool {
        if self.is_current() {
            return false;
        }
        loop {
            if self
                .ended
                .try_recv()
                .is_err_and(|why| why.is_disconnected())
            {
                return true;
            }
            if patience.is_over() {
                return false;
            }
            // It sends nothing: this ends with the step, or with the thread.
            let _ = patience.spend(|step| self.ended.recv_timeout(step));
        }
    }
}
