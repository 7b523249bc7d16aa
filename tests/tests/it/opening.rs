//! Tests of opening over a device that stalls or cannot read a block: unknown is not damaged.

use std::sync::Arc;
use std::time::Duration;

use rb_core::{Exclusive, OnLostMetadata, Store, StoreOptions};
use rb_format::{FORMAT_BLOCK, SUPERBLOCK_A_OFFSET, log_block_offset};
use rb_io::OpKind;

use crate::support::{EIO, FileFixture, Sim, range_of};

/// Selects the policy with which damage costs the most.
fn strict(options: &mut StoreOptions) {
    options.on_lost_metadata = OnLostMetadata::Empty;
}

fn impatient(options: &mut StoreOptions) {
    strict(options);
    options.io_deadline = Duration::from_millis(50);
}

/// A read that was late during opening counted as a damaged copy. A short stall could so choose an older state or, with
/// this policy, empty the store permanently.
#[test]
fn a_device_that_stalls_while_opening_is_not_damaged() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"kept", b"kept").unwrap();
    store.checkpoint().unwrap();
    store.put(b"late", b"late").unwrap();
    store.sync().unwrap();
    let superblock = store.superblock().clone();
    let block = |at: u64| at..at + FORMAT_BLOCK as u64;
    for stalled in [
        block(SUPERBLOCK_A_OFFSET),
        block(superblock.base_a.offset),
        block(superblock.base_b.offset),
        superblock.base_a.offset..range_of(&superblock.base_b).end,
        block(log_block_offset(&superblock.log, 2)),
    ] {
        let sim = sim.crash();
        sim.device.hold(stalled.clone());
        let opened = sim.try_open(impatient);
        sim.device.release();
        assert!(opened.is_err(), "{stalled:?}: opened without an answer");
        let store = sim.open_with(strict);
        let report = store.recovery();
        assert_eq!(report.lost_metadata, None, "{stalled:?}");
        for key in [&b"kept"[..], b"late"] {
            assert!(store.get(key).unwrap().unwrap() == *key, "{stalled:?}");
        }
    }
}

/// After a read of one base had timed out, its completion arrived during a read of the other base and was taken for
/// that one's: both bases then looked damaged.
#[test]
fn a_late_completion_is_not_taken_for_another_one() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"kept", b"kept").unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    let superblock = store.superblock().clone();
    let sim = sim.crash();
    sim.device.hold(range_of(&superblock.base_b));
    let after_header = superblock.base_a.offset + FORMAT_BLOCK as u64;
    sim.device
        .hold(after_header..range_of(&superblock.base_a).end);
    let other = Sim::on(Arc::clone(&sim.device));
    let opening = std::thread::spawn(move || other.try_open(impatient).map(drop));
    // The headers are read together. All complete as soon as a further read is sent, which must not
    // happen.
    while sim.device.held() < 4 && !opening.is_finished() {
        std::thread::yield_now();
    }
    sim.device.release();
    assert!(opening.join().unwrap().is_err());
    let store = sim.open_with(strict);
    assert_eq!(store.recovery().lost_metadata, None);
    assert!(store.get(b"kept").unwrap().unwrap() == b"kept"[..]);
}

/// Recovery took a log block that could not be read for the end of the log. What had been synced after it was lost and
/// a removed key came back, and the report did not mention it.
#[test]
fn an_unreadable_log_block_is_not_the_end_of_the_log() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"kept", b"kept").unwrap();
    store.put(b"gone", b"gone").unwrap();
    store.sync().unwrap();
    store.remove(b"gone").unwrap();
    store.put(b"late", b"late").unwrap();
    store.sync().unwrap();
    let places = store.superblock().log_block_offsets(2);
    let sim = sim.crash();
    // The last block, which no later one names: read with others, and once more alone.
    for at in places {
        sim.device
            .fail_times(OpKind::Read, at..at + FORMAT_BLOCK as u64, EIO, 2);
    }
    let store = sim.open();
    let lost = store.recovery().lost_metadata.clone().unwrap();
    assert!(lost.contains("log block 2 cannot be read"), "{lost}");
    assert!(store.get(b"late").unwrap().unwrap() == b"late"[..]);
}

/// A device that cannot be reserved is refused with a message and left unchanged: a file, and a device without an
/// engine of its own.
#[test]
fn only_a_device_with_reservations_is_reserved() {
    let fixture = FileFixture::new(4096, 8);
    fixture.open().close().unwrap();
    let before = std::fs::read(fixture.path()).unwrap();
    let options = StoreOptions {
        exclusive: Exclusive::Reserve,
        ..fixture.options()
    };
    let refused = Store::open(fixture.path(), options)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("only a block device can be reserved"),
        "{refused}"
    );
    assert!(std::fs::read(fixture.path()).unwrap() == before);
    let simulated = Sim::new(8).try_open(|options| options.exclusive = Exclusive::Reserve);
    let refused = simulated.unwrap_err().to_string();
    assert!(refused.contains("exclusive"), "{refused}");
    fixture.open_with(|options| options.exclusive = Exclusive::Lock);
}
