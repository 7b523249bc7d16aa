//! The causes of spans and events.

use std::num::NonZeroU64;
use std::time::Duration;

use rb_core::{Arena, Error, Payload, Put, PutOptions, Scrub, Store};
use rb_format::base_header_offsets;
use rb_io::{Limits, OpKind};
use rb_testkit::{MemDevice, MemEngine};

use crate::capture::call;
use crate::fixture::{EFAULT, EIO, ENOSPC, MARK, Sim, key, put_until, value};

/// Messages of events and names of spans, and their cause.
type Cause = (&'static [&'static str], fn());

pub(crate) const ALL: &[Cause] = &[
    (
        &[
            "opened",
            "closed",
            "entry evicted",
            "entry expired",
            "open",
            "recovery",
            "stage",
            "get",
            "put",
            "remove",
            "sync",
            "commit",
            "checkpoint",
            "scrub_pass",
            "close",
        ],
        life,
    ),
    (&["closed", "unclean shutdown"], crash),
    (&["metadata was lost"], lose_metadata),
    (&["recovery found"], damage_a_superblock),
    (&["foreign data refused"], write_foreign_data),
    (&["open failed"], open_no_store),
    (&["entry dropped"], damage_a_value),
    (&["read failed", "events left out"], fail_reads),
    (&["slot quarantined", "slot is bad"], fail_writes_of_a_slot),
    (&["background task failed"], silence_the_scrubber),
    (&["metadata write failed"], fail_a_log_block),
    (&["out of space", "space again"], fill_the_log),
    (
        &["checkpoint failed", "out of space", "space again"],
        fill_the_bases,
    ),
    (&["checkpoint overdue"], never_checkpoint),
    (&["direct memory turned off"], refuse_memory),
    (&["discards turned off"], take_no_discards),
    (&["operation timed out"], hold_a_read),
    (
        &["another writer has the device", "writing stopped"],
        open_twice,
    ),
    (&["writing stopped", "close failed"], fail_a_flush),
];

fn put(store: &Store, n: u64) {
    put_until(store, n, 1_000_000);
}

fn close(store: Store) {
    store.close().unwrap();
    call(None);
}

/// Every operation, blocking and async, with hits, misses and failures.
fn life() {
    let sim = Sim::new();
    let store = sim.open_with(|options| {
        options.scrub = Some(Scrub {
            bytes_per_second: NonZeroU64::new(1 << 40).unwrap(),
            pass_interval: Duration::from_secs(1),
        });
    });
    (0..Sim::SLOTS + 4).for_each(|n| put(&store, n));
    let keys = [key(0), key(20)];
    let keys = keys.each_ref().map(Vec::as_slice);
    assert_eq!(store.get_many(&keys).iter().flatten().flatten().count(), 1);
    let mut output = [0; 4096];
    assert!(store.get_into(&key(21), &mut output).unwrap().is_some());
    assert!(store.get_async(&key(22)).wait().unwrap().is_some());
    store.put_async(&key(23), &value(23)).wait().unwrap();
    assert!(store.get(&[b'k'; 2000]).is_ok() || store.put(&[b'k'; 2000], b"v").is_err());
    store
        .put(&[MARK.as_bytes(); 1000].concat(), b"v")
        .unwrap_err();
    store.put(&key(24), &vec![0; 4096 * 300]).unwrap_err();
    put_until(&store, 25, 10);
    sim.clock.advance(Duration::from_secs(20));
    assert!(store.get(&key(25)).unwrap().is_none(), "it has expired");
    store.remove(&key(26)).unwrap();
    let removed = store.remove_many_async(&keys).wait();
    assert_eq!(removed.iter().flatten().flatten().count(), 1);
    store.sync().unwrap();
    store.sync_async().wait().unwrap();
    store.checkpoint().unwrap();
    while store.step_scrub(1000).unwrap() == Some(Duration::ZERO) {}
    close(store);
}

fn crash() {
    let sim = Sim::new();
    let store = sim.open();
    put(&store, 0);
    store.sync().unwrap();
    call(None);
    drop(store);
    let store = sim.crash().open();
    assert!(store.contains(&key(0)));
    close(store);
}

fn lose_metadata() {
    let sim = Sim::new();
    let store = sim.open();
    put(&store, 0);
    let bases = store.superblock().bases().map(base_header_offsets);
    close(store);
    for at in bases.into_iter().flatten() {
        sim.device.corrupt(at..at + 100);
    }
    close(sim.open());
}

fn damage_a_superblock() {
    let sim = Sim::new();
    close(sim.open());
    sim.device.corrupt(100..108);
    close(sim.open());
}

fn write_foreign_data() {
    let sim = Sim::new();
    close(sim.open());
    sim.device.poke(512 << 10, MARK.as_bytes());
    sim.try_open(|_| {}).unwrap_err();
}

fn open_no_store() {
    let device = MemDevice::new(8 << 20);
    let engine = std::sync::Arc::new(MemEngine::new(device));
    Store::open(engine, rb_core::StoreOptions::default()).unwrap_err();
}

fn damage_a_value() {
    let sim = Sim::new();
    let store = sim.open();
    put(&store, 0);
    sim.corrupt_value(&store, 0);
    assert!(store.get(&key(0)).unwrap().is_none());
    close(store);
}

fn fail_reads() {
    let sim = Sim::new();
    let store = sim.open();
    put(&store, 0);
    sim.fail_reads(&store);
    // More than any number of seconds that this takes.
    for _ in 0..500 {
        store.get(&key(0)).unwrap_err();
    }
    close(store);
}

fn fail_writes_of_a_slot() {
    let sim = Sim::new();
    let store = sim.open();
    let bad = store.geometry().slot_offset(1).unwrap();
    sim.device.fail_always(OpKind::Write, bad..bad + 8192, EIO);
    for n in 0..240 {
        drop(store.put(&key(n), &value(n)));
        store.sync().unwrap();
        store.step_checkpoint().unwrap();
        sim.clock.advance(Duration::from_millis(1500));
    }
    assert_eq!(store.stats().index.classes[0].bad, 1);
    close(store);
}

fn silence_the_scrubber() {
    let sim = Sim::new();
    let store = sim.open_with(|options| {
        options.scrub = Some(Scrub {
            bytes_per_second: NonZeroU64::new(1 << 40).unwrap(),
            pass_interval: Duration::from_secs(1),
        });
        options.io_deadline = Duration::from_millis(20);
    });
    put(&store, 0);
    sim.device.hold(sim.slots(&store));
    store.step_scrub(8).unwrap_err();
    sim.device.release();
    close(store);
}

fn fail_a_log_block() {
    let sim = Sim::new();
    let store = sim.open();
    put(&store, 0);
    let ring = store.superblock().log_rings()[0].clone();
    let range = ring.offset..ring.offset + ring.bytes;
    sim.device.fail_next(OpKind::Write, range, EIO);
    store.sync().unwrap();
    close(store);
}

fn fill_the_log() {
    let sim = Sim::new();
    let store = sim.open();
    put(&store, 0);
    for ring in store.superblock().log_rings() {
        let range = ring.offset..ring.offset + ring.bytes;
        sim.device.fail_always(OpKind::Write, range, ENOSPC);
    }
    store.sync().unwrap_err();
    sim.device.heal();
    store.sync().unwrap();
    close(store);
}

fn fill_the_bases() {
    let sim = Sim::new();
    let store = sim.open();
    put(&store, 0);
    for base in store.superblock().bases() {
        let range = base.offset..base.offset + base.bytes;
        sim.device.fail_always(OpKind::Write, range, ENOSPC);
    }
    store.checkpoint().unwrap_err();
    sim.device.heal();
    store.checkpoint().unwrap();
    close(store);
}

fn never_checkpoint() {
    let sim = Sim::new();
    let store = sim.open();
    for n in 0..40 {
        put(&store, n % 8);
        store.sync().unwrap();
    }
    close(store);
}

fn refuse_memory() {
    let sim = Sim::new();
    let store = sim.open_with(|options| options.direct_min = 1);
    let memory = Arena::allocate(1 << 20).unwrap();
    store.adopt(memory.clone());
    for n in 0..3 {
        let (name, slots) = (key(n), sim.slots(&store));
        sim.device.fail_next(OpKind::Write, slots, EFAULT);
        let put = Put {
            payload: Payload::Loan(memory.lend(0, 3000).unwrap()),
            ..Put::new(&name, &[])
        };
        let put = store.put_many(vec![put], PutOptions::default()).remove(0);
        put.unwrap();
    }
    assert!(store.stats().direct_off.is_some());
    close(store);
}

fn take_no_discards() {
    let sim = Sim::with(Limits {
        discard: None,
        ..Limits::simple(512, 1 << 20, "memory device")
    });
    close(sim.open_with(|options| options.discard_freed = true));
}

fn hold_a_read() {
    let sim = Sim::new();
    let store = sim.open_with(|options| options.io_deadline = Duration::from_millis(20));
    put(&store, 0);
    sim.device.hold(sim.slots(&store));
    let late = store.get(&key(0));
    assert!(matches!(late, Err(Error::TimedOut { .. })), "{late:?}");
    sim.device.release();
    close(store);
}

fn open_twice() {
    let sim = Sim::new();
    let first = sim.open();
    put(&first, 0);
    let second = sim.try_open(|_| {}).unwrap();
    first.sync().unwrap_err();
    first.close().unwrap_err();
    close(second);
}

fn fail_a_flush() {
    let sim = Sim::new();
    let store = sim.open();
    put(&store, 0);
    sim.device.fail_next(OpKind::Flush, 0..1, EIO);
    store.sync().unwrap_err();
    store.close().unwrap_err();
    call(None);
}
