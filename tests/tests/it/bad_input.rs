//! Tests of bad input: an error with a message, and an unchanged store (C8, C9).

use std::io::Write;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use rb_core::{
    ClassRequest, Error, Expected, FormatError, FormatOptions, OpenError, Scrub, Share, Store,
    StoreOptions, format,
};

use crate::support::{FileFixture, KIB, ends_within, engines};

fn classes(slot_bytes: u64) -> Vec<ClassRequest> {
    vec![ClassRequest {
        slot_bytes,
        share: Share::Rest,
    }]
}

#[test]
fn bad_keys_and_values_are_refused_and_change_nothing() {
    let fixture = FileFixture::with(
        vec![ClassRequest {
            slot_bytes: 16384,
            share: Share::Slots(8),
        }],
        |options| {
            options.key_len_max = 1024;
        },
    );
    let store = fixture.open();
    store.put(&[7; 1024], b"longest key").unwrap();
    let before = store.stats().index;
    let refused = [
        (
            store.put(b"", b"v").unwrap_err(),
            "a key of 0 bytes: keys of this store have 1 to 1024 bytes",
        ),
        (
            store.put(&[7; 1025], b"v").unwrap_err(),
            "a key of 1025 bytes: keys of this store have 1 to 1024 bytes",
        ),
        (
            store.put(b"k", &vec![0; 8 * 16384 + 1]).unwrap_err(),
            "a value of 131073 bytes: values of this store have 1 to 131072 bytes",
        ),
        (
            store.put(b"k", b"").unwrap_err(),
            "a value of 0 bytes: values of this store have 1 to 131072 bytes",
        ),
        (
            store.get(b"").unwrap_err(),
            "a key of 0 bytes: keys of this store have 1 to 1024 bytes",
        ),
        (
            store.remove(&[7; 1025]).unwrap_err(),
            "a key of 1025 bytes: keys of this store have 1 to 1024 bytes",
        ),
    ];
    for (error, words) in refused {
        assert_eq!(error.to_string(), words);
    }
    let mut little = [0; 3];
    let error = store.get_into(&[7; 1024], &mut little).unwrap_err();
    assert!(matches!(
        error,
        Error::OutputTooSmall {
            needed: 11,
            given: 3
        }
    ));
    let after = store.stats().index;
    assert_eq!(
        (before.classes, before.entries),
        (after.classes, after.entries)
    );
    store.audit().unwrap();
}

#[test]
fn one_bad_key_of_a_batch_fails_alone() {
    let fixture = FileFixture::new(16384, 8);
    let store = fixture.open();
    let puts = vec![
        rb_core::Put::new(b"a", b"1"),
        rb_core::Put::new(b"", b"2"),
        rb_core::Put::new(b"c", b"3"),
    ];
    let answers = store.put_many(puts, rb_core::PutOptions::default());
    assert!(answers[0].is_ok() && answers[1].is_err() && answers[2].is_ok());
    assert!(store.contains(b"a") && store.contains(b"c"));
}

#[test]
fn geometry_that_cannot_be_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let attempt = |slot_bytes, bytes| {
        let options = FormatOptions {
            bytes: Some(bytes),
            ..FormatOptions::new(&path, classes(slot_bytes))
        };
        format(&options).unwrap_err().to_string()
    };
    for (slot_bytes, bytes, word) in [
        (10_000, 64 << 20, "10000"),
        (65536, 1 << 20, "1048576"),
        (0, 64 << 20, "0"),
    ] {
        let error = attempt(slot_bytes, bytes);
        assert!(error.contains(word), "{error:?} names {word}");
        assert!(!path.exists(), "{error}");
    }
}

#[test]
fn a_second_opener_is_refused_and_the_first_continues() {
    let fixture = FileFixture::new(16384, 8);
    let store = fixture.open();
    store.put(b"k", b"v").unwrap();
    let error = Store::open(fixture.path(), fixture.options()).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    let options = FormatOptions {
        force: true,
        consent: true,
        ..FormatOptions::new(fixture.path(), classes(16384))
    };
    let error = format(&options).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    // Reading is allowed next to a writer.
    let reader = Store::open(
        fixture.path(),
        StoreOptions {
            read_only: true,
            ..fixture.options()
        },
    )
    .unwrap();
    assert!(matches!(reader.put(b"x", b"y"), Err(Error::ReadOnly)));
    assert!(store.get(b"k").unwrap().unwrap() == b"v"[..]);
}

#[test]
fn foreign_data_is_refused_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ext4");
    let mut file = std::fs::File::create(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    write_ext4_superblock(&path, &mut file);
    let before = std::fs::read(&path).unwrap();

    let Err(OpenError::NotAStore { signature, .. }) = Store::open(&path, StoreOptions::default())
    else {
        panic!("an ext4 file system is not a store")
    };
    assert!(
        signature.unwrap().contains("ext"),
        "the error names what was found"
    );
    let options = FormatOptions {
        consent: true,
        ..FormatOptions::new(&path, classes(16384))
    };
    let error = format(&options).unwrap_err();
    assert!(
        matches!(&error, FormatError::Occupied { found, .. } if found.contains("ext")),
        "{error}"
    );
    assert!(
        std::fs::read(&path).unwrap() == before,
        "nothing was written"
    );
    format(&FormatOptions {
        force: true,
        ..options
    })
    .unwrap();
    drop(Store::open(&path, StoreOptions::default()).unwrap());
}

/// Runs the real tool if it is installed; otherwise writes the fields by which the signature is recognised.
fn write_ext4_superblock(path: &Path, file: &mut std::fs::File) {
    use std::os::unix::fs::FileExt;
    let made = std::process::Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(path)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        file.write_all_at(&0xEF53_u16.to_le_bytes(), 1024 + 0x38)
            .unwrap();
        file.flush().unwrap();
    }
}

#[test]
fn an_existing_store_is_not_formatted_without_consent() {
    let fixture = FileFixture::new(16384, 8);
    let options = FormatOptions::new(fixture.path(), classes(16384));
    assert!(matches!(format(&options), Err(FormatError::Consent { .. })));
    fixture.open().put(b"still", b"here").unwrap();
    format(&FormatOptions {
        consent: true,
        ..options
    })
    .unwrap();
    assert!(!fixture.open().contains(b"still"));
}

#[test]
fn another_geometry_than_expected_is_an_error_that_names_both() {
    let fixture = FileFixture::new(16384, 8);
    let expect = |expected: Expected| {
        Store::open(
            fixture.path(),
            StoreOptions {
                expected,
                ..fixture.options()
            },
        )
        .map(drop)
    };
    let error = expect(Expected {
        slot_bytes: vec![65536],
        ..Expected::default()
    })
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("16384") && error.contains("65536"),
        "{error}"
    );
    let error = expect(Expected {
        slots: Some(9),
        ..Expected::default()
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains('8') && error.contains('9'), "{error}");
    expect(Expected {
        slot_bytes: vec![16384],
        slots: Some(8),
        ..Expected::default()
    })
    .unwrap();
}

/// A cache of another model gave misses only, and filled with values that the right one could not use.
#[test]
fn another_uuid_or_label_than_expected_is_an_error_that_names_both() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let slots = ClassRequest {
        slot_bytes: 16384,
        share: Share::Slots(8),
    };
    let format = FormatOptions {
        label: b"llama-3.1-8b bf16".to_vec(),
        ..FormatOptions::new(&path, vec![slots])
    };
    let uuid = rb_core::format(&format).unwrap().superblock.identity.uuid;
    let open = |expected: Expected, start_empty| {
        let options = StoreOptions {
            expected,
            start_empty,
            ..StoreOptions::default()
        };
        Store::open(&path, options).map(|store| store.close().unwrap())
    };
    let label = |label: &[u8]| Expected {
        label: Some(label.to_vec()),
        ..Expected::default()
    };
    let of_uuid = |uuid| Expected {
        uuid: Some(uuid),
        ..Expected::default()
    };
    for start_empty in [false, true, false] {
        open(label(b"llama-3.1-8b bf16"), start_empty).unwrap();
        open(of_uuid(uuid), start_empty).unwrap();
    }
    let other = rb_core::StoreUuid([7; 16]);
    for (expected, names) in [
        (
            label(b"llama-3.1-8b"),
            ["\"llama-3.1-8b bf16\"", "\"llama-3.1-8b\""],
        ),
        (label(b""), ["\"llama-3.1-8b bf16\"", "\"\""]),
        (of_uuid(other), [&uuid.to_string(), &other.to_string()]),
    ] {
        let error = open(expected, true).unwrap_err();
        assert!(matches!(error, OpenError::Geometry { .. }), "{error:?}");
        let text = error.to_string();
        assert!(names.iter().all(|name| text.contains(name)), "{text}");
    }

    for label in [vec![b'x'; 257], b"ends with\0".to_vec()] {
        let format = FormatOptions {
            label,
            consent: true,
            ..format.clone()
        };
        let refused = rb_core::format(&format);
        assert!(matches!(refused, Err(FormatError::Label { .. })));
    }
    open(of_uuid(uuid), false).unwrap();
}

#[test]
fn devices_that_are_no_store_or_a_cut_one_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let open = |path: &Path| {
        Store::open(path, StoreOptions::default())
            .map(drop)
            .unwrap_err()
    };
    std::fs::write(&path, vec![0; 8192]).unwrap();
    assert!(matches!(open(&path), OpenError::NotAStore { .. }));
    std::fs::write(&path, vec![0x5A; 4 << 20]).unwrap();
    assert!(matches!(open(&path), OpenError::NotAStore { .. }));

    let fixture = FileFixture::new(16384, 64);
    let len = std::fs::metadata(fixture.path()).unwrap().len();
    std::fs::OpenOptions::new()
        .write(true)
        .open(fixture.path())
        .unwrap()
        .set_len(2 << 20)
        .unwrap();
    assert!(
        matches!(open(&fixture.path()), OpenError::Truncated { needed, found, .. } if needed == len && found == 2 << 20)
    );
}

#[test]
fn a_newer_format_version_is_refused_by_number() {
    use std::os::unix::fs::FileExt;
    let fixture = FileFixture::new(64 * KIB as u64, 4);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(fixture.path())
        .unwrap();
    for offset in [
        rb_format::SUPERBLOCK_A_OFFSET,
        rb_format::SUPERBLOCK_B_OFFSET,
    ] {
        // docs/format.md: the version is the u32 behind the magic, the checksum the last 8 bytes.
        let mut block = [0; rb_format::FORMAT_BLOCK];
        file.read_exact_at(&mut block, offset).unwrap();
        block[8..12].copy_from_slice(&7_u32.to_le_bytes());
        let checksum = u64::from(crc32fast::hash(&block[..4088]));
        block[4088..].copy_from_slice(&checksum.to_le_bytes());
        file.write_all_at(&block, offset).unwrap();
    }
    let error = Store::open(fixture.path(), fixture.options())
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, OpenError::Version { .. }), "{error}");
    assert!(error.to_string().contains('7'), "{error}");
    let error = format(&FormatOptions::new(fixture.path(), classes(16384))).unwrap_err();
    assert!(
        matches!(
            error,
            FormatError::Consent { .. } | FormatError::Occupied { .. }
        ),
        "{error}"
    );
}

/// Durations and numbers that mean "never" or "no limit". The interval overflowed in the commit thread, which ended,
/// and every async sync hung; the others overflowed in the caller's thread.
#[test]
fn options_without_limit_are_taken_as_such() {
    for engine in engines() {
        let store = FileFixture::new(4096, 8).on(engine).open_with(|options| {
            options.sync_interval = Duration::MAX;
            options.io_deadline = Duration::MAX;
            options.busy_wait = Duration::MAX;
            options.queues_max = usize::MAX;
            options.scrub = Some(Scrub {
                bytes_per_second: NonZeroU64::MAX,
                pass_interval: Duration::MAX,
            });
        });
        let ended = ends_within(Duration::from_secs(20), move || {
            store.put(b"k", b"v").unwrap();
            assert!(store.step_scrub(8).unwrap().is_some());
            store.sync_async().wait().unwrap();
            // Nothing is committed as long as nothing requests it.
            let before = store.stats().commits;
            store.put(b"l", b"v").unwrap();
            let sync = store.get_many_async(&[b"l"]).wait();
            assert!(sync[0].as_ref().unwrap().is_some());
            assert_eq!(store.stats().commits, before);
            store.close().unwrap();
        });
        assert!(ended, "{engine}");
    }
}

/// Format wiped a signature in the partial block at a device's end as a whole block, which exceeds the end: the format
/// failed each time, after the start had been overwritten.
#[test]
fn a_signature_at_an_odd_end_is_wiped() {
    use std::os::unix::fs::FileExt;
    const BYTES: u64 = 16 << 20;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(BYTES + 512).unwrap();
    file.as_file().write_all_at(b"EFI PART", BYTES).unwrap();
    let options = FormatOptions {
        force: true,
        ..FormatOptions::new(file.path(), classes(16384))
    };
    format(&options).unwrap();
    drop(Store::open(file.path(), StoreOptions::default()).unwrap());
    let mut end = [1; 8];
    file.as_file().read_exact_at(&mut end, BYTES).unwrap();
    assert_eq!(end, [0; 8]);
}

/// Buffers of any size were mapped without checking the available memory: unless the system had a limit, the process
/// was killed when it used them.
#[test]
fn buffers_that_cannot_be_had_are_refused_with_need_and_limit() {
    let fixture = FileFixture::new(4096, 8);
    for bytes in [usize::MAX, usize::MAX / 2, 1 << 62, 1 << 46] {
        let mut options = fixture.options();
        options.buffer_bytes = Some(bytes);
        let refused = words(&Store::open(fixture.path(), options).unwrap_err());
        for part in [
            &*format!("{bytes} bytes are needed"),
            "the limit is",
            "buffer_bytes",
        ] {
            assert!(refused.contains(part), "{part:?} is missing in: {refused}");
        }
    }
    fixture.open().put(b"k", b"v").unwrap();
}

/// Returns an error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let cause = error.source().map_or_else(String::new, words);
    format!("{error}; {cause}")
}
