//! Tests of files that lost their end, combined with other faults or requests. `foreign.rs` has the plain ones.

use std::os::unix::fs::FileExt;
use std::path::Path;

use rb_core::{AuditOptions, AuditState, OpenError, Store, StoreOptions, audit, repair};
use rb_format::{FORMAT_BLOCK, SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET};

use crate::support::{FileFixture, key, value};

const BLOCK: u64 = FORMAT_BLOCK as u64;

fn file(path: &Path) -> std::fs::File {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).open(path).unwrap()
}

fn len(fixture: &FileFixture) -> u64 {
    std::fs::metadata(fixture.path()).unwrap().len()
}

fn fill(store: &Store, keys: u64) {
    for n in 0..keys {
        store.put(&key(n), &value(n, 3000)).unwrap();
    }
}

/// A repair grew the file before it checked it: it then found nothing wrong, and had written without consent.
#[test]
fn a_repair_of_a_cut_file_grows_it_when_it_is_agreed_to() {
    let fixture = FileFixture::new(4096, 32);
    let store = fixture.open();
    fill(&store, 4);
    store.close().unwrap();
    drop(store);
    let whole = len(&fixture);
    file(&fixture.path()).set_len(whole - BLOCK).unwrap();
    let options = AuditOptions::default();
    for agrees in [false, true] {
        let mut shown = None;
        let done = repair(fixture.path(), &options, |found| {
            shown = Some(found.state);
            agrees
        });
        let done = done.unwrap();
        assert_eq!(shown, Some(AuditState::Damaged));
        assert_eq!(done.after.is_some(), agrees);
        assert_eq!(len(&fixture), whole - if agrees { 0 } else { BLOCK });
    }
    assert_eq!(
        audit(fixture.path(), &options).unwrap().state,
        AuditState::Clean
    );
    assert!(fixture.open().get(&key(3)).unwrap().is_some());
}

/// A cut file was judged by the epoch that the superblocks name, although incarnation blocks named a later one. It was
/// refused if the later epoch was empty, and grown over values that the later epoch had lost.
#[test]
fn a_cut_file_is_judged_by_the_epoch_in_force() {
    for (before, after) in [(30, 0), (2, 30)] {
        let fixture = FileFixture::new(4096, 32);
        let store = fixture.open();
        fill(&store, before);
        store.checkpoint().unwrap();
        store.close().unwrap();
        let first = store.geometry().slot_offset(0).unwrap();
        drop(store);
        let file = file(&fixture.path());
        let copies = [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET].map(|offset| {
            let mut block = [0; FORMAT_BLOCK];
            file.read_exact_at(&mut block, offset).unwrap();
            (offset, block)
        });
        let store = fixture.open_with(|options| options.start_empty = true);
        fill(&store, after);
        store.sync().unwrap();
        drop(store);
        // As a crash leaves them, or a copy that cannot be written.
        for (offset, block) in &copies {
            file.write_all_at(block, *offset).unwrap();
        }
        let whole = len(&fixture);
        let cut = first + 8 * BLOCK;
        file.set_len(cut).unwrap();
        let open = |read_only| {
            let options = StoreOptions {
                read_only,
                ..fixture.options()
            };
            Store::open(fixture.path(), options)
        };
        if after == 0 {
            assert_eq!(open(true).unwrap().recovery().entries, 0);
            let store = open(false).unwrap();
            assert_eq!(store.superblock().identity.epoch, 2);
            assert_eq!(store.recovery().cut_to, Some(cut));
            assert_eq!(len(&fixture), whole);
        } else {
            for read_only in [true, false] {
                let refused = open(read_only).map(drop).unwrap_err();
                assert!(matches!(refused, OpenError::Truncated { .. }), "{refused}");
                assert_eq!(len(&fixture), cut, "it stays as it was");
            }
        }
    }
}
