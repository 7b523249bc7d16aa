//! Tests of space in the log: records that do not fit wait or are refused, and nothing that recovery still needs is
//! overwritten (C6).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rb_core::{Background, Error, Put, PutOptions};
use rb_io::OpKind;
use rb_testkit::{MemOp, Moment};

use crate::support::{Sim, key, long_keys, range_of, slices, slots_of, value};

/// One commit held all records of a batch. A batch of many removes needed more memory than a commit has, and poisoned
/// writing.
#[test]
fn removing_very_many_keys_together_goes_in_several_commits() {
    let sim = Sim::with(64, 1024, Some(64 << 20));
    let store = sim.open();
    let keys = long_keys(0..10_000);
    assert!(store.remove_many(&slices(&keys)).iter().all(Result::is_ok));
    store.sync().unwrap();
}

/// The same with puts. In addition, the base of so many long keys has several sections, which are read in several
/// rounds and decoded by several threads.
#[test]
fn putting_very_many_keys_together_goes_in_several_commits_and_sections() {
    let sim = Sim::with(9000, 1024, Some(64 << 20));
    let store = sim.open_with(|options| {
        options.buffer_bytes = Some(160 << 20);
        options.shards = Some(1);
    });
    let mut keys = long_keys(0..8000);
    // So that zstd cannot compress them.
    (0..)
        .zip(&mut keys)
        .for_each(|(n, key)| key[8..].copy_from_slice(&value(n, 992)));
    let puts = keys.iter().map(|key| Put::new(key, b"v")).collect();
    let answers = store.put_many(puts, PutOptions::default());
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers[0]);
    store.sync().unwrap();
    let by_log = sim.crash().open();
    assert_eq!(by_log.longest_prefix(&slices(&keys)), 8000);
    store.checkpoint().unwrap();
    let by_base = sim.crash().open();
    assert_eq!(by_base.recovery().log_records, 0);
    assert_eq!(by_base.longest_prefix(&slices(&keys)), 8000);
    assert_eq!(by_base.recovery().lost_metadata, None);
}

/// Without checkpoints the ring fills. Then puts and removes are refused, and everything that was acknowledged before
/// is in the log.
#[test]
fn a_full_log_refuses_rather_than_overwrite_what_recovery_needs() {
    let sim = Sim::with_ring(8, 64);
    let store = sim.open();
    let mut newest = [0; 6];
    let refused = (0..200).find_map(|n| {
        if let Err(error) = store.put(&key(n % 6), &value(n, 100)) {
            return Some(error);
        }
        newest[n as usize % 6] = n;
        store.sync().unwrap();
        None
    });
    assert!(matches!(refused, Some(Error::Busy { .. })), "{refused:?}");
    assert!(matches!(store.remove(&key(0)), Err(Error::Busy { .. })));
    let after = sim.crash().open();
    assert_eq!(after.recovery().lost_metadata, None);
    for (n, newest) in (0..).zip(newest) {
        assert!(after.get(&key(n)).unwrap().unwrap() == value(newest, 100)[..]);
    }
    // The second checkpoint replaces the base that needed the oldest block.
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    store.put(&key(0), b"v").unwrap();
}

/// Log space is reserved for puts before their values are written. A caller that arrives in the meantime gets only what
/// is left, otherwise the puts' records would overwrite the ring's start when their writes end.
#[test]
fn space_that_is_reserved_for_puts_in_flight_is_not_given_away() {
    const PUTS: u64 = 35; // Twelve blocks of records.
    let sim = Sim::with_ring(3 * PUTS, 64);
    let store = sim.open_with(|options| {
        options.shards = Some(1);
        options.buffer_bytes = Some(4 << 20);
    });
    sim.device.hold(slots_of(&store));
    let putting: Vec<_> = (0..3)
        .map(|n| {
            let store = store.clone();
            std::thread::spawn(move || {
                let keys = long_keys(n * PUTS..(n + 1) * PUTS);
                let puts = keys.iter().map(|key| Put::new(key, b"v")).collect();
                store.put_many(puts, PutOptions::default())
            })
        })
        .collect();
    sim.wait_for_held(3 * PUTS as usize);
    let refused = long_keys(1000..1400)
        .iter()
        .find_map(|key| store.remove(key).err());
    assert!(matches!(refused, Some(Error::Busy { .. })), "{refused:?}");
    sim.device.release();
    for thread in putting {
        let answers = thread.join().unwrap();
        assert!(answers.iter().all(Result::is_ok), "{:?}", answers[0]);
    }
    store.sync().unwrap();
    let after = sim.crash().open();
    assert_eq!(after.recovery().lost_metadata, None);
    let keys = long_keys(0..3 * PUTS);
    assert_eq!(after.longest_prefix(&slices(&keys)), keys.len());
}

/// A base that no caller waits for pauses between its sections, here for some five seconds in all. A caller that
/// requests a checkpoint in the meantime waits for the writes, but not for the pauses.
#[test]
fn a_requested_checkpoint_waits_for_no_pauses() {
    const SECTION_TAKES: Duration = Duration::from_millis(8);
    let sim = Sim::with_ring(256, 1024);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.shards = Some(64);
    });
    let superblock = store.superblock().clone();
    let bases = [&superblock.base_a, &superblock.base_b].map(range_of);
    let slept = Arc::new(AtomicU64::new(0));
    let sleeping = Arc::clone(&slept);
    sim.device.observe(move |moment, ops| {
        let of_base = |op: &MemOp| bases.iter().any(|base| base.contains(&op.offset));
        let written = ops.iter().any(|op| op.op == OpKind::Write && of_base(op));
        if moment == Moment::Before && written {
            let start = Instant::now();
            std::thread::sleep(SECTION_TAKES);
            sleeping.fetch_add(start.elapsed().as_micros() as u64, Relaxed);
        }
    });
    let mut n = 0;
    while !store.stats().checkpointing {
        store.put(&key(n % 256), &value(n, 100)).unwrap();
        store.sync().unwrap();
        n += 1;
    }
    let before = store.stats().checkpoints;
    let start = Instant::now();
    store.checkpoint().unwrap();
    let (took, written) = (start.elapsed(), store.stats().checkpoints - before);
    assert_eq!(
        written, 2,
        "the one that was under way, and the requested one"
    );
    let writing = Duration::from_micros(slept.load(Relaxed));
    assert!(took < 3 * writing, "{took:?}, {writing:?} of it writing");
}
