//! The figures of a measurement that has ended.

use std::time::Duration;

use rb_report::{Bar, Interval, Operation, Percentile};

use super::calls::{Calls, Kind, Kinds};
use crate::rates::bytes_per_second;

/// First bar of the histogram in nanoseconds, and the ratio of each bar to the one before it: ten for each power of ten.
const BAR_FIRST: u64 = 1000;
const BAR_RATIO: f64 = 1.258_925_411_794_167_2;
/// Points of the percentile curve for each halving of the rest of the calls.
const TICKS_PER_HALVING: u32 = 5;

/// The result of a measurement.
pub(crate) struct Measured {
    pub(super) intervals: Vec<Kinds>,
    pub(super) interval: Duration,
    pub(super) all: Kinds,
    pub(super) end: Duration,
}

impl Measured {
    /// Number of values of all calls.
    pub(crate) fn values(&self) -> u64 {
        self.all.iter().map(|calls| calls.values).sum()
    }

    /// Bytes of these values.
    pub(crate) fn bytes(&self) -> u64 {
        self.all.iter().map(|calls| calls.bytes).sum()
    }

    /// Returns the percentile of the latencies of all calls in microseconds; `None` without calls.
    pub(crate) fn us(&self, quantile: f64) -> Option<f64> {
        let mut sum = self.all[0].clone();
        sum.add(&self.all[1]);
        sum.us(quantile)
    }

    /// Returns the longest latency in microseconds; `None` without calls.
    pub(crate) fn max_us(&self) -> Option<f64> {
        let calls = self.all.iter().filter(|calls| !calls.latencies.is_empty());
        calls.map(Calls::max_us).reduce(f64::max)
    }

    /// Returns the figures of each kind that had calls.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let kinds = Kind::ALL.into_iter();
        let used = kinds.filter(|kind| !self.all[*kind as usize].latencies.is_empty());
        used.map(|kind| self.operation(kind)).collect()
    }

    fn operation(&self, kind: Kind) -> Operation {
        let all = &self.all[kind as usize];
        Operation {
            op: kind.name().to_owned(),
            calls: all.latencies.len(),
            p50_us: all.us(0.5),
            p99_us: all.us(0.99),
            p999_us: all.us(0.999),
            max_us: Some(all.max_us()),
            intervals: self.intervals(kind),
            percentiles: percentiles(all),
            histogram: histogram(all),
        }
    }

    fn intervals(&self, kind: Kind) -> Vec<Interval> {
        let count = self.intervals.len();
        let interval = |(number, kinds): (usize, &Kinds)| {
            let calls = &kinds[kind as usize];
            let start = self.interval * u32::try_from(number).unwrap_or(u32::MAX);
            let length = match number + 1 == count {
                true => self.end.saturating_sub(start),
                false => self.interval,
            };
            Interval {
                start_seconds: start.as_secs_f64(),
                seconds: length.as_secs_f64(),
                bytes_per_second: bytes_per_second(calls.bytes, length),
                calls: calls.latencies.len(),
                p50_us: calls.us(0.5),
                p99_us: calls.us(0.99),
                max_us: (!calls.latencies.is_empty()).then(|| calls.max_us()),
            }
        };
        self.intervals.iter().enumerate().map(interval).collect()
    }
}

fn percentiles(calls: &Calls) -> Vec<Percentile> {
    let mut found: Vec<Percentile> = Vec::new();
    for point in calls.latencies.iter_quantiles(TICKS_PER_HALVING) {
        let quantile_ratio = point.quantile();
        // Beyond the last call there are no points.
        if found
            .last()
            .is_some_and(|last| last.quantile_ratio >= quantile_ratio)
        {
            continue;
        }
        let latency_us = (point.value_iterated_to() as f64 / 1e3).min(calls.max_us());
        found.push(Percentile {
            quantile_ratio,
            latency_us,
        });
    }
    found
}

/// Returns the bars from the first to the last that has calls, with an empty one in front.
fn histogram(calls: &Calls) -> Vec<Bar> {
    let bars = calls.latencies.iter_log(BAR_FIRST, BAR_RATIO);
    let bars: Vec<Bar> = bars
        .map(|bar| Bar {
            latency_us: bar.value_iterated_to() as f64 / 1e3,
            calls: bar.count_since_last_iteration(),
        })
        .collect();
    let first = bars.iter().position(|bar| bar.calls > 0).unwrap_or(0);
    let mut shown = bars[first.saturating_sub(1)..].to_vec();
    if first == 0
        && let Some(bar) = shown.first().copied()
    {
        let latency_us = bar.latency_us / BAR_RATIO;
        shown.insert(
            0,
            Bar {
                latency_us,
                calls: 0,
            },
        );
    }
    shown
}
