//! Metrics of whole stores: values, several stores, closed ones.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

use std::sync::Arc;
use std::time::Instant;

use rb_core::prometheus_client::encoding::{prometheus_text, text};
use rb_core::prometheus_client::registry::Registry;
use rb_core::{
    Background, ClassRequest, FormatOptions, LabelInUse, Share, Store, StoreMetrics, StoreOptions,
    format,
};
use rb_testkit::{MemDevice, MemEngine};

fn formatted(label: &[u8]) -> Arc<MemDevice> {
    formatted_with(label, &[4096, 16 << 10])
}

fn formatted_with(label: &[u8], slot_bytes: &[u64]) -> Arc<MemDevice> {
    let class = |slot_bytes: &u64| ClassRequest {
        slot_bytes: *slot_bytes,
        share: Share::Slots(8),
    };
    let device = MemDevice::new(16 << 20);
    let engine: Arc<MemEngine> = Arc::new(MemEngine::new(Arc::clone(&device)));
    let options = FormatOptions {
        label: label.to_vec(),
        ..FormatOptions::new(engine, slot_bytes.iter().map(class).collect())
    };
    format(&options).unwrap();
    device
}

fn open(device: &Arc<MemDevice>) -> Store {
    let options = StoreOptions {
        background: Background::Manual,
        ..StoreOptions::default()
    };
    Store::open(Arc::new(MemEngine::new(Arc::clone(device))), options).unwrap()
}

fn registry(metrics: &StoreMetrics) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(metrics.clone()));
    registry
}

fn scrape(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry).unwrap();
    text
}

#[track_caller]
fn check(text: &str, series: &str, value: &str) {
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    assert_eq!(line, Some(format!("{series} {value}").as_str()));
}

/// The name and the type of each family, in order.
fn families(text: &str) -> Vec<&str> {
    let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    described.collect()
}

#[test]
fn values_are_those_of_the_statistics() {
    let device = formatted(b"blocks");
    let store = open(&device);
    let registry = registry(&StoreMetrics::new(&store));
    store.put(b"small", &[1; 1000]).unwrap();
    store.put(b"large", &[2; 10_000]).unwrap();
    store.sync().unwrap();
    assert!(store.get(b"small").unwrap().is_some());
    assert!(store.get(b"none").unwrap().is_none());
    assert!(store.put(b"", b"no key").is_err());
    let text = scrape(&registry);
    for (series, value) in [
        ("open{store=\"blocks\"}", "1"),
        ("puts_total{store=\"blocks\"}", "2"),
        ("hits_total{store=\"blocks\"}", "1"),
        ("misses_total{store=\"blocks\"}", "1"),
        ("put_bytes_total{store=\"blocks\"}", "11000"),
        ("got_bytes_total{store=\"blocks\"}", "1000"),
        ("failures_total{store=\"blocks\",reason=\"other\"}", "1"),
        ("slots{store=\"blocks\",class=\"1\",state=\"live\"}", "1"),
        ("slots{store=\"blocks\",class=\"1\",state=\"free\"}", "7"),
        ("slot_bytes{store=\"blocks\",class=\"1\"}", "16384"),
        ("capacity_bytes{store=\"blocks\",class=\"0\"}", "32768"),
        ("poisoned{store=\"blocks\"}", "0"),
        ("entries{store=\"blocks\"}", "2"),
        (
            // A refused call takes time, too.
            "operation_duration_seconds_count{store=\"blocks\",op=\"put\"}",
            "3",
        ),
        (
            "operation_duration_seconds_bucket{store=\"blocks\",op=\"put\",le=\"+Inf\"}",
            "3",
        ),
        (
            "device_request_duration_seconds_count{store=\"blocks\",kind=\"values\",op=\"write\"}",
            "2",
        ),
    ] {
        check(&text, &format!("raw_block_{series}"), value);
    }
    // The other format of the same families.
    let mut open_metrics = String::new();
    text::encode(&mut open_metrics, &registry).unwrap();
    assert!(open_metrics.contains("# UNIT raw_block_put_bytes bytes\n"));
    assert!(open_metrics.ends_with("# EOF\n"));
}

#[test]
fn a_closed_store_has_only_the_fact_that_it_is_closed() {
    for close in [true, false] {
        let device = formatted(b"blocks");
        let store = open(&device);
        let metrics = StoreMetrics::new(&store);
        let registry = registry(&metrics);
        assert!(families(&scrape(&registry)).len() > 50);
        match close {
            true => store.close().unwrap(),
            false => drop(store.clone()),
        }
        let still_open = families(&scrape(&registry)).len() > 1;
        assert_eq!(still_open, !close, "dropping one clone ends nothing");
        drop(store);
        let text = scrape(&registry);
        assert_eq!(families(&text), ["raw_block_open gauge"]);
        check(&text, "raw_block_open{store=\"blocks\"}", "0");
        // The device is free: the collector holds no part of the store.
        let again = open(&device);
        assert_eq!(again.recovery().clean, close);
        metrics.add(&again).unwrap();
        check(&scrape(&registry), "raw_block_open{store=\"blocks\"}", "1");
        metrics.remove("blocks");
        assert_eq!(scrape(&registry), "");
    }
}

#[test]
fn several_stores_share_each_family() {
    let (one, two) = (open(&formatted(b"one")), open(&formatted(b"")));
    let metrics = StoreMetrics::new(&one);
    let registry = registry(&metrics);
    let alone = scrape(&registry);
    metrics.add(&two).unwrap();
    let text = scrape(&registry);
    assert_eq!(families(&text), families(&alone));
    let uuid = two.superblock().identity.uuid;
    two.put(b"key", b"value").unwrap();
    let text = scrape(&registry);
    check(&text, "raw_block_puts_total{store=\"one\"}", "0");
    check(
        &text,
        &format!("raw_block_puts_total{{store=\"{uuid}\"}}"),
        "1",
    );
    let in_use = LabelInUse {
        label: "one".to_owned(),
    };
    assert_eq!(metrics.add_as("one", &two), Err(in_use));
    one.close().unwrap();
    metrics.add_as("one", &two).unwrap();
    check(
        &scrape(&registry),
        "raw_block_puts_total{store=\"one\"}",
        "1",
    );
}

#[test]
fn labels_of_any_bytes_are_escaped() {
    let store = open(&formatted(b"a \"b\"\\\n\xff"));
    let text = scrape(&registry(&StoreMetrics::new(&store)));
    check(
        &text,
        "raw_block_puts_total{store=\"a \\\"b\\\"\\\\\\n\u{fffd}\"}",
        "0",
    );
}

/// The size is bounded, since no label has values that grow in number. The time is printed, for `docs/design/0024-metrics.md`.
#[test]
fn a_scrape_is_small() {
    let device = formatted_with(b"blocks", &[4096, 8192, 16 << 10, 32 << 10]);
    let store = open(&device);
    for number in 0..64_u8 {
        store.put(&[number], &[number; 4000]).unwrap();
        assert!(store.get(&[number]).unwrap().is_some());
    }
    let registry = registry(&StoreMetrics::new(&store));
    let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let text = scrape(&registry);
    assert!(samples(&text) < 1000, "{}", samples(&text));
    let mut times: Vec<_> = (0..101)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(samples(&scrape(&registry)), samples(&text));
            start.elapsed()
        })
        .collect();
    times.sort();
    let (count, bytes, median) = (samples(&text), text.len(), times[50]);
    eprintln!("4 classes: {count} samples, {bytes} bytes, {median:?} (median of 101)");
}
