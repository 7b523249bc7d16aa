//! Tests of failing requests: one key fails, the store does not (C7); and of poisoning.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rb_core::{Background, Error, ManualClock, Put, PutOptions, Store, StoreOptions, Validate};
use rb_io::{Engine, Limits, OpKind, Queue, QueueOptions};

use crate::support::{EIO, ENOSPC, Sim, key, range_of, slots_of, value};

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
    let (store, clock) = with_clock(&sim);
    let bad = store.geometry().slot_offset(3).unwrap();
    sim.device.fail_next(OpKind::Write, bad..bad + 8192, EIO);
    let answers = put_many(&store, 0..8);
    let failed: Vec<_> = answers.iter().filter(|a| a.is_err()).collect();
    assert_eq!(failed.len(), 1, "{answers:?}");
    assert!(matches!(failed[0], Err(Error::Io(_))));
    let class = || store.stats().index.classes[0];
    assert_eq!((class().quarantined, class().live), (1, 7));
    store.sync().unwrap();
    assert_eq!((class().quarantined, class().free), (1, 24), "it rests");
    clock.advance(RESTED);
    store.sync().unwrap();
    assert_eq!((class().quarantined, class().free), (0, 25));
    store.audit().unwrap();
    // The store is healthy, the failed key is a miss, the others are there.
    let hits = (0..8)
        .filter(|n| store.get(&key(*n)).unwrap().is_some())
        .count();
    assert_eq!(hits, 7);
}

/// Longer than a slot rests after a failed write.
const RESTED: Duration = Duration::from_secs(11);

/// Opens a store on a manual clock.
fn with_clock(sim: &Sim) -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let of_store = Arc::clone(&clock);
    (sim.open_with(|options| options.clock = of_store), clock)
}

#[test]
fn a_slot_that_fails_again_and_again_is_bad_until_it_takes_writes() {
    let sim = Sim::new(8);
    let (store, clock) = with_clock(&sim);
    let bad = store.geometry().slot_offset(1).unwrap();
    sim.device.fail_always(OpKind::Write, bad..bad + 8192, EIO);
    for n in 0..60 {
        drop(store.put(&key(n), b"v"));
        store.sync().unwrap();
        clock.advance(RESTED / 8);
    }
    assert_eq!(store.stats().index.classes[0].bad, 1);
    assert_eq!(sim.watch.count("BadSlot"), 1);
    store.sync().unwrap();
    // Once after a crash, then after clean closes.
    let sim = sim.crash();
    sim.device.fail_always(OpKind::Write, bad..bad + 8192, EIO);
    for restart in 0..3 {
        let store = sim.open();
        assert_eq!(store.stats().index.classes[0].bad, 1, "restart {restart}");
        assert_eq!(store.recovery().bad_slots, 1);
        store.close().unwrap();
    }
    // The device takes its writes again. The slot is used, the store crashes, and the slot is still
    // good.
    sim.device.heal();
    let store = sim.open();
    assert_eq!(store.recovery().forgiven_slots, 1);
    assert_eq!(store.stats().index.classes[0].bad, 0);
    for n in 0..16 {
        store.put(&key(n), b"v").unwrap();
    }
    store.sync().unwrap();
    let again = sim.crash().open();
    assert_eq!(again.recovery().forgiven_slots, 0);
    let class = again.stats().index.classes[0];
    assert_eq!((class.bad, class.live), (0, 8));
    again.audit().unwrap();
}

/// A device that failed every write for some seconds made hundreds of slots permanently bad: each that was tried three
/// times.
#[test]
fn a_device_in_trouble_for_some_time_makes_no_slot_bad() {
    let sim = Sim::new(128);
    let (store, clock) = with_clock(&sim);
    sim.device.fail_always(OpKind::Write, slots_of(&store), EIO);
    for n in 0..1000 {
        assert!(store.put(&key(n), b"v").is_err());
        store.sync().unwrap();
        clock.advance(Duration::from_millis(60));
    }
    sim.device.heal();
    clock.advance(RESTED);
    store.sync().unwrap();
    let class = store.stats().index.classes[0];
    assert_eq!((class.bad, class.quarantined, class.free), (0, 0, 128));
    assert_eq!(sim.watch.count("BadSlot"), 0);
    assert!(put_many(&store, 0..64).iter().all(Result::is_ok));
    store.audit().unwrap();
}

/// The file system under a sparse file, or under one whose slots were discarded, was full for a while: each slot that
/// was tried three times in that period was permanently bad.
#[test]
fn a_full_file_system_makes_no_slot_bad() {
    let sim = Sim::new(2);
    let store = sim.open();
    sim.device
        .fail_always(OpKind::Write, slots_of(&store), ENOSPC);
    for n in 0..20 {
        let refused = store.put(&key(n), b"v").unwrap_err();
        assert!(refused.is_out_of_space() && !refused.is_poisoned());
        let cause = std::error::Error::source(&refused).unwrap();
        let cause = std::error::Error::source(cause).unwrap().to_string();
        assert!(cause.contains("No space left"), "{cause}");
        store.sync().unwrap();
    }
    let class = store.stats().index.classes[0];
    assert_eq!((class.bad, class.quarantined, class.free), (0, 0, 2));
    assert_eq!(sim.watch.count("BadSlot"), 0);
    sim.device.heal();
    assert!(put_many(&store, 0..2).iter().all(Result::is_ok));
    store.audit().unwrap();
}

#[test]
fn a_failed_read_is_an_error_and_drops_nothing() {
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
        "it was not dropped"
    );
    assert!(sim.watch.lines().is_empty());
    store.audit().unwrap();
}

#[test]
fn a_failed_verification_reads_once_more_and_then_drops_that_entry() {
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
    // A write without space is retried: `full.rs`. A flush is not, regardless of its error.
    for (op, error) in [(OpKind::Flush, ENOSPC), (OpKind::Write, EIO)] {
        let sim = Sim::new(32);
        let store = sim.open();
        assert!(put_many(&store, 0..4).iter().all(Result::is_ok));
        // In both rings: one copy of a block is enough.
        for log in store.superblock().log_rings() {
            sim.device.fail_next(op, range_of(log), error);
        }
        assert_eq!(store.stats().poisoned, None);
        assert!(store.sync().unwrap_err().is_poisoned());
        let why = store.stats().poisoned.unwrap();
        assert!(why.contains("Flush") || why.contains("Write"), "{why}");
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
fn a_late_request_times_out_and_keeps_its_memory_and_slot() {
    let sim = Sim::new(4);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.io_deadline = Duration::from_millis(50);
    });
    assert!(put_many(&store, 0..2).iter().all(Result::is_ok));
    sim.device.hold(slots_of(&store));
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
    let start = Instant::now();
    while class().reserved > 0 && start.elapsed().as_secs() < 10 {
        std::thread::yield_now();
    }
    assert_eq!(class().reserved, 0, "the late write has ended");
    assert!(store.get(&key(0)).unwrap().unwrap() == value(0, 3000)[..]);
    store.audit().unwrap();
}

/// Only a commit released slots that waited for a flush, and nothing requested one if no put had succeeded: after a
/// burst of failures the store had no slot left, permanently.
#[test]
fn a_burst_of_failed_writes_leaves_no_slot_out_of_use() {
    let sim = Sim::new(8);
    let store = sim.open();
    sim.device.fail_always(OpKind::Write, slots_of(&store), EIO);
    for n in 0..8 {
        assert!(store.put(&key(n), b"v").is_err());
    }
    sim.device.heal();
    store.sync().unwrap();
    let class = store.stats().index.classes[0];
    assert_eq!((class.quarantined, class.free), (0, 8));
    store.put(&key(9), b"v").unwrap();
}

/// A put that found no queue in time had written nothing, yet its slot counted as one whose write failed: a busy device
/// made good slots bad.
#[test]
fn a_put_that_finds_no_queue_makes_no_slot_bad() {
    let sim = Sim::new(4);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.queues_max = 1;
        options.busy_wait = Duration::from_millis(2);
    });
    for n in 1..16 {
        store.put(&key(0), b"v").unwrap();
        // A slow get has the only queue.
        sim.device.hold(slots_of(&store));
        let slow = store.clone();
        let reader = std::thread::spawn(move || slow.get(&key(0)));
        sim.wait_for_held(1);
        let answer = store.put(&key(n), b"v");
        assert!(matches!(answer, Err(Error::Busy { .. })), "{answer:?}");
        sim.device.release();
        reader.join().unwrap().unwrap();
        drop(store.remove(b"something to commit"));
        store.sync().unwrap();
    }
    let class = store.stats().index.classes[0];
    assert_eq!((class.bad, class.quarantined), (0, 0), "{class:?}");
    assert_eq!(sim.watch.count("BadSlot"), 0);
}

/// The validator continued with the completions of a batch that it had given up, took each for that of another entry,
/// and dropped entries that were whole.
#[test]
fn validation_that_was_given_up_drops_nothing() {
    let sim = Sim::new(64);
    let store = sim.open();
    assert!(put_many(&store, 0..40).iter().all(Result::is_ok));
    store.sync().unwrap();
    let sim = sim.crash();
    let store = sim.open_with(|options| {
        options.io_deadline = Duration::from_millis(50);
        options.shards = Some(1);
    });
    sim.device.hold(slots_of(&store));
    let answer = store.step_validate(16);
    assert!(matches!(answer, Err(Error::TimedOut { .. })), "{answer:?}");
    sim.device.release();
    for _ in 0..100 {
        if !store.step_validate(8).unwrap_or(true) {
            break;
        }
    }
    let live = (0..40).filter(|n| store.contains(&key(*n))).count();
    assert_eq!(live, 40, "{:?}", sim.watch.lines());
}

/// When a queue fails, the device may still execute its requests. The next flush released such a slot, and the old
/// write then landed on a value that had been synced.
#[test]
fn a_slot_is_not_reused_while_a_write_of_a_broken_queue_may_land() {
    let sim = Sim::new(1);
    let store = sim.open();
    sim.device.break_queues(EIO);
    assert!(store.put(b"old", &value(1, 3000)).is_err());
    sim.device.heal();
    drop(store.remove(b"something to commit"));
    store.sync().unwrap();
    assert_eq!(sim.device.held(), 1, "the write is still with the device");
    let answer = store.put(b"new", &value(2, 3000));
    assert!(matches!(answer, Err(Error::NoSpace { .. })), "{answer:?}");
    store.audit().unwrap();
}

/// The first of two puts of one key in a batch was reported as superseded by the second even when the second's write
/// had failed: an acknowledged key was absent.
#[test]
fn a_put_is_superseded_only_by_one_that_succeeded() {
    let sim = Sim::new(4);
    let store = sim.open();
    sim.device.fail_always(OpKind::Write, slots_of(&store), EIO);
    let puts = vec![Put::new(b"k", b"1"), Put::new(b"k", b"2")];
    let answers = store.put_many(puts, PutOptions::default());
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert!(store.get(b"k").unwrap().is_none());
}

/// An engine that opens only so many queues.
#[derive(Debug)]
struct FewQueues(Arc<dyn Engine>, AtomicUsize);

impl Engine for FewQueues {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn limits(&self) -> &Limits {
        self.0.limits()
    }

    fn capacity_bytes(&self) -> u64 {
        self.0.capacity_bytes()
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, rb_io::OpenError> {
        let less = |left: usize| left.checked_sub(1);
        match self.1.fetch_update(Relaxed, Relaxed, less) {
            Ok(_) => self.0.queue(options),
            Err(_) => Err(rb_io::OpenError::Depth { depth: 0, max: 0 }),
        }
    }
}

/// An async put that could get no ring leaked its slots, as if they might still be written, and returned that the store
/// is closed, or that the device is late.
#[test]
fn an_async_put_without_a_queue_gives_its_slots_back() {
    for background in [Background::Threads, Background::Manual] {
        let sim = Sim::new(4);
        // Opening, commits and checkpoints have theirs.
        let engine = FewQueues(sim.engine(), AtomicUsize::new(3));
        let options = StoreOptions {
            background,
            validate: Validate::Off,
            buffer_bytes: Some(1 << 20),
            ..StoreOptions::default()
        };
        let store = Store::open(Arc::new(engine), options).unwrap();
        let put = store.put_many_async(vec![Put::new(b"k", b"v")], PutOptions::default());
        let error = put.wait().remove(0).unwrap_err();
        assert!(error.to_string().contains("I/O queue"), "{error}");
        let class = &store.stats().index.classes[0];
        assert_eq!((class.free, class.capacity), (4, 4), "{background:?}");
        store.audit().unwrap();
    }
}

/// Invalid keys counted as misses, and entries whose read failed, or whose bytes were wrong, as hits: an operator's hit
/// rate looked healthy.
#[test]
fn a_hit_is_a_value_that_was_returned() {
    let sim = Sim::new(32);
    let store = sim.open();
    assert!(put_many(&store, 0..4).iter().all(Result::is_ok));
    let geometry = store.geometry().clone();
    let slot_of = |n: u64| {
        let mut found = None;
        store.for_each(|entry| {
            if *entry.key == *key(n) {
                found = Some(entry.slot);
            }
            true
        });
        let at = geometry.slot_offset(found.unwrap()).unwrap();
        at..at + 8192
    };
    sim.device.fail_always(OpKind::Read, slot_of(1), EIO);
    let payload = slot_of(2).start + 4096;
    sim.device.corrupt(payload..payload + 1);
    let (keys, long) = ([key(0), key(1), key(2), key(9)], vec![7; 2000]);
    let mut asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    asked.extend([&b""[..], &long]);
    let answers = store.get_many(&asked);
    let kinds: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().ok().map(Option::is_some))
        .collect();
    let (hit, miss, error) = (Some(true), Some(false), None);
    assert_eq!(kinds, [hit, error, miss, miss, error, error]);
    let stats = store.stats();
    assert_eq!((stats.hits, stats.misses), (1, 2));
    assert_eq!((stats.read_errors, stats.dropped), (1, 1));
}
