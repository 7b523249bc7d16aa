//! Latencies and bytes of calls: over time and altogether, from any number of threads.
//!
//! Each thread records into histograms of its own and merges them a few times per second, so that the recording adds
//! no contention to the measurement. The memory does not grow with the number of calls, nor with the time: intervals
//! that become too many are merged in pairs.

mod calls;
mod measured;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::rates::bytes_per_second;
pub(crate) use calls::Kind;
use calls::{Calls, Kinds, add};
pub(crate) use measured::Measured;

/// Length of the shortest interval.
const STEP: Duration = Duration::from_millis(250);
/// Most intervals of a measurement.
const INTERVALS_MAX: usize = 240;
/// Significant digits of the latencies of all calls, and of those of an interval.
const DIGITS: u8 = 3;
const INTERVAL_DIGITS: u8 = 2;
/// The calls of a measurement.
pub(crate) struct Series {
    start: Instant,
    bar: ProgressBar,
    shared: Mutex<Shared>,
}

struct Shared {
    /// Steps of an interval.
    steps: usize,
    intervals: Vec<Kinds>,
    all: Kinds,
    /// End of the last call.
    end: Duration,
}

/// The calls of one thread since it merged them last. The rest is merged when it is dropped.
pub(crate) struct Recorder<'a> {
    series: &'a Series,
    kinds: Kinds,
    /// The step whose calls `kinds` has.
    step: usize,
    last: Instant,
}

impl Series {
    /// Starts a measurement. The bar shows its rates, if it is visible.
    pub(crate) fn start(bar: ProgressBar) -> Series {
        Series {
            start: Instant::now(),
            bar,
            shared: Mutex::new(Shared {
                steps: 1,
                intervals: Vec::new(),
                all: Calls::kinds(DIGITS),
                end: Duration::ZERO,
            }),
        }
    }

    /// Makes the recorder of a thread.
    pub(crate) fn recorder(&self) -> Recorder<'_> {
        Recorder {
            series: self,
            kinds: Calls::kinds(DIGITS),
            step: 0,
            last: self.start,
        }
    }

    /// Ends the measurement. All recorders have been dropped.
    pub(crate) fn finish(self) -> Measured {
        self.bar.finish_and_clear();
        let shared = self.shared.into_inner();
        let shared = shared.unwrap_or_else(PoisonError::into_inner);
        let interval = STEP * u32::try_from(shared.steps).unwrap_or(u32::MAX);
        let mut intervals = shared.intervals;
        // A short rest at the end would have the rate of few calls.
        let whole = interval * u32::try_from(intervals.len().saturating_sub(1)).unwrap_or(0);
        if intervals.len() > 1 && shared.end.saturating_sub(whole) < interval / 2 {
            let rest = intervals.pop();
            if let (Some(rest), Some(last)) = (rest, intervals.last_mut()) {
                add(last, &rest);
            }
        }
        Measured {
            intervals,
            interval,
            all: shared.all,
            end: shared.end,
        }
    }

    fn merge(&self, step: usize, kinds: &Kinds, last: Instant) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &mut *shared;
        add(&mut shared.all, kinds);
        shared.end = shared.end.max(last.saturating_duration_since(self.start));
        while step / shared.steps >= INTERVALS_MAX {
            shared.steps *= 2;
            shared.intervals = in_pairs(&shared.intervals);
        }
        let at = step / shared.steps;
        while shared.intervals.len() <= at {
            shared.intervals.push(Calls::kinds(INTERVAL_DIGITS));
        }
        add(&mut shared.intervals[at], kinds);
        if !self.bar.is_hidden() {
            self.show(&shared.all, shared.end);
        }
    }

    /// Shows the rates up to now.
    fn show(&self, all: &Kinds, time: Duration) {
        let mut sum = all[0].clone();
        sum.add(&all[1]);
        let calls = sum.latencies.len() as f64 / time.as_secs_f64().max(1e-9);
        self.bar.set_position(time.as_millis() as u64);
        self.bar.set_message(format!(
            "{:.2} GB/s, {calls:.0} calls/s, p99 {:.0} us",
            bytes_per_second(sum.bytes, time) / 1e9,
            sum.us(0.99).unwrap_or(0.0)
        ));
    }
}

fn in_pairs(intervals: &[Kinds]) -> Vec<Kinds> {
    let merged = |pair: &[Kinds]| {
        let mut sum = pair[0].clone();
        pair[1..].iter().for_each(|other| add(&mut sum, other));
        sum
    };
    intervals.chunks(2).map(merged).collect()
}

impl Recorder<'_> {
    /// Records a call that ended now.
    pub(crate) fn call(
        &mut self,
        kind: Kind,
        now: Instant,
        latency: Duration,
        values: u64,
        bytes: u64,
    ) {
        let since = now.saturating_duration_since(self.series.start);
        let step = (since.as_millis() / STEP.as_millis()) as usize;
        if step != self.step {
            self.merge();
            self.step = step;
        }
        self.last = now;
        self.kinds[kind as usize].record(latency, values, bytes);
    }

    fn merge(&mut self) {
        if self.kinds.iter().all(|calls| calls.latencies.is_empty()) {
            return;
        }
        self.series.merge(self.step, &self.kinds, self.last);
        self.kinds.iter_mut().for_each(Calls::clear);
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        self.merge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(calls: &[(Kind, u64, u64)]) -> Measured {
        let series = Series::start(ProgressBar::hidden());
        let mut recorder = series.recorder();
        for (kind, at, us) in calls {
            let now = series.start + Duration::from_millis(*at);
            recorder.call(*kind, now, Duration::from_micros(*us), 2, 1000);
        }
        drop(recorder);
        series.finish()
    }

    #[test]
    fn percentiles_the_longest_and_the_histogram_are_those_of_the_calls() {
        let calls: Vec<_> = (1..=1000).map(|us| (Kind::Get, us, us * 10)).collect();
        let measured = recorded(&calls);
        let near = |found: Option<f64>, wanted: f64| {
            let found = found.unwrap_or(0.0);
            assert!((found / wanted - 1.0).abs() < 0.002, "{found} {wanted}");
        };
        near(measured.us(0.5), 5000.0);
        near(measured.us(0.99), 9900.0);
        assert_eq!(measured.max_us(), Some(10_000.0));
        assert_eq!((measured.values(), measured.bytes()), (2000, 1_000_000));
        let [get] = &measured.operations()[..] else {
            panic!("one kind had calls");
        };
        assert_eq!(get.histogram.iter().map(|bar| bar.calls).sum::<u64>(), 1000);
        assert_eq!(get.histogram[0].calls, 0);
        let last = get.percentiles.last().unwrap();
        assert_eq!((last.quantile_ratio, last.latency_us), (1.0, 10_000.0));
        assert!(
            get.percentiles
                .is_sorted_by(|a, b| a.latency_us <= b.latency_us)
        );
    }

    #[test]
    fn intervals_have_the_calls_that_ended_in_them() {
        let calls = [(Kind::Get, 10, 5), (Kind::Put, 20, 6), (Kind::Get, 700, 7)];
        let measured = recorded(&calls);
        let operations = measured.operations();
        assert_eq!(operations.len(), 2);
        let of = |at: usize| -> Vec<u64> {
            operations[at]
                .intervals
                .iter()
                .map(|interval| interval.calls)
                .collect()
        };
        assert_eq!(of(0), [1, 0, 1]);
        assert_eq!(of(1), [1, 0, 0]);
        let last = &operations[0].intervals[2];
        assert_eq!((last.start_seconds, last.seconds), (0.5, 0.2));
        assert_eq!(last.max_us, Some(7.0));
        assert_eq!(operations[1].intervals[1].p50_us, None);
    }

    /// A measurement of hours has as many intervals as one of a minute, and loses no call.
    #[test]
    fn intervals_stay_few() {
        let calls: Vec<_> = (0..10_000).map(|n| (Kind::Put, n * 1000, 50)).collect();
        let measured = recorded(&calls);
        let [put] = &measured.operations()[..] else {
            panic!("one kind had calls");
        };
        assert!((INTERVALS_MAX / 2..=INTERVALS_MAX).contains(&put.intervals.len()));
        let calls = put.intervals.iter().map(|interval| interval.calls);
        assert_eq!(calls.sum::<u64>(), 10_000);
    }

    #[test]
    fn nothing_has_no_latency() {
        let measured = recorded(&[]);
        assert_eq!((measured.us(0.5), measured.max_us()), (None, None));
        assert!(measured.operations().is_empty());
    }
}
