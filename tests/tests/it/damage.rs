//! Tests of damage on the medium: a miss or the other copy, never wrong bytes, never a panic (C1, C3).

use std::os::unix::fs::FileExt;

use rb_core::{Store, StoreOptions, Validate};
use rb_format::{FORMAT_BLOCK, SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET};

use crate::support::{FileFixture, Watch, base_headers, corrupt, engines, key, value, zero};

const LEN: usize = 9000;

/// Makes a closed store with `count` entries.
fn filled(count: u64) -> FileFixture {
    let fixture = FileFixture::new(16384, 64);
    let store = fixture.open();
    for n in 0..count {
        store.put(&key(n), &value(n, LEN)).unwrap();
    }
    store.close().unwrap();
    drop(store);
    fixture
}

/// Gets every key, checks the values, and returns the number of hits.
fn hits(store: &Store, count: u64) -> u64 {
    let mut hits = 0;
    for n in 0..count {
        if let Some(found) = store.get(&key(n)).unwrap() {
            assert!(found == value(n, LEN)[..], "key {n} has wrong bytes");
            hits += 1;
        }
    }
    store.audit().unwrap();
    hits
}

fn slot_of(store: &Store, wanted: u64) -> u32 {
    let mut slot = None;
    store.for_each(|info| {
        if *info.key == key(wanted) {
            slot = Some(info.slot);
        }
        true
    });
    slot.unwrap()
}

#[test]
fn a_damaged_payload_or_header_is_one_miss() {
    let fixture = filled(10);
    let store = fixture.open();
    let payload = store.geometry().payload_offset(slot_of(&store, 3)).unwrap() + 5000;
    let header = store.geometry().slot_offset(slot_of(&store, 7)).unwrap() + 40;
    drop(store);
    corrupt(&fixture, payload, 1);
    corrupt(&fixture, header, 1);
    let store = fixture.open_with(|options| options.validate = Validate::Off);
    assert_eq!(hits(&store, 10), 8);
    assert_eq!(store.stats().dropped, 2);
}

/// In a batch of 12 MiB most values are verified while others are still being read. Later values must not be mixed up
/// with them, and damage must be found at either time.
#[test]
fn damage_in_a_large_batch_is_always_found() {
    const MIB: usize = 1 << 20;
    for engine in engines() {
        let fixture = FileFixture::new(MIB as u64, 12).on(engine);
        let store = fixture.open_with(|options| options.buffer_bytes = Some(16 * MIB));
        for n in 0..12 {
            store.put(&key(n), &value(n, MIB - 77)).unwrap();
        }
        let bad = [0, 5, 11];
        for n in bad {
            let slot = slot_of(&store, n);
            let payload = store.geometry().payload_offset(slot).unwrap();
            corrupt(&fixture, payload + 500_000, 1);
        }
        let keys: Vec<_> = (0..12).map(key).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for (n, found) in (0..).zip(store.get_many(&keys)) {
            match found.unwrap() {
                Some(found) => assert!(found == value(n, MIB - 77)[..], "{engine}: key {n}"),
                None => assert!(bad.contains(&n), "{engine}: key {n} is missing"),
            }
        }
        assert_eq!(store.stats().dropped, 3, "{engine}");
    }
}

#[test]
fn validation_drops_exactly_the_entries_with_a_stale_header() {
    for eager in [true, false] {
        let fixture = filled(10);
        let store = fixture.open();
        let header = store.geometry().slot_offset(slot_of(&store, 7)).unwrap();
        // Used and not closed: only then does the background validator have a reason to run.
        store.put(&key(0), &value(0, LEN)).unwrap();
        drop(store);
        // An outdated header: valid bytes of another slot.
        corrupt(&fixture, header + 41, 2);
        let watch = Watch::new();
        let store = fixture.open_with(|options| {
            options.validate = if eager {
                Validate::Eager
            } else {
                Validate::Background
            };
            options.events = Some(watch.clone());
        });
        let start = std::time::Instant::now();
        while store.stats().validated < 10 {
            assert!(start.elapsed().as_secs() < 10, "the validator ends");
            std::thread::yield_now();
        }
        assert_eq!(watch.lines(), ["dropped key-7 FailedValidation"]);
        assert!(!store.contains(&key(7)));
        assert_eq!(store.stats().index.entries, 9);
        assert_eq!(hits(&store, 10), 9);
    }
}

#[test]
fn one_superblock_is_enough_and_the_other_is_repaired() {
    for offset in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
        let fixture = filled(5);
        zero(&fixture, offset, FORMAT_BLOCK);
        let store = fixture.open();
        assert!(store.recovery().superblock_repaired);
        assert_eq!(hits(&store, 5), 5);
        drop(store);
        let other = SUPERBLOCK_A_OFFSET + SUPERBLOCK_B_OFFSET - offset;
        corrupt(&fixture, other, FORMAT_BLOCK);
        assert_eq!(hits(&fixture.open(), 5), 5, "the repaired copy serves");
    }
}

#[test]
fn both_superblocks_gone_is_an_error_that_reports_it() {
    let fixture = filled(5);
    corrupt(&fixture, SUPERBLOCK_A_OFFSET + 100, 8);
    corrupt(&fixture, SUPERBLOCK_B_OFFSET + 100, 8);
    let error = Store::open(fixture.path(), fixture.options())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no usable superblock"), "{error}");
}

#[test]
fn either_base_recovers_everything() {
    // The header, and the sections behind it.
    for (at, len) in [(0, 64), (FORMAT_BLOCK as u64, 64)] {
        let fixture = filled(20);
        let store = fixture.open();
        for n in 20..30 {
            store.put(&key(n), &value(n, LEN)).unwrap();
        }
        store.checkpoint().unwrap();
        for n in 30..40 {
            store.put(&key(n), &value(n, LEN)).unwrap();
        }
        store.close().unwrap();
        let superblock = store.superblock().clone();
        drop(store);
        // Either region may have the newest base: damage each in turn.
        for region in [&superblock.base_a, &superblock.base_b] {
            let image = fixture.image();
            corrupt(&image, region.offset + at, len);
            let store = image.open();
            assert_eq!(store.recovery().lost_metadata, None);
            assert_eq!(hits(&store, 40), 40);
        }
    }
}

#[test]
fn without_any_base_slot_headers_are_what_is_left() {
    let fixture = filled(20);
    let store = fixture.open();
    assert!(store.remove(&key(4)).unwrap().is_some());
    store.close().unwrap();
    let superblock = store.superblock().clone();
    drop(store);
    base_headers(&superblock).for_each(|at| corrupt(&fixture, at, 64));
    let empty = fixture.image();

    let store = fixture.open();
    let report = store.recovery();
    assert!(
        report
            .lost_metadata
            .as_ref()
            .unwrap()
            .contains("no usable checkpoint base")
    );
    assert_eq!(
        report.scanned.unwrap().headers,
        20,
        "the removed key's header is there too"
    );
    assert_eq!(hits(&store, 20), 20);
    // It continues as a healthy store.
    store.put(&key(50), &value(50, LEN)).unwrap();
    assert!(store.remove(&key(4)).unwrap().is_some());
    store.close().unwrap();
    drop(store);
    let store = fixture.open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert_eq!(hits(&store, 51), 20);
    assert!(!store.contains(&key(4)));

    // The default was to scan, although the contract promises by default that nothing comes back (C3).
    let store = empty.open_with(|options| *options = StoreOptions::default());
    assert!(store.recovery().lost_metadata.is_some() && store.recovery().scanned.is_none());
    assert_eq!(hits(&store, 20), 0);
    store.put(&key(1), &value(1, LEN)).unwrap();
    drop(store);
    assert_eq!(hits(&empty.open(), 20), 1);
}

/// A misdirected write carries the number of its intended slot. When recovery relies on headers, such a header is
/// evidence neither for the slot it lies in, nor for its own.
#[test]
fn a_header_in_another_slot_is_no_evidence() {
    let fixture = filled(10);
    let store = fixture.open();
    let geometry = store.geometry().clone();
    let own = geometry.slot_offset(slot_of(&store, 3)).unwrap();
    let mut taken = Vec::new();
    store.for_each(|info| {
        taken.push(info.slot);
        true
    });
    let free = (0..64).find(|slot| !taken.contains(slot)).unwrap();
    let superblock = store.superblock().clone();
    drop(store);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(fixture.path())
        .unwrap();
    let mut slot = vec![0; FORMAT_BLOCK + LEN];
    file.read_exact_at(&mut slot, own).unwrap();
    let elsewhere = geometry.slot_offset(free).unwrap();
    file.write_all_at(&slot, elsewhere).unwrap();
    zero(&fixture, own, slot.len());
    base_headers(&superblock).for_each(|at| corrupt(&fixture, at, 64));
    let store = fixture.open();
    assert_eq!(store.recovery().scanned.unwrap().headers, 9);
    assert!(!store.contains(&key(3)));
    assert_eq!(hits(&store, 10), 9);
}

/// Makes a store whose log holds all its entries: one block for each, none in a base.
fn logged(count: u64) -> (FileFixture, rb_core::Superblock) {
    let fixture = FileFixture::new(16384, 64);
    let store = fixture.open();
    for n in 0..count {
        store.put(&key(n), &value(n, LEN)).unwrap();
        store.sync().unwrap();
    }
    let superblock = store.superblock().clone();
    (fixture.image(), superblock)
}

#[test]
fn the_log_alone_recovers_everything_that_was_synced() {
    let (image, _) = logged(20);
    let store = image.open();
    assert!(!store.recovery().clean);
    assert_eq!(store.recovery().log_records, 20);
    assert_eq!(hits(&store, 20), 20);
}

#[test]
fn the_end_of_the_log_is_an_end_and_its_middle_is_not() {
    let (image, superblock) = logged(20);
    let blocks = |sequence: u64| superblock.log_block_offsets(sequence);

    // The last block: a crash may leave that, so it is an end.
    let torn = image.image();
    for block in blocks(20) {
        corrupt(&torn, block + 100, 1);
    }
    let store = torn.open();
    assert_eq!(store.recovery().lost_metadata, None);
    assert_eq!(hits(&store, 20), 19);

    // A block in the middle, damaged or never written: later blocks name it as durable.
    for wipe in [corrupt, zero] {
        let rotten = image.image();
        for block in blocks(8) {
            wipe(&rotten, block, FORMAT_BLOCK);
        }
        let store = rotten.open();
        let lost = store.recovery().lost_metadata.clone().unwrap();
        assert!(lost.contains("log block 8"), "{lost}");
        // Slot headers verify every entry, and the store continues.
        assert_eq!(hits(&store, 20), 20);
        store.put(&key(30), &value(30, LEN)).unwrap();
        store.close().unwrap();
        drop(store);
        let store = rotten.open();
        assert_eq!(store.recovery().lost_metadata, None);
        assert_eq!(hits(&store, 31), 21);
    }
}

#[test]
fn garbage_of_any_size_is_no_store_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for (seed, len) in [
        (1, 0_usize),
        (2, 1),
        (3, 4095),
        (4, 4096),
        (5, 8192),
        (6, 1 << 20),
        (7, (1 << 20) + 4096),
        (8, 5 << 20),
    ] {
        let path = dir.path().join(format!("garbage-{seed}"));
        std::fs::write(&path, value(seed, len)).unwrap();
        assert!(Store::open(&path, StoreOptions::default()).is_err());
    }
}

#[test]
fn random_damage_anywhere_never_yields_wrong_bytes() {
    let fixture = filled(40);
    let size = std::fs::metadata(fixture.path()).unwrap().len();
    for seed in 1..=60 {
        let image = fixture.image();
        let mut state = seed;
        for _ in 0..=(seed % 7) {
            let at = rb_testkit::values::next_number(&mut state);
            let len = 1 + rb_testkit::values::next_number(&mut state) as usize % 9000;
            // Half of the damage hits the metadata.
            let limit = if at & 1 == 0 { size } else { 4 << 20 };
            let offset = (at >> 1) % (limit - len as u64);
            if seed % 2 == 0 {
                corrupt(&image, offset, len);
            } else {
                zero(&image, offset, len);
            }
        }
        if let Ok(store) = Store::open(image.path(), image.options()) {
            for n in 0..40 {
                if let Ok(Some(found)) = store.get(&key(n)) {
                    assert!(
                        found == value(n, LEN)[..],
                        "seed {seed}: key {n} has wrong bytes"
                    );
                }
            }
            store
                .audit()
                .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            store.close().unwrap();
        }
    }
}

/// Regression test: the newest base and both log rings were overwritten with other data. The base counted as one that
/// was never written, so the older base was taken for all there was: a removed key was back without a report (C3).
#[test]
fn an_overwritten_base_is_not_one_that_was_never_written() {
    let fixture = FileFixture::new(16384, 16);
    let store = fixture.open();
    store.put(b"gone", b"value").unwrap();
    store.put(b"stays", b"value").unwrap();
    store.close().unwrap();
    let store = fixture.open();
    store.remove(b"gone").unwrap();
    store.close().unwrap();
    let superblock = store.superblock().clone();
    drop(store);
    let image = std::fs::read(fixture.path()).unwrap();
    let sequence = |base: &rb_format::Region| {
        let header = &image[base.offset as usize..];
        rb_format::BaseHeader::decode(header, &superblock.identity)
            .unwrap()
            .base_sequence
    };
    let newest = superblock
        .bases()
        .into_iter()
        .max_by_key(|base| sequence(base))
        .unwrap();
    for region in [newest].into_iter().chain(superblock.log_rings()) {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(fixture.path())
            .unwrap();
        file.write_all_at(&vec![0x7E; region.bytes as usize], region.offset)
            .unwrap();
    }
    let store = fixture.open_with(|options| options.read_only = true);
    let why = store.recovery().lost_metadata.as_ref();
    assert!(
        why.is_some_and(|why| why.contains("no log follows")),
        "{why:?}"
    );
    drop(store);
    let store =
        fixture.open_with(|options| options.on_lost_metadata = rb_core::OnLostMetadata::Empty);
    assert!(store.get(b"gone").unwrap().is_none());
    assert_eq!(store.stats().index.entries, 0);
}
