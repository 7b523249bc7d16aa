//! The table against `docs/monitoring/README.md`, and the buckets against the fine ones.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::MetricType;
use rb_io::Histogram;
use rb_testkit::{MemDevice, MemEngine};

use crate::metrics::bounds;
use crate::metrics::metric::{Metric, Unit};
use crate::metrics::table;
use crate::store::Store;
use crate::store::watch::{Reading, Watch};
use crate::{Background, ClassRequest, FormatOptions, Share, StoreOptions};

const PAGE: &str = include_str!("../../../../docs/monitoring/README.md");

fn all() -> Vec<&'static Metric> {
    [&table::OPEN]
        .into_iter()
        .chain(table::of_open_stores())
        .collect()
}

/// The name that Prometheus shows, for a histogram without `_bucket`, `_sum` and `_count`.
fn exposed(metric: &Metric) -> String {
    let unit = match metric.unit {
        Unit::None => "",
        Unit::Bytes => "_bytes",
        Unit::Seconds => "_seconds",
    };
    let total = match metric.kind {
        MetricType::Counter => "_total",
        _ => "",
    };
    format!("{}{unit}{total}", metric.name)
}

/// The labels of a metric after `store`, each with its values if these are fixed.
fn labels(metric: &Metric, reading: &Reading) -> String {
    let samples = metric.samples(Some(reading));
    let mut shown = Vec::new();
    for (at, name) in metric.labels.iter().enumerate() {
        let mut values: Vec<&str> = Vec::new();
        for sample in &samples {
            assert_eq!(sample.labels.len(), metric.labels.len(), "{}", metric.name);
            let value = &*sample.labels[at];
            if !values.contains(&value) {
                values.push(value);
            }
        }
        match *name {
            "class" | "uuid" | "engine" => shown.push(format!("`{name}`")),
            _ => shown.push(format!("`{name}`: {}", values.join(", "))),
        }
    }
    shown.join("; ")
}

fn row(metric: &Metric, reading: &Reading) -> String {
    let unit = match metric.unit {
        Unit::None => "",
        Unit::Bytes => "bytes",
        Unit::Seconds => "seconds",
    };
    format!(
        "| `{}` | {} | {unit} | {} | {} |",
        exposed(metric),
        metric.kind.as_str(),
        labels(metric, reading),
        metric.help
    )
}

fn store() -> Store {
    let class = ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(8),
    };
    let engine: Arc<MemEngine> = Arc::new(MemEngine::new(MemDevice::new(8 << 20)));
    let format = FormatOptions::new(Arc::clone(&engine), vec![class]);
    crate::format(&format).unwrap();
    let options = StoreOptions {
        background: Background::Manual,
        ..StoreOptions::default()
    };
    Store::open(engine, options).unwrap()
}

#[test]
fn the_page_has_each_row_of_the_table() {
    let store = store();
    let reading = Watch::new(&store).read().unwrap();
    let rows: Vec<String> = all()
        .into_iter()
        .map(|metric| row(metric, &reading))
        .collect();
    let shown = PAGE
        .lines()
        .filter(|line| line.starts_with("| `raw_block_"));
    let shown: Vec<&str> = shown.collect();
    assert!(
        shown == rows,
        "docs/monitoring/README.md should have these rows:\n{}\n",
        rows.join("\n")
    );
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let mut names: Vec<String> = all().into_iter().map(exposed).collect();
    for (metric, name) in all().into_iter().zip(&names) {
        assert!(name.starts_with("raw_block_"), "{name}");
        // The client appends these.
        for suffix in ["_total", "_bytes", "_seconds", "_bucket", "_sum", "_count"] {
            assert!(!metric.name.ends_with(suffix), "{}", metric.name);
        }
        assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
        let is_time = metric.kind == MetricType::Histogram;
        assert!(!is_time || metric.unit == Unit::Seconds, "{name}");
    }
    names.sort();
    names
        .windows(2)
        .for_each(|pair| assert_ne!(pair[0], pair[1]));
}

/// A duration that equals a bound counts as not above it, and one that is a nanosecond longer as above it.
#[test]
fn buckets_are_exact_at_their_bounds() {
    let none = bounds::buckets(&Histogram::new().latency());
    assert_eq!(none.len(), 23);
    assert_eq!(none[22].0, f64::INFINITY);
    for (at, (bound, count)) in none.iter().enumerate().take(22) {
        assert_eq!(*count, 0);
        let nanos = (bound * 1e9).round() as u64;
        let histogram = Histogram::new();
        histogram.record(Duration::from_nanos(nanos));
        histogram.record(Duration::from_nanos(nanos + 1));
        let buckets = bounds::buckets(&histogram.latency());
        assert_eq!((buckets[at].1, buckets[at + 1].1), (1, 1), "{nanos} ns");
    }
}

#[test]
fn each_duration_is_in_one_bucket() {
    let histogram = Histogram::new();
    let mut nanos = 1;
    while nanos < 1 << 44 {
        histogram.record(Duration::from_nanos(nanos));
        nanos += nanos / 3 + 1;
    }
    let latency = histogram.latency();
    let buckets = bounds::buckets(&latency);
    let counts: u64 = buckets.iter().map(|(_, count)| count).sum();
    assert_eq!(counts, latency.count());
    assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(buckets[0].1 > 0 && buckets[22].1 > 0);
}
