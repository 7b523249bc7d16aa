//! The results of an async call whose parts end one by one.

use std::sync::Arc;

use parking_lot::Mutex;

/// Gathers the results of the parts of a call.
pub(crate) struct Gather<A> {
    /// The number of parts that are missing, and the results so far; `None` after the last part.
    open: Mutex<Option<(usize, A)>>,
}

impl<A> Gather<A> {
    /// Expects `parts`, of which there is at least one.
    pub(crate) fn new(parts: usize, results: A) -> Arc<Gather<A>> {
        assert!(parts > 0, "a call without parts has its results already");
        Arc::new(Gather {
            open: Mutex::new(Some((parts, results))),
        })
    }

    /// Adds the results of a part with `add`. After the last part, returns all of them.
    pub(crate) fn add(&self, add: impl FnOnce(&mut A)) -> Option<A> {
        let mut open = self.open.lock();
        let (missing, results) = open.as_mut().expect("a part has its results once");
        add(results);
        *missing -= 1;
        match missing {
            0 => open.take().map(|(_, results)| results),
            _ => None,
        }
    }
}
