//! Tests of a store that uses the page cache, after a flush that failed: Linux marks what it could not write as
//! written, and the next opening reads it. The device in memory models that; a real kernel cannot be made to fail a
//! flush of a file here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rb_core::{Durability, Put, PutMode, PutOptions, PutOutcome};
use rb_io::OpKind;
use rb_testkit::Moment;

use crate::support::{EIO, Sim, holds, key, value};

/// A sync failed; the store was reopened and read the log of that sync from the page cache. It built on it: the next
/// sync returned Ok, and after a power loss the log had a gap before the records that had been acknowledged.
#[test]
fn what_a_failed_flush_left_in_the_page_cache_is_not_built_on() {
    let sim = Sim::new(32);
    sim.device.page_cache();
    let store = sim.open();
    store.put(&key(0), &value(0, 3000)).unwrap();
    store.sync().unwrap();
    store.put(&key(1), &value(1, 3000)).unwrap();
    sim.device.fail_next(OpKind::Flush, 0..u64::MAX, EIO);
    assert!(store.sync().unwrap_err().is_poisoned());
    assert!(holds(&store, 1), "reads go on");
    drop(store);

    let store = sim.open();
    assert!(!holds(&store, 1), "it is in the page cache only");
    store.put(&key(2), &value(2, 3000)).unwrap();
    store.sync().unwrap();
    let lost_power = sim.crash();
    drop(store);
    let store = lost_power.open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert_eq!([0, 1, 2].map(|n| holds(&store, n)), [true, false, true]);
    store.audit().unwrap();
}

/// A result that reports an existing value as durable must not rely on the page cache.
#[test]
fn what_is_in_the_page_cache_only_does_not_exist() {
    let sim = Sim::new(32);
    sim.device.page_cache();
    let store = sim.open();
    store.put(&key(1), &value(1, 3000)).unwrap();
    sim.device.fail_next(OpKind::Flush, 0..u64::MAX, EIO);
    store.sync().unwrap_err();
    drop(store);
    let store = sim.open();
    let options = PutOptions {
        mode: PutMode::KeepExisting,
        durability: Some(Durability::EachBatch),
        ..PutOptions::default()
    };
    let (key, value) = (key(1), value(1, 3000));
    let put = vec![Put::new(&key, &value)];
    let answers = store.put_many(put, options);
    assert!(
        matches!(answers[0], Ok(PutOutcome::Inserted)),
        "{answers:?}"
    );
    let lost_power = sim.crash();
    assert!(holds(&lost_power.open(), 1));
}

/// Each flush of a run fails in turn, including those of an opening, of checkpoints and of the close.
#[test]
fn no_flush_that_fails_costs_what_is_synced_later() {
    let mut failing = 0;
    loop {
        let sim = Sim::new(32);
        sim.device.page_cache();
        let (flushes, device) = (AtomicU64::new(0), Arc::downgrade(&sim.device));
        sim.device.observe(move |moment, ops| {
            let flushes_now = ops.iter().filter(|op| op.op == OpKind::Flush).count();
            if moment == Moment::Before && flushes_now > 0 {
                let before = flushes.fetch_add(1, Relaxed);
                if let (true, Some(device)) = (before == failing, device.upgrade()) {
                    device.fail_next(OpKind::Flush, 0..u64::MAX, EIO);
                }
            }
        });
        let mut synced = Vec::new();
        let run = |synced: &mut Vec<u64>| -> Result<(), String> {
            let store = sim.try_open(|_| {}).map_err(|why| why.to_string())?;
            let words = |why: rb_core::Error| why.to_string();
            for n in 0..6 {
                store.put(&key(n), &value(n, 3000)).map_err(words)?;
                match n % 3 {
                    2 => store.checkpoint(),
                    _ => store.sync(),
                }
                .map_err(words)?;
                synced.push(n);
            }
            store.close().map_err(words)
        };
        let done = run(&mut synced);
        sim.device.observe(|_, _| {});
        let store = sim.open();
        store.put(&key(9), &value(9, 3000)).unwrap();
        store.sync().unwrap();
        let lost_power = sim.crash();
        drop(store);
        let store = lost_power.open();
        assert_eq!(store.recovery().lost_metadata, None, "flush {failing}");
        for n in synced.into_iter().chain([9]) {
            assert!(holds(&store, n), "flush {failing}: key {n}");
        }
        store.audit().unwrap();
        if done.is_ok() {
            assert!(failing > 10, "{failing} flushes");
            return;
        }
        failing += 1;
    }
}
