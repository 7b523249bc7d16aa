//! Tests of files that were changed or belong to another store: swapped, mixed, cut, grown, zeroed, rolled back,
//! foreign. Each either fails to open with an error that names the cause and the file, or opens with what can still be
//! verified; it never returns bytes that were not put for the key (C1, C8, C9).

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rb_core::{
    AuditState, Background, ClassRequest, Durability, Error, FormatOptions, OpenError, Put,
    PutOptions, Share, Store, StoreOptions, Superblock, format,
};
use rb_format::{
    FORMAT_BLOCK, INCARNATION_A_OFFSET, METADATA_START, SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET,
};
use rb_testkit::values::matches;

use crate::support::{FileFixture, ends_within, engines, key, range_of, value, zero};

const LEN: usize = 3000;
const KEYS: u64 = 24;
const BLOCK: u64 = FORMAT_BLOCK as u64;

/// Makes a store of 32 slots and the shortest log; its values are of `age`.
fn store_of_age(age: u64) -> FileFixture {
    let classes = vec![ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(32),
    }];
    let fixture = FileFixture::with(classes, |options| options.log_bytes = Some(64 * BLOCK));
    let store = fixture.open();
    fill(&store, age);
    store.close().unwrap();
    fixture
}

fn fill(store: &Store, age: u64) {
    for n in 0..KEYS {
        store.put(&key(n), &value(n << 8 | age, LEN)).unwrap();
    }
}

/// Returns the age of each key's value; `None` for a miss. Anything else is wrong.
fn ages(store: &Store, when: &str) -> Vec<Option<u64>> {
    let age_of = |n: u64| {
        let found = store.get(&key(n)).unwrap()?;
        let age = (0..16).find(|age| found.len() == LEN && matches(n << 8 | age, &found));
        assert!(
            age.is_some(),
            "{when}: key {n} has bytes that were never put"
        );
        age
    };
    let ages = (0..KEYS).map(age_of).collect();
    store.audit().unwrap();
    ages
}

fn all(age: u64) -> Vec<Option<u64>> {
    vec![Some(age); KEYS as usize]
}

/// Opens for writing and for reading; both must be refused with the same message, which is returned.
fn refusal(path: &Path) -> String {
    let open = |read_only| {
        let options = StoreOptions {
            read_only,
            ..StoreOptions::default()
        };
        let error = Store::open(path, options).map(drop).unwrap_err();
        error.to_string()
    };
    let words = open(false);
    assert_eq!(words, open(true));
    assert!(words.contains(path.to_str().unwrap()), "which? {words}");
    words
}

/// Copies a range of one file to the same range of another.
fn copy(from: &Path, to: &Path, place: Range<u64>) {
    let mut bytes = vec![0; (place.end - place.start) as usize];
    let from = std::fs::File::open(from).unwrap();
    from.read_exact_at(&mut bytes, place.start).unwrap();
    let to = std::fs::OpenOptions::new().write(true).open(to).unwrap();
    to.write_all_at(&bytes, place.start).unwrap();
}

fn set_len(path: &Path, bytes: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path);
    file.unwrap().set_len(bytes).unwrap();
}

fn len(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

fn superblock(fixture: &FileFixture) -> Superblock {
    let options = StoreOptions {
        read_only: true,
        ..fixture.options()
    };
    let store = Store::open(fixture.path(), options).unwrap();
    store.superblock().clone()
}

/// Returns the parts of a store by name.
fn parts(fixture: &FileFixture) -> Vec<(&'static str, Range<u64>)> {
    let superblock = superblock(fixture);
    let slots = superblock.runs[0].first_byte..superblock.log_2.offset;
    vec![
        (
            "superblock A",
            SUPERBLOCK_A_OFFSET..SUPERBLOCK_A_OFFSET + BLOCK,
        ),
        (
            "superblock B",
            SUPERBLOCK_B_OFFSET..SUPERBLOCK_B_OFFSET + BLOCK,
        ),
        ("incarnations", INCARNATION_A_OFFSET..SUPERBLOCK_B_OFFSET),
        ("base A", range_of(&superblock.base_a)),
        ("base B", range_of(&superblock.base_b)),
        ("log ring 1", range_of(&superblock.log)),
        ("log ring 2", range_of(&superblock.log_2)),
        ("slots", slots),
    ]
}

#[test]
fn swapped_files_are_the_other_store() {
    for engine in engines() {
        let (one, two) = (store_of_age(1).on(engine), store_of_age(2).on(engine));
        let aside = one.path().with_extension("aside");
        for (from, to) in [
            (one.path(), aside.clone()),
            (two.path(), one.path()),
            (aside, two.path()),
        ] {
            std::fs::rename(from, to).unwrap();
        }
        assert_eq!(ages(&one.open(), "swapped"), all(2));
        assert_eq!(ages(&two.open(), "swapped"), all(1));
    }
}

/// Puts each part of another store into this one. Parts that do not belong to the superblock are no evidence.
#[test]
fn parts_of_another_store_are_no_evidence() {
    let (ours, theirs) = (store_of_age(1), store_of_age(2));
    for (part, place) in parts(&ours) {
        let mixed = ours.image();
        copy(&theirs.path(), &mixed.path(), place);
        if part.starts_with("superblock") {
            continue; // The next test.
        }
        let store = mixed.open();
        let found = ages(&store, part);
        let none = vec![None; KEYS as usize];
        let expected = if part == "slots" { none } else { all(1) };
        assert_eq!(found, expected, "{part}");
    }
    // Both copies of the superblock: the other store's metadata is missing, and no header matches
    // it.
    let mixed = ours.image();
    copy(&theirs.path(), &mixed.path(), 0..METADATA_START);
    let store = mixed.open();
    let report = store.recovery();
    assert!(report.lost_metadata.is_some());
    assert_eq!(report.scanned.unwrap().headers, 0);
    assert!(
        ages(&store, "other superblocks")
            .iter()
            .all(Option::is_none)
    );
}

/// Two valid superblocks of different stores were taken for an older and a newer one. The one chosen by chance owned
/// nothing else on the device, so the store was emptied, and the other copy, the only right one, was overwritten as a
/// repair.
#[test]
fn superblocks_of_two_stores_are_refused_and_stay() {
    let (ours, theirs) = (store_of_age(1), store_of_age(2));
    for place in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
        let mixed = ours.image();
        copy(&theirs.path(), &mixed.path(), place..place + BLOCK);
        let before = std::fs::read(mixed.path()).unwrap();
        let words = refusal(&mixed.path());
        for fixture in [&ours, &theirs] {
            let uuid = superblock(fixture).identity.uuid.to_string();
            assert!(words.contains(&uuid), "{words}");
        }
        assert!(std::fs::read(mixed.path()).unwrap() == before);
        zero(&mixed, place, FORMAT_BLOCK);
        assert_eq!(ages(&mixed.open(), "without the foreign copy"), all(1));
    }
}

/// Returns the end of the last live slot's value.
fn live_end(fixture: &FileFixture) -> u64 {
    let store = fixture.open_with(|options| options.read_only = true);
    let mut end = 0;
    store.for_each(|entry| {
        let start = store.geometry().slot_offset(entry.slot).unwrap();
        end = end.max(start + BLOCK + rb_format::padded_len(u64::from(entry.len)));
        true
    });
    end
}

/// A store was refused because unused bytes at the end of its file were missing, though no value was there.
#[test]
fn a_cut_file_opens_if_nothing_that_lives_was_cut_off() {
    let fixture = store_of_age(1);
    let (whole, live) = (len(&fixture.path()), live_end(&fixture));
    let mut ends = vec![
        whole - 1,
        whole - BLOCK,
        live,
        live - 1,
        BLOCK,
        BLOCK - 1,
        1,
        0,
    ];
    for (_, place) in parts(&fixture) {
        ends.extend([
            place.start,
            place.start + 1,
            place.start + BLOCK,
            place.end - 1,
        ]);
    }
    let audit =
        |fixture: &FileFixture| rb_core::audit(fixture.path(), &rb_core::AuditOptions::default());
    let mut opened = 0;
    for end in ends.into_iter().filter(|end| *end < whole) {
        let cut = fixture.image();
        set_len(&cut.path(), end);
        if end - end % 512 >= live {
            opened += 1;
            let found = audit(&cut).unwrap();
            assert_eq!(found.state, AuditState::Damaged, "cut to {end}: {found:#?}");
            assert_eq!(
                (found.damages, found.unverified),
                (1, 0),
                "cut to {end}: {found:#?}"
            );
            let reader = cut.open_with(|options| options.read_only = true);
            assert_eq!(ages(&reader, "cut, read-only"), all(1));
            drop(reader);
            assert_eq!(len(&cut.path()), end, "a reader changes nothing");
            let store = cut.open();
            assert_eq!(store.recovery().cut_to, Some(end - end % 512));
            assert_eq!(ages(&store, "cut"), all(1));
            fill(&store, 2);
            store.close().unwrap();
            drop(store);
            assert_eq!(len(&cut.path()), whole);
            assert_eq!(
                audit(&cut).unwrap().state,
                AuditState::Clean,
                "cut to {end}"
            );
            assert_eq!(ages(&cut.open(), "grown again"), all(2));
            continue;
        }
        let words = refusal(&cut.path());
        let reason = match end {
            0..512 => "less than one block".into(),
            512..BLOCK => "holds no raw-block store".into(),
            _ => format!(
                "the layout needs {whole} bytes, the device has {}",
                end - end % 512
            ),
        };
        assert!(words.contains(&reason), "cut to {end}: {words}");
        assert_eq!(len(&cut.path()), end, "it stays as it was");
    }
    assert!(opened >= 5, "{opened} cuts cost nothing");
    // The lost values are reported.
    let cut = fixture.image();
    set_len(&cut.path(), live - 1);
    let found = audit(&cut).unwrap();
    assert_eq!(found.state, AuditState::Unusable);
    assert!(
        found
            .findings
            .iter()
            .any(|found| found.lost == "1 of 24 entries"),
        "{found:#?}"
    );
}

/// A call that makes changes durable.
type Way<'a> = &'a dyn Fn(&Store) -> Result<(), Error>;

/// `sync` and `close` returned Ok after the file had been cut, and the store no longer opened.
#[test]
fn a_file_that_is_cut_while_it_is_open_stops_writing() {
    for engine in engines() {
        let write = |store: &Store| store.put(b"new", b"value").map(drop);
        let sync = |store: &Store| store.sync();
        let later = |store: &Store| store.sync_async().wait();
        let close = |store: &Store| store.close();
        let each = |store: &Store| {
            let options = PutOptions {
                durability: Some(Durability::EachBatch),
                ..PutOptions::default()
            };
            store
                .put_many(vec![Put::new(b"new", b"value")], options)
                .remove(0)
                .map(drop)
        };
        let checkpoint = |store: &Store| store.checkpoint();
        let ways: [(&str, Way<'_>); 5] = [
            ("sync", &sync),
            ("sync_async", &later),
            ("close", &close),
            ("EachBatch", &each),
            ("checkpoint", &checkpoint),
        ];
        for (name, way) in ways {
            for pending in [false, true] {
                let fixture = store_of_age(1).on(engine);
                let store = fixture.open_with(|options| options.background = Background::Manual);
                if pending {
                    write(&store).unwrap();
                }
                set_len(&fixture.path(), len(&fixture.path()) - BLOCK);
                let words = way(&store).unwrap_err().to_string();
                assert!(
                    words.contains("shrunk") && words.contains("store"),
                    "{name}: {words}"
                );
                if name != "close" {
                    assert!(
                        write(&store).is_err_and(|error| error.is_poisoned()),
                        "{name}"
                    );
                    assert_eq!(ages(&store, name), all(1), "verified reads continue");
                }
            }
        }
    }
}

#[test]
fn a_grown_file_is_the_same_store() {
    for more in [1, 4096, 64 << 20] {
        let fixture = store_of_age(1);
        set_len(&fixture.path(), len(&fixture.path()) + more);
        let store = fixture.open();
        assert_eq!(ages(&store, "grown"), all(1));
        fill(&store, 2);
        store.close().unwrap();
        drop(store);
        assert_eq!(ages(&fixture.open(), "grown"), all(2));
    }
}

#[test]
fn zeroed_parts_lose_what_only_they_had() {
    let fixture = store_of_age(1);
    for (part, place) in parts(&fixture) {
        let image = fixture.image();
        zero(&image, place.start, (place.end - place.start) as usize);
        let store = image.open();
        assert_eq!(store.recovery().lost_metadata, None, "{part}");
        let left = ages(&store, part);
        let none = vec![None; KEYS as usize];
        assert_eq!(left, if part == "slots" { none } else { all(1) }, "{part}");
        fill(&store, 2);
        store.close().unwrap();
        drop(store);
        assert_eq!(ages(&image.open(), part), all(2), "{part}");
    }
    let all_metadata = 0..parts(&fixture)[6].1.start;
    for (what, end) in [
        ("metadata", all_metadata.end),
        ("everything", len(&fixture.path())),
    ] {
        let image = fixture.image();
        zero(&image, 0, end as usize);
        let words = refusal(&image.path());
        assert!(
            words.ends_with("holds no raw-block store"),
            "{what}: {words}"
        );
    }
}

/// A store changes from age 1 to 3, and then each part, all metadata, or all slots are rolled back. Every value that
/// returns was put for its key. Recovery once accepted old bases over a log that had wrapped since as complete: the log
/// ended immediately, so removed keys were back, and the report did not mention it.
#[test]
fn parts_rolled_back_to_an_older_copy_never_give_wrong_bytes() {
    for laps in [1, 8] {
        let fixture = store_of_age(1);
        let old = fixture.image();
        let store = fixture.open();
        for _ in 0..laps {
            for n in 0..KEYS {
                // One block each, so that eight laps wrap the log.
                store.put(&key(n), &value(n << 8 | 2, LEN)).unwrap();
                store.sync().unwrap();
            }
        }
        fill(&store, 3);
        store.remove(&key(0)).unwrap();
        store.close().unwrap();
        let mut parts = parts(&fixture);
        let [.., (_, base_a), (_, base_b), _, _, (_, slots)] = &parts[..] else {
            panic!("{parts:?}");
        };
        // One base lies behind the other.
        let more = [
            ("both bases", base_a.start..base_b.end),
            ("all metadata", 0..slots.start),
            ("everything", 0..len(&fixture.path())),
        ];
        parts.extend(more);
        for (what, place) in parts {
            let when = format!("{what} after {laps} laps");
            let image = fixture.image();
            copy(&old.path(), &image.path(), place);
            let store = image.open();
            let found = ages(&store, &when);
            let lost = store.recovery().lost_metadata.clone();
            match what {
                "everything" => assert_eq!(found, all(1)),
                "all metadata" | "slots" => {}
                // Old bases find the whole log, as long as the ring has it; otherwise recovery must
                // report the loss.
                "both bases" if laps > 1 => assert!(lost.is_some(), "{when}: not reported"),
                _ => {
                    assert_eq!(lost, None, "{when}");
                    assert_eq!(found[0], None, "{when}: a removed key is back");
                    assert_eq!(found[1..], all(3)[1..], "{when}");
                }
            }
            // It continues as a store, and its later results are right as well.
            fill(&store, 4);
            store.close().unwrap();
            drop(store);
            assert_eq!(ages(&image.open(), &when), all(4), "{when}");
        }
    }
}

#[test]
fn a_file_replaced_while_its_store_is_open() {
    let (fixture, other) = (store_of_age(1), store_of_age(2));
    let store = fixture.open();
    std::fs::rename(fixture.path(), fixture.path().with_extension("moved")).unwrap();
    std::fs::rename(other.path(), fixture.path()).unwrap();
    // A new opening of the path sees the other store; the open one continues with its own file.
    let options = StoreOptions {
        read_only: true,
        ..fixture.options()
    };
    let seen = Store::open(fixture.path(), options).unwrap();
    assert_eq!(ages(&seen, "by path"), all(2));
    fill(&store, 3);
    store.close().unwrap();
    drop((store, seen));
    assert_eq!(ages(&fixture.open(), "by path"), all(2));
    std::fs::rename(fixture.path().with_extension("moved"), fixture.path()).unwrap();
    assert_eq!(ages(&fixture.open(), "moved back"), all(3));
}

#[test]
fn what_is_no_file_is_refused_immediately_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let socket = dir.path().join("socket");
    // Without a listener: with libblkio, a server that does not respond is given four seconds each
    // time.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    for (path, what) in [
        (dir.path().to_path_buf(), "directory"),
        (fifo, "pipe"),
        (socket, "socket"),
        ("/dev/zero".into(), "character node"),
        ("/dev/null".into(), "character node"),
    ] {
        let in_time = ends_within(Duration::from_secs(10), move || {
            let words = refusal(&path);
            assert!(words.contains(what), "{words}");
            let options = FormatOptions {
                force: true,
                consent: true,
                ..FormatOptions::new(&path, vec![])
            };
            let words = format(&options).unwrap_err().to_string();
            assert!(
                words.contains(what) && words.contains(path.to_str().unwrap()),
                "{words}"
            );
        });
        assert!(in_time, "{what}: no result, or another one");
    }
    let missing = dir.path().join("missing");
    assert!(refusal(&missing).contains("stat failed"));
    assert!(!missing.exists(), "opening makes nothing");
}

#[test]
fn a_symlink_is_the_store_that_it_names() {
    let fixture = store_of_age(1);
    let link = fixture.path().with_extension("link");
    std::os::unix::fs::symlink(fixture.path(), &link).unwrap();
    let store = Store::open(&link, fixture.options()).unwrap();
    assert_eq!(ages(&store, "by link"), all(1));
    let error = Store::open(fixture.path(), fixture.options())
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(&error, OpenError::Device(why) if why.is_in_use()),
        "{error}"
    );
    drop(store);
    std::fs::remove_file(fixture.path()).unwrap();
    assert!(refusal(&link).contains("stat failed"));
}
