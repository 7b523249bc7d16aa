//! Durability: sync, batches that are durable when answered, process death (C2).

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rb_core::{Durability, EngineKind, Store};

use crate::support::{Bed, engines, key, value};

#[test]
fn what_was_synced_is_there_after_a_crash() {
    let bed = Bed::new(16384, 64);
    let store = bed.open_with(|options| options.sync_interval = Duration::from_secs(3600));
    store.put(b"synced", b"1").unwrap();
    store.sync().unwrap();
    store.put(b"not synced", b"2").unwrap();
    let image = bed.image();
    let after = image.open();
    assert!(after.get(b"synced").unwrap().unwrap() == b"1"[..]);
    assert!(
        after.get(b"not synced").unwrap().is_none(),
        "its record was not written yet"
    );
}

#[test]
fn each_batch_is_durable_when_it_is_answered() {
    let bed = Bed::new(16384, 64);
    let store = bed.open_with(|options| {
        options.durability = Durability::EachBatch;
        options.sync_interval = Duration::from_secs(3600);
    });
    store.put(b"a", b"1").unwrap();
    store
        .put_many_async(vec![rb_core::Put::new(b"b", b"2")], Default::default())
        .wait()
        .remove(0)
        .unwrap();
    assert!(store.get(b"a").unwrap().is_some());
    let after = bed.image().open();
    assert!(after.contains(b"a") && after.contains(b"b"));
    store.remove(b"a").unwrap();
    assert!(!bed.image().open().contains(b"a"));
}

#[test]
fn the_sync_interval_makes_work_durable_without_being_asked() {
    let bed = Bed::new(16384, 64);
    let store = bed.open_with(|options| options.sync_interval = Duration::from_millis(5));
    store.put(b"k", b"v").unwrap();
    let start = std::time::Instant::now();
    while !bed.image().open().contains(b"k") {
        assert!(
            start.elapsed().as_secs() < 20,
            "an interval of 5 ms has long passed"
        );
    }
}

#[test]
fn a_store_dropped_without_close_loses_nothing() {
    let bed = Bed::new(16384, 64);
    let store = bed.open_with(|options| options.sync_interval = Duration::from_secs(3600));
    store.put(b"k", b"v").unwrap();
    drop(store);
    let store = bed.open();
    assert!(!store.recovery().clean);
    assert!(store.get(b"k").unwrap().unwrap() == b"v"[..]);
}

const LEN: usize = 9000;

/// The child's part of the next test: puts, syncs and reports, until it is killed.
#[test]
fn child_of_the_kill_test() {
    let (Ok(path), Ok(engine)) = (
        std::env::var("RB_KILL_STORE"),
        std::env::var("RB_KILL_ENGINE"),
    ) else {
        return; // Not run as the child.
    };
    let options = rb_core::StoreOptions {
        engine: engine.parse::<EngineKind>().unwrap(),
        buffer_bytes: Some(1 << 20),
        ..Default::default()
    };
    let store = Store::open(path, options).unwrap();
    for n in 0.. {
        store.put(&key(n % 50), &value(n, LEN)).unwrap();
        store.sync().unwrap();
        println!("synced {n}");
    }
}

#[test]
fn what_was_synced_before_kill_9_is_there_after_it() {
    for engine in engines() {
        let bed = Bed::new(16384, 64).on(engine);
        for round in 0..5_u64 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "durable::child_of_the_kill_test", "--nocapture"])
                .env("RB_KILL_STORE", bed.path())
                .env("RB_KILL_ENGINE", engine.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut synced = None;
            let wanted = 20 + round * 37;
            for line in BufReader::new(child.stdout.take().unwrap()).lines() {
                if let Some(n) = line.unwrap().strip_prefix("synced ") {
                    synced = Some(n.parse::<u64>().unwrap());
                    if synced == Some(wanted) {
                        child.kill().unwrap();
                    }
                }
            }
            child.wait().unwrap();
            let last = synced.unwrap();
            assert!(last >= wanted);
            let store = bed.open();
            for n in 0..50.min(last + 1) {
                // The newest synced version of this key; one more may have been under way.
                let newest = last - (last - n) % 50;
                let found = store
                    .get(&key(n))
                    .unwrap()
                    .unwrap_or_else(|| panic!("{engine}: key {n} is lost"));
                let legal = found == value(newest, LEN)[..] || found == value(newest + 50, LEN)[..];
                assert!(
                    legal,
                    "{engine} round {round}: key {n} is neither version {newest} nor the next"
                );
            }
            store.audit().unwrap();
        }
    }
}
