//! Quarantine of slots whose write failed (C7).
//!
//! A failed write may still land: the device reported a failure, not that the write will never
//! happen. So the slot stays out of use until a later flush has ended.
//!
//! Not every failure counts against the slot: a full file system fails every write to an
//! unallocated place, and a device in trouble fails all writes for seconds. So a slot rests after a
//! failure that counts, and only a failure after the rest counts again. If many slots rest at the
//! same time, the device is to blame. A slot that keeps failing is bad; the log records it until a
//! later session finds it good (`open/retest.rs`).

use std::collections::HashMap;
use std::time::Duration;

use rb_index::{Fate, Index, SlotId};

/// Failures after which a slot is bad.
const FAILURES_MAX: u32 = 3;

/// Duration of a slot's rest after a failure that counts.
pub(crate) const REST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Quarantine {
    waiting: Vec<SlotId>,
    /// Number of slots ever added to `waiting`.
    added: u64,
    failures: HashMap<SlotId, Failures>,
    /// Slots that rest, ordered by the end of their rest.
    resting: Vec<SlotId>,
    /// Most slots that may rest at the same time.
    resting_max: usize,
    bad: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    /// Time from which the next failure counts, by the store's clock.
    until: Duration,
}

impl Quarantine {
    /// Starts with the bad slots that recovery found. `slots` is the size of the store.
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

    /// Adds a slot whose write failed; the caller still owns it as reserved. The slot may be the
    /// cause only if the failure `counts`.
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

    /// Adds a slot whose write may still be in flight, because its queue failed or was abandoned.
    /// It stays out of use for the rest of the session.
    pub(crate) fn add_for_good(&mut self, index: &Index, slot: SlotId) {
        index.quarantine(slot);
    }

    /// Clears the failures of slots that were written successfully.
    pub(crate) fn forgive(&mut self, slots: impl Iterator<Item = SlotId>) {
        if !self.failures.is_empty() {
            for slot in slots {
                self.failures.remove(&slot);
            }
        }
    }

    /// Snapshot of the waiting slots before a flush, for [`Quarantine::settle`]; `None` if no slot
    /// waits and none has finished its rest.
    pub(crate) fn waiting(&self, now: Duration) -> Option<u64> {
        let rested = self.rest_ends().is_some_and(|until| until <= now);
        (rested || !self.waiting.is_empty()).then_some(self.added)
    }

    /// Time at which the next rest ends.
    pub(crate) fn rest_ends(&self) -> Option<Duration> {
        self.resting.first().map(|slot| self.until(*slot))
    }

    fn until(&self, slot: SlotId) -> Duration {
        self.failures
            .get(&slot)
            .map_or(Duration::ZERO, |failures| failures.until)
    }

    /// Settles the slots of the snapshot `waited` after a successful flush: they become free, rest,
    /// or are bad, unless another flush settled them in the meantime. Returns the newly bad ones.
    pub(crate) fn settle(&mut self, index: &Index, waited: u64, now: Duration) -> Vec<u32> {
        let mut bad = Vec::new();
        // Slots that were added after the snapshot are last, and wait for another flush.
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
            // Too many for bad slots: the device is at fault, and its other failures say nothing
            // about a slot.
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

    /// Every known bad slot.
    pub(crate) fn bad(&self) -> &[u32] {
        &self.bad
    }
}

#[cfg(test)]
mod tests {
    use rb_index::IndexOptions;

    use super::*;

    /// Regression test: two commits counted the same slot before either had settled it. The second
    /// then settled a slot that failed during its own flush, which was reused before a flush
    /// covered it.
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
