//! Counters of an open store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rb_io::{Histogram, Patience};

use crate::error::Error;
use crate::trace::{Span, Trace};

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
    pub(crate) refused_by_policy: Refused,
    pub(crate) refused_by_budget: Refused,
    pub(crate) commits: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) metadata_write_errors: AtomicU64,
    /// In nanoseconds.
    pub(crate) longest_snapshot_hold: AtomicU64,
    pub(crate) validated: AtomicU64,
    pub(crate) scrub: ScrubCounters,
    pub(crate) discard: DiscardCounters,
    /// Here, because async operations must not hold the store to report their end.
    pub(crate) trace: Trace,
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

    /// Ends an operation on keys: counts its failures and reports its results. `done` returns the bytes of the value if a
    /// result is what was asked for, and `None` if it is the other one, such as a miss.
    pub(crate) fn ended<T>(
        &self,
        operation: &'static str,
        timer: Timer,
        answers: &[Result<T, Error>],
        done: impl Fn(&T) -> Option<usize>,
    ) {
        self.failures.count(answers);
        self.trace.ended(operation, timer.span, answers, done);
    }

    /// Counts puts that have ended.
    pub(crate) fn add_puts(&self, count: usize) {
        add(&self.puts, count);
    }
}

/// Puts that were refused.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) keys: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl Refused {
    /// Counts a put of a value of this length.
    pub(crate) fn add(&self, bytes: usize) {
        add(&self.keys, 1);
        add(&self.bytes, bytes);
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

/// The start of an operation.
#[derive(Debug)]
pub(crate) struct Timer {
    /// `None` if operations are not timed.
    start: Option<Instant>,
    span: Span,
}

impl Timer {
    pub(crate) fn new(is_timed: bool, span: Span) -> Timer {
        let start = is_timed.then(Instant::now);
        Timer { start, span }
    }

    /// Counts the time since the start.
    pub(crate) fn count(&self, histogram: &Histogram) {
        if let Some(start) = self.start {
            histogram.record(start.elapsed());
        }
    }

    /// Counts the time since the start of an operation that has one result.
    pub(crate) fn end<T>(self, histogram: &Histogram, outcome: &Result<T, Error>) {
        self.count(histogram);
        self.span.end(outcome);
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

/// A pass of the scrubber: its span, and the counters at its start.
pub(crate) struct ScrubPass {
    span: Span,
    before: [u64; 4],
}

impl ScrubPass {
    /// A pass that begins now. The counters are those of its scrubber.
    pub(crate) fn new(trace: &Trace, counters: &ScrubCounters) -> ScrubPass {
        ScrubPass {
            span: trace.scrub_pass(),
            before: counters.of_pass(),
        }
    }

    pub(crate) fn end(self, counters: &ScrubCounters) {
        let now = counters.of_pass();
        let [entries, bytes, dropped, errors] = [0, 1, 2, 3].map(|at| now[at] - self.before[at]);
        self.span.end_pass(entries, bytes, dropped, errors);
    }
}

impl ScrubCounters {
    fn of_pass(&self) -> [u64; 4] {
        let all = [&self.entries, &self.bytes, &self.dropped, &self.errors];
        all.map(|counter| counter.load(Ordering::Relaxed))
    }
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// Raises a counter of nanoseconds to `time` if that is longer.
pub(crate) fn raise(counter: &AtomicU64, time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    counter.fetch_max(nanos, Ordering::Relaxed);
}
