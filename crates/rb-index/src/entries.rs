//! What a policy may look at: when an entry was last used.

use std::fmt;

use crate::store::Store;

/// Stamps this far ahead of the given present are taken for the present: the log may be a little younger
/// than the clock that was saved.
const AHEAD_LIMIT: u32 = 1 << 24;

/// The entries of the shard whose policy is asked.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    store: &'a Store,
    now: u64,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(store: &'a Store, now: u64) -> Entries<'a> {
        Entries { store, now }
    }

    /// The present, in the terms of [`Entries::last_use`]. It goes on by one for every 16 keys of any batch.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// When an entry was last used; the present if a lease holds it, or if there is no such entry. The same clock runs
    /// for all shards and goes on over restarts.
    #[must_use]
    #[inline]
    pub fn last_use(&self, entry: u32) -> u64 {
        let Some(entry) = self.store.get(entry) else {
            return self.now;
        };
        let now = self.now as u32;
        let age = age(entry.recency(now), now);
        // The clock starts above what an age can be (`index::CLOCK_START`).
        self.now - u64::from(age)
    }
}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.store.len();
        f.debug_struct("Entries")
            .field("entries", &entries)
            .field("now", &self.now)
            .finish()
    }
}

/// How long ago a stamp was, over the wrap of the clock.
pub(crate) fn age(stamp: u32, now: u32) -> u32 {
    let age = now.wrapping_sub(stamp);
    if age > u32::MAX - AHEAD_LIMIT { 0 } else { age }
}
