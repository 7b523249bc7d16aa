//! Slots whose write failed (C7).
//!
//! A failed write may still land: the device said that it failed, not that it will not happen. So
//! the slot stays out of use until a later flush has ended, and a slot that fails again and again is
//! bad for good, which the log remembers.

use std::collections::HashMap;

use rb_index::{Fate, Index, SlotId};

/// Failures after which a slot is bad.
const FAILURES_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    waiting: Vec<SlotId>,
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

    /// A write to the slot failed; the caller still owns the slot as reserved.
    pub(crate) fn add(&mut self, index: &Index, slot: SlotId) {
        index.quarantine(slot);
        *self.failures.entry(slot).or_default() += 1;
        self.waiting.push(slot);
    }

    /// Nobody knows whether the write to the slot ended: its queue failed, or it was given up. It
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

    /// The slots that wait, as of before a flush starts.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// That flush ended well: the first `count` waiting slots are free again, or bad. Returns the
    /// newly bad ones.
    pub(crate) fn settle(&mut self, index: &Index, count: usize) -> Vec<u32> {
        let mut bad = Vec::new();
        for slot in self.waiting.drain(..count.min(self.waiting.len())) {
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
