//! Tests of `Store::open_or_create`: one call for a first start and for every later one, also after a format that was
//! killed. Only zeros and what a format left on them are formatted without consent (C8).

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rb_core::{
    ClassRequest, CreateError, DeviceError, FormatError, FormatOptions, OpenError, Share, Source,
    Store, StoreOptions,
};
use rb_io::Engine;
use rb_testkit::{Kept, MemDevice, MemEngine};

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

const DEVICE: u64 = 8 << 20;

/// Returns the states that a crash of the first format may leave: at each of its writes the flushed bytes, all writes, and
/// of the last two writes every pair of nothing, everything, the first and the last sector.
fn states_of_a_killed_format(classes: Vec<ClassRequest>) -> Vec<Vec<u8>> {
    let device = MemDevice::new(DEVICE);
    device.record();
    let engine: Arc<dyn Engine> = Arc::new(MemEngine::new(Arc::clone(&device)));
    rb_core::format(&FormatOptions::new(Source::from(engine), classes)).unwrap();
    let mut points = device.crash_points().unwrap();
    let (mut states, mut seen) = (Vec::new(), HashSet::new());
    loop {
        let pending = points.pending().len();
        let parts = [Kept::Nothing, Kept::All, Kept::First(1), Kept::Last(1)];
        for (one, other) in parts
            .iter()
            .flat_map(|one| parts.map(|other| (*one, other)))
        {
            let mut kept = vec![Kept::All; pending];
            kept.iter_mut()
                .rev()
                .zip([one, other])
                .for_each(|(kept, part)| *kept = part);
            let image = points.image(&kept);
            if seen.insert(image.hash()) {
                let mut bytes = vec![0; DEVICE as usize];
                image.read(0, &mut bytes);
                states.push(bytes);
            }
        }
        if !points.advance() {
            return states;
        }
    }
}

/// A kill in the first format left base headers without a superblock. Every later start refused the file as unknown data,
/// until someone removed it.
#[test]
fn a_format_that_was_killed_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let format = options(&path);
    let states = states_of_a_killed_format(format.classes.clone());
    let (mut empty, mut stores) = (0, 0);
    for (number, state) in states.iter().enumerate() {
        fs::write(&path, state).unwrap();
        empty += u32::from(state.iter().all(|byte| *byte == 0));
        stores += u32::from(rb_core::is_store(&path));
        // A torn header without its first sector has no UUID: if both are so, nothing shows whose they are.
        let is_nameless = state
            .windows(8)
            .step_by(512)
            .all(|bytes| bytes != b"rbBASEHD");
        let opened = Store::open_or_create(&format, StoreOptions::default());
        if is_nameless && state.iter().any(|byte| *byte != 0) {
            let is_refused = matches!(
                opened,
                Err(CreateError::Format(FormatError::Consent { .. }))
            );
            assert!(is_refused, "state {number}: {opened:?}");
            continue;
        }
        let store = opened.unwrap_or_else(|why| panic!("state {number}: {why:?}"));
        store.put(b"key", &[7; 1000]).unwrap();
        store.close().unwrap();
    }
    assert!(empty > 0 && stores > 1, "{empty} {stores}");
    assert!(states.len() > 20, "{} states", states.len());
}

/// One foreign byte anywhere next to the remains of a format makes them unknown data, which needs consent (C8).
#[test]
fn foreign_data_next_to_a_killed_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let format = options(&path);
    let states = states_of_a_killed_format(format.classes.clone());
    let unfinished: Vec<_> = states
        .iter()
        .filter(|state| {
            fs::write(&path, state).unwrap();
            !rb_core::is_store(&path)
        })
        .collect();
    assert!(unfinished.len() > 10);
    for (number, state) in unfinished.iter().enumerate() {
        for at in [
            0,
            4096,
            1 << 20,
            2 << 20,
            (2 << 20) + 200,
            4 << 20,
            DEVICE - 1,
        ] {
            let mut foreign = (*state).clone();
            foreign[at as usize] ^= 0x5A;
            fs::write(&path, &foreign).unwrap();
            let refused = Store::open_or_create(&format, StoreOptions::default());
            let is_refused = matches!(
                refused,
                Err(CreateError::Format(FormatError::Consent { .. })
                    | CreateError::Open(OpenError::Superblock { .. }))
            );
            assert!(is_refused, "state {number}, byte {at}: {refused:?}");
            assert!(fs::read(&path).unwrap() == foreign);
        }
    }
}

/// Remains of formats with different layouts do not add up to unknown data.
#[test]
fn formats_that_were_killed_several_times_are_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let class = |slot_bytes| ClassRequest {
        slot_bytes,
        share: Share::Rest,
    };
    let mut sum = vec![0; DEVICE as usize];
    for bytes in [4096, 64 << 10, 1 << 20] {
        let states = states_of_a_killed_format(vec![class(bytes)]);
        let headers = |state: &&Vec<u8>| state[0] == 0 && state[1 << 20] == 0;
        let last = states.iter().rfind(headers).unwrap();
        for (to, from) in sum.chunks_mut(4096).zip(last.chunks(4096)) {
            if from.iter().any(|byte| *byte != 0) {
                to.copy_from_slice(from);
            }
        }
    }
    fs::write(&path, &sum).unwrap();
    let store = Store::open_or_create(&options(&path), StoreOptions::default()).unwrap();
    store.close().unwrap();
}

/// A file that ended within a block was unknown data, even if it was all zeros; one shorter than a block was refused for
/// its size, before consent was judged.
#[test]
fn zeros_of_any_length_are_empty_and_short_text_needs_consent() {
    let dir = tempfile::tempdir().unwrap();
    for len in [1, 511, 513, 4095, (8 << 20) + 1, (9 << 20) - 1] {
        let path = dir.path().join(format!("{len}"));
        fs::write(&path, vec![0; len]).unwrap();
        let store = Store::open_or_create(&options(&path), StoreOptions::default()).unwrap();
        store.close().unwrap();
        let mut text = vec![0; len];
        text[len - 1] = b'x';
        fs::write(&path, &text).unwrap();
        let refused = Store::open_or_create(&options(&path), StoreOptions::default());
        let is_refused = matches!(
            refused,
            Err(CreateError::Format(FormatError::Consent { .. }))
        );
        assert!(is_refused, "{len}: {refused:?}");
        assert!(fs::read(&path).unwrap() == text);
    }
}

/// A format that is killed after it grew a large file leaves holes, which take no time to read.
#[test]
fn holes_of_a_large_file_are_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let file = fs::File::create(&path).unwrap();
    file.set_len(100 << 30).unwrap();
    let format = FormatOptions {
        sparse: true,
        ..options(&path)
    };
    file.write_all_at(b"x", 50 << 30).unwrap();
    let refused = Store::open_or_create(&format, StoreOptions::default());
    assert!(
        matches!(
            refused,
            Err(CreateError::Format(FormatError::Consent { .. }))
        ),
        "{refused:?}"
    );
    file.write_all_at(&[0], 50 << 30).unwrap();
    let store = Store::open_or_create(&format, StoreOptions::default()).unwrap();
    store.close().unwrap();
}

/// An existing file that cannot be written was "create failed", and an empty path ": lock failed: Stale file handle".
#[test]
fn what_cannot_be_opened_is_named() {
    let running = std::env::current_exe().unwrap();
    for (path, words) in [
        (running.as_path(), "open for writing failed"),
        (Path::new(""), "the empty path \"\": open failed"),
        (Path::new("/nonexistent/store"), "create failed"),
    ] {
        let error = rb_core::format(&options(path)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let opened = Store::open_or_create(&options(Path::new("")), StoreOptions::default());
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("the empty path \"\""), "{error}");
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
