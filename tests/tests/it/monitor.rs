//! Tests of the monitor: what other processes can ask about an open store, and what they cannot do to it.

use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rb_core::monitor::{MonitorError, scrub, session};
use rb_core::{Background, StoreOptions};
use rb_testkit::LoopDevice;

use crate::support::{FileFixture, corrupt, engines, key, value};

const FAST: NonZeroU64 = NonZeroU64::new(1 << 40).expect("not zero");

fn socket(fixture: &FileFixture) -> PathBuf {
    let mut name = std::fs::canonicalize(fixture.path())
        .unwrap()
        .into_os_string();
    name.push(".monitor");
    name.into()
}

/// The figures are those of the moment, while threads use the store.
#[test]
fn another_process_sees_the_figures() {
    for engine in engines() {
        let fixture = FileFixture::new(4096, 64).on(engine);
        let store = fixture.open();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..2000 {
                    store.put(&key(n % 100), &value(n, 4000)).unwrap();
                    drop(store.get(&key(n % 50)).unwrap());
                }
                done.store(true, Ordering::Release);
            });
            let mut before = 0;
            while !done.load(Ordering::Acquire) {
                let session = session(&fixture.path()).unwrap();
                assert!(session.stats.puts >= before && session.stats.puts <= 2000);
                before = session.stats.puts;
            }
        });
        let session = session(&fixture.path()).unwrap();
        let stats = store.stats();
        assert_eq!(session.stats.puts, 2000);
        assert_eq!(
            (session.stats.hits, session.stats.misses),
            (stats.hits, stats.misses)
        );
        assert_eq!(session.stats.latency, stats.latency);
        assert_eq!(session.stats.index.evictions, stats.index.evictions);
        assert_eq!(session.process, std::process::id());
        assert_eq!(session.slot_bytes, [4096]);
        assert!(session.oldest_use.is_some());
        assert_eq!(session.uuid, store.superblock().identity.uuid.to_string());
    }
}

/// The socket exists as long as the store is open, and belongs to its owner alone.
#[test]
fn the_socket_goes_with_the_store() {
    let fixture = FileFixture::new(4096, 16);
    let path = socket(&fixture);
    for closes in [true, false] {
        let store = fixture.open();
        assert_eq!(store.monitor(), Ok(&*path));
        assert_eq!(
            path.symlink_metadata().unwrap().permissions().mode() & 0o7777,
            0o600
        );
        // A reader has none, and does not disturb it.
        let reader = fixture.open_with(|options| options.read_only = true);
        assert!(reader.monitor().is_err());
        drop(reader);
        session(&fixture.path()).unwrap();
        if closes {
            store.close().unwrap();
        }
        drop(store);
        assert!(!path.exists());
        let gone = session(&fixture.path()).unwrap_err();
        assert!(matches!(gone, MonitorError::NotOpen { .. }), "{gone}");
    }
    for change in [
        (|options| options.monitor = false) as fn(&mut StoreOptions),
        |options| options.background = Background::Manual,
    ] {
        let store = fixture.open_with(change);
        assert!(store.monitor().is_err() && !path.exists());
    }
    let path = fixture.path();
    std::fs::remove_file(&path).unwrap();
    let none = session(&fixture.path()).unwrap_err();
    assert!(matches!(none, MonitorError::NoStore { .. }), "{none}");
}

/// A killed process leaves its socket. The next one replaces it; two sessions never share one.
#[test]
fn a_stale_socket_is_replaced() {
    let fixture = FileFixture::new(4096, 16);
    drop(UnixListener::bind(socket(&fixture)).unwrap());
    let refused = session(&fixture.path()).unwrap_err();
    assert!(matches!(refused, MonitorError::NotOpen { .. }), "{refused}");
    let store = fixture.open();
    assert_eq!(
        session(&fixture.path()).unwrap().process,
        std::process::id()
    );
    // A process that still runs with a former file at this path must not remove the socket of the new one, and a new one
    // must not take the socket of a process that runs.
    std::fs::remove_file(socket(&fixture)).unwrap();
    let other = UnixListener::bind(socket(&fixture)).unwrap();
    drop(store);
    assert!(socket(&fixture).exists());
    let store = fixture.open();
    assert_ne!(store.monitor(), Ok(&*socket(&fixture)));
    assert!(socket(&fixture).exists());
    drop((store, other));
}

/// Anything that another user has put in the socket's place is neither followed nor changed, and the store works.
#[test]
fn what_is_in_the_sockets_place_stays() {
    let fixture = FileFixture::new(4096, 16);
    let target = fixture.path().with_file_name("target");
    std::fs::write(&target, b"precious").unwrap();
    let dangling = fixture.path().with_file_name("nothing");
    for planted in [
        (|place, _, target| symlink(target, place).unwrap()) as fn(&PathBuf, &PathBuf, &PathBuf),
        |place, dangling, _| symlink(dangling, place).unwrap(),
        |place, _, _| std::fs::write(place, b"precious").unwrap(),
        |place, _, _| std::fs::create_dir(place).unwrap(),
    ] {
        let place = socket(&fixture);
        planted(&place, &dangling, &target);
        let before = place.symlink_metadata().unwrap();
        let store = fixture.open();
        store.put(b"key", b"value").unwrap();
        match store.monitor() {
            Ok(other) => {
                assert!(other.starts_with("/run"), "{}", other.display());
                assert_eq!(session(&fixture.path()).unwrap().socket, other);
            }
            Err(why) => assert!(why.contains("not a socket"), "{why}"),
        }
        store.close().unwrap();
        let after = place.symlink_metadata().unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
        assert!(!dangling.exists());
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        match after.is_dir() {
            true => std::fs::remove_dir(&place).unwrap(),
            false => std::fs::remove_file(&place).unwrap(),
        }
    }
}

/// A copy has the UUID of the store, and a path may name another file than before. Figures of the wrong store were shown, and
/// a scrub of a copy was reported that read the original.
#[test]
fn the_answer_is_of_the_file_that_was_asked_for() {
    let fixture = FileFixture::new(4096, 16);
    let store = fixture.open();
    let moved = fixture.path().with_file_name("moved");
    std::fs::rename(fixture.path(), &moved).unwrap();
    std::fs::copy(&moved, fixture.path()).unwrap();
    let wrong = session(&fixture.path()).unwrap_err();
    assert!(matches!(wrong, MonitorError::NotOpen { .. }), "{wrong}");
    let wrong = scrub(&fixture.path(), FAST).unwrap_err();
    assert!(matches!(wrong, MonitorError::NotOpen { .. }), "{wrong}");
    // The copy is opened: the original keeps its socket.
    let copy = fixture.open();
    assert_ne!(copy.monitor(), store.monitor());
    copy.put(b"key", b"value").unwrap();
    if copy.monitor().is_ok() {
        assert_eq!(session(&fixture.path()).unwrap().stats.puts, 1);
    }
    assert!(store.monitor().unwrap().exists());
}

/// A path can be longer than the address of a socket.
#[test]
fn a_long_path_has_its_socket_elsewhere() {
    let fixture = FileFixture::new(4096, 16);
    let folder = fixture.path().with_file_name("n".repeat(200));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("store");
    std::fs::rename(fixture.path(), &path).unwrap();
    let store = rb_core::Store::open(&path, fixture.options()).unwrap();
    match store.monitor() {
        Ok(_) => assert_eq!(session(&path).unwrap().process, std::process::id()),
        Err(why) => assert!(why.contains("/run/"), "{why}"),
    }
    store.close().unwrap();
}

/// A device has no folder of its own: its socket has the store's UUID for a name.
#[test]
fn a_device_is_found_by_its_uuid() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(32 << 20).unwrap();
    let Some(node) = LoopDevice::attach("the monitor of a device", file.path(), 512) else {
        return;
    };
    let class = rb_core::ClassRequest {
        slot_bytes: 4096,
        share: rb_core::Share::Rest,
    };
    rb_core::format(&rb_core::FormatOptions {
        consent: true,
        ..rb_core::FormatOptions::new(node.path(), vec![class])
    })
    .unwrap();
    let store = rb_core::Store::open(node.path(), StoreOptions::default()).unwrap();
    let uuid = store.superblock().identity.uuid;
    let place = PathBuf::from(format!("/run/raw-block/{uuid}.monitor"));
    assert_eq!(store.monitor(), Ok(&*place));
    assert_eq!(session(node.path()).unwrap().process, std::process::id());
    drop(store);
    assert!(!place.exists());
}

/// A peer that says nothing, nonsense or too much has no effect on others or on the store.
#[test]
fn strange_peers_do_no_harm() {
    let fixture = FileFixture::new(4096, 16);
    let store = fixture.open();
    let connect = || UnixStream::connect(socket(&fixture)).unwrap();
    let mut answers = Vec::new();
    let long = vec![b'x'; 5000];
    for question in [
        &b"\n"[..],
        b"nonsense\n",
        b"{\"version\":99,\"says\":\"session\"}\n",
        b"{\"version\":1,\"says\":{\"scrub\":{\"bytes_per_second\":0}}}\n",
        b"{\"version\":1,\"says\":\"format\"}\n",
        &long,
    ] {
        let mut stream = connect();
        stream.write_all(question).unwrap();
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer));
        answers.push(answer);
    }
    let refused = |answer: &&String| answer.contains("refused");
    assert_eq!(answers.iter().filter(refused).count(), 5, "{answers:?}");
    assert!(answers[2].contains("version 99"), "{}", answers[2]);
    assert_eq!(answers[5], "");
    // Gone before it has its answer.
    for _ in 0..100 {
        drop(connect().write_all(b"{\"version\":1,\"says\":\"session\"}\n"));
    }
    session(&fixture.path()).unwrap();
    // One that says nothing delays the next by a second at most, and a close not at all.
    let silent = connect();
    let start = Instant::now();
    store.close().unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(700),
        "{:?}",
        start.elapsed()
    );
    drop(silent);
}

/// Asking and closing at any time neither hangs nor fails in another way than that the store is not open.
#[test]
fn asking_while_the_store_opens_and_closes() {
    let fixture = FileFixture::new(4096, 16);
    let path = fixture.path();
    let done = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let asking = || {
            let mut answered = 0;
            while !done.load(Ordering::Relaxed) {
                match session(&path) {
                    Ok(session) => answered += u32::from(session.process == std::process::id()),
                    // It ended while it was asked.
                    Err(MonitorError::NotOpen { .. } | MonitorError::NoAnswer { .. }) => {}
                    Err(why) => panic!("{why}"),
                }
            }
            answered
        };
        let askers = [scope.spawn(asking), scope.spawn(asking)];
        for round in 0..60 {
            let store = fixture.open();
            store.put(b"key", b"value").unwrap();
            session(&path).unwrap();
            if round % 2 == 0 {
                store.close().unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        askers
            .map(|asker| asker.join().unwrap())
            .iter()
            .sum::<u32>()
    });
    assert!(answered > 0);
}

/// A scrub that another process asks for finds a damaged value, once.
#[test]
fn a_scrub_can_be_asked_for() {
    let fixture = FileFixture::new(4096, 64);
    let store = fixture.open();
    for n in 0..50 {
        store.put(&key(n), &value(n, 4000)).unwrap();
    }
    store.sync().unwrap();
    let mut slots = Vec::new();
    store.for_each(|entry| {
        slots.push(entry.slot);
        true
    });
    let at = store.geometry().slot_offset(slots[7]).unwrap() + 4096 + 10;
    corrupt(&fixture, at, 1);
    let start = Instant::now();
    scrub(&fixture.path(), FAST).unwrap();
    let progress = loop {
        let progress = session(&fixture.path()).unwrap().scrub.unwrap();
        if !progress.running {
            break progress;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{progress:?}");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((progress.of, progress.done.entries), (50, 50));
    assert_eq!((progress.done.dropped, progress.done.passes), (1, 1));
    assert_eq!(store.stats().dropped, 1);
    // A slow one goes on until the store ends, and there is one at a time.
    scrub(&fixture.path(), NonZeroU64::MIN).unwrap();
    let second = scrub(&fixture.path(), FAST).unwrap_err();
    assert!(matches!(second, MonitorError::Refused { .. }), "{second}");
    let start = Instant::now();
    store.close().unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

/// Counters over all sessions are in the checkpoint, and those of a killed session until its last one.
#[test]
fn lifetime_counters_survive_restarts() {
    let fixture = FileFixture::new(4096, 16);
    let mut before = rb_core::LifetimeCounters::default();
    for round in 1..=4 {
        let store = fixture.open();
        let began = store.stats().lifetime;
        assert_eq!(
            (began.puts, began.evictions),
            (before.puts, before.evictions)
        );
        assert_eq!(began.openings, round);
        for n in 0..20 {
            store.put(&key(n), &value(n, 4000)).unwrap();
        }
        store.remove(&key(19)).unwrap();
        store.close().unwrap();
        before = store.stats().lifetime;
        assert_eq!((before.puts, before.removes), (20 * round, round));
        assert!(before.slot_bytes >= began.slot_bytes + 20 * 8192);
        assert!(before.log_bytes > began.log_bytes && before.base_bytes > began.base_bytes);
        assert_eq!(before.errors, 0);
    }
    assert!(before.evictions >= 3 * 4);
    let store = fixture.open();
    store.put(&key(1), &value(1, 100)).unwrap();
    store.checkpoint().unwrap();
    store.put(&key(2), &value(1, 100)).unwrap();
    store.sync().unwrap();
    let killed = fixture.image();
    let found = killed.open().stats().lifetime;
    assert_eq!((found.puts, found.openings), (before.puts + 1, 6));
    // Nor does an empty start lose them: the device is as worn as before.
    store.close().unwrap();
    fixture
        .open_with(|options| options.start_empty = true)
        .close()
        .unwrap();
    // A reader shows them as well.
    let reader = fixture.open_with(|options| options.read_only = true);
    let found = reader.stats().lifetime;
    assert_eq!((found.puts, found.openings), (before.puts + 2, 6));
}
