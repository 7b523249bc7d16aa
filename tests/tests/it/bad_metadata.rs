//! Each block of the metadata in turn cannot be read, or not be written, or neither (C7): nothing is lost.

use std::ops::Range;

use rb_core::{AuditOptions, OpenError, repair};
use rb_format::FORMAT_BLOCK;
use rb_io::OpKind;
use rb_testkit::MemDevice;

use crate::support::{EIO, ENOSPC, Sim, base_headers, is_long, key, range_of, value};

const BLOCK: u64 = FORMAT_BLOCK as u64;
const KEYS: u64 = 12;

/// Makes a store that was used, closed and opened again, and crashed.
fn used() -> Sim {
    let sim = Sim::with_ring(16, 64);
    for round in 0..2 {
        let store = sim.open();
        for n in 0..KEYS {
            store.put(&key(n), &value(n + round, 300)).unwrap();
        }
        store.checkpoint().unwrap();
        store.remove(&key(3)).unwrap();
        store.put(&key(4), &value(99, 300)).unwrap();
        store.sync().unwrap();
        if round == 0 {
            store.close().unwrap();
        }
    }
    sim
}

/// Returns the expected contents: each key with the seed of its value.
fn expected(later: Option<u64>) -> impl Iterator<Item = (u64, Option<u64>)> {
    (0..KEYS).map(move |n| match n {
        3 => (n, None),
        4 => (n, Some(99)),
        5 if later.is_some() => (n, later),
        _ => (n, Some(n + 1)),
    })
}

/// Returns the offsets of blocks that hold metadata, or will.
fn metadata(sim: &Sim) -> Vec<u64> {
    let store = sim.open_with(|options| options.read_only = true);
    let superblock = store.superblock();
    let regions = superblock.bases().into_iter().chain(superblock.log_rings());
    let fixed: [Range<u64>; 2] = [
        0..3 * FORMAT_BLOCK as u64,
        rb_format::SUPERBLOCK_B_OFFSET..rb_format::SUPERBLOCK_B_OFFSET + FORMAT_BLOCK as u64,
    ];
    let ranges = fixed.into_iter().chain(regions.map(range_of));
    ranges
        .flat_map(|range| range.step_by(FORMAT_BLOCK))
        .collect()
}

/// Superblock copy unwritable: the store did not open. Incarnation block unreadable: each session ended at its first
/// commit; unwritable: the store did not open. A base's block unwritable: each checkpoint stopped writing.
#[test]
fn each_bad_block_of_the_metadata_costs_nothing() {
    let image = used().device.live_image();
    let blocks = metadata(&Sim::on(MemDevice::from_image(&image)));
    let (mut reported, mut remembers) = (0, 0);
    let ways = [
        &[OpKind::Read][..],
        &[OpKind::Write],
        &[OpKind::Read, OpKind::Write],
    ];
    // The quick form makes each block bad in one of the ways; the long form tries all ways for
    // each.
    let all = is_long();
    for (number, &block) in blocks.iter().enumerate() {
        let numbered = ways.into_iter().enumerate();
        for (_, bad) in numbered.filter(|(way, _)| all || number % 3 == *way) {
            let device = MemDevice::from_image(&image);
            for op in bad {
                device.fail_always(*op, block..block + FORMAT_BLOCK as u64, EIO);
            }
            let sim = Sim::on(device);
            let context = format!("block {}, {bad:?}", block / FORMAT_BLOCK as u64);
            let mut later = None;
            for session in 0..3 {
                let store = sim
                    .try_open(|_| {})
                    .unwrap_or_else(|why| panic!("{context}, session {session}: {why}"));
                assert_eq!(store.recovery().lost_metadata, None, "{context}");
                for (n, seed) in expected(later) {
                    let found = store.get(&key(n)).unwrap();
                    let seed = seed.map(|seed| value(seed, 300));
                    assert_eq!(
                        found.as_deref(),
                        seed.as_deref(),
                        "{context}, session {session}, key {n}"
                    );
                }
                let seed = 200 + session;
                let work = || {
                    store.put(&key(5), &value(seed, 300))?;
                    store.sync()?;
                    store.checkpoint()
                };
                work().unwrap_or_else(|why| panic!("{context}, session {session}: {why}"));
                later = Some(seed);
                let recovery = store.recovery();
                let remembered = &recovery.bad_blocks;
                let seen = recovery.copies_unwritten + store.stats().metadata_write_errors;
                reported += usize::from(seen > 0 && session == 0);
                if session > 0 && remembered.contains(&block) {
                    remembers += 1;
                }
                // Alternately closed and crashed.
                if session % 2 == 0 {
                    store
                        .close()
                        .unwrap_or_else(|why| panic!("{context}: {why}"));
                }
            }
        }
    }
    println!(
        "{} blocks, {reported} reported in the first session",
        blocks.len()
    );
    assert!(reported > 0 && remembers > 0, "{remembers} remembered");
}

/// A start-empty that could write the header of its first base in only one place did not report it.
#[test]
fn a_header_that_a_start_empty_cannot_write_is_reported() {
    let image = used().device.live_image();
    let look = Sim::on(MemDevice::from_image(&image));
    let look = look.open_with(|options| options.read_only = true);
    let mut reported = 0;
    for block in base_headers(look.superblock()) {
        let sim = Sim::on(MemDevice::from_image(&image));
        sim.device
            .fail_always(OpKind::Write, block..block + FORMAT_BLOCK as u64, EIO);
        let store = sim.open_with(|options| options.start_empty = true);
        let seen = usize::from(sim.watch.count("MetadataWriteFailed") == 1);
        assert_eq!(store.stats().metadata_write_errors as usize, seen);
        assert_eq!(store.recovery().copies_unwritten as usize, seen);
        reported += seen;
    }
    // Those of the region that it wrote to.
    assert_eq!(reported, 2);
}

/// A forced repair failed each time if one block of those it takes back could not be written.
#[test]
fn a_forced_repair_continues_if_a_block_cannot_be_written() {
    let sim = used();
    sim.open().close().unwrap();
    let image = sim.device.live_image();
    let look = sim.open_with(|options| options.read_only = true);
    let unused = look.superblock().unused_areas();
    let last = unused.last().unwrap().start;
    drop(look);
    let fixed = [0, 4096, 8192, 12288, rb_format::SUPERBLOCK_B_OFFSET, last];
    for block in fixed {
        let sim = Sim::on(MemDevice::from_image(&image));
        sim.device.poke(65536, b"another program");
        sim.device.poke(block + 100, &[7; 1000]);
        sim.device
            .fail_always(OpKind::Write, block..block + FORMAT_BLOCK as u64, EIO);
        let options = AuditOptions {
            force: true,
            ..AuditOptions::default()
        };
        let done = repair(sim.engine(), &options, |_| true);
        done.unwrap_or_else(|why| panic!("block at {block}: {why}"));
        let mut bytes = [0; 15];
        sim.device.peek(65536, &mut bytes);
        assert_eq!(bytes, [0; 15], "block at {block}");
    }
}

/// A fixed block for which an opening found no space was recorded as bad in every base from then on.
#[test]
fn a_fixed_block_without_space_is_not_bad() {
    let superblock_b = 1 << 20..(1 << 20) + BLOCK;
    for (what, range) in [
        ("superblock copy", superblock_b.clone()),
        ("incarnation block", BLOCK..2 * BLOCK),
        ("incarnation block", 2 * BLOCK..3 * BLOCK),
    ] {
        for (errno, bad) in [(ENOSPC, 0), (EIO, 1)] {
            let sim = Sim::new(8);
            // The number of one of two openings belongs in `range`.
            for _ in 0..2 {
                if range == superblock_b {
                    sim.device.poke(range.start, &[0; BLOCK as usize]);
                }
                sim.device.fail_always(OpKind::Write, range.clone(), errno);
                let store = sim.open();
                sim.device.heal();
                store.put(b"k", b"v").unwrap();
                store.close().unwrap();
            }
            let event = format!("MetadataWriteFailed {{ what: {what:?}");
            assert!(sim.watch.count(&event) > 0, "{:?}", sim.watch.lines());
            let store = sim.open();
            let found = &store.recovery().bad_blocks;
            assert_eq!(found.len(), bad, "{what} at {}: {found:?}", range.start);
        }
    }
}

/// The error of an opening that had no space for either incarnation block did not report the lack of space.
#[test]
fn an_opening_without_space_reports_it() {
    let sim = Sim::new(8);
    sim.device
        .fail_always(OpKind::Write, BLOCK..3 * BLOCK, ENOSPC);
    let OpenError::Io { source, .. } = sim.try_open(|_| {}).unwrap_err() else {
        panic!("another error");
    };
    assert!(source.is_out_of_space(), "{source}");
    sim.device.heal();
    sim.open().put(b"k", b"v").unwrap();
}

/// A base header for which one place had no space stopped writing if the other place was bad; the result depended on
/// which was written first.
#[test]
fn a_header_waits_for_space_in_either_place() {
    for (errors, waits) in [
        ([EIO, ENOSPC], true),
        ([ENOSPC, EIO], true),
        ([EIO, EIO], false),
    ] {
        let sim = Sim::new(8);
        let store = sim.open();
        store.put(b"k", b"v").unwrap();
        for base in store.superblock().bases() {
            let places = rb_format::base_header_offsets(base);
            for (at, errno) in places.into_iter().zip(errors) {
                sim.device.fail_always(OpKind::Write, at..at + BLOCK, errno);
            }
        }
        let refused = store.checkpoint().unwrap_err();
        assert_eq!(refused.is_out_of_space(), waits, "{errors:?}: {refused}");
        assert_eq!(refused.is_poisoned(), !waits, "{errors:?}: {refused}");
    }
}
