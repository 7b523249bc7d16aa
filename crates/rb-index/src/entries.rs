//! The view of entries that a policy gets: the time of an entry's last use.

use std::fmt;

use crate::store::Store;

/// Stamps up to this far ahead of the clock are treated as now: the log may be a little newer than
/// the saved clock.
const AHEAD_LIMIT: u32 = 1 << 24;

/// The entries of the shard whose policy is called.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    store: &'a Store,
    now: u64,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(store: &'a Store, now: u64) -> Entries<'a> {
        Entries { store, now }
    }

    /// Returns the current time, on the scale of [`Entries::last_use`]. It advances by one for
    /// every 16 keys of any batch.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Returns the time of an entry's last use; the current time if a lease holds it, or if there
    /// is no such entry. All shards share one clock, which continues across restarts.
    #[must_use]
    #[inline]
    pub fn last_use(&self, entry: u32) -> u64 {
        let Some(entry) = self.store.get(entry) else {
            return self.now;
        };
        let now = self.now as u32;
        let age = age(entry.recency(now), now);
        // The clock starts above the largest possible age (`index::CLOCK_START`), so this cannot
        // underflow.
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

/// Returns the age of a stamp; the clock may have wrapped around in between.
pub(crate) fn age(stamp: u32, now: u32) -> u32 {
    let age = now.wrapping_sub(stamp);
    if age > u32::MAX - AHEAD_LIMIT { 0 } else { age }
}
