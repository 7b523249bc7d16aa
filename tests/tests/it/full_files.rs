//! Tests of files on a real file system that is full.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rb_core::{ClassRequest, EngineKind, FormatOptions, Share, Store, StoreOptions, format};
use rb_testkit::skip;
use rustix::fs::FallocateFlags;
use tempfile::TempDir;

use crate::support::{FileFixture, engines, key, range_of, value};

const SLOT: usize = 64 << 10;

/// A small mounted file system; dropping it unmounts it.
struct Small(TempDir);

impl Small {
    /// Mounts the file system; returns `None` without the right to mount.
    fn mount(what: &str) -> Option<Small> {
        Small::mount_a("tmpfs", what)
    }

    fn mount_a(kind: &str, what: &str) -> Option<Small> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", kind, "-o", "size=32m", kind])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Small(dir)),
            Ok(done) => {
                let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
                skip::note(what, &format!("no {kind} can be mounted: {why}"));
                None
            }
            Err(why) => {
                skip::note(what, &format!("no {kind} can be mounted: {why}"));
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// Uses up the remaining space. Removing the returned file frees it.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for piece in [1 << 20, 4096] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(done.is_ok_and(|done| done.success()), "umount failed");
    }
}

fn options(path: &Path, sparse: bool) -> FormatOptions {
    let class = ClassRequest {
        slot_bytes: SLOT as u64,
        share: Share::Slots(128),
    };
    FormatOptions {
        sparse,
        key_len_max: 64,
        ..FormatOptions::new(path, vec![class])
    }
}

fn open(path: &Path, engine: EngineKind) -> Store {
    let options = StoreOptions {
        engine,
        buffer_bytes: Some(4 << 20),
        queue_depth: 16,
        ..StoreOptions::default()
    };
    Store::open(path, options).unwrap()
}

/// With `--sparse` a full file system failed the store's log, too, and so stopped writing. Now only puts fail.
#[test]
fn a_full_file_system_fails_puts_and_not_the_store() {
    for engine in engines() {
        let Some(small) = Small::mount("a full file system under a store") else {
            return;
        };
        let path = small.path();
        format(&options(&path, true)).unwrap();
        let store = open(&path, engine);
        for n in 0..4 {
            store.put(&key(n), &value(n, SLOT)).unwrap();
        }
        let filler = small.fill();
        for n in 4..20 {
            let refused = store.put(&key(n), &value(n, SLOT)).unwrap_err();
            assert!(refused.is_out_of_space(), "{refused}");
        }
        // Every block of the log and both bases have their space.
        for round in 0..2 * store.superblock().log_blocks() {
            store.remove(&key(round + 100)).unwrap();
            if round % 16 == 0 {
                let n = round % 4;
                store.put(&key(n), &value(n, SLOT)).ok();
                store.sync().unwrap();
            }
            if round % 100 == 0 {
                store.checkpoint().unwrap();
            }
        }
        fs::remove_file(filler).unwrap();
        for n in 4..20 {
            store.put(&key(n), &value(n, SLOT)).unwrap();
        }
        store.close().unwrap();
        let store = open(&path, engine);
        assert!(store.recovery().clean);
        for n in 0..20 {
            let found = store.get(&key(n)).unwrap();
            assert!(found.is_some_and(|found| *found == *value(n, SLOT)), "{n}");
        }
    }
}

/// The log lost its space, as on a thin device or a copy-on-write file system, and there is no other.
#[test]
fn a_log_without_space_on_a_full_file_system_is_written_later() {
    for engine in engines() {
        let Some(small) = Small::mount("a log without space on a full file system") else {
            return;
        };
        let path = small.path();
        format(&options(&path, false)).unwrap();
        let store = open(&path, engine);
        store.put(&key(1), &value(1, SLOT)).unwrap();
        store.sync().unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // The part of the log that is still needed is in the blocks at its start.
        let rings = store.superblock().log_rings().map(range_of);
        let free = rings.map(|ring| ring.start + 16 * 4096..ring.end);
        let make_holes = || {
            for free in &free {
                rustix::fs::fallocate(&file, hole, free.start, free.end - free.start).unwrap();
            }
        };
        make_holes();
        let filler = small.fill();
        // The rest of the first blocks is used up, and then there is no space.
        let mut synced = Vec::new();
        let refused = (10..).find_map(|n| {
            let done = store.put(&key(n), &value(n, SLOT)).map(drop);
            match done.and_then(|()| store.sync()) {
                Ok(()) => {
                    synced.push(n);
                    None
                }
                Err(refused) => Some((n, refused)),
            }
        });
        let (last, refused) = refused.unwrap();
        assert!(refused.is_out_of_space(), "{refused}");
        assert!(last < 40, "key {last} was the first to find no space");
        let refused = store.sync().unwrap_err();
        assert!(refused.is_out_of_space(), "{refused}");
        fs::remove_file(filler).unwrap();
        store.sync().unwrap();
        store.put(&key(2), &value(2, SLOT)).unwrap();
        store.close().unwrap();
        let store = open(&path, engine);
        assert!(store.recovery().clean);
        for n in synced.into_iter().chain([1, 2, last]) {
            let found = store.get(&key(n)).unwrap();
            assert!(found.is_some_and(|found| *found == *value(n, SLOT)), "{n}");
        }
        assert_eq!(store.recovery().unallocated, None);
    }
}

/// On a file system without fallocate, format writes zeros over the metadata to allocate its space, and reports it.
#[test]
fn without_fallocate_zeros_take_the_space_of_the_metadata() {
    let Some(small) = Small::mount_a("ramfs", "a file system without fallocate") else {
        return;
    };
    let path = small.path();
    for sparse in [false, true] {
        fs::write(&path, vec![7; 16 << 20]).unwrap();
        let over = FormatOptions {
            consent: true,
            ..options(&path, sparse)
        };
        let made = format(&over).unwrap();
        let [warning] = made.warnings.as_slice() else {
            panic!("{:?}", made.warnings);
        };
        assert!(warning.contains("no fallocate"), "{warning}");
        assert_eq!(warning.contains("puts fail"), !sparse, "{warning}");
        let bytes = fs::read(&path).unwrap();
        for ring in made.superblock.log_rings() {
            let ring = range_of(ring);
            let found = &bytes[ring.start as usize..ring.end as usize];
            assert!(
                found.iter().all(|byte| *byte == 0),
                "ring at {}",
                ring.start
            );
        }
        let store = open(&path, EngineKind::Posix);
        store.put(&key(1), &value(1, SLOT)).unwrap();
        store.close().unwrap();
        let store = open(&path, EngineKind::Posix);
        assert!(store.recovery().clean && store.get(&key(1)).unwrap().is_some());
    }
}

/// Returns the bytes of the layout that are not slots.
fn metadata_bytes(store: &Store) -> u64 {
    let superblock = store.superblock();
    let slots = superblock.runs.iter().map(|run| run.stride * run.count);
    superblock.device_bytes - slots.sum::<u64>()
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn a_sparse_store_has_all_space_for_its_metadata_and_none_for_its_slots() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let made = format(&options(&path, true)).unwrap();
    assert_eq!(made.warnings, [""; 0]);
    let taken = allocated(&path);
    let store = open(&path, EngineKind::Posix);
    let needed = metadata_bytes(&store);
    assert!(
        (needed..needed + (1 << 20)).contains(&taken),
        "{taken} bytes are allocated, the metadata has {needed}"
    );
    // An existing file that is one large hole, too.
    let path = dir.path().join("there");
    File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let over = FormatOptions {
        consent: true,
        ..options(&path, true)
    };
    format(&over).unwrap();
    let taken = allocated(&path);
    assert!((needed..needed + (1 << 20)).contains(&taken), "{taken}");
}

/// `cp --sparse=always` of a store leaves its metadata without space where it is zero.
#[test]
fn an_opening_gives_a_sparse_copy_the_space_of_its_metadata() {
    let class = ClassRequest {
        slot_bytes: SLOT as u64,
        share: Share::Slots(128),
    };
    let fixture = FileFixture::with(vec![class], |_| {}).image();
    let before = allocated(&fixture.path());
    let reader = fixture.open_with(|options| options.read_only = true);
    let needed = metadata_bytes(&reader);
    assert!(before < needed / 2, "the copy has {before} of {needed}");
    assert_eq!(
        allocated(&fixture.path()),
        before,
        "a reader changes nothing"
    );
    drop(reader);
    let store = fixture.open();
    assert_eq!(store.recovery().unallocated, None);
    let taken = allocated(&fixture.path());
    assert!(
        (needed..needed + (1 << 20)).contains(&taken),
        "{taken} of {needed}"
    );
    store.put(&key(1), &value(1, SLOT)).unwrap();
    store.close().unwrap();
    assert!(fixture.open().recovery().clean);
}

/// If there is no space for it, that is reported, and the store opens anyway.
#[test]
fn a_sparse_copy_on_a_full_file_system_opens_and_reports_it() {
    let Some(small) = Small::mount("a sparse copy on a full file system") else {
        return;
    };
    let path = small.path();
    format(&options(&path, true)).unwrap();
    let store = open(&path, EngineKind::Posix);
    store.put(&key(1), &value(1, SLOT)).unwrap();
    let rings = store.superblock().log_rings().map(range_of);
    store.close().unwrap();
    drop(store);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for ring in rings {
        let free = ring.start + 16 * 4096..ring.end;
        rustix::fs::fallocate(&file, hole, free.start, free.end - free.start).unwrap();
    }
    let filler = small.fill();
    let store = open(&path, EngineKind::Posix);
    let why = store.recovery().unallocated.clone().unwrap();
    assert!(why.contains("No space"), "{why}");
    assert!(store.get(&key(1)).unwrap().is_some());
    store.close().unwrap();
    drop(store);
    fs::remove_file(filler).unwrap();
    let store = open(&path, EngineKind::Posix);
    assert_eq!(store.recovery().unallocated, None);
}
