//! Tests of repair: it restores without loss what it can, drops exactly what is rotten, and leaves a healthy store
//! unchanged.

use rb_core::{AuditOptions, AuditState, RepairReport};
use rb_format::{
    FORMAT_BLOCK, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, SUPERBLOCK_A_OFFSET,
    SUPERBLOCK_B_OFFSET,
};

use rb_io::OpKind;

use crate::audit::{filled, last_block, slot_of};
use crate::support::{EIO, Sim, base_headers, key, long_keys, slots_of, value};

const ENTRIES: u64 = 12;

fn repair(sim: &Sim, consent: bool) -> RepairReport {
    repair_by(sim, consent, false)
}

fn repair_by(sim: &Sim, consent: bool, force: bool) -> RepairReport {
    let options = AuditOptions {
        deep: true,
        force,
        ..AuditOptions::default()
    };
    rb_core::repair(sim.engine(), &options, |_| consent).unwrap()
}

/// Returns the numbers of the absent keys; every other one has its bytes.
fn missing(sim: &Sim) -> Vec<u64> {
    let store = sim.open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert!(store.recovery().base_damage.is_empty());
    let there = |n: &u64| match store.get(&key(*n)).unwrap() {
        Some(found) => {
            assert!(found == value(*n, 3000)[..], "key {n}");
            true
        }
        None => false,
    };
    (0..ENTRIES).filter(|n| !there(n)).collect()
}

#[test]
fn without_damage_or_consent_nothing_changes() {
    let (sim, _store) = filled(true);
    let before = sim.device.live_image();
    assert!(repair(&sim, true).after.is_none());
    assert!(
        sim.device.live_image() == before,
        "a clean store is left alone"
    );
    sim.rot(slot_of(&sim, 3) + 90);
    let before = sim.device.live_image();
    assert!(repair(&sim, false).after.is_none());
    assert!(
        sim.device.live_image() == before,
        "repaired without consent"
    );
    let sim = sim.crash();
    sim.rot(SUPERBLOCK_A_OFFSET + 100);
    sim.rot(SUPERBLOCK_B_OFFSET + 100);
    let before = sim.device.live_image();
    let report = repair(&sim, true);
    assert_eq!(
        (report.before.state, report.after.is_none()),
        (AuditState::Unusable, true)
    );
    assert!(sim.device.live_image() == before, "beyond repair");
}

#[test]
fn metadata_with_another_copy_is_mended_without_loss() {
    let (sim, store) = filled(true);
    let sb = store.superblock().clone();
    let damages = [
        &[SUPERBLOCK_A_OFFSET + 100][..],
        &[SUPERBLOCK_B_OFFSET + 100],
        &[INCARNATION_A_OFFSET + 3],
        &[INCARNATION_A_OFFSET + 3, INCARNATION_B_OFFSET + 3],
        &[sb.base_a.offset + 50],
        &[sb.base_b.offset + 50],
        &[sb.base_a.offset + FORMAT_BLOCK as u64 + 70],
        &[
            SUPERBLOCK_B_OFFSET,
            sb.base_b.offset + FORMAT_BLOCK as u64 + 70,
        ],
    ];
    for places in damages {
        let sim = sim.crash();
        places.iter().for_each(|at| sim.rot(*at));
        // Rot in a fixed block may be data of another program: it is overwritten only by force.
        let report = repair_by(&sim, true, places[0] < sb.base_a.offset);
        let after = report.after.unwrap();
        assert_eq!(after.state, AuditState::Clean, "{places:?}: {after:#?}");
        assert_eq!((report.dropped, report.rebuilt), (0, false));
        assert_eq!(missing(&sim.crash()), [0_u64; 0], "{places:?}");
    }
}

#[test]
fn exactly_the_rotten_entries_are_dropped() {
    let (sim, _store) = filled(true);
    sim.rot(slot_of(&sim, 3) + 90);
    sim.rot(slot_of(&sim, 7) + FORMAT_BLOCK as u64 + 2000);
    let report = repair(&sim, true);
    assert_eq!((report.dropped, report.before.unverified), (2, 2));
    assert_eq!(report.after.unwrap().state, AuditState::Clean);
    assert_eq!(missing(&sim.crash()), [3, 7]);
}

#[test]
fn lost_metadata_is_rebuilt_from_verified_slot_headers() {
    let (sim, store) = filled(true);
    base_headers(store.superblock()).for_each(|at| sim.rot(at + 50));
    sim.rot(slot_of(&sim, 5) + 90);
    sim.rot(slot_of(&sim, 6) + FORMAT_BLOCK as u64 + 2000);
    let report = repair(&sim, true);
    assert!(report.rebuilt);
    assert_eq!(report.before.scanned.unwrap().headers, ENTRIES + 2 - 1);
    let after = report.after.unwrap();
    assert_eq!(
        (after.state, after.lost_metadata),
        (AuditState::Clean, None)
    );
    assert_eq!(missing(&sim.crash()), [5, 6]);
}

/// The removes of one batch did not fit into the ring between two bases, nor into a ring that a crash left full, and
/// the repair returned `Busy` however often it was tried.
#[test]
fn a_small_and_full_log_is_no_obstacle() {
    const SLOTS: u64 = 100;
    let sim = Sim::with_ring(SLOTS, 64);
    let store = sim.open();
    let keys = long_keys(0..SLOTS);
    for key in &keys {
        while store.put(key, b"v").is_err() {
            store.checkpoint().unwrap();
        }
        store.sync().unwrap();
    }
    store.checkpoint().unwrap();
    // No base is written any more, so the ring fills.
    while store.put(&keys[0], b"v").is_ok() {
        store.sync().unwrap();
    }
    let sim = sim.crash();
    sim.device.fail_always(OpKind::Read, slots_of(&store), EIO);
    let report = repair(&sim, true);
    assert_eq!(
        (report.dropped, report.before.unverified),
        (SLOTS - 1, SLOTS - 1),
        "one was evicted by the puts of the first"
    );
    assert_eq!(report.after.unwrap().state, AuditState::Clean);
}

/// A damaged block in the middle of the log, after which the store continues in a new log.
#[test]
fn a_damaged_log_is_replaced() {
    let (sim, store) = filled(false);
    let sb = store.superblock();
    sim.corrupt_log(sb, last_block(&sim, sb) - 1);
    let report = repair(&sim, true);
    assert!(report.rebuilt);
    assert_eq!(report.after.unwrap().state, AuditState::Clean);
    assert_eq!(missing(&sim.crash()), [0_u64; 0]);
}
