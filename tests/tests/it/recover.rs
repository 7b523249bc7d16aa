//! Tests of restarts: the log's ring, removed keys, reading next to a writer. `stale` tests that old contents do not
//! return.

use std::sync::atomic::{AtomicU64, Ordering};

use rb_core::{Background, Durability, Put, PutOptions, Store, StoreOptions};
use rb_io::OpKind;
use rb_testkit::{MemOp, Moment};

use crate::support::{EIO, FileFixture, KIB, Sim, key, range_of, slots_of, value};

#[test]
fn the_ring_goes_round_and_checkpoints_follow_it() {
    let fixture = FileFixture::with(
        vec![rb_core::ClassRequest {
            slot_bytes: 4096,
            share: rb_core::Share::Slots(32),
        }],
        |options| options.log_bytes = Some(1 << 20),
    );
    let store = fixture.open();
    let blocks = store.stats().log_blocks;
    // A sync makes at least one block, so this wraps three times.
    for n in 0..3 * blocks {
        store.put(&key(n % 40), &value(n, 100)).unwrap();
        store.sync().unwrap();
        assert!(store.stats().replay_blocks < blocks);
    }
    assert!(
        store.stats().checkpoints >= 6,
        "{} checkpoints",
        store.stats().checkpoints
    );
    let after = fixture.image().open();
    assert_eq!(after.recovery().lost_metadata, None);
    let mut live = 0;
    for n in 3 * blocks - 40..3 * blocks {
        if let Some(found) = after.get(&key(n % 40)).unwrap() {
            assert!(
                found == value(n, 100)[..],
                "key {} has an old value",
                n % 40
            );
            live += 1;
        }
    }
    assert!(live >= 31, "{live} of 32 slots are live");
}

/// An eviction leaves no record, and if the write for which it made space fails, neither record nor data of another key
/// displaces the evicted entry on the device. So the remove of an absent key needs a record too.
#[test]
fn a_key_removed_after_its_eviction_does_not_return() {
    for checkpointed in [false, true] {
        let sim = Sim::new(1);
        let store = sim.open();
        store.put(b"gone", b"v").unwrap();
        store.sync().unwrap();
        if checkpointed {
            store.checkpoint().unwrap();
        }
        sim.device.fail_next(OpKind::Write, slots_of(&store), EIO);
        assert!(store.put(b"new", b"v").is_err());
        assert_eq!(sim.watch.lines(), ["evicted gone"]);
        assert!(store.remove(b"gone").unwrap().is_none());
        store.sync().unwrap();
        assert!(!sim.crash().open().contains(b"gone"));
    }
}

#[test]
fn a_read_only_store_reads_and_never_writes() {
    let fixture = FileFixture::new(64 * KIB as u64, 8);
    let store = fixture.open();
    store.put(b"k", &value(1, 50_000)).unwrap();
    store.close().unwrap();
    drop(store);
    let before = std::fs::read(fixture.path()).unwrap();
    let store = Store::open(
        fixture.path(),
        StoreOptions {
            read_only: true,
            ..fixture.options()
        },
    )
    .unwrap();
    assert!(store.get(b"k").unwrap().unwrap() == value(1, 50_000)[..]);
    assert!(store.put(b"l", b"v").is_err() && store.remove(b"k").is_err() && store.sync().is_err());
    store.close().unwrap();
    assert!(std::fs::read(fixture.path()).unwrap() == before);
}

/// The writer continued between the two reads of a read-only opening: the one that found the end of the log, and the
/// one that searches past it. A later block then named the one at the end as durable, and the opening reported lost
/// metadata of a healthy store.
#[test]
fn a_writer_that_continues_does_not_look_like_a_damaged_log() {
    let sim = Sim::new(32);
    let writer = sim.open();
    let put = |n| {
        writer.put(&key(n), &value(n, 100)).unwrap();
        writer.sync().unwrap();
    };
    (0..3).for_each(put);
    let log = range_of(&writer.superblock().log);
    let (reads, going) = (AtomicU64::new(0), writer.clone());
    sim.device.observe(move |moment, ops| {
        let of_log = |op: &MemOp| op.op == OpKind::Read && log.contains(&op.offset);
        // The writer's own reads are of its incarnation blocks.
        if moment == Moment::Before && ops.iter().any(of_log) {
            // Nothing before the read that finds the end, four entries before each of the next
            // three.
            let round = reads.fetch_add(1, Ordering::Relaxed);
            if (1..4).contains(&round) {
                (4 * round..4 * round + 4).for_each(|n| {
                    going.put(&key(n), &value(n, 100)).unwrap();
                    going.sync().unwrap();
                });
            }
        }
    });
    let reader = sim.open_with(|options| options.read_only = true);
    assert_eq!(reader.recovery().lost_metadata, None);
    for n in (0..3).chain(4..8) {
        assert!(reader.get(&key(n)).unwrap().unwrap() == value(n, 100)[..]);
    }
}

#[test]
fn metadata_comes_back_with_the_value_and_after_a_restart() {
    let fixture = FileFixture::with(
        vec![rb_core::ClassRequest {
            slot_bytes: 4096,
            share: rb_core::Share::Slots(8),
        }],
        |options| options.metadata_len_max = 64,
    );
    let put = |metadata| Put {
        metadata,
        ..Put::new(b"k", b"v")
    };
    let store = fixture.open();
    store
        .put_many(vec![put(b"shape=2x4")], Default::default())
        .remove(0)
        .unwrap();
    let error = store
        .put_many(vec![put(&[0; 65])], Default::default())
        .remove(0)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "metadata of 65 bytes: this store was formatted for at most 64 bytes of metadata"
    );
    assert_eq!(store.get(b"k").unwrap().unwrap().metadata(), b"shape=2x4");
    drop(store);
    let store = fixture.open();
    assert_eq!(store.get(b"k").unwrap().unwrap().metadata(), b"shape=2x4");
    store.close().unwrap();
    drop(store);
    assert_eq!(
        fixture.open().get(b"k").unwrap().unwrap().metadata(),
        b"shape=2x4"
    );
}

/// A batch whose records need more log than there is returned `Busy` each time. Now it is split into pieces that the
/// log takes.
#[test]
fn batches_larger_than_the_log_go_in_pieces() {
    let fixture = FileFixture::with(
        vec![rb_core::ClassRequest {
            slot_bytes: 4096,
            share: rb_core::Share::Slots(2000),
        }],
        |options| {
            options.log_bytes = Some(64 * 4096);
            options.key_len_max = 1024;
        },
    );
    let store = fixture.open();
    let keys: Vec<_> = (0..2000_u64)
        .map(|n| [&n.to_le_bytes()[..], &[7; 900]].concat())
        .collect();
    let puts = keys.iter().map(|key| Put::new(key, b"v")).collect();
    for answer in store.put_many(puts, Default::default()) {
        answer.unwrap();
    }
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    assert_eq!(store.longest_prefix(&asked), 2000);
    drop(store);
    let store = fixture.open();
    assert_eq!(store.longest_prefix(&asked), 2000, "all of it was logged");
    assert!(
        store
            .remove_many(&asked)
            .iter()
            .all(|removed| removed.as_ref().unwrap().is_some())
    );
    drop(store);
    assert_eq!(fixture.open().stats().index.entries, 0);
}

/// A writer that took two checkpoints while a read-only opening loaded the base overwrote both bases: the opening
/// reported that both were damaged.
#[test]
fn bases_that_are_rewritten_are_not_damaged() {
    let sim = Sim::new(32);
    let writer = sim.open();
    let put = |n| writer.put(&key(n), &value(n, 100)).unwrap();
    for n in 0..2 {
        put(n);
        writer.checkpoint().unwrap();
    }
    let bases = [&writer.superblock().base_a, &writer.superblock().base_b].map(range_of);
    let (reads, going) = (AtomicU64::new(0), writer.clone());
    sim.device.observe(move |moment, ops| {
        let of_bases = |op: &MemOp| {
            op.op == OpKind::Read && bases.iter().any(|base| base.contains(&op.offset))
        };
        // The headers are read together, and then what the newest names.
        if moment == Moment::Before
            && ops.iter().any(of_bases)
            && reads.fetch_add(1, Ordering::Relaxed) == 1
        {
            for n in 2..4 {
                going.put(&key(n), &value(n, 100)).unwrap();
                going.checkpoint().unwrap();
            }
        }
    });
    let reader = sim.open_with(|options| options.read_only = true);
    assert_eq!(reader.recovery().lost_metadata, None);
    for n in 0..4 {
        assert!(reader.get(&key(n)).unwrap().unwrap() == value(n, 100)[..]);
    }
}

/// The length of the log that a restart replays follows the entries, not the ring. The ring of a store is made for values
/// of one slot: with values of 16 slots it has room for 16 times as many records as there are entries, and a checkpoint
/// came only after a quarter of it: restarts took five times as long as those of as many values of one slot.
#[test]
fn a_checkpoint_is_due_after_a_part_of_what_a_restart_loads() {
    let sim = Sim::with(64, 64, Some(8192 * 4096));
    let store = sim.open_with(|options| options.background = Background::Threads);
    let due = store.stats().checkpoint_blocks;
    assert_eq!((due, store.stats().log_blocks / 4), (256, 2048));
    let each = PutOptions {
        durability: Some(Durability::EachBatch),
        ..PutOptions::default()
    };
    // At least one block for each commit; a put finds that those before it were enough.
    for n in 0..=due {
        let outcome = store.put_many(vec![Put::new(&key(n), b"v")], each);
        assert!(outcome[0].is_ok(), "{outcome:?}");
    }
    let started = std::time::Instant::now();
    while store.stats().checkpoints == 0 {
        assert!(started.elapsed().as_secs() < 60, "{:?}", store.stats());
        std::thread::yield_now();
    }
    assert!(store.stats().replay_blocks < due);
    // A ring that is short for its base: a quarter of it.
    let sim = Sim::with(64, 64, Some(256 * 4096));
    assert_eq!(sim.open().stats().checkpoint_blocks, 64);
}
