//! Consent is checked while the lock is held: of concurrent formats one succeeds, and data that another process writes
//! into the file in the meantime stays (C8).

use std::path::Path;
use std::sync::Barrier;

use rb_core::{
    ClassRequest, FormatError, FormatOptions, Formatted, Share, Store, StoreOptions, format,
};

fn options(path: &Path) -> FormatOptions {
    let class = ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(8),
    };
    FormatOptions {
        sparse: true,
        ..FormatOptions::new(path, vec![class])
    }
}

/// Returns the number of rounds of four formats of one path. The long form: `RB_FORMAT_ROUNDS=500`.
fn rounds() -> u32 {
    let wanted = std::env::var("RB_FORMAT_ROUNDS").ok();
    wanted.and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

/// In 25 of 100 rounds, not exactly one of four formats of one new path succeeded: each judged the path before it held
/// the lock, and a format that failed removed the file that another had made.
#[test]
fn of_four_formats_of_one_path_exactly_one_succeeds() {
    for round in 0..rounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        if round % 2 == 1 {
            drop(std::fs::File::create(&path).unwrap());
        }
        let start = Barrier::new(4);
        let done: Vec<Result<Formatted, FormatError>> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                format(&options(&path))
            };
            let threads = [(); 4].map(|()| scope.spawn(one));
            threads.map(|thread| thread.join().unwrap()).into()
        });
        let made: Vec<_> = done.iter().flatten().collect();
        assert_eq!(made.len(), 1, "round {round}: {done:?}");
        for error in done.iter().filter_map(|done| done.as_ref().err()) {
            let lost = matches!(error, FormatError::Consent { .. })
                || matches!(error, FormatError::Device(why) if why.is_in_use());
            assert!(lost, "round {round}: {error:?}");
        }
        let reading = StoreOptions {
            read_only: true,
            ..StoreOptions::default()
        };
        let store = Store::open(&path, reading).unwrap();
        assert_eq!(
            store.superblock().identity,
            made[0].superblock.identity,
            "round {round}"
        );
    }
}

/// Formats that fail while another one succeeds must remove nothing, regardless of which of them made the file.
#[test]
fn formats_that_fail_leave_the_others_store() {
    for round in 0..rounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let impossible = FormatOptions {
            bytes: Some(1 << 20),
            ..options(&path)
        };
        let start = Barrier::new(4);
        let made = std::thread::scope(|scope| {
            let fails = || {
                start.wait();
                assert!(format(&impossible).is_err());
            };
            let threads = [(); 3].map(|()| scope.spawn(fails));
            start.wait();
            let made = format(&options(&path)).unwrap();
            for thread in threads {
                thread.join().unwrap();
            }
            made
        });
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        let made = made.superblock.identity;
        assert_eq!(store.superblock().identity, made, "round {round}");
    }
}

/// A format that fails leaves what it found: no file, an empty one, or one of the same size.
#[test]
fn a_format_that_fails_leaves_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    // The layout fits, but the device cannot take the writes: no device holds 2^62 bytes.
    let huge = |path: &Path| FormatOptions {
        bytes: Some(1 << 62),
        consent: true,
        ..options(path)
    };
    for name in [&path, &link] {
        assert!(format(&huge(name)).is_err());
        assert!(!path.exists(), "a file was left behind");
    }
    for len in [0, 1, 5000] {
        std::fs::write(&path, vec![7; len]).unwrap();
        assert!(format(&huge(&path)).is_err());
        assert!(std::fs::read(&path).unwrap() == vec![7; len]);
    }
    // A file that is not empty needs consent, however small it is.
    std::fs::write(&path, b"x").unwrap();
    let error = format(&options(&path)).unwrap_err();
    assert!(matches!(error, FormatError::Consent { .. }), "{error}");
    std::fs::remove_file(&path).unwrap();
    format(&options(&link)).unwrap();
    assert!(
        Store::open(&path, StoreOptions::default()).is_ok(),
        "by a link to nothing"
    );
}

/// An empty file that another process fills before the lock is held is no longer empty.
#[test]
fn a_file_that_is_filled_while_the_format_waits_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let file = std::fs::File::create(&path).unwrap();
    file.lock().unwrap();
    std::thread::scope(|scope| {
        let formats = scope.spawn(|| format(&options(&path)));
        // Format waits for the lock for up to a second, and has seen an empty file by then.
        std::thread::sleep(std::time::Duration::from_millis(200));
        std::fs::write(&path, b"somebody's").unwrap();
        file.unlock().unwrap();
        let error = formats.join().unwrap().unwrap_err();
        assert!(matches!(error, FormatError::Consent { .. }), "{error}");
    });
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
}
