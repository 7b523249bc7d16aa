//! Tests of who may write: each opening has a number and a nonce, which every commit and checkpoint reads again (C8),
//! and which never repeat.

use std::sync::Arc;
use std::time::Duration;

use rb_core::{ManualClock, Store};
use rb_format::{
    FORMAT_BLOCK, Generation, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, Identity, Incarnation,
};

use rb_io::OpKind;
use rb_testkit::MemOp;

use crate::support::{Sim, key};

/// Returns the incarnation blocks on the device, A first.
fn named(sim: &Sim, identity: &Identity) -> [Option<Incarnation>; 2] {
    let image = sim.device.live_image();
    [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET].map(|offset| {
        let at = offset as usize;
        Incarnation::decode(&image[at..at + FORMAT_BLOCK], identity).ok()
    })
}

fn corrupt(sim: &Sim, incarnation_offset: u64) {
    sim.device
        .corrupt(incarnation_offset + 50..incarnation_offset + 51);
}

/// Puts a key and returns its generation.
fn generation_of_put(store: &Store) -> Generation {
    store.put(b"probe", b"v").unwrap();
    let mut found = None;
    store.for_each(|info| {
        if *info.key == *b"probe" {
            found = Some(Generation(info.generation));
        }
        true
    });
    found.unwrap()
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

/// Two hosts that open at the same moment take the same number; only the nonce distinguishes them.
#[test]
fn another_writer_with_the_same_number_is_found_by_its_nonce() {
    let sim = Sim::new(32);
    let store = sim.open();
    let [_, Some(ours)] = named(&sim, &store.superblock().identity) else {
        panic!("the first opening is in block B");
    };
    store.put(b"k", b"ours").unwrap();
    store.sync().unwrap();
    let theirs = Incarnation {
        nonce: [7; 16],
        ..ours
    };
    sim.device.poke(theirs.offset(), &theirs.encode()[..]);
    store.put(b"k", b"again").unwrap();
    let error = store.sync().unwrap_err();
    assert!(error.to_string().contains("another writer"), "{error}");
}

/// Starting empty began a new epoch and restarted the count of openings. A former writer found no block of its own
/// epoch that was newer than its own, and continued to write into the other one's log.
#[test]
fn a_writer_that_started_empty_is_seen_by_the_former_one() {
    let sim = Sim::new(8);
    sim.open().close().unwrap();
    let first = sim.open();
    first.put(b"k", b"first").unwrap();
    first.sync().unwrap();
    let second = sim.open_with(|options| options.start_empty = true);
    second.put(b"l", b"second").unwrap();
    second.sync().unwrap();
    first.put(b"m", b"first").unwrap();
    assert!(first.sync().unwrap_err().is_poisoned());
    let store = sim.crash().open();
    assert!(store.get(b"l").unwrap().unwrap() == b"second"[..]);
    assert!(!store.contains(b"k") && !store.contains(b"m"));
}

/// Only commits checked for another writer. A checkpoint with nothing to commit succeeded and overwrote the bases of
/// the store's new owner.
#[test]
fn a_checkpoint_checks_for_another_writer() {
    let sim = Sim::with_ring(8, 64);
    let first = sim.open();
    let second = sim.open();
    for n in 0..100 {
        second.put(&key(n % 6), b"second").unwrap();
        second.sync().unwrap();
        second.step_checkpoint().unwrap();
    }
    assert!(first.checkpoint().unwrap_err().is_poisoned());
    assert!(first.close().is_err());
    let store = sim.crash().open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert!((0..6).all(|n| store.get(&key(n)).unwrap().is_some()));
}

/// An opening that crashes before its first flush still leaves its values behind. So its number must be durable before
/// any of them is written, or the next opening gives the same generations to other values.
#[test]
fn an_opening_that_crashed_immediately_does_not_share_its_number_with_the_next() {
    let sim = Sim::new(8);
    let store = sim.open();
    let first = generation_of_put(&store);
    // It is still open, so nothing was committed.
    let second = generation_of_put(&sim.crash().open());
    assert!(
        first.incarnation() < second.incarnation(),
        "{first:?}, then {second:?}"
    );
}

/// The same when the incarnation blocks are rotten: the log and the bases name openings too.
#[test]
fn a_number_is_not_reused_after_the_incarnation_blocks_are_lost() {
    for by_log in [true, false] {
        let sim = Sim::new(8);
        sim.open().close().unwrap();
        let store = sim.open();
        let before = generation_of_put(&store);
        match by_log {
            true => store.sync().unwrap(),
            false => store.checkpoint().unwrap(),
        }
        let sim = sim.crash();
        corrupt(&sim, INCARNATION_A_OFFSET);
        corrupt(&sim, INCARNATION_B_OFFSET);
        let store = sim.open();
        assert_eq!(store.recovery().lost_metadata, None);
        let after = generation_of_put(&store);
        assert!(
            before.incarnation() < after.incarnation(),
            "by the log {by_log}: {before:?}, then {after:?}"
        );
    }
}

/// If the newest block is rotten, the next number would belong in the place of the other one, the last that is whole.
/// That number is skipped: a torn write must not leave two torn blocks.
#[test]
fn the_last_whole_incarnation_block_is_never_overwritten() {
    let sim = Sim::new(8);
    sim.open().close().unwrap();
    let store = sim.open();
    store.put(b"k", b"v").unwrap();
    store.sync().unwrap();
    let identity = store.superblock().identity;
    let sim = sim.crash();
    corrupt(&sim, INCARNATION_A_OFFSET);
    let numbers = |sim: &Sim| named(sim, &identity).map(|found| found.map(|found| found.number));
    assert_eq!(numbers(&sim), [None, Some(1)]);
    // Power is lost during the block's write.
    sim.device.cut_power_after(1);
    assert!(sim.try_open(|_| {}).is_err());
    for seed in 0..32 {
        let [a, b] = numbers(&sim.crash_seeded(seed));
        assert_eq!(b, Some(1), "seed {seed}");
        assert!([None, Some(4)].contains(&a), "seed {seed}: {a:?}");
    }
}

/// Each commit read the incarnation blocks twice, and its first reading repeated the last one of the previous commit. A
/// reading that is recent enough serves both.
#[test]
fn consecutive_commits_read_the_incarnation_blocks_once() {
    let sim = Sim::new(32);
    let clock = Arc::new(ManualClock::new());
    let store = sim.open_with(|options| options.clock = clock.clone());
    let readings_of_a_commit = || {
        let before = sim.device.log().len();
        store.put(b"k", b"v").unwrap();
        store.sync().unwrap();
        let of_a_reading = |op: &&MemOp| op.op == OpKind::Read && op.offset == INCARNATION_A_OFFSET;
        sim.device.log()[before..]
            .iter()
            .filter(of_a_reading)
            .count()
    };
    assert_eq!(readings_of_a_commit(), 2, "the first commit");
    assert_eq!(readings_of_a_commit(), 1, "at once");
    clock.advance(Duration::from_micros(249));
    assert_eq!(readings_of_a_commit(), 1, "soon");
    clock.advance(Duration::from_micros(250));
    assert_eq!(readings_of_a_commit(), 2, "later");
}

/// A commit that relies on the previous commit's reading can write after another host has taken the store over. The
/// other host's first log block is written even later, so nothing that it acknowledged is overwritten.
#[test]
fn a_new_writer_begins_when_no_reading_from_before_it_serves_any_more() {
    let sim = Sim::new(32);
    let clock = Arc::new(ManualClock::new());
    let open = || sim.open_with(|options| options.clock = clock.clone());
    let first = open();
    first.put(b"k", b"first").unwrap();
    first.sync().unwrap();
    let second = open();
    // A sync with nothing to commit reads the blocks, and the first commit once took that for its
    // own wait.
    second.sync().unwrap();
    second.put(b"l", b"second").unwrap();
    second.sync().unwrap();
    first.put(b"m", b"first").unwrap();
    assert!(first.sync().unwrap_err().is_poisoned());
    let store = sim.crash().open();
    assert!(store.get(b"l").unwrap().unwrap() == b"second"[..]);
}
