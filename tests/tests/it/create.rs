//! Tests of `Store::open_or_create`: one call for a first start and for every later one.

use std::fs;
use std::path::Path;

use rb_core::{
    ClassRequest, CreateError, DeviceError, FormatError, FormatOptions, OpenError, Share, Store,
    StoreOptions,
};

fn options(path: &Path) -> FormatOptions {
    let slots = ClassRequest {
        slot_bytes: 64 << 10,
        share: Share::Slots(16),
    };
    FormatOptions::new(path, vec![slots])
}

#[test]
fn a_missing_or_empty_file_becomes_a_store_and_is_opened_as_it_is_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("empty"), []).unwrap();
    for name in ["missing", "empty"] {
        let format = options(&dir.path().join(name));
        let store = Store::open_or_create(&format, StoreOptions::default()).unwrap();
        store.put(b"key", &[7; 1000]).unwrap();
        store.close().unwrap();
        let mut other = format.clone();
        other.classes[0].slot_bytes = 128 << 10;
        other.consent = true;
        let store = Store::open_or_create(&other, StoreOptions::default()).unwrap();
        assert_eq!(*store.get(b"key").unwrap().unwrap(), [7; 1000]);
        assert_eq!(store.geometry().class_capacity(0), 64 << 10);
    }
}

#[test]
fn what_holds_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("diary");
    fs::write(&path, vec![b'x'; 4 << 20]).unwrap();
    let refused = Store::open_or_create(&options(&path), StoreOptions::default());
    assert!(
        matches!(
            refused,
            Err(CreateError::Format(FormatError::Consent { .. }))
        ),
        "{refused:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), vec![b'x'; 4 << 20]);
}

#[test]
fn a_read_only_opening_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing");
    let read_only = StoreOptions {
        read_only: true,
        ..StoreOptions::default()
    };
    let refused = Store::open_or_create(&options(&path), read_only);
    assert!(
        matches!(refused, Err(CreateError::Open(OpenError::Device(_)))),
        "{refused:?}"
    );
    assert!(!path.exists());
}

/// If many callers start at the same time, one formats; the others open its store, or fail because it is in use.
/// Formatting twice would lose what the first has put.
#[test]
fn of_many_that_create_at_the_same_time_one_formats() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let uuids: Vec<_> = std::thread::scope(|scope| {
        let start = || {
            let store = Store::open_or_create(&options(&path), StoreOptions::default());
            match store {
                Ok(store) => {
                    let uuid = store.superblock().identity.uuid;
                    store.close().unwrap();
                    Some(uuid)
                }
                Err(
                    CreateError::Open(OpenError::Device(DeviceError::InUse { .. }))
                    | CreateError::Format(FormatError::Device(DeviceError::InUse { .. })),
                ) => None,
                Err(why) => panic!("{why:?}"),
            }
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        answers.flatten().collect()
    });
    assert!(!uuids.is_empty(), "no thread created it");
    assert!(uuids.iter().all(|uuid| *uuid == uuids[0]), "{uuids:?}");
}
