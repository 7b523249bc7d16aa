//! Queries: what is there, without reading it.

use crate::ops::query::{self, EntryInfo, Pin};
use crate::store::Store;

impl Store {
    /// Whether the key is there, without reading it or changing its recency.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        query::contains_many(self.inner(), &[key]) == [true]
    }

    /// Whether each key is there.
    #[must_use]
    pub fn contains_many(&self, keys: &[&[u8]]) -> Vec<bool> {
        query::contains_many(self.inner(), keys)
    }

    /// How many of the first keys are there without a gap.
    #[must_use]
    pub fn longest_prefix(&self, keys: &[&[u8]]) -> usize {
        query::contains_many(self.inner(), keys)
            .iter()
            .take_while(|found| **found)
            .count()
    }

    /// Makes keys recently used, the first of the batch the most; answers which were there.
    #[expect(clippy::must_use_candidate, reason = "its effect is the use")]
    pub fn touch_many(&self, keys: &[&[u8]]) -> Vec<bool> {
        query::touch_many(self.inner(), keys)
    }

    /// Leases each key that is there: its slot is neither evicted nor reused until its lock is
    /// given to [`Store::unpin`] or dropped. Pins are counted; a remove still takes the key away.
    #[must_use]
    pub fn lookup_and_pin(&self, keys: &[&[u8]]) -> Vec<Option<Pin>> {
        query::lookup_and_pin(self.inner(), keys)
    }

    /// Ends pins in one batch. The first ends as the most recently used.
    pub fn unpin(&self, pins: Vec<Pin>) {
        query::unpin(self.inner(), pins);
    }

    /// Shows every live entry once, in no particular order, holding no lock meanwhile; ends when
    /// `visit` answers false.
    pub fn for_each(&self, mut visit: impl FnMut(EntryInfo) -> bool) {
        query::for_each(self.inner(), &mut visit);
    }
}
