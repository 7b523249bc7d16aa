//! Slots whose write failed (C7).
//!
//! A failed write may still land: the device said that it failed, not that it will not happen. So
//! the slot stays out of use until a later flush has ended, and a slot that fails again and again is
//! bad for good, which the log remembers. Only a failure that may be the slot's own counts: a full file system
//! fails every write to a place that it has not allocated.

use std::collections::HashMap;

use rb_index::{Fate, Index, SlotId};

/// Failures after which a slot is bad.
const FAILURES_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    waiting: Vec<SlotId>,
    /// Slots that ever waited.
    added: u64,
    failures: HashMap<SlotId, u32>,
    bad: Vec<u32>,
}

impl Quarantine {
    /// Starts with the bad slots that recovery found.
    pub(crate) fn new(bad: Vec<u32>) -> Quarantine {
        Quarantine {
            bad,
            ..Quarantine::default()
        }
    }

    /// A write to the slot failed, perhaps because the slot is `bad`; the caller still owns it as reserved.
    pub(crate) fn add(&mut self, index: &Index, slot: SlotId, bad: bool) {
        index.quarantine(slot);
        if bad {
            *self.failures.entry(slot).or_default() += 1;
        }
        self.waiting.push(slot);
        self.added += 1;
    }

    /// Whether the write to the slot ended is unknown: its queue failed, or it was given up. It
    /// stays out of use until the store is opened again.
    pub(crate) fn add_for_good(&mut self, index: &Index, slot: SlotId) {
        index.quarantine(slot);
    }

    /// Writes to these slots went well: earlier failures no longer count.
    pub(crate) fn forgive(&mut self, slots: impl Iterator<Item = SlotId>) {
        if !self.failures.is_empty() {
            for slot in slots {
                self.failures.remove(&slot);
            }
        }
    }

    /// The slots that wait, as of before a flush starts, by what [`Quarantine::settle`] is to be told; none
    /// if there are none.
    pub(crate) fn waiting(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.added)
    }

    /// That flush ended well: the slots that waited before it are free again, or bad, unless another flush
    /// has settled them meanwhile. Returns the newly bad ones.
    pub(crate) fn settle(&mut self, index: &Index, waited: u64) -> Vec<u32> {
        let mut bad = Vec::new();
        let later = usize::try_from(self.added - waited).unwrap_or(usize::MAX);
        let settled = self.waiting.len().saturating_sub(later);
        for slot in self.waiting.drain(..settled) {
            if self
                .failures
                .get(&slot)
                .is_some_and(|failures| *failures >= FAILURES_MAX)
            {
                index.settle_quarantined(slot, Fate::Bad);
                self.failures.remove(&slot);
                bad.push(slot.0);
            } else {
                index.settle_quarantined(slot, Fate::Free);
            }
        }
        self.bad.extend(&bad);
        bad
    }

    /// Every bad slot known.
    pub(crate) fn bad(&self) -> &[u32] {
        &self.bad
    }
}

#[cfg(test)]
mod tests {
    use rb_index::IndexOptions;

    use super::*;

    /// Two commits counted the same slot before either had settled it. The second settled as many slots as it
    /// had counted: one among them had failed while its flush ran, and was used again before a flush that
    /// covers it.
    #[test]
    fn a_slot_that_failed_during_a_flush_waits_for_the_next() {
        let index = Index::new(IndexOptions {
            shards: 1,
            classes: vec![vec![0..2]],
        });
        let (index, mut slots) = (index.unwrap(), Vec::new());
        index.take_free(0, 2, &mut slots);
        let mut quarantine = Quarantine::default();
        quarantine.add(&index, slots[0], true);
        let (first, second) = (quarantine.waiting(), quarantine.waiting());
        quarantine.settle(&index, first.unwrap());
        quarantine.add(&index, slots[1], true);
        quarantine.settle(&index, second.unwrap());
        let class = &index.stats().classes[0];
        assert_eq!((class.free, class.quarantined), (1, 1));
        let third = quarantine.waiting();
        quarantine.settle(&index, third.unwrap());
        assert_eq!(index.stats().classes[0].free, 2);
        assert_eq!(quarantine.waiting(), None);
    }
}
