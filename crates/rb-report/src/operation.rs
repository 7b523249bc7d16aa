//! The figures of one kind of operation, and the charts of them.

use serde::{Deserialize, Serialize};

use crate::axis::Axis;
use crate::chart::{Chart, Line};
use crate::page::Section;

/// Share of calls at the right end of a percentile curve.
const RATIO_MAX: f64 = 0.99999;

/// The figures of one kind of operation. Latencies are those of calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Operation {
    /// Name of the operation.
    pub op: String,
    /// Number of calls.
    pub calls: u64,
    /// Median latency in microseconds; `None` without calls.
    pub p50_us: Option<f64>,
    /// 99th percentile in microseconds.
    pub p99_us: Option<f64>,
    /// 99.9th percentile in microseconds.
    pub p999_us: Option<f64>,
    /// Longest latency in microseconds.
    pub max_us: Option<f64>,
    /// Figures over time.
    pub intervals: Vec<Interval>,
    /// The percentile curve, in ascending order.
    pub percentiles: Vec<Percentile>,
    /// Numbers of calls by their latency, in ascending order.
    pub histogram: Vec<Bar>,
}

/// The figures of a part of the time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// Start, in seconds from the start of the measurement.
    pub start_seconds: f64,
    /// Length in seconds.
    pub seconds: f64,
    /// Bytes of values by the length.
    pub bytes_per_second: f64,
    /// Number of calls that ended in it.
    pub calls: u64,
    /// Median latency in microseconds; `None` without calls.
    pub p50_us: Option<f64>,
    /// 99th percentile in microseconds.
    pub p99_us: Option<f64>,
    /// Longest latency in microseconds.
    pub max_us: Option<f64>,
}

/// A point of a percentile curve.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Percentile {
    /// Share of the calls, 0 to 1.
    pub quantile_ratio: f64,
    /// Latency that this share of the calls did not exceed, in microseconds.
    pub latency_us: f64,
}

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Bar {
    /// Upper end of the bar in microseconds. Its lower end is the upper end of the bar before it.
    pub latency_us: f64,
    /// Number of calls in it.
    pub calls: u64,
}

/// Makes the section with the charts of some operations.
#[must_use]
pub fn charts(heading: &str, operations: &[Operation]) -> Section {
    let mut section = Section::new(heading).chart(&throughput(operations));
    for operation in operations {
        section = section.chart(&over_time(operation));
    }
    section = section.chart(&curves(operations));
    for operation in operations {
        section = section.chart(&histogram(operation));
    }
    section
}

/// Makes the table of latencies of some operations.
#[must_use]
pub fn latency_table(heading: &str, operations: &[Operation]) -> Section {
    let shown = |us: Option<f64>| us.map_or("-".to_owned(), duration);
    let row = |operation: &Operation| {
        vec![
            operation.op.clone(),
            operation.calls.to_string(),
            shown(operation.p50_us),
            shown(operation.p99_us),
            shown(operation.p999_us),
            shown(operation.max_us),
        ]
    };
    let head = ["operation", "calls", "median", "99 %", "99.9 %", "longest"];
    Section::new(heading).table(&head, operations.iter().map(row).collect())
}

fn time() -> Axis {
    Axis::linear("seconds since the start").from_zero()
}

fn latency() -> Axis {
    Axis::log("latency of a call").labelled(duration)
}

/// Middles of the intervals with a number of each.
fn points(operation: &Operation, number: impl Fn(&Interval) -> Option<f64>) -> Vec<(f64, f64)> {
    let point = |interval: &Interval| {
        let middle = interval.start_seconds + interval.seconds / 2.0;
        Some((middle, number(interval)?))
    };
    operation.intervals.iter().filter_map(point).collect()
}

fn throughput(operations: &[Operation]) -> Chart {
    let line = |operation: &Operation| {
        let gigabytes = |interval: &Interval| Some(interval.bytes_per_second / 1e9);
        Line::new(&operation.op, points(operation, gigabytes))
    };
    let lines = operations.iter().map(line).collect();
    let y = Axis::linear("GB/s").from_zero();
    Chart::new("Throughput over time", time(), y, lines)
}

fn over_time(operation: &Operation) -> Chart {
    let lines = vec![
        Line::new("median", points(operation, |interval| interval.p50_us)),
        Line::new("99 %", points(operation, |interval| interval.p99_us)),
        Line::new("longest", points(operation, |interval| interval.max_us)),
    ];
    let caption = format!("Latency of {} over time", operation.op);
    Chart::new(&caption, time(), latency(), lines)
}

fn curves(operations: &[Operation]) -> Chart {
    // A logarithmic axis of what is left over, so that 99 % to 99.9 % is as wide as 90 % to 99 %.
    let line = |operation: &Operation| {
        let points = operation.percentiles.iter();
        let points = points.filter(|point| point.quantile_ratio <= RATIO_MAX);
        let points = points.map(|point| (1.0 / (1.0 - point.quantile_ratio), point.latency_us));
        Line::new(&operation.op, points.collect())
    };
    let ticks = vec![1.0, 2.0, 10.0, 100.0, 1e3, 1e4, 1e5];
    let x = Axis::log("share of the calls that took at most so long");
    let x = x.ticks(ticks).labelled(|left| {
        let percent = format!("{:.3}", 100.0 - 100.0 / left);
        format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
    });
    let lines = operations.iter().map(line).collect();
    Chart::new("Percentiles of the latency", x, latency(), lines)
}

fn histogram(operation: &Operation) -> Chart {
    let all = operation.calls.max(1) as f64;
    let bars = operation.histogram.iter();
    let points = bars.map(|bar| (bar.latency_us, 100.0 * bar.calls as f64 / all));
    let caption = format!("Histogram of the latency of {}", operation.op);
    let y = Axis::linear("% of the calls").from_zero();
    let line = Line::new("", points.collect());
    Chart::new(&caption, latency(), y, vec![line]).bars()
}

/// Shows microseconds in the unit that fits.
fn duration(us: f64) -> String {
    let (number, unit) = match us {
        _ if us < 999.95 => (us, "µs"),
        _ if us < 999_950.0 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let text = match number {
        _ if number < 9.995 => format!("{number:.2}"),
        _ if number < 99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    };
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Page;

    #[test]
    fn durations_have_the_unit_that_fits() {
        let shown = [0.5, 9.996, 100.0, 999.99, 1500.0, 2e6].map(duration);
        assert_eq!(
            shown,
            ["0.5 µs", "10 µs", "100 µs", "1 ms", "1.5 ms", "2 s"]
        );
    }

    #[test]
    fn operations_without_calls_have_empty_charts() {
        let none = Operation {
            op: "get".to_owned(),
            calls: 0,
            p50_us: None,
            p99_us: None,
            p999_us: None,
            max_us: None,
            intervals: Vec::new(),
            percentiles: Vec::new(),
            histogram: Vec::new(),
        };
        let page = Page::new("t").section(charts("c", std::slice::from_ref(&none)));
        let page = page.section(latency_table("l", &[none])).html();
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(!page.contains("could not be drawn"), "{page}");
    }
}
