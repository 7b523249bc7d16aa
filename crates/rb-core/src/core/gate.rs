//! Counts operations in progress, so that `close` can refuse new ones and wait for the rest. Also
//! refuses every operation in a forked child.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rb_io::{Patience, Process};

use crate::error::Error;

#[derive(Debug)]
pub(crate) struct Gate {
    process: Process,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    inside: usize,
}

/// Marks an operation in progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass(Arc<Gate>);

impl Default for Gate {
    fn default() -> Gate {
        Gate {
            process: Process::current(),
            state: Mutex::default(),
            left: Condvar::new(),
        }
    }
}

impl Gate {
    /// Fails in a child of the process that opened the store.
    ///
    /// # Errors
    /// `Forked`: locks may be held by threads that do not exist in the child.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        match self.process.is_current() {
            true => Ok(()),
            false => Err(Error::Forked {
                opened_by: self.process.id(),
            }),
        }
    }

    /// Begins an operation, which lasts until the pass is dropped.
    ///
    /// # Errors
    /// `Forked`, `Closed`.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Pass, Error> {
        self.check_process()?;
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        state.inside += 1;
        Ok(Pass(Arc::clone(self)))
    }

    /// Returns true if operations may begin; false in a forked child.
    #[cfg(feature = "prometheus")]
    pub(crate) fn is_open(&self) -> bool {
        // In a child another thread may have locked the mutex at the fork.
        self.check_process().is_ok() && !self.state.lock().closed
    }

    /// Refuses new operations. Returns whether none is in progress.
    pub(crate) fn refuse(&self) -> bool {
        let mut state = self.state.lock();
        state.closed = true;
        state.inside == 0
    }

    /// Refuses new operations and waits up to `wait` for those in progress.
    pub(crate) fn close(&self, wait: Duration) -> Result<(), Error> {
        let mut patience = Patience::new(wait);
        let mut state = self.state.lock();
        state.closed = true;
        while state.inside > 0 {
            if patience.is_over() {
                return Err(Error::TimedOut { waited: wait });
            }
            patience.spend(|step| self.left.wait_for(&mut state, step));
        }
        Ok(())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // The mutex may have been locked at the fork, by a thread that does not exist in this
        // child.
        if self.0.check_process().is_err() {
            return;
        }
        let mut state = self.0.state.lock();
        state.inside -= 1;
        if state.inside == 0 {
            self.0.left.notify_all();
        }
    }
}
