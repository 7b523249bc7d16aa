//! Tests of one bad block anywhere in the log or in the headers of its bases, and of one bad ring: nothing is lost,
//! nothing comes back, and the next session is whole again.

use std::ops::Range;

use rb_core::{Severity, Store, StoreOptions, Superblock};
use rb_format::{BaseHeader, FORMAT_BLOCK, base_header_offsets};
use rb_io::OpKind;

use crate::support::{EIO, Sim, key, range_of};

const BLOCK: u64 = FORMAT_BLOCK as u64;

/// Ways in which a block can be bad.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Rot,
    Erased,
    Unreadable,
    Unwritable,
}

const FAULTS: [Fault; 4] = [
    Fault::Rot,
    Fault::Erased,
    Fault::Unreadable,
    Fault::Unwritable,
];

impl Fault {
    fn strike(self, sim: &Sim, range: Range<u64>) {
        match self {
            Fault::Rot => sim.device.corrupt(range),
            Fault::Erased => {
                let len = (range.end - range.start) as usize;
                sim.device.poke(range.start, &vec![0; len]);
            }
            Fault::Unreadable => sim.device.fail_always(OpKind::Read, range, EIO),
            Fault::Unwritable => sim.device.fail_always(OpKind::Write, range, EIO),
        }
    }

    /// Returns whether the former contents are lost.
    fn takes_away(self) -> bool {
        self != Fault::Unwritable
    }
}

fn block_at(offset: u64) -> Range<u64> {
    offset..offset + BLOCK
}

/// Makes a store that crashed: each of its six log blocks was synced; the last one replaces a value and the one before
/// removes a key. Also returns its superblock, and the sequence of its last log block.
fn crashed() -> (Sim, Superblock, u64) {
    let sim = Sim::new(64);
    let store = sim.open();
    for n in 0..3 {
        store.put(&key(n), b"kept").unwrap();
        store.sync().unwrap();
    }
    store.put(b"gone", b"old").unwrap();
    store.put(b"changed", b"old").unwrap();
    store.sync().unwrap();
    store.remove(b"gone").unwrap();
    store.sync().unwrap();
    store.put(b"changed", b"new").unwrap();
    store.sync().unwrap();
    let superblock = store.superblock().clone();
    (sim.crash(), superblock, 6)
}

/// Checks that everything that was synced in [`crashed`] is there, and nothing that it replaced or removed.
#[track_caller]
fn is_whole(store: &Store, what: &str) {
    let lost = &store.recovery().lost_metadata;
    assert_eq!(*lost, None, "{what}");
    for n in 0..3 {
        let found = store.get(&key(n)).unwrap();
        assert!(found.is_some_and(|found| found == b"kept"[..]), "{what}");
    }
    assert!(store.get(b"gone").unwrap().is_none(), "{what}: it is back");
    let changed = store.get(b"changed").unwrap();
    assert!(changed.is_some_and(|found| found == b"new"[..]), "{what}");
    store.audit().unwrap();
}

/// Writes in a session: a commit, and optionally a checkpoint.
#[track_caller]
fn goes_on(store: &Store, checkpointed: bool, what: &str) {
    let done = store
        .put(b"later", b"later")
        .and_then(|_| store.sync())
        .and_then(|()| match checkpointed {
            true => store.checkpoint(),
            false => Ok(()),
        });
    assert!(done.is_ok(), "{what}: {done:?}");
}

#[track_caller]
fn has_later(store: &Store, what: &str) {
    let later = store.get(b"later").unwrap();
    assert!(later.is_some_and(|found| found == b"later"[..]), "{what}");
}

/// The former format had a single ring: a bad block of the log was a loss.
#[test]
fn one_bad_log_block_costs_nothing_and_is_repaired() {
    let (sim, superblock, last) = crashed();
    for ring in [0, 1] {
        for sequence in 1..=last {
            for fault in FAULTS {
                for checkpointed in [false, true] {
                    let what =
                        format!("block {sequence} in ring {ring}, {fault:?}, {checkpointed}");
                    let offsets = superblock.log_block_offsets(sequence);
                    let sim = sim.crash();
                    fault.strike(&sim, block_at(offsets[ring]));
                    let store = sim.open();
                    is_whole(&store, &what);
                    let said = store.recovery().one_copy.len();
                    let is_seen = ring == 0 && sequence < last && fault.takes_away();
                    assert_eq!(said, usize::from(is_seen), "{what}");
                    goes_on(&store, checkpointed, &what);
                    // Opening does not read all of ring 2: it only finds what the ring lacks at the
                    // end, and a checkpoint makes the rest unneeded.
                    if fault == Fault::Unreadable {
                        sim.device.heal();
                    }
                    let is_rewritten = ring == 0 || sequence == last;
                    let sim = sim.crash();
                    is_whole(&sim.open(), &what);
                    if !is_rewritten && !checkpointed {
                        continue;
                    }
                    sim.device.corrupt(block_at(offsets[1 - ring]));
                    let store = sim.open();
                    is_whole(&store, &format!("{what}, and then the other copy"));
                    has_later(&store, &what);
                }
            }
        }
    }
}

/// One ring is enough, regardless of the other one, before a session or in it.
#[test]
fn one_whole_ring_costs_nothing() {
    let (sim, superblock, _) = crashed();
    for (ring, region) in superblock.log_rings().into_iter().enumerate() {
        for fault in FAULTS {
            for before in [true, false] {
                let what = format!("ring {ring}, {fault:?}, before {before}");
                let sim = sim.crash();
                let strike = || fault.strike(&sim, range_of(region));
                if before {
                    strike();
                }
                let store = sim.open();
                is_whole(&store, &what);
                if !before {
                    strike();
                }
                for _ in 0..3 {
                    goes_on(&store, false, &what);
                }
                let errors = store.stats().metadata_write_errors;
                assert_eq!(errors > 0, fault == Fault::Unwritable, "{what}");
                let reported = sim.watch.count("MetadataWriteFailed") as u64;
                assert_eq!(reported, errors, "{what}: once for each place");
                // Still so in the next session.
                let sim = sim.crash();
                fault.strike(&sim, range_of(region));
                let store = sim.open();
                is_whole(&store, &what);
                has_later(&store, &what);
                goes_on(&store, true, &what);
                sim.device.heal();
                // Whole again: the other ring is not needed.
                let sim = sim.crash();
                let store = sim.open();
                is_whole(&store, &what);
                goes_on(&store, true, &what);
                goes_on(&store, true, &what);
                store.close().unwrap();
                sim.device
                    .corrupt(range_of(superblock.log_rings()[1 - ring]));
                is_whole(&sim.open(), &format!("{what}, and then the other ring"));
            }
        }
    }
}

/// Both copies of a block that a later one names: never taken for the end of the log (C3).
#[test]
fn both_copies_of_a_log_block_are_reported_damage() {
    let (sim, superblock, last) = crashed();
    for sequence in 1..last {
        for fault in [Fault::Rot, Fault::Erased, Fault::Unreadable] {
            let sim = sim.crash();
            for offset in superblock.log_block_offsets(sequence) {
                fault.strike(&sim, block_at(offset));
            }
            let store = sim.open();
            let lost = store.recovery().lost_metadata.clone().unwrap_or_default();
            let named = format!("log block {sequence}");
            assert!(lost.contains(&named), "block {sequence}, {fault:?}: {lost}");
        }
    }
}

#[test]
fn a_log_block_that_neither_ring_takes_ends_writing() {
    let sim = Sim::new(8);
    let store = sim.open();
    for offset in store.superblock().log_block_offsets(1) {
        Fault::Unwritable.strike(&sim, block_at(offset));
    }
    store.put(b"k", b"v").unwrap();
    assert!(store.sync().unwrap_err().is_poisoned());
    assert!(store.get(b"k").unwrap().is_some());
}

/// A commit of many blocks is written in large pieces. One bad block of a piece must not cost its neighbours their
/// second copy: another bad block of the same piece, in the other ring, would be a loss.
#[test]
fn two_bad_blocks_of_one_piece_in_different_rings_cost_nothing() {
    let sim = Sim::with(64, 1024, None);
    let store = sim.open();
    let places = |sequence| store.superblock().log_block_offsets(sequence);
    Fault::Unwritable.strike(&sim, block_at(places(3)[0]));
    Fault::Unwritable.strike(&sim, block_at(places(5)[1]));
    let keys = crate::support::long_keys(0..30);
    for key in &keys {
        store.put(key, b"v").unwrap();
    }
    store.sync().unwrap();
    assert_eq!(store.stats().metadata_write_errors, 2);
    sim.device.heal();
    let sim = sim.crash();
    sim.device.corrupt(block_at(places(4)[0]));
    sim.device.corrupt(block_at(places(6)[1]));
    let store = sim.open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert!(keys.iter().all(|key| store.contains(key)));
}

/// A crash left the last block in one ring only; the next session named it as durable, and then that copy rotted: what
/// was synced behind it was lost.
#[test]
fn the_last_block_is_made_whole_before_the_log_continues() {
    let (sim, superblock, last) = crashed();
    for ring in [0, 1] {
        let sim = sim.crash();
        let offsets = superblock.log_block_offsets(last);
        Fault::Erased.strike(&sim, block_at(offsets[ring]));
        let store = sim.open();
        assert_eq!(store.recovery().one_copy, [""; 0], "a crash can leave that");
        assert_eq!(store.recovery().copies_rewritten, 1);
        // Durably, before a block can name it as durable.
        let at_once = sim.crash();
        at_once.device.corrupt(block_at(offsets[1 - ring]));
        is_whole(&at_once.open(), "a crash right after the opening");
        goes_on(&store, false, "one copy of the last block");
        let sim = sim.crash();
        sim.device.corrupt(block_at(offsets[1 - ring]));
        let store = sim.open();
        is_whole(&store, "the other copy");
        has_later(&store, "the other copy");
    }
}

/// A crash left two blocks of a commit in one ring; the next opening could not read them there and wrote its own, which
/// that ring did not take. Both are next in the chain: that of the later opening counts, because it was acknowledged as
/// durable.
#[test]
fn of_two_blocks_that_continue_the_log_that_of_the_later_opening_counts() {
    for ring in [0, 1] {
        for blocks in [1, 2, 6] {
            let what = format!("ring {ring}, {blocks} blocks");
            let sim = Sim::with(64, 1024, None);
            let store = sim.open();
            store.put(b"kept", b"kept").unwrap();
            store.sync().unwrap();
            // A commit that reaches one ring and is never flushed.
            sim.device.lose_flushes();
            store.remove(b"kept").unwrap();
            for key in crate::support::long_keys(0..3 * blocks - 2) {
                store.put(&key, b"lost").unwrap();
            }
            store.sync().unwrap();
            let superblock = store.superblock().clone();
            let places: Vec<_> = (2..2 + blocks)
                .map(|sequence| superblock.log_block_offsets(sequence)[ring])
                .collect();
            let image = sim.device.live_image();
            let sim = sim.crash();
            for &at in &places {
                sim.device.poke(at, &image[at as usize..][..FORMAT_BLOCK]);
                sim.device.fail_always(OpKind::Read, block_at(at), EIO);
                sim.device.fail_always(OpKind::Write, block_at(at), EIO);
            }
            let store = sim.open();
            assert_eq!(store.recovery().lost_metadata, None, "{what}");
            assert_eq!(store.recovery().one_copy.len(), 1, "{what}");
            store.put(b"second", b"second").unwrap();
            store.sync().unwrap();
            sim.device.heal();
            for _ in 0..2 {
                let sim = sim.crash();
                let store = sim.open();
                assert_eq!(store.recovery().lost_metadata, None, "{what}");
                assert!(store.contains(b"second"), "{what}: it was synced");
                assert!(
                    store.contains(b"kept"),
                    "{what}: its remove never was durable"
                );
                goes_on(&store, false, &what);
                // And the ring has taken the block that counts.
                let sim = sim.crash();
                let other = superblock.log_block_offsets(2)[1 - ring];
                sim.device.corrupt(block_at(other));
                let store = sim.open();
                assert!(
                    store.contains(b"second") && store.contains(b"later"),
                    "{what}"
                );
            }
        }
    }
}

/// The last block that was taken came from a ring that has an older opening's block at that position. The next block
/// names another one as durable: damage, not an end.
#[test]
fn a_block_that_names_another_predecessor_as_durable_is_no_end() {
    let sim = Sim::new(64);
    let store = sim.open();
    store.put(b"kept", b"kept").unwrap();
    store.sync().unwrap();
    sim.device.lose_flushes();
    store.put(b"lost", b"lost").unwrap();
    store.sync().unwrap();
    let [at, other] = store.superblock().log_block_offsets(2);
    let image = sim.device.live_image();
    let sim = sim.crash();
    sim.device.poke(at, &image[at as usize..][..FORMAT_BLOCK]);
    sim.device.fail_always(OpKind::Read, block_at(at), EIO);
    sim.device.fail_always(OpKind::Write, block_at(at), EIO);
    let store = sim.open();
    store.put(b"second", b"second").unwrap();
    store.sync().unwrap();
    store.put(b"third", b"third").unwrap();
    store.sync().unwrap();
    sim.device.heal();
    let sim = sim.crash();
    sim.device.corrupt(block_at(other));
    let lost = sim.open().recovery().lost_metadata.clone();
    assert!(lost.is_some_and(|lost| lost.contains("names another one")));
}

/// Makes a store with both bases whole, then a few blocks of log.
fn with_bases() -> (Sim, Superblock) {
    let sim = Sim::new(64);
    let store = sim.open();
    for n in 0..3 {
        store.put(&key(n), b"kept").unwrap();
    }
    store.put(b"gone", b"old").unwrap();
    store.put(b"changed", b"old").unwrap();
    store.checkpoint().unwrap();
    store.remove(b"gone").unwrap();
    store.put(b"changed", b"new").unwrap();
    store.checkpoint().unwrap();
    let superblock = store.superblock().clone();
    (sim.crash(), superblock)
}

#[test]
fn one_bad_base_header_costs_nothing_and_is_repaired() {
    let (sim, superblock) = with_bases();
    let bases = superblock.bases();
    let newest = sim.open().recovery().base_sequence;
    for (base, region) in bases.into_iter().enumerate() {
        let offsets = base_header_offsets(region);
        for place in [0, 1] {
            for fault in FAULTS {
                let what = format!("base {base}, header {place}, {fault:?}");
                let sim = sim.crash();
                fault.strike(&sim, block_at(offsets[place]));
                let store = sim.open();
                is_whole(&store, &what);
                // The header in the other place serves: no older base is needed.
                assert_eq!(store.recovery().base_sequence, newest, "{what}");
                assert_eq!(store.recovery().base_damage, [""; 0], "{what}");
                goes_on(&store, false, &what);
                if fault == Fault::Unreadable {
                    sim.device.heal();
                }
                let sim = sim.crash();
                sim.device.corrupt(block_at(offsets[1 - place]));
                let store = sim.open();
                is_whole(&store, &what);
                assert_eq!(store.recovery().base_sequence, newest, "{what}");
                has_later(&store, &what);
            }
        }
    }
}

/// A base header is written to both places before one flush; either is enough.
#[test]
fn a_base_header_that_one_place_does_not_take_is_in_the_other() {
    for place in [0, 1] {
        let (sim, superblock) = with_bases();
        let store = sim.open();
        for region in superblock.bases() {
            let offsets = base_header_offsets(region);
            Fault::Unwritable.strike(&sim, block_at(offsets[place]));
        }
        for number in 1..=2 {
            goes_on(&store, true, "one place");
            assert_eq!(store.stats().metadata_write_errors, number);
        }
        let expected = store.stats().checkpoints;
        assert_eq!(expected, 2);
        let sim = sim.crash();
        let store = sim.open();
        is_whole(&store, "one place");
        has_later(&store, "one place");
        assert_eq!(store.recovery().log_blocks, 0, "the newest base served");
        // Neither place.
        for region in superblock.bases() {
            for offset in base_header_offsets(region) {
                Fault::Unwritable.strike(&sim, block_at(offset));
            }
        }
        assert!(store.checkpoint().unwrap_err().is_poisoned());
    }
}

/// Returns the block after the last that the newest base of a region uses.
fn used(sim: &Sim, superblock: &Superblock, region: usize) -> (BaseHeader, u64) {
    let image = sim.device.live_image();
    let region = superblock.bases()[region];
    let header =
        BaseHeader::decode(&image[region.offset as usize..], &superblock.identity).unwrap();
    let end =
        region.offset + header.directory_offset + header.directory_len.next_multiple_of(BLOCK);
    (header, end)
}

/// A base region with a bad block stopped writing permanently: no checkpoint was possible any more.
#[test]
fn a_base_goes_around_a_block_that_cannot_be_written() {
    let (sim, superblock) = with_bases();
    for region in [0, 1] {
        let first = superblock.bases()[region].offset + BLOCK;
        let (_, end) = used(&sim, &superblock, region);
        assert!(end > first + BLOCK, "there are sections and a directory");
        for bad in (first..end).step_by(FORMAT_BLOCK) {
            let what = format!("base {region}, block at {bad}");
            let sim = sim.crash();
            Fault::Unwritable.strike(&sim, block_at(bad));
            let store = sim.open();
            goes_on(&store, true, &what);
            goes_on(&store, true, &what);
            assert_eq!(store.stats().metadata_write_errors, 1, "{what}");
            assert_eq!(sim.watch.count("MetadataWriteFailed"), 1, "{what}");
            let (header, _) = used(&sim, &superblock, region);
            assert_eq!(header.bad_blocks, [bad / BLOCK], "{what}");
            store.close().unwrap();
            // The next session knows it, and so does a store that was emptied.
            for start_empty in [false, true] {
                let store = sim.open_with(|options| options.start_empty = start_empty);
                if !start_empty {
                    is_whole(&store, &what);
                }
                goes_on(&store, true, &what);
                goes_on(&store, true, &what);
                assert_eq!(store.stats().metadata_write_errors, 0, "{what}");
                store.close().unwrap();
            }
            assert_eq!(sim.audit().damages, 0, "{what}");
        }
    }
}

/// Each bad block found is one attempt, so their number is bounded.
#[test]
fn a_base_region_of_which_nothing_can_be_written_ends_writing() {
    let (sim, superblock) = with_bases();
    for region in superblock.bases() {
        let range = range_of(region);
        Fault::Unwritable.strike(&sim, range.start + BLOCK..range.end - BLOCK);
    }
    let store = sim.open();
    assert!(store.checkpoint().unwrap_err().is_poisoned());
    is_whole(&store, "reads go on");
}

/// The audit reports one bad copy as damage, and nothing as lost.
#[test]
fn the_audit_finds_each_bad_copy() {
    let (sim, superblock) = with_bases();
    let store = sim.open();
    for _ in 0..4 {
        goes_on(&store, false, "");
    }
    let sim = sim.crash();
    assert_eq!(sim.audit().findings, []);
    let newest = used(&sim, &superblock, 0).0.position.sequence;
    let newest = newest.max(used(&sim, &superblock, 1).0.position.sequence);
    let offsets = superblock.log_block_offsets(newest);
    let headers = superblock.bases().map(base_header_offsets);
    for at in offsets.into_iter().chain(headers.into_iter().flatten()) {
        for fault in [Fault::Rot, Fault::Unreadable] {
            let sim = sim.crash();
            match fault {
                // A checkpoint's crash leaves no such byte.
                Fault::Rot => sim.device.corrupt(at + 20..at + 21),
                _ => fault.strike(&sim, block_at(at)),
            }
            let report = sim.audit();
            let damage: Vec<_> = report.findings.iter().collect();
            let [finding] = damage[..] else {
                panic!("byte {at}, {fault:?}: {report:#?}");
            };
            assert_eq!(finding.severity, Severity::Damage);
            assert_eq!(finding.offset, at);
            assert!(finding.lost.starts_with("nothing"), "{finding:?}");
        }
    }
}

/// A read-only opening reads both rings and writes nothing.
#[test]
fn a_read_only_opening_takes_either_copy_and_writes_nothing() {
    let (sim, superblock, last) = crashed();
    for ring in [0, 1] {
        let sim = sim.crash();
        for sequence in (1..=last).filter(|sequence| sequence % 2 == ring) {
            let offsets = superblock.log_block_offsets(sequence);
            sim.device.corrupt(block_at(offsets[ring as usize]));
        }
        for sequence in (1..=last).filter(|sequence| sequence % 2 != ring) {
            let offsets = superblock.log_block_offsets(sequence);
            sim.device.corrupt(block_at(offsets[1 - ring as usize]));
        }
        let before = sim.device.live_image();
        let read_only = |options: &mut StoreOptions| options.read_only = true;
        is_whole(&sim.open_with(read_only), "read-only");
        assert!(sim.device.live_image() == before);
    }
}
