//! Tests of the two bases and the log between them: which one counts, and that either is enough.
//!
//! Format writes base 1 into region A; bases then alternate.

use rb_core::{Error, OpenError};
use rb_format::base_header_offsets;
use rb_io::OpKind;

use crate::support::{EIO, Sim, key, range_of, value};

/// "Not now".
const EAGAIN: i32 = 11;

/// The sequence of a new base was counted from the readable bases. A base written after metadata was lost so had a
/// lower sequence than an old one that became readable again, and the old one won: a removed key was back, unreported.
#[test]
fn a_base_written_after_lost_metadata_outranks_every_older_one() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"gone", b"gone").unwrap();
    for n in 0..5 {
        store.put(&key(n), b"v").unwrap();
        store.checkpoint().unwrap();
    }
    let superblock = store.superblock().clone();
    let sim = sim.crash();
    assert_eq!(sim.crash().open().recovery().base_sequence, Some(6));
    // The older base, in A, is rotten; the newest one's header cannot be read for a moment.
    for older in base_header_offsets(&superblock.base_a) {
        sim.device.corrupt(older + 100..older + 101);
    }
    // What seems lost is read twice.
    for newest in base_header_offsets(&superblock.base_b) {
        sim.device
            .fail_times(OpKind::Read, newest..newest + 4096, EIO, 2);
    }
    let store = sim.open();
    assert!(store.recovery().lost_metadata.is_some());
    store.remove(b"gone").unwrap();
    store.put(b"new", b"new").unwrap();
    store.sync().unwrap();
    let store = sim.crash().open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert!(!store.contains(b"gone"), "resurrected, unreported");
    assert!(store.get(b"new").unwrap().is_some());
}

/// A drive whose path was changing returned EAGAIN for longer than a request is retried, and recovery took that for
/// damage: it rebuilt the index from slot headers, and removed keys were back.
#[test]
fn not_now_is_not_damage() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"gone", b"gone").unwrap();
    store.sync().unwrap();
    store.remove(b"gone").unwrap();
    store.checkpoint().unwrap();
    let superblock = store.superblock().clone();
    for region in [&superblock.base_a, &superblock.base_b, &superblock.log] {
        let away = sim.crash();
        away.device
            .fail_always(OpKind::Read, range_of(region), EAGAIN);
        let error = away.try_open(|_| {}).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        assert!(!sim.crash().open().contains(b"gone"));
    }
}

/// A base's position shows that the log before it was durable. Recovery from the older base did not check the log
/// against that: when the newest base's sections and the last log block were both lost, it took the gap for the end.
#[test]
fn the_newest_bases_header_shows_how_long_the_log_was() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"gone", b"gone").unwrap();
    store.checkpoint().unwrap();
    store.put(b"x", b"x").unwrap();
    store.sync().unwrap();
    store.remove(b"gone").unwrap();
    store.put(b"late", b"late").unwrap();
    store.checkpoint().unwrap();
    let superblock = store.superblock().clone();
    let sim = sim.crash();
    sim.corrupt_log(&superblock, 3);
    sim.corrupt_section(&superblock.base_a);
    assert!(sim.open().recovery().lost_metadata.is_some());
}

/// After metadata was lost, a new log began behind the last block that could still be read. If a base whose sections
/// were rotten named later blocks as durable, the next restart thought that the new log had lost them, and what had
/// been synced since was lost, or removed keys came back.
#[test]
fn a_log_begun_after_lost_metadata_continues_behind_what_any_base_names() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"gone", b"gone").unwrap();
    for n in 0..6 {
        store.put(&key(n), b"v").unwrap();
        store.sync().unwrap();
    }
    store.checkpoint().unwrap();
    let superblock = store.superblock().clone();
    let sim = sim.crash();
    sim.corrupt_section(&superblock.base_b);
    for sequence in 3..8 {
        sim.corrupt_log(&superblock, sequence);
    }
    let store = sim.open();
    assert!(store.recovery().lost_metadata.is_some());
    store.remove(b"gone").unwrap();
    store.put(b"new", b"new").unwrap();
    store.sync().unwrap();
    let store = sim.crash().open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert!(!store.contains(b"gone"));
    assert!(store.get(b"new").unwrap().is_some());
}

/// A header that is durable before its sections and directory would name missing data. Until the checkpoint's last
/// flush, nothing that a crash leaves of it is a base.
#[test]
fn a_crash_in_a_checkpoint_leaves_a_whole_base_or_no_header() {
    for cut in 0.. {
        let sim = Sim::with_ring(8, 64);
        let store = sim.open();
        for n in 0..6 {
            store.put(&key(n), &value(n, 100)).unwrap();
        }
        store.sync().unwrap();
        sim.device.cut_power_after(cut);
        let done = store.checkpoint().is_ok();
        for seed in 0..16 {
            let store = sim.crash_seeded(seed).open();
            let report = store.recovery();
            assert_eq!(report.lost_metadata, None);
            assert!(
                report.base_damage.iter().all(|why| why.contains("header")),
                "cut {cut}, seed {seed}: {report:?}"
            );
            for n in 0..6 {
                assert!(store.get(&key(n)).unwrap().unwrap() == value(n, 100)[..]);
            }
        }
        if done {
            assert!(cut > 4, "a checkpoint has more writes than {cut}");
            return;
        }
    }
}

/// A checkpoint commits before its header is written, so that the older base and the log remain a complete way to
/// recover.
#[test]
fn the_older_base_and_the_log_hold_everything_that_the_newest_base_holds() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"k", b"v").unwrap(); // Not synced.
    store.checkpoint().unwrap();
    let superblock = store.superblock().clone();
    let sim = sim.crash();
    sim.corrupt_section(&superblock.base_b);
    let store = sim.open();
    let report = store.recovery();
    assert_eq!(report.lost_metadata, None);
    assert_eq!(
        (report.base_sequence, report.base_damage.len()),
        (Some(1), 1)
    );
    assert!(store.get(b"k").unwrap().unwrap() == b"v"[..]);
}

/// The ring keeps everything since the older base, while the store runs and after it was reopened: a full log must
/// still be replayable from there.
#[test]
fn the_ring_keeps_what_the_older_base_needs() {
    for opened_again in [false, true] {
        let mut sim = Sim::with_ring(8, 64);
        let mut store = sim.open();
        let mut newest = [0; 6];
        let mut refused = None;
        for n in 0..200 {
            if n == 4 || n == 34 {
                store.checkpoint().unwrap();
            }
            if n == 34 && opened_again {
                sim = sim.crash();
                store = sim.open();
            }
            if let Err(error) = store.put(&key(n % 6), &value(n, 100)) {
                refused = Some(error);
                break;
            }
            newest[n as usize % 6] = n;
            store.sync().unwrap();
        }
        assert!(matches!(refused, Some(Error::Busy { .. })), "{refused:?}");
        let superblock = store.superblock().clone();
        let sim = sim.crash();
        assert_eq!(sim.crash().open().recovery().base_sequence, Some(3));
        sim.corrupt_section(&superblock.base_a);
        let store = sim.open();
        let report = store.recovery();
        assert_eq!(report.lost_metadata, None, "opened again {opened_again}");
        assert_eq!(report.base_sequence, Some(2));
        for (n, newest) in (0..).zip(newest) {
            assert!(store.get(&key(n)).unwrap().unwrap() == value(newest, 100)[..]);
        }
    }
}
