//! Counters of an open store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rb_io::{Histogram, Patience};

use crate::error::Error;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) removes: AtomicU64,
    pub(crate) bytes_put: AtomicU64,
    pub(crate) bytes_got: AtomicU64,
    pub(crate) bytes_copied: AtomicU64,
    pub(crate) bytes_direct: AtomicU64,
    pub(crate) read_errors: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) dropped_by_get: AtomicU64,
    pub(crate) dropped_by_validation: AtomicU64,
    pub(crate) failures: FailureCounters,
    pub(crate) waits: WaitCounters,
    pub(crate) times: Times,
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

    /// Counts the bytes of a value that went straight from or into the caller's memory.
    pub(crate) fn add_direct(&self, bytes: usize) {
        add(&self.bytes_direct, bytes);
    }

    /// Counts puts that have ended.
    pub(crate) fn add_puts(&self, count: usize) {
        add(&self.puts, count);
    }
}

/// Durations of operations.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) get: Histogram,
    pub(crate) put: Histogram,
    pub(crate) remove: Histogram,
    pub(crate) sync: Histogram,
    pub(crate) commit: Histogram,
    pub(crate) checkpoint: Histogram,
}

/// The start of an operation; `None` if operations are not timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer(Option<Instant>);

impl Timer {
    pub(crate) fn new(is_timed: bool) -> Timer {
        Timer(is_timed.then(Instant::now))
    }

    /// Counts the time since the start.
    pub(crate) fn end(self, histogram: &Histogram) {
        if let Timer(Some(start)) = self {
            histogram.record(start.elapsed());
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct FailureCounters {
    pub(crate) no_space: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) out_of_space: AtomicU64,
    pub(crate) io: AtomicU64,
    pub(crate) poisoned: AtomicU64,
    pub(crate) other: AtomicU64,
}

impl FailureCounters {
    /// Counts an error that refuses an operation before it begins. Returns the result of each of its keys.
    pub(crate) fn refuse<T: Clone>(&self, error: Error, keys: usize) -> Vec<Result<T, Error>> {
        let answers = vec![Err(error); keys];
        self.count(&answers);
        answers
    }

    /// Counts the errors among the results of an operation, one for each key.
    pub(crate) fn count<T>(&self, answers: &[Result<T, Error>]) {
        for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            let counter = match error {
                Error::NoSpace { .. } => &self.no_space,
                Error::Busy { .. } => &self.busy,
                Error::TimedOut { .. } => &self.timed_out,
                Error::Io(_) if error.is_out_of_space() => &self.out_of_space,
                Error::Io(_) => &self.io,
                Error::Poisoned { .. } => &self.poisoned,
                _ => &self.other,
            };
            add(counter, 1);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct WaitCounters {
    pub(crate) buffers: WaitCounter,
    pub(crate) queues: WaitCounter,
    pub(crate) log_space: WaitCounter,
    pub(crate) slots: WaitCounter,
}

#[derive(Debug, Default)]
pub(crate) struct WaitCounter {
    pub(crate) count: AtomicU64,
    pub(crate) nanos: AtomicU64,
}

impl WaitCounter {
    /// Counts the patience that `work` spends, if it waits at all.
    pub(crate) fn during<T>(
        &self,
        patience: &mut Patience,
        work: impl FnOnce(&mut Patience) -> T,
    ) -> T {
        let before = patience.left();
        let outcome = work(patience);
        let waited = before.saturating_sub(patience.left());
        if !waited.is_zero() {
            add(&self.count, 1);
            let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
            self.nanos.fetch_add(nanos, Ordering::Relaxed);
        }
        outcome
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
