//! Where executed parts wait for their queue.

use parking_lot::{Condvar, Mutex};
use rb_io::PartDone;

/// Where executed parts wait for their queue, which may have gone.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) state: Mutex<(Vec<PartDone>, bool)>,
    pub(super) changed: Condvar,
}

impl Board {
    pub(super) fn put(&self, done: PartDone) {
        self.put_all([done]);
    }

    /// Whoever reaps sees all of them at once.
    pub(super) fn put_all(&self, done: impl IntoIterator<Item = PartDone>) {
        self.state.lock().0.extend(done);
        self.changed.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().0.len()
    }
}
