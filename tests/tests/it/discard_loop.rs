//! Tests of discards on real kernels: what a sparse file behind a loop device, and a sparse file itself, give back.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rb_core::{
    ClassRequest, EngineKind, FormatError, FormatOptions, Share, Store, StoreOptions, Validate,
    format,
};
use rb_testkit::LoopDevice;

use crate::support::{engines, key, slices, value};

const SLOT: u64 = 64 << 10;
const SLOTS: u64 = 256;
/// Kept entries: every ninth.
const KEPT: u64 = 9;

/// Returns the bytes that the file system has allocated for the file.
fn allocated(file: &Path) -> u64 {
    let file = std::fs::File::open(file).unwrap();
    // Data written through the loop device may not be allocated yet.
    file.sync_all().unwrap();
    file.metadata().unwrap().blocks() * 512
}

fn format_discarding(path: &Path) -> Result<(), FormatError> {
    let options = FormatOptions {
        key_len_max: 64,
        discard: true,
        consent: true,
        ..FormatOptions::new(
            path,
            vec![ClassRequest {
                slot_bytes: SLOT,
                share: Share::Slots(SLOTS),
            }],
        )
    };
    format(&options).map(drop)
}

fn open(path: &Path, engine: EngineKind) -> Store {
    let options = StoreOptions {
        engine,
        discard_freed: true,
        validate: Validate::Eager,
        buffer_bytes: Some(16 << 20),
        queue_depth: 64,
        ..StoreOptions::default()
    };
    Store::open(path, options).unwrap()
}

/// At least 95 % of the discarded bytes are given back, and live values are whole.
fn gives_back(path: &Path, backing: &Path, engine: EngineKind) {
    let what = format!("{engine} on {}", path.display());
    let store = open(path, engine);
    for n in 0..SLOTS {
        store.put(&key(n), &value(n, SLOT as usize)).unwrap();
    }
    store.sync().unwrap();
    let full = allocated(backing);
    let gone: Vec<_> = (0..SLOTS).filter(|n| n % KEPT != 0).map(key).collect();
    for answer in store.remove_many(&slices(&gone)) {
        assert!(answer.unwrap().is_some());
    }
    store.sync().unwrap();
    // The background thread discards after the commit.
    let start = Instant::now();
    while store.stats().discard.slots < gone.len() as u64 {
        let discard = store.stats().discard;
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{what}: {discard:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    let discard = store.stats().discard;
    assert_eq!((discard.failures, &discard.off), (0, &None), "{what}");
    assert_eq!(discard.bytes, gone.len() as u64 * (SLOT + 4096), "{what}");
    let back = full.saturating_sub(allocated(backing));
    assert!(
        back * 100 >= discard.bytes * 95,
        "{what}: {back} of {} are back",
        discard.bytes
    );
    store.close().unwrap();
    drop(store);

    let store = open(path, engine);
    let entries = SLOTS.div_ceil(KEPT);
    let report = store.recovery();
    assert_eq!(
        (report.entries, report.validated),
        (entries, entries),
        "{what}: {report:?}"
    );
    for n in 0..SLOTS {
        let found = store.get(&key(n)).unwrap();
        let expected = n.is_multiple_of(KEPT).then(|| value(n, SLOT as usize));
        assert_eq!(found.as_deref(), expected.as_deref(), "{what}, key {n}");
    }
    assert_eq!(store.stats().dropped, 0);
    // Discarded slots are reused, and a format gives all of them back.
    for n in 0..SLOTS {
        store.put(&key(n), &value(n + 1, SLOT as usize)).unwrap();
    }
    // A put that arrived while freed slots waited for their discards has evicted another entry.
    let entries = store.stats().index.entries;
    assert!(entries > SLOTS / 2, "{what}: {entries}");
    store.close().unwrap();
    drop(store);
    let full = allocated(backing);
    format_discarding(path).unwrap();
    let back = full.saturating_sub(allocated(backing));
    let slots = entries * (SLOT + 4096);
    assert!(
        back * 100 >= slots * 95,
        "{what}: a format gave back {back} of {slots}"
    );
}

fn sparse_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(32 << 20).unwrap();
    file
}

#[test]
fn discards_on_a_loop_device_shrink_the_file_behind_it() {
    for engine in engines() {
        let file = sparse_file();
        let Some(node) = LoopDevice::attach("discards on a loop device", file.path(), 512) else {
            return;
        };
        format_discarding(node.path()).unwrap();
        gives_back(node.path(), file.path(), engine);
    }
}

#[test]
fn discards_in_a_file_punch_holes() {
    for engine in engines() {
        let file = sparse_file();
        format_discarding(file.path()).unwrap();
        gives_back(file.path(), file.path(), engine);
    }
}
