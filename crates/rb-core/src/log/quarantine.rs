//! Slots whose write failed (C7).
//!
//! A failed write may still land: the device said that it failed, not that it will not happen. So
//! the slot stays out of use until a later flush has ended. Only a failure that may be the slot's own counts against it: a
//! full file system fails every write to a place that it has not allocated, and a device in trouble those of seconds. So
//! a slot whose write failed rests, and what fails again after that counts again; where many slots rest at once, it is the
//! device. A slot that fails again and again is bad, which the log remembers until an opening finds it good
//! (`open/retest.rs`).

use std::collections::HashMap;
use std::time::Duration;

use rb_index::{Fate, Index, SlotId};

/// Failures after which a slot is bad.
const FAILURES_MAX: u32 = 3;

/// How long a slot rests after a failure that counts.
pub(crate) const REST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Quarantine {
    waiting: Vec<SlotId>,
    /// Slots that ever waited.
    added: u64,
    failures: HashMap<SlotId, Failures>,
    /// Slots that rest, the next to be used first.
    resting: Vec<SlotId>,
    /// Slots that may rest at once.
    resting_max: usize,
    bad: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    /// When the next one counts, by the store's clock.
    until: Duration,
}

impl Quarantine {
    /// Starts with the bad slots that recovery found, of a store of so many slots.
    pub(crate) fn new(bad: Vec<u32>, slots: u32) -> Quarantine {
        Quarantine {
            waiting: Vec::new(),
            added: 0,
            failures: HashMap::new(),
            resting: Vec::new(),
            resting_max: (slots as usize / 8).max(1),
            bad,
        }
    }

    /// A write to the slot failed, perhaps because of the slot if it `counts`; the caller still owns it as reserved.
    pub(crate) fn add(&mut self, index: &Index, slot: SlotId, counts: bool, now: Duration) {
        index.quarantine(slot);
        if counts {
            let failures = self.failures.entry(slot).or_default();
            if now >= failures.until {
                failures.count += 1;
                failures.until = now.saturating_add(REST);
            }
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

    /// The slots that wait, as of before a flush starts, by what [`Quarantine::settle`] is to be given; none
    /// if there are none, and none has rested.
    pub(crate) fn waiting(&self, now: Duration) -> Option<u64> {
        let rested = self.rest_ends().is_some_and(|until| until <= now);
        (rested || !self.waiting.is_empty()).then_some(self.added)
    }

    /// When the next slot has rested.
    pub(crate) fn rest_ends(&self) -> Option<Duration> {
        self.resting.first().map(|slot| self.until(*slot))
    }

    fn until(&self, slot: SlotId) -> Duration {
        self.failures
            .get(&slot)
            .map_or(Duration::ZERO, |failures| failures.until)
    }

    /// That flush ended well: the slots that waited before it are free again, rest, or are bad, unless another flush
    /// has settled them meanwhile. Returns the newly bad ones.
    pub(crate) fn settle(&mut self, index: &Index, waited: u64, now: Duration) -> Vec<u32> {
        let mut bad = Vec::new();
        let later = usize::try_from(self.added - waited).unwrap_or(usize::MAX);
        let settled = self.waiting.len().saturating_sub(later);
        for slot in self.waiting.drain(..settled) {
            match self.failures.get(&slot) {
                Some(failures) if failures.count >= FAILURES_MAX => {
                    index.settle_quarantined(slot, Fate::Bad);
                    self.failures.remove(&slot);
                    bad.push(slot.0);
                }
                Some(_) => self.resting.push(slot),
                None => index.settle_quarantined(slot, Fate::Free),
            }
        }
        if self.resting.len() > self.resting_max {
            // It is the device. What else it fails then says nothing about a slot.
            self.failures.clear();
        }
        let mut resting = std::mem::take(&mut self.resting);
        resting.sort_by_key(|slot| self.until(*slot));
        let rested = resting.partition_point(|slot| self.until(*slot) <= now);
        for slot in resting.drain(..rested) {
            index.settle_quarantined(slot, Fate::Free);
        }
        self.resting = resting;
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
            secret: [0; 16],
        });
        let (index, mut slots) = (index.unwrap(), Vec::new());
        index.take_free(0, 2, &mut slots);
        let mut quarantine = Quarantine::new(Vec::new(), 2);
        let now = Duration::ZERO;
        quarantine.add(&index, slots[0], false, now);
        let (first, second) = (quarantine.waiting(now), quarantine.waiting(now));
        quarantine.settle(&index, first.unwrap(), now);
        quarantine.add(&index, slots[1], false, now);
        quarantine.settle(&index, second.unwrap(), now);
        let class = &index.stats().classes[0];
        assert_eq!((class.free, class.quarantined), (1, 1));
        let third = quarantine.waiting(now);
        quarantine.settle(&index, third.unwrap(), now);
        assert_eq!(index.stats().classes[0].free, 2);
        assert_eq!(quarantine.waiting(now), None);
    }
}
