//! Tests of where the log ends: at the first block that is not the next, unless a later one shows that the device lost
//! it (C3).

use rb_core::OnLostMetadata;
use rb_format::{FORMAT_BLOCK, log_block_offset};

use crate::support::{Sim, base_headers, key, long_keys, slices};

/// A large batch made a commit of more blocks than recovery searches past an apparent end. When the device lost its
/// first block, no block within that distance named it as durable: a removed key was back, unreported.
#[test]
fn a_lost_block_of_a_large_commit_is_damage() {
    let sim = Sim::with(64, 1024, Some(64 << 20));
    let store = sim.open();
    store.put(b"gone", b"gone").unwrap();
    store.sync().unwrap();
    let mut keys = long_keys(0..3500);
    keys[0] = b"gone".to_vec();
    assert!(store.remove_many(&slices(&keys)).iter().all(Result::is_ok));
    store.sync().unwrap();
    for n in 0..3 {
        store.put(&key(n), b"v").unwrap();
        store.sync().unwrap();
    }
    let superblock = store.superblock().clone();
    let sim = sim.crash();
    sim.corrupt_log(&superblock, 2);
    assert!(sim.open().recovery().lost_metadata.is_some());
}

/// Each block names all of the previous commit as durable, so only the very last commit can be lost without a trace.
#[test]
fn the_last_block_but_one_is_named_by_the_last() {
    let sim = Sim::new(8);
    let store = sim.open();
    for n in 0..5 {
        store.put(&key(n), b"v").unwrap();
        store.sync().unwrap();
    }
    let superblock = store.superblock().clone();
    for (sequence, lost) in [(3, true), (4, true), (5, false)] {
        let sim = sim.crash();
        sim.corrupt_log(&superblock, sequence);
        let found = sim.open().recovery().lost_metadata.is_some();
        assert_eq!(found, lost, "block {sequence}");
    }
}

/// The second block of a commit landed, its first did not, and the store survived the crash. The block that is then
/// written in place of the first one must not bring the old second one into the log.
#[test]
fn a_block_with_another_predecessor_does_not_continue_the_log() {
    let sim = Sim::with_ring(8, 64);
    let store = sim.open();
    store.put(b"kept", b"kept").unwrap();
    store.sync().unwrap();
    let mut keys = long_keys(0..4);
    keys[3] = b"kept".to_vec();
    sim.device.lose_flushes();
    // Three long keys fill block 2. Block 3 removes the key, and is never acknowledged as durable
    // on a device that keeps its promises.
    assert!(
        store
            .remove_many(&slices(&keys[..3]))
            .iter()
            .all(Result::is_ok)
    );
    assert!(store.remove(&long_keys(9..10)[0]).is_ok());
    assert!(store.remove(b"kept").unwrap().is_some());
    store.sync().unwrap();
    let at = log_block_offset(&store.superblock().log, 3);
    let block = sim.device.live_image()[at as usize..][..FORMAT_BLOCK].to_vec();
    assert!(block.iter().any(|byte| *byte != 0), "there is a block 3");

    let sim = sim.crash();
    sim.device.poke(at, &block);
    let store = sim.open();
    assert!(
        store.get(b"kept").unwrap().is_some(),
        "the log ends after block 1"
    );
    store.put(b"other", b"v").unwrap();
    store.sync().unwrap();
    let store = sim.crash().open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert_eq!(store.recovery().log_blocks, 2);
    assert!(store.get(b"kept").unwrap().unwrap() == b"kept"[..]);
}

/// A log that begins again after damage has no predecessor, like the very first block of the store. If that block lies
/// at the same position of the ring, recovery must not take it for the new beginning.
#[test]
fn a_block_of_an_earlier_round_does_not_begin_a_new_log() {
    const RING: u64 = 64;
    let sim = Sim::with_ring(8, RING);
    let store = sim.open();
    // Block 1 holds the first key; its position is next after as many blocks as the ring has.
    for n in 0..RING {
        store.put(&key(n % 8), b"old").unwrap();
        store.sync().unwrap();
        if n % 16 == 15 {
            store.checkpoint().unwrap();
        }
    }
    let superblock = store.superblock().clone();
    assert_eq!(
        log_block_offset(&superblock.log, 1),
        log_block_offset(&superblock.log, RING + 1)
    );
    let sim = sim.crash();
    base_headers(&superblock).for_each(|at| sim.device.corrupt(at + 50..at + 51));
    let store = sim.open_with(|options| options.on_lost_metadata = OnLostMetadata::Empty);
    assert!(store.recovery().lost_metadata.is_some());
    let store = sim.crash().open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert_eq!(store.recovery().log_blocks, 0);
    assert_eq!(
        store.stats().index.entries,
        0,
        "old keys are back, unreported"
    );
}
