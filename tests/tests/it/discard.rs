//! Tests of discards of freed slots: when, which, how many together; and what happens if the device fails.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rb_core::{ClassRequest, FormatError, FormatOptions, Share, Store, StoreOptions, format};
use rb_io::{
    DiscardLimits, Engine, Issuer, Lane, Limit, Limits, OpKind, OpenError, Queue, QueueOptions,
    Request,
};
use rb_testkit::{MemDevice, MemEngine, MemOp, Moment};

use crate::support::{EIO, Sim, key, slots_of, value};

const EOPNOTSUPP: i32 = 95;
const LONG: Duration = Duration::from_secs(20);
/// Bytes of a slot with its header.
const STRIDE: u64 = 8192;

fn open(sim: &Sim) -> Store {
    sim.open_with(|options| options.discard_freed = true)
}

fn put(store: &Store, keys: std::ops::Range<u64>) {
    for n in keys {
        store.put(&key(n), &value(n, 3000)).unwrap();
    }
}

fn remove(store: &Store, keys: std::ops::Range<u64>) {
    for n in keys {
        assert!(store.remove(&key(n)).unwrap().is_some());
    }
}

fn step_to_the_end(store: &Store) {
    while store.step_discard().unwrap() {}
}

fn discards(sim: &Sim) -> Vec<MemOp> {
    let mut ops = sim.device.log();
    ops.retain(|op| op.op == OpKind::Discard);
    ops
}

fn bytes(sim: &Sim, op: &MemOp) -> Vec<u8> {
    let mut bytes = vec![1; op.len as usize];
    sim.device.peek(op.offset, &mut bytes);
    bytes
}

#[test]
fn slots_side_by_side_are_discarded_together_after_a_commit() {
    let sim = Sim::new(64);
    let store = open(&sim);
    put(&store, 0..64);
    store.sync().unwrap();
    remove(&store, 8..24);
    step_to_the_end(&store);
    assert_eq!(
        discards(&sim),
        [],
        "no commit has recorded yet why they are free"
    );
    store.sync().unwrap();
    step_to_the_end(&store);
    let sent = discards(&sim);
    // Eight slots of 64 in a step.
    assert_eq!(sent.len(), 2, "{sent:?}");
    let first = store.geometry().slot_offset(8).unwrap();
    for (op, at) in sent.iter().zip([first, first + 8 * STRIDE]) {
        assert_eq!((op.offset, u64::from(op.len)), (at, 8 * STRIDE));
        assert!(bytes(&sim, op).iter().all(|byte| *byte == 0));
    }
    let discard = store.stats().discard;
    assert_eq!((discard.slots, discard.bytes), (16, 16 * STRIDE));
    assert_eq!((discard.failures, discard.off), (0, None));
    store.audit().unwrap();
    // Live values are whole, and discarded ones are not found, also after a crash.
    let store = open(&sim.crash());
    for n in 0..64 {
        let expected = (!(8..24).contains(&n)).then(|| value(n, 3000));
        let found = store.get(&key(n)).unwrap().map(|value| value.to_vec());
        assert_eq!(found, expected, "key {n}");
    }
}

/// The contract would allow that a replaced value is missing after a crash; but a discard must not be the reason.
#[test]
fn what_a_restart_may_look_for_is_not_discarded() {
    let sim = Sim::new(8);
    let store = open(&sim);
    put(&store, 0..1);
    store.sync().unwrap();
    store.put(&key(0), &value(7, 3000)).unwrap();
    step_to_the_end(&store);
    // A crash that keeps everything that was written, discards too.
    let left = MemDevice::from_image(&sim.device.live_image());
    let crashed = open(&Sim::on(left));
    assert_eq!(*crashed.get(&key(0)).unwrap().unwrap(), value(0, 3000));
    store.sync().unwrap();
    step_to_the_end(&store);
    assert_eq!(discards(&sim).len(), 1);
    assert_eq!(*store.get(&key(0)).unwrap().unwrap(), value(7, 3000));
}

#[test]
fn a_slot_under_a_lease_is_discarded_when_the_lease_has_ended() {
    let sim = Sim::new(8);
    let store = open(&sim);
    put(&store, 0..1);
    let pins = store.lookup_and_pin(&[&key(0)]);
    remove(&store, 0..1);
    store.sync().unwrap();
    step_to_the_end(&store);
    assert_eq!(discards(&sim), []);
    store.unpin(pins.into_iter().flatten().collect());
    store.step_commit().unwrap();
    step_to_the_end(&store);
    assert_eq!(discards(&sim).len(), 1);
}

/// While a discard is under way, everything else is put: its slot must not be among those that are written.
#[test]
fn a_slot_is_not_used_while_its_discard_is_under_way() {
    let sim = Sim::new(8);
    let store = open(&sim);
    put(&store, 0..8);
    remove(&store, 2..3);
    store.sync().unwrap();
    let written = Arc::new(Mutex::new(Vec::new()));
    let (putter, seen) = (store.clone(), Arc::clone(&written));
    sim.device.observe(move |moment, ops| {
        if moment == Moment::Before && ops.iter().any(|op| op.op == OpKind::Discard) {
            assert_eq!(putter.stats().index.classes[0].discarding, 1);
            put(&putter, 10..18);
        }
        let writes = ops.iter().filter(|op| op.op == OpKind::Write);
        seen.lock().unwrap().extend(writes.copied());
    });
    step_to_the_end(&store);
    let sent = discards(&sim);
    let written = written.lock().unwrap();
    assert!(sent.len() == 1 && written.len() >= 8);
    assert!(written.iter().all(|op| op.offset != sent[0].offset));
    // Afterwards it is a slot like any other.
    let class = store.stats().index.classes[0];
    assert_eq!((class.discarding, class.free), (0, 1));
    store.audit().unwrap();
}

#[test]
fn puts_take_slots_that_wait_before_they_evict() {
    let sim = Sim::new(8);
    let store = open(&sim);
    put(&store, 0..8);
    remove(&store, 0..4);
    put(&store, 10..14);
    assert_eq!(store.stats().index.evictions, 0);
    store.sync().unwrap();
    step_to_the_end(&store);
    assert_eq!(discards(&sim), [], "they are in use again");
}

/// A put that keeps existing values took slots for all its keys and returned those it did not need, marked as never
/// written, regardless of what an entry had left in them.
#[test]
fn a_put_that_needs_no_slot_changes_nothing_about_those_that_are_free() {
    let sim = Sim::new(8);
    let store = open(&sim);
    put(&store, 0..2);
    let options = rb_core::PutOptions {
        mode: rb_core::PutMode::KeepExisting,
        ..rb_core::PutOptions::default()
    };
    let keep = || store.put_many(vec![rb_core::Put::new(&key(0), b"other")], options);
    keep();
    store.sync().unwrap();
    step_to_the_end(&store);
    assert_eq!(discards(&sim), [], "nothing was ever written there");
    put(&store, 2..8);
    remove(&store, 7..8);
    keep();
    store.sync().unwrap();
    step_to_the_end(&store);
    assert_eq!(discards(&sim).len(), 1);
}

#[test]
fn closing_discards_what_waits() {
    let sim = Sim::new(64);
    let store = open(&sim);
    put(&store, 0..64);
    remove(&store, 0..40);
    store.close().unwrap();
    let sent: u64 = discards(&sim).iter().map(|op| u64::from(op.len)).sum();
    assert_eq!(sent, 40 * STRIDE);
    assert!(open(&sim).recovery().clean);
}

/// A store that stood still while another one took over its device continued to discard slots in which the other had
/// put values since (C8): only commits checked who owned the device.
#[test]
fn what_another_writer_owns_is_not_discarded() {
    let sim = Sim::new(8);
    let store = open(&sim);
    put(&store, 0..8);
    store.sync().unwrap();
    remove(&store, 0..8);
    store.sync().unwrap();
    let other = sim.open();
    put(&other, 0..8);
    other.sync().unwrap();
    step_to_the_end(&store);
    assert_eq!(discards(&sim), []);
    let off = store.stats().discard.off.unwrap();
    assert!(off.contains("opened as number"), "{off}");
    drop(store);
    for n in 0..8 {
        assert!(other.get(&key(n)).unwrap().is_some(), "key {n} is gone");
    }
}

#[test]
fn a_failed_discard_is_counted_and_its_slot_is_free_after_a_flush() {
    let sim = Sim::new(8);
    let store = open(&sim);
    for round in 1..=3 {
        put(&store, 0..1);
        remove(&store, 0..1);
        store.sync().unwrap();
        sim.device.fail_next(OpKind::Discard, slots_of(&store), EIO);
        let flushes = sim.device.counts().flushes;
        step_to_the_end(&store);
        // It may still land, but not after a flush.
        assert_eq!(sim.device.counts().flushes, flushes + 1);
        let stats = store.stats();
        assert_eq!((stats.discard.failures, stats.discard.slots), (round, 0));
        assert_eq!(stats.index.classes[0].free, 8);
        assert_eq!(
            stats.discard.off.is_some(),
            round == 3,
            "{:?}",
            stats.discard
        );
    }
    let off = store.stats().discard.off.unwrap();
    assert!(off.contains("3 times in a row"), "{off}");
    // Slots are used as if discards had never been enabled.
    put(&store, 0..8);
    remove(&store, 0..8);
    store.sync().unwrap();
    step_to_the_end(&store);
    assert_eq!(discards(&sim).len(), 3);
    store.audit().unwrap();
}

/// That flush failed like any other: the state of the device is unknown, so writing stops, and all callers receive the
/// error.
#[test]
fn a_failed_flush_after_a_failed_discard_stops_writing() {
    let sim = Sim::new(8);
    let store = open(&sim);
    put(&store, 0..2);
    remove(&store, 0..1);
    store.sync().unwrap();
    sim.device.fail_next(OpKind::Discard, slots_of(&store), EIO);
    sim.device.fail_next(OpKind::Flush, 0..1, EIO);
    assert!(store.step_discard().unwrap_err().is_poisoned());
    assert_eq!(sim.watch.count("Poisoned"), 1);
    assert!(store.put(&key(5), b"v").unwrap_err().is_poisoned());
    assert_eq!(*store.get(&key(1)).unwrap().unwrap(), value(1, 3000));
}

#[test]
fn a_device_that_knows_no_discard_is_asked_once() {
    let sim = Sim::new(8);
    let store = open(&sim);
    put(&store, 0..4);
    sim.device
        .fail_always(OpKind::Discard, slots_of(&store), EOPNOTSUPP);
    remove(&store, 0..4);
    store.sync().unwrap();
    step_to_the_end(&store);
    let off = store.stats().discard.off.unwrap();
    assert!(off.contains("takes no discards"), "{off}");
    assert_eq!(discards(&sim).len(), 1);
    assert_eq!(store.stats().index.classes[0].free, 8);
}

/// It is unknown when a hanging discard will land: its slot stays out of use, and no other harm is done.
#[test]
fn a_discard_that_hangs_keeps_its_slot_out_of_use() {
    let sim = Sim::new(8);
    let store = sim.open_with(|options| {
        options.discard_freed = true;
        options.io_deadline = Duration::from_millis(100);
    });
    put(&store, 0..8);
    remove(&store, 2..3);
    store.sync().unwrap();
    let at = store.geometry().slot_offset(2).unwrap();
    sim.device.hold(at..at + STRIDE);
    step_to_the_end(&store);
    let off = store.stats().discard.off.unwrap();
    assert!(off.contains("did not answer"), "{off}");
    assert_eq!(store.stats().index.classes[0].discarding, 1);
    put(&store, 10..20);
    sim.device.release();
    for n in 13..20 {
        assert_eq!(*store.get(&key(n)).unwrap().unwrap(), value(n, 3000));
    }
    store.audit().unwrap();
    store.close().unwrap();
}

/// Slots of the same step whose discards had not even been sent stayed out of use together with those that hung.
#[test]
fn only_what_was_sent_to_a_device_that_hangs_is_out_of_use() {
    let sim = Sim::new(256);
    let store = sim.open_with(|options| {
        options.discard_freed = true;
        options.io_deadline = Duration::from_millis(100);
    });
    put(&store, 0..256);
    (0..20).for_each(|n| remove(&store, 2 * n..2 * n + 1));
    store.sync().unwrap();
    sim.device.hold(slots_of(&store));
    step_to_the_end(&store);
    let class = store.stats().index.classes[0];
    assert_eq!((class.discarding, class.free), (8, 12));
    sim.device.release();
    store.audit().unwrap();
}

/// A device that was slow, but completed each discard in time, delayed a close by as many discards as a step has.
#[test]
fn a_step_ends_in_time_on_a_slow_device() {
    let sim = Sim::new(1024);
    let store = sim.open_with(|options| {
        options.discard_freed = true;
        options.io_deadline = Duration::from_millis(100);
    });
    put(&store, 0..256);
    (0..128).for_each(|n| remove(&store, 2 * n..2 * n + 1));
    store.sync().unwrap();
    sim.device.observe(|moment, ops| {
        if moment == Moment::Before && ops.iter().any(|op| op.op == OpKind::Discard) {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    store.close().unwrap();
    let sent = discards(&sim).len();
    // Eight at a time.
    assert!((8..=32).contains(&sent), "{sent} were sent");
    let class = store.stats().index.classes[0];
    assert_eq!((class.discarding, class.free), (0, 1024 - 128));
}

/// The slot of an entry that was removed under a lease becomes free when the lease ends, which records no change: on a
/// store that was idle from then on it waited forever for a commit.
#[test]
fn an_idle_store_discards_what_a_lease_kept() {
    let sim = Sim::new(8);
    let store = sim.open_with(|options| {
        options.discard_freed = true;
        options.background = rb_core::Background::Threads;
        options.sync_interval = Duration::from_millis(1);
    });
    put(&store, 0..1);
    let pins = store.lookup_and_pin(&[&key(0)]);
    remove(&store, 0..1);
    store.sync().unwrap();
    let commits = store.stats().commits;
    store.unpin(pins.into_iter().flatten().collect());
    let start = Instant::now();
    while discards(&sim).is_empty() {
        assert!(start.elapsed() < LONG, "it still waits");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(store.stats().commits, commits, "there was nothing to write");
}

fn limits(discard: Option<DiscardLimits>) -> Limits {
    Limits {
        discard,
        ..Limits::simple(512, 1 << 20, "test")
    }
}

fn units(granularity: u32) -> Option<DiscardLimits> {
    Some(DiscardLimits {
        granularity: Limit::new(granularity, "test"),
        bytes_max: Limit::new(1 << 20, "test"),
    })
}

#[test]
fn a_device_without_discards_or_with_too_large_ones_is_named() {
    for (discard, words) in [
        (None, "the device takes no discards"),
        (
            units(64 << 10),
            "no class has 8 slots of what the device discards at least, 65536 bytes (test)",
        ),
    ] {
        let sim = Sim::limited(8, limits(discard), 64, None);
        let store = open(&sim);
        let off = store.stats().discard.off.unwrap();
        assert!(off.contains(words), "{off}");
        put(&store, 0..8);
        remove(&store, 0..8);
        store.sync().unwrap();
        assert!(!store.step_discard().unwrap());
        assert_eq!(discards(&sim), []);
    }
}

#[test]
fn a_request_that_a_device_does_not_take_is_refused_with_words() {
    let engine = MemEngine::new(MemDevice::with_limits(1 << 20, limits(None)));
    let queue = engine.queue(&QueueOptions {
        depth: 1,
        arenas: Vec::new(),
        issuer: Issuer::Any,
        inline: true,
        linger: Duration::ZERO,
    });
    let mut lane = Lane::new(queue.unwrap(), engine.limits());
    let done = lane.run(vec![Request::discard(0, 4096)]);
    let refused = done[0].result.as_ref().unwrap_err().to_string();
    assert!(refused.to_lowercase().contains("discard"), "{refused}");
}

/// Partial units of the device are left out: the device would not discard them.
#[test]
fn discards_are_whole_units_of_the_device() {
    // Not a divisor of a slot, so that most slots begin inside a unit.
    const UNIT: u64 = 6144;
    let sim = Sim::limited(64, limits(units(UNIT as u32)), 64, None);
    let store = open(&sim);
    put(&store, 0..64);
    remove(&store, 0..64);
    store.sync().unwrap();
    step_to_the_end(&store);
    let sent = discards(&sim);
    assert!(!sent.is_empty());
    assert!(
        sent.iter()
            .all(|op| op.offset % UNIT == 0 && u64::from(op.len) % UNIT == 0),
        "{sent:?}"
    );
    let reported: u64 = sent.iter().map(|op| u64::from(op.len)).sum();
    assert_eq!(store.stats().discard.bytes, reported);
    assert_eq!(store.stats().index.classes[0].free, 64);
}

fn formatted(device: &Arc<MemDevice>) -> Result<rb_core::Superblock, FormatError> {
    formatted_by(Arc::new(MemEngine::new(Arc::clone(device))))
}

fn formatted_by(engine: Arc<dyn Engine>) -> Result<rb_core::Superblock, FormatError> {
    let classes = vec![ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(300),
    }];
    let progress = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::clone(&progress);
    let options = FormatOptions {
        discard: true,
        key_len_max: 64,
        progress: Some(rb_core::Progress::new(move |done, all| {
            reported.lock().unwrap().push((done, all));
        })),
        ..FormatOptions::new(engine, classes)
    };
    let superblock = format(&options)?.superblock;
    let progress = progress.lock().unwrap();
    let (done, all) = *progress.last().unwrap();
    assert_eq!((done, all), (300 * STRIDE, 300 * STRIDE));
    assert!(progress.len() > 1 && progress.is_sorted());
    Ok(superblock)
}

#[test]
fn a_format_discards_every_slot_and_nothing_else() {
    let classes = [ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(300),
    }];
    let bytes = rb_format::device_bytes_for(&classes, 64, 0, None).unwrap();
    let device = MemDevice::with_limits(bytes, limits(units(4096)));
    let superblock = formatted(&device).unwrap();
    let sim = Sim::on(device);
    let mut sent = discards(&sim);
    sent.sort_unstable_by_key(|op| op.offset);
    let run = &superblock.runs[0];
    assert_eq!(sent.first().unwrap().offset, run.first_byte);
    let last = sent.last().unwrap();
    assert_eq!(
        last.offset + u64::from(last.len),
        run.first_byte + 300 * STRIDE
    );
    assert!(sent.iter().all(|op| u64::from(op.len) <= 1 << 20));
    put(&open(&sim), 0..300);

    // If it is impossible, nothing is written.
    let device = MemDevice::with_limits(bytes, limits(None));
    let refused = formatted(&device).unwrap_err();
    assert!(
        refused.to_string().contains("takes no discards"),
        "{refused}"
    );
    assert_eq!(device.counts().writes, 0);
}

/// An engine that does not discard itself but names another engine for it.
#[derive(Debug)]
struct Elsewhere(Arc<MemEngine>, Limits);

impl Engine for Elsewhere {
    fn name(&self) -> &'static str {
        "elsewhere"
    }

    fn limits(&self) -> &Limits {
        &self.1
    }

    fn capacity_bytes(&self) -> u64 {
        self.0.capacity_bytes()
    }

    fn discards(&self) -> Option<Arc<dyn Engine>> {
        Some(self.0.clone())
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        self.0.queue(options)
    }
}

/// A block device's discard was an ioctl in the reaping thread: if it hung, nothing ended the wait.
#[test]
fn discards_go_through_the_engine_that_is_named_for_them() {
    let sim = Sim::limited(300, limits(units(4096)), 64, None);
    let memory = Arc::new(MemEngine::new(Arc::clone(&sim.device)));
    let engine = Arc::new(Elsewhere(memory, limits(None)));
    formatted_by(engine.clone()).unwrap();
    let formatted = discards(&sim).len();
    assert!(formatted > 0);
    let options = StoreOptions {
        discard_freed: true,
        background: rb_core::Background::Manual,
        buffer_bytes: Some(1 << 20),
        ..StoreOptions::default()
    };
    let store = Store::open(engine, options).unwrap();
    put(&store, 0..1);
    remove(&store, 0..1);
    store.sync().unwrap();
    step_to_the_end(&store);
    assert_eq!(discards(&sim).len(), formatted + 1);
}
