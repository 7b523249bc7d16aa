//! The signal to the store's threads to end.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn notify(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_notified(&self) -> bool {
        *self.stopped.lock()
    }

    /// Waits for `time` or until stopped. Returns whether to continue.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        // Under the lock, so that a stop between the look and the wait is not missed.
        if !*stopped {
            self.changed.wait_for(&mut stopped, time);
        }
        !*stopped
    }
}
