//! Tests of a device that has no space for the metadata for a while: nothing is lost, nothing is acknowledged that is
//! not durable, and the store continues by itself once there is space (C2, C7).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_core::{Background, Durability, Error, ManualClock, Put, PutOptions, Store};
use rb_io::OpKind;
use rb_testkit::{MemOp, Moment};

use crate::support::{
    EIO, ENOSPC, Sim, base_headers, ends_within, holds, key, long_keys, range_of, slices, value,
};

/// Makes writes of log blocks fail for lack of space.
fn fill_log(sim: &Sim, store: &Store) {
    for ring in store.superblock().log_rings() {
        sim.device
            .fail_always(OpKind::Write, range_of(ring), ENOSPC);
    }
}

/// A full file system stopped writing until the store was reopened, because the log has no reserved space there.
#[test]
fn a_log_without_space_is_written_by_the_next_commit() {
    let sim = Sim::new(32);
    let store = sim.open();
    for n in 0..3 {
        store.put(&key(n), &value(n, 3000)).unwrap();
    }
    store.sync().unwrap();
    for n in 3..6 {
        store.put(&key(n), &value(n, 3000)).unwrap();
    }
    store.remove(&key(0)).unwrap();
    fill_log(&sim, &store);
    for _ in 0..3 {
        let refused = store.sync().unwrap_err();
        assert!(
            refused.is_out_of_space() && !refused.is_poisoned(),
            "{refused}"
        );
    }
    // New puts could not be made durable either, however long that lasts.
    let refused = store.put(&key(6), &value(6, 3000)).unwrap_err();
    assert!(refused.is_out_of_space(), "{refused}");
    assert!(store.remove(&key(1)).unwrap_err().is_out_of_space());
    assert!(holds(&store, 1) && holds(&store, 5) && !holds(&store, 6));
    assert_eq!(sim.watch.count("OutOfSpace"), 1);
    assert_eq!(sim.watch.count("Poisoned"), 0);
    let old = sim.crash().open();
    assert_eq!([0, 3, 5].map(|n| holds(&old, n)), [true, false, false]);

    sim.device.heal();
    store.sync().unwrap();
    store.put(&key(6), &value(6, 3000)).unwrap();
    store.sync().unwrap();
    let new = sim.crash().open();
    for n in 0..7 {
        assert_eq!(holds(&new, n), n != 0, "key {n}");
    }
    assert_eq!(new.recovery().one_copy, [""; 0]);
    new.audit().unwrap();
    // The second time is reported again.
    store.put(&key(7), &value(7, 3000)).unwrap();
    fill_log(&sim, &store);
    store.sync().unwrap_err();
    assert_eq!(sim.watch.count("OutOfSpace"), 2);
    sim.device.heal();
    store.close().unwrap();
    assert!(sim.crash().open().recovery().clean);
}

/// A commit of many blocks wrote some of them and not others. No subset that a crash leaves is damage, and the
/// retry writes the same contents.
#[test]
fn a_commit_that_was_half_written_is_written_again() {
    for seed in 0..40 {
        let sim = Sim::with(64, 1024, None);
        let store = sim.open();
        let (first, second) = (long_keys(0..20), long_keys(20..40));
        let put = |keys: &[Vec<u8>]| {
            let puts = keys.iter().map(|key| Put::new(key, b"v")).collect();
            let answers = store.put_many(puts, PutOptions::default());
            assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        };
        put(&first);
        store.sync().unwrap();
        put(&second);
        // A block in the middle.
        let end = store.recovery().log_blocks + 10 + seed % 4;
        for at in store.superblock().log_block_offsets(end) {
            sim.device.fail_always(OpKind::Write, at..at + 4096, ENOSPC);
        }
        assert!(store.sync().unwrap_err().is_out_of_space(), "seed {seed}");
        let crashed = sim.crash_seeded(seed).open();
        assert_eq!(crashed.recovery().lost_metadata, None, "seed {seed}");
        assert_eq!(crashed.longest_prefix(&slices(&first)), 20, "seed {seed}");
        crashed.audit().unwrap();
        drop(crashed);
        sim.device.heal();
        store.sync().unwrap();
        let synced = sim.crash().open();
        assert_eq!(synced.recovery().lost_metadata, None, "seed {seed}");
        assert_eq!(synced.longest_prefix(&slices(&second)), 20, "seed {seed}");
        synced.audit().unwrap();
    }
}

/// Records that are queued while a commit finds no space follow in a separate commit: no later block is written before.
#[test]
fn no_later_block_is_written_before() {
    let sim = Sim::new(32);
    let store = sim.open();
    let superblock = store.superblock().clone();
    let rings = superblock.log_rings().map(range_of);
    let ring = rings[0].clone();
    store.put(&key(1), &value(1, 3000)).unwrap();
    fill_log(&sim, &store);
    let other = store.clone();
    let written = ring.clone();
    let once = std::sync::Once::new();
    sim.device.observe(move |moment, ops| {
        let is_log = |op: &MemOp| op.op == OpKind::Write && written.contains(&op.offset);
        if moment == Moment::Before && ops.iter().any(is_log) {
            // In the middle of the commit, which has already taken its records.
            once.call_once(|| assert!(other.put(&key(2), &value(2, 3000)).is_ok()));
        }
    });
    store.sync().unwrap_err();
    sim.device.heal();
    let before = sim.device.log().len();
    store.sync().unwrap();
    sim.device.observe(|_, _| {});
    let log = sim.device.log().split_off(before);
    let order: Vec<_> = log
        .iter()
        .filter(|op| op.op == OpKind::Flush || op.op == OpKind::Write && ring.contains(&op.offset))
        .map(|op| (op.op, op.offset))
        .collect();
    let [
        (OpKind::Write, first),
        (OpKind::Flush, _),
        (OpKind::Write, second),
        (OpKind::Flush, _),
    ] = order[..]
    else {
        panic!("{order:?}");
    };
    assert_eq!(second, first + 4096);
    let synced = sim.crash().open();
    assert!(holds(&synced, 1) && holds(&synced, 2));
}

/// The retry wrote only what had found no space: a caller that waited for records queued in the meantime waited for as
/// long as no other caller requested a commit.
#[test]
fn a_caller_behind_a_retried_commit_is_not_left_waiting() {
    for background in [Background::Manual, Background::Threads] {
        let sim = Sim::new(32);
        let store = sim.open_with(|options| {
            options.background = background;
            options.sync_interval = Duration::from_hours(1);
        });
        let ring = range_of(store.superblock().log_rings()[0]);
        store.put(&key(1), &value(1, 3000)).unwrap();
        fill_log(&sim, &store);
        let other = store.clone();
        let once = std::sync::Once::new();
        sim.device.observe(move |moment, ops| {
            let is_log = |op: &MemOp| op.op == OpKind::Write && ring.contains(&op.offset);
            if moment == Moment::Before && ops.iter().any(is_log) {
                once.call_once(|| assert!(other.put(&key(2), &value(2, 3000)).is_ok()));
            }
        });
        store.sync().unwrap_err();
        sim.device.observe(|_, _| {});
        sim.device.heal();
        let waiting = store.clone();
        let answered = ends_within(Duration::from_secs(20), move || {
            waiting.sync_async().wait().unwrap();
        });
        assert!(answered, "{background:?}");
        let synced = sim.crash().open();
        assert!(holds(&synced, 1) && holds(&synced, 2));
    }
}

/// One ring is enough, as for any other write that one copy does not take.
#[test]
fn space_in_one_ring_is_enough() {
    for ring in 0..2 {
        let sim = Sim::new(32);
        let store = sim.open();
        let range = range_of(store.superblock().log_rings()[ring]);
        sim.device.fail_always(OpKind::Write, range, ENOSPC);
        store.put(&key(1), &value(1, 3000)).unwrap();
        store.sync().unwrap();
        assert_eq!(sim.watch.count("MetadataWriteFailed"), 1);
        assert!(holds(&sim.crash().open(), 1));
    }
}

/// One ring is broken and the other has no space: the latter may take the block later. Two broken rings stop writing.
#[test]
fn a_broken_ring_waits_for_space_in_the_other() {
    for (errors, waits) in [
        ([EIO, ENOSPC], true),
        ([ENOSPC, EIO], true),
        ([EIO, EIO], false),
    ] {
        let sim = Sim::new(32);
        let store = sim.open();
        store.put(&key(1), &value(1, 3000)).unwrap();
        let rings = store.superblock().log_rings().map(range_of);
        for (ring, error) in rings.into_iter().zip(errors) {
            sim.device.fail_always(OpKind::Write, ring, error);
        }
        let refused = store.sync().unwrap_err();
        assert_eq!(refused.is_out_of_space(), waits, "{refused}");
        assert_eq!(refused.is_poisoned(), !waits, "{refused}");
    }
}

/// The kernel has dropped what it could not write: a flush that reports that stops writing, regardless of its error
/// code.
#[test]
fn a_flush_without_space_ends_writing() {
    for checkpoint in [false, true] {
        let sim = Sim::new(32);
        let store = sim.open();
        store.put(&key(1), &value(1, 3000)).unwrap();
        sim.device.fail_next(OpKind::Flush, 0..u64::MAX, ENOSPC);
        let refused = match checkpoint {
            true => store.checkpoint(),
            false => store.sync(),
        };
        assert!(refused.unwrap_err().is_poisoned());
        assert!(store.sync().unwrap_err().is_poisoned());
        assert!(store.put(&key(2), b"v").unwrap_err().is_poisoned());
    }
}

/// Every caller that waits for the commit receives the error, and none is left waiting.
#[test]
fn every_caller_of_a_commit_without_space_gets_the_error() {
    let sim = Sim::new(32);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.sync_interval = Duration::from_hours(1);
    });
    store.put(&key(0), &value(0, 3000)).unwrap();
    store.sync().unwrap();
    fill_log(&sim, &store);
    let strict = PutOptions {
        durability: Some(Durability::EachBatch),
        ..PutOptions::default()
    };
    let waiting = store.clone();
    let heard = ends_within(Duration::from_secs(20), move || {
        let (key, value) = (key(1), value(1, 3000));
        let answers = waiting.put_many(vec![Put::new(&key, &value)], strict);
        let refused = answers[0].as_ref().unwrap_err();
        assert!(refused.is_out_of_space(), "{refused}");
        assert!(waiting.sync_async().wait().unwrap_err().is_out_of_space());
        assert!(waiting.sync().unwrap_err().is_out_of_space());
    });
    assert!(heard);
    sim.device.heal();
    // No caller requests a commit: the store's own thread retries.
    let start = Instant::now();
    while let Err(refused) = store.put(&key(2), &value(2, 3000)) {
        assert!(refused.is_out_of_space(), "{refused}");
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(store.sync_async().wait().is_ok());
    let synced = sim.crash().open();
    assert!(holds(&synced, 0) && holds(&synced, 2));
}

/// The store's own threads wait between their attempts.
#[test]
fn attempts_without_space_are_seldom() {
    let sim = Sim::with_ring(64, 64);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.sync_interval = Duration::ZERO;
    });
    let bases = store.superblock().bases().map(range_of);
    for base in bases {
        sim.device.fail_always(OpKind::Write, base, ENOSPC);
    }
    let start = Instant::now();
    // Until a quarter of the log is used and a checkpoint has found no space. Each commit takes a
    // block, so a fixed number of puts filled the log where the committer was fast.
    for key in long_keys(0..60) {
        if sim.watch.count("OutOfSpace") > 0 {
            break;
        }
        store.put(&key, b"v").unwrap();
    }
    while sim.watch.count("OutOfSpace") == 0 {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(1));
    }
    fill_log(&sim, &store);
    drop(store.put(b"k", b"v"));
    let before = sim.device.counts().writes;
    std::thread::sleep(Duration::from_secs(1));
    let writes = sim.device.counts().writes - before;
    assert!((1..200).contains(&writes), "{writes} writes in a second");
    assert_eq!(sim.watch.count("OutOfSpace"), 2, "{:?}", sim.watch.lines());
    sim.device.heal();
    while store.put(b"k", b"v").is_err() || store.stats().checkpoints == 0 {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    store.close().unwrap();
}

/// A checkpoint that found no space stopped writing. It need not: the newest base and the log are whole.
#[test]
fn a_base_without_space_is_written_by_the_next_checkpoint() {
    for only_headers in [false, true] {
        let sim = Sim::new(32);
        let store = sim.open();
        for round in 0..4 {
            store.put(&key(round), &value(round, 3000)).unwrap();
            if only_headers {
                for at in base_headers(store.superblock()) {
                    sim.device.fail_always(OpKind::Write, at..at + 4096, ENOSPC);
                }
            } else {
                for base in store.superblock().bases().map(range_of) {
                    sim.device.fail_always(OpKind::Write, base, ENOSPC);
                }
            }
            for _ in 0..2 {
                let refused = store.checkpoint().unwrap_err();
                assert!(refused.is_out_of_space(), "{refused}");
            }
            assert_eq!(sim.watch.count("OutOfSpace"), round as usize + 1);
            // Values and the log have space.
            store
                .put(&key(round + 10), &value(round + 10, 3000))
                .unwrap();
            store.sync().unwrap();
            let crashed = sim.crash().open();
            assert_eq!(crashed.recovery().lost_metadata, None);
            assert!(holds(&crashed, round) && holds(&crashed, round + 10));
            crashed.audit().unwrap();
            sim.device.heal();
            store.checkpoint().unwrap();
        }
        assert_eq!(sim.watch.count("Poisoned"), 0);
        let crashed = sim.crash().open();
        assert_eq!(crashed.recovery().base_damage, [""; 0]);
        assert!((0..4).all(|n| holds(&crashed, n) && holds(&crashed, n + 10)));
        crashed.audit().unwrap();
    }
}

/// A close that has no space for its base still makes durable what was acknowledged.
#[test]
fn a_close_without_space_for_a_base_keeps_what_was_acknowledged() {
    let sim = Sim::new(32);
    let store = sim.open();
    store.put(&key(1), &value(1, 3000)).unwrap();
    for base in store.superblock().bases().map(range_of) {
        sim.device.fail_always(OpKind::Write, base, ENOSPC);
    }
    assert!(store.close().unwrap_err().is_out_of_space());
    assert!(matches!(store.put(&key(2), b"v"), Err(Error::Closed)));
    sim.device.heal();
    let again = sim.crash().open();
    assert!(holds(&again, 1) && !again.recovery().clean);
}

/// With a clock that stands still: the next requested commit looks for space immediately.
#[test]
fn a_caller_does_not_wait_for_the_next_attempt() {
    let sim = Sim::new(32);
    let clock = Arc::new(ManualClock::new());
    let of_store = Arc::clone(&clock);
    let store = sim.open_with(|options| options.clock = of_store);
    store.put(&key(1), &value(1, 3000)).unwrap();
    fill_log(&sim, &store);
    store.sync().unwrap_err();
    sim.device.heal();
    store.sync().unwrap();
    assert!(holds(&sim.crash().open(), 1));
}
