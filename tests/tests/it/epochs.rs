//! Tests of formatting and starting empty: at every crash there is the old store, the new one, or none.

use std::sync::Arc;

use rb_core::{
    ClassRequest, FormatOptions, OpenError, SeededRandom, Share, Store, Superblock, format,
};
use rb_format::{SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET};
use rb_io::OpKind;
use rb_testkit::MemDevice;

use crate::support::{Sim, key, value};

/// Formats the device again, with an identity other than [`Sim`]'s.
fn format_again(sim: &Sim) -> Option<Superblock> {
    let classes = vec![ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(8),
    }];
    let options = FormatOptions {
        key_len_max: 1024,
        log_bytes: Some(64 * 4096),
        formatted_at: 0,
        random: Arc::new(SeededRandom::new(2)),
        ..FormatOptions::new(sim.engine(), classes)
    };
    Some(format(&options).ok()?.superblock)
}

/// Makes a store with some keys, in its second epoch.
fn used() -> Sim {
    let sim = Sim::with_ring(8, 64);
    let store = sim.open_with(|options| options.start_empty = true);
    for n in 0..6 {
        store.put(&key(n), &value(n, 500)).unwrap();
    }
    store.checkpoint().unwrap();
    store.close().unwrap();
    sim
}

/// Opens a store without writing to it.
fn look(sim: &Sim) -> Store {
    sim.open_with(|options| options.read_only = true)
}

/// Lists the superblock writes and the flushes that the device has executed since `from` operations.
fn superblock_writes(sim: &Sim, from: usize) -> String {
    let log = sim.device.log();
    let names = log[from..]
        .iter()
        .filter_map(|done| match (done.op, done.offset) {
            (OpKind::Flush, _) => Some('|'),
            (OpKind::Write, SUPERBLOCK_A_OFFSET) => Some('A'),
            (OpKind::Write, SUPERBLOCK_B_OFFSET) => Some('B'),
            _ => None,
        });
    names.collect()
}

/// One whole copy is there at any time: B, flush, A, flush.
#[test]
fn superblock_copies_are_written_one_after_the_other() {
    let sim = used();
    let from = sim.device.log().len();
    drop(sim.open_with(|options| options.start_empty = true));
    let order = superblock_writes(&sim, from);
    // The new epoch's base and its incarnation block are durable before the first superblock that
    // names it.
    assert!(order.starts_with("||B|A|"), "starting empty: {order}");
    let from = sim.device.log().len();
    format_again(&sim).unwrap();
    let order = superblock_writes(&sim, from);
    // The old copies are gone before any part of the new store is written.
    assert_eq!(order, "AB||B|A|", "formatting");
}

#[test]
fn a_crash_while_starting_empty_leaves_the_old_store_or_an_empty_one() {
    for cut in 0.. {
        let sim = used();
        sim.device.cut_power_after(cut);
        let done = sim.try_open(|options| options.start_empty = true).is_ok();
        for seed in 0..64 {
            let store = sim.crash_seeded(seed).open();
            let epoch = store.superblock().identity.epoch;
            let old = epoch == 2;
            assert!(old || epoch == 3, "epoch {epoch}");
            assert!(!old || store.recovery().lost_metadata.is_none());
            for n in 0..6 {
                let found = store.get(&key(n)).unwrap();
                let right = found.map(|found| found == value(n, 500)[..]);
                assert_eq!(right, old.then_some(true), "cut {cut}, seed {seed}");
            }
        }
        if done {
            assert!(cut > 5, "it has more writes than {cut}");
            return;
        }
    }
}

/// After a crash between the two copies, the one that was written rotted: only the former epoch's copy was left, and
/// the store was back as before it was emptied.
#[test]
fn rot_of_a_superblock_copy_after_a_crash_while_starting_empty_brings_nothing_back() {
    let mut cases = 0;
    for cut in 0.. {
        let sim = used();
        sim.device.cut_power_after(cut);
        let done = sim.try_open(|options| options.start_empty = true).is_ok();
        for seed in 0..16 {
            let crashed = sim.crash_seeded(seed);
            if look(&crashed).superblock().identity.epoch == 2 {
                continue;
            }
            for copy in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
                let rotten = Sim::on(MemDevice::from_image(&crashed.device.live_image()));
                rotten.device.poke(copy, &[0xA5; 64]);
                // The crash has torn one copy, and the other one rots: nothing is left to open.
                let seen = match rotten.try_open(|options| options.read_only = true) {
                    Err(OpenError::Superblock { .. }) => continue,
                    seen => seen.unwrap(),
                };
                assert_eq!(
                    seen.superblock().identity.epoch,
                    3,
                    "cut {cut}, seed {seed}"
                );
                for store in [seen, rotten.open(), rotten.crash().open()] {
                    assert!((0..6).all(|n| store.get(&key(n)).unwrap().is_none()));
                    cases += 1;
                }
            }
        }
        if done {
            assert!(cases > 100, "{cases}");
            return;
        }
    }
}

/// An interrupted format must not leave a superblock of the former store over regions that already belong to the new
/// one. Its first flush ends the former store, its last one begins the new.
#[test]
fn a_crash_while_formatting_leaves_no_half_of_the_old_store() {
    let old = used();
    let former = old.open().superblock().identity.uuid;
    let image = old.device.live_image();
    let again = || Sim::on(MemDevice::from_image(&image));
    let whole = again();
    let new = format_again(&whole).unwrap();
    assert_ne!(new.identity.uuid, former);
    let changes: Vec<_> = whole
        .device
        .log()
        .into_iter()
        .filter(|done| done.op != OpKind::Read)
        .collect();
    let first_flush = changes.iter().position(|done| done.op == OpKind::Flush);
    for cut in first_flush.unwrap() + 1..=changes.len() {
        let sim = again();
        sim.device.cut_power_after(cut as u64);
        // After its last flush it reads the copies back, which needs power.
        assert_eq!(format_again(&sim), None, "cut {cut}");
        for seed in 0..24 {
            let opened = sim.crash_seeded(seed).try_open(|_| {});
            if let Ok(store) = &opened {
                // Each format records its own time.
                assert_eq!(
                    store.superblock().identity,
                    new.identity,
                    "cut {cut}, seed {seed}"
                );
                assert_eq!(store.recovery().lost_metadata, None);
                assert_eq!(store.stats().index.entries, 0);
            }
            assert!(opened.is_ok() || cut < changes.len(), "{:?}", opened.err());
        }
    }
}

/// Format once zeroed superblocks, incarnation blocks and base headers before one flush. A crash before it could keep
/// an old superblock and lose both old base headers: half of the old store, which opened by scanning slot headers, so
/// removed keys returned.
#[test]
fn a_crash_before_the_first_flush_of_a_format_leaves_the_old_store_whole_or_none() {
    let old = used();
    let former = old.open().superblock().identity.uuid;
    let image = old.device.live_image();
    for cut in 0..7 {
        let sim = Sim::on(MemDevice::from_image(&image));
        sim.device.cut_power_after(cut);
        assert!(format_again(&sim).is_none());
        for seed in 0..64 {
            if let Ok(store) = sim.crash_seeded(seed).try_open(|_| {}) {
                assert_eq!(store.superblock().identity.uuid, former);
                assert_eq!(
                    store.recovery().lost_metadata,
                    None,
                    "cut {cut}, seed {seed}"
                );
            }
        }
    }
}

/// The superblock of the new epoch was once written before its first base. After a crash between the two nothing was
/// lost, but the next opening reported lost metadata and scanned every slot header.
#[test]
fn a_crash_while_starting_empty_is_not_lost_metadata() {
    for cut in 0..9 {
        let sim = used();
        sim.device.cut_power_after(cut);
        drop(sim.try_open(|options| options.start_empty = true));
        for seed in 0..64 {
            let store = sim.crash_seeded(seed).open();
            assert_eq!(
                store.recovery().lost_metadata,
                None,
                "cut {cut}, seed {seed}"
            );
        }
    }
}
