//! Counters of an open store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) removes: AtomicU64,
    pub(crate) bytes_put: AtomicU64,
    pub(crate) bytes_got: AtomicU64,
    pub(crate) bytes_copied: AtomicU64,
    pub(crate) read_errors: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) metadata_write_errors: AtomicU64,
    /// In nanoseconds.
    pub(crate) longest_snapshot_hold: AtomicU64,
    pub(crate) validated: AtomicU64,
    pub(crate) scrub: ScrubCounters,
    pub(crate) discard: DiscardCounters,
}

impl Counters {
    /// Counts the bytes of a value that was written.
    pub(crate) fn add_written(&self, bytes: u32) {
        self.bytes_put.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    /// Counts puts that have ended.
    pub(crate) fn add_puts(&self, count: usize) {
        add(&self.puts, count);
    }
}

#[derive(Debug, Default)]
pub(crate) struct DiscardCounters {
    pub(crate) slots: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) failures: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct ScrubCounters {
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) passes: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// Raises a counter of nanoseconds to `time` if that is longer.
pub(crate) fn raise(counter: &AtomicU64, time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    counter.fetch_max(nanos, Ordering::Relaxed);
}
