//! Failing requests: one key fails, the store does not (C7); and poisoning.

use std::sync::Arc;

use rb_core::{
    Background, ClassRequest, Error, FormatOptions, Put, PutOptions, SeededRandom, Share, Store,
    StoreOptions, format_engine,
};
use rb_io::{Engine, OpKind};
use rb_testkit::{MemDevice, MemEngine};

use crate::support::{Watch, key, value};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

struct Sim {
    device: Arc<MemDevice>,
    watch: Arc<Watch>,
}

impl Sim {
    fn new(slots: u64) -> Sim {
        let classes = vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(slots),
        }];
        let bytes = rb_format::device_bytes_for(&classes, 64, 0, None).unwrap();
        let device = MemDevice::new(bytes);
        let sim = Sim {
            device,
            watch: Watch::new(),
        };
        let random = Arc::new(SeededRandom::new(1));
        let options = FormatOptions {
            key_len_max: 64,
            random,
            ..FormatOptions::new("", classes)
        };
        format_engine(&sim.engine(), &options).unwrap();
        sim
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(MemEngine::new(Arc::clone(&self.device)))
    }

    fn open(&self) -> Store {
        let options = StoreOptions {
            background: Background::Manual,
            buffer_bytes: Some(1 << 20),
            events: Some(self.watch.clone()),
            ..StoreOptions::default()
        };
        Store::open_engine(self.engine(), options).unwrap()
    }
}

fn put_many(store: &Store, numbers: std::ops::Range<u64>) -> Vec<rb_core::PutResult> {
    let keys: Vec<_> = numbers.clone().map(key).collect();
    let values: Vec<_> = numbers.map(|n| value(n, 3000)).collect();
    let puts = keys
        .iter()
        .zip(&values)
        .map(|(k, v)| Put::new(k, v))
        .collect();
    store.put_many(puts, PutOptions::default())
}

#[test]
fn one_failed_write_fails_one_key_and_its_slot_waits_for_a_flush() {
    let sim = Sim::new(32);
    let store = sim.open();
    let bad = store.geometry().slot_offset(3).unwrap();
    sim.device.fail_next(OpKind::Write, bad..bad + 8192, EIO);
    let answers = put_many(&store, 0..8);
    let failed: Vec<_> = answers.iter().filter(|a| a.is_err()).collect();
    assert_eq!(failed.len(), 1, "{answers:?}");
    assert!(matches!(failed[0], Err(Error::Io(_))));
    let class = || store.stats().index.classes[0];
    assert_eq!((class().quarantined, class().live), (1, 7));
    store.sync().unwrap();
    assert_eq!(
        (class().quarantined, class().free),
        (0, 25),
        "free again after the flush"
    );
    store.audit().unwrap();
    // The store is healthy, the failed key is a miss, the others are there.
    let hits = (0..8)
        .filter(|n| store.get(&key(*n)).unwrap().is_some())
        .count();
    assert_eq!(hits, 7);
}

#[test]
fn a_slot_that_fails_again_and_again_is_bad_and_stays_so_after_restarts() {
    let sim = Sim::new(2);
    let store = sim.open();
    let bad = store.geometry().slot_offset(1).unwrap();
    sim.device.fail_always(OpKind::Write, bad..bad + 8192, EIO);
    for n in 0..20 {
        drop(store.put(&key(n), b"v"));
        store.sync().unwrap();
    }
    assert_eq!(store.stats().index.classes[0].bad, 1);
    assert_eq!(sim.watch.count("BadSlot"), 1);
    sim.device.heal();
    for restart in 0..3 {
        // Once after a crash, then after proper closes.
        if restart > 0 {
            sim.open().close().unwrap();
        } else {
            store.sync().unwrap();
            drop(store.clone());
        }
        if restart == 0 {
            continue;
        }
        assert_eq!(
            sim.open().stats().index.classes[0].bad,
            1,
            "restart {restart}"
        );
    }
    sim.open().audit().unwrap();
}

#[test]
fn a_failed_read_is_an_error_and_forgets_nothing() {
    let sim = Sim::new(32);
    let store = sim.open();
    assert!(put_many(&store, 0..4).iter().all(Result::is_ok));
    let slot = store.geometry().slot_offset(2).unwrap();
    sim.device.fail_next(OpKind::Read, slot..slot + 8192, EIO);
    let keys: Vec<_> = (0..4).map(key).collect();
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let answers = store.get_many(&asked);
    assert_eq!(answers.iter().filter(|a| a.is_err()).count(), 1);
    assert_eq!(
        answers.iter().filter(|a| matches!(a, Ok(Some(_)))).count(),
        3
    );
    assert!(
        store
            .get_many(&asked)
            .iter()
            .all(|a| matches!(a, Ok(Some(_)))),
        "it was not forgotten"
    );
    assert!(sim.watch.lines().is_empty());
    store.audit().unwrap();
}

#[test]
fn a_proof_that_fails_is_read_once_more_and_then_forgets_that_entry() {
    let sim = Sim::new(32);
    let store = sim.open();
    assert!(put_many(&store, 0..4).iter().all(Result::is_ok));
    let payload = store.geometry().payload_offset(0).unwrap();
    sim.device.corrupt(payload + 100..payload + 101);
    let reads = || sim.device.counts().reads;
    let before = reads();
    let hits: Vec<bool> = (0..4)
        .map(|n| store.get(&key(n)).unwrap().is_some())
        .collect();
    assert_eq!(hits.iter().filter(|hit| **hit).count(), 3);
    assert_eq!(reads() - before, 5, "one entry was read twice");
    assert_eq!(sim.watch.count("dropped"), 1);
    assert_eq!(
        store.stats().index.classes[0].free,
        29,
        "its slot is free again"
    );
    let rotten = key(hits.iter().position(|hit| !hit).unwrap() as u64);
    assert!(!store.contains(&rotten));
    store.put(&rotten, b"new").unwrap();
    assert!(store.get(&rotten).unwrap().unwrap() == b"new"[..]);
    store.audit().unwrap();
}

#[test]
fn a_failed_flush_or_log_write_poisons_writing_and_reads_go_on() {
    for op in [OpKind::Flush, OpKind::Write] {
        let sim = Sim::new(32);
        let store = sim.open();
        assert!(put_many(&store, 0..4).iter().all(Result::is_ok));
        let log = store.superblock().log.clone();
        sim.device
            .fail_next(op, log.offset..log.offset + log.bytes, ENOSPC);
        assert!(store.sync().unwrap_err().is_poisoned());
        // Nothing is acknowledged any more, even though the device would take it.
        assert!(store.put(b"k", b"v").unwrap_err().is_poisoned());
        assert!(store.remove(&key(0)).unwrap_err().is_poisoned());
        assert!(store.sync().unwrap_err().is_poisoned());
        assert!(store.sync_async().wait().unwrap_err().is_poisoned());
        assert!(store.checkpoint().unwrap_err().is_poisoned());
        assert!(store.get(&key(1)).unwrap().unwrap() == value(1, 3000)[..]);
        assert_eq!(sim.watch.count("Poisoned"), 1);
        assert!(store.close().unwrap_err().is_poisoned());
        drop(store);
        sim.device.heal();
        sim.open().put(b"k", b"v").unwrap();
    }
}

#[test]
fn another_writer_is_found_by_its_incarnation() {
    let sim = Sim::new(32);
    let first = sim.open();
    first.put(b"k", b"first").unwrap();
    first.sync().unwrap();
    // A second host opens the same device: no lock of this machine can stop it.
    let second = sim.open();
    first.put(b"k", b"again").unwrap();
    let error = first.sync().unwrap_err();
    assert!(
        error.is_poisoned() && error.to_string().contains("another writer"),
        "{error}"
    );
    second.put(b"l", b"second").unwrap();
    second.sync().unwrap();
}

#[test]
fn a_late_request_is_answered_and_keeps_its_memory_and_slot() {
    let sim = Sim::new(4);
    let options = StoreOptions {
        background: Background::Threads,
        buffer_bytes: Some(1 << 20),
        io_deadline: std::time::Duration::from_millis(50),
        ..StoreOptions::default()
    };
    let store = Store::open_engine(sim.engine(), options).unwrap();
    assert!(put_many(&store, 0..2).iter().all(Result::is_ok));
    let slots = store.geometry().slot_offset(0).unwrap()..sim.device.capacity_bytes();
    sim.device.hold(slots);
    assert!(matches!(store.get(&key(0)), Err(Error::TimedOut { .. })));
    assert!(matches!(
        store.put(&key(5), b"v"),
        Err(Error::TimedOut { .. })
    ));
    let class = || store.stats().index.classes[0];
    assert_eq!(
        (class().reserved, class().live),
        (1, 2),
        "the slot stays with the request"
    );
    sim.device.release();
    let start = std::time::Instant::now();
    while class().reserved > 0 && start.elapsed().as_secs() < 10 {
        std::thread::yield_now();
    }
    assert_eq!(class().reserved, 0, "the late write has ended");
    assert!(store.get(&key(0)).unwrap().unwrap() == value(0, 3000)[..]);
    store.audit().unwrap();
}
