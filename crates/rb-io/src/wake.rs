//! Makes a blocked `reap` return from another thread.

use std::fmt;
use std::sync::Arc;

/// Makes a blocked [`Queue::reap`](crate::Queue::reap) return early. Cheap to clone.
///
/// A wake is not lost: one that arrives while no call waits makes the next waiting call return
/// immediately. Several wakes before a wait count as one. After the queue is gone it does nothing.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// Creates a waker that runs `signal`; for authors of engines.
    pub fn new(signal: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(signal))
    }

    /// Wakes the queue's waiter.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
