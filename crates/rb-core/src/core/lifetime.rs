//! Counters of a store over all its sessions, which checkpoints keep.

use std::sync::atomic::{AtomicU64, Ordering};

use rb_format::LifetimeCounters;

use crate::core::inner::Inner;

impl Inner {
    /// Adds what this session has counted to the counters of the sessions before it.
    pub(crate) fn lifetime(&self) -> LifetimeCounters {
        let before = &self.recovery.lifetime;
        let (counters, index) = (&self.counters, self.index.stats());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let device = self.lanes.requests.stats();
        let kinds = device.by_purpose().map(|(_, kind)| kind);
        let discarded = kinds.iter().map(|kind| kind.discard.bytes).sum();
        let errors = kinds.iter().map(|kind| kind.failures()).sum();
        LifetimeCounters {
            slot_bytes: before.slot_bytes.saturating_add(device.values.write.bytes),
            log_bytes: before.log_bytes.saturating_add(device.log.write.bytes),
            base_bytes: before.base_bytes.saturating_add(device.base.write.bytes),
            discarded_bytes: before.discarded_bytes.saturating_add(discarded),
            puts: before.puts.saturating_add(count(&counters.puts)),
            removes: before.removes.saturating_add(count(&counters.removes)),
            evictions: before.evictions.saturating_add(index.evictions),
            // An epoch numbers its openings; a base of a former one was written by an earlier one.
            openings: u64::from(self.recovery.openings).max(
                before
                    .openings
                    .saturating_add(u64::from(self.writer.is_some())),
            ),
            errors: before.errors.saturating_add(errors),
        }
    }
}
