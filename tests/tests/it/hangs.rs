//! Tests of the end of a store over a file of a real file system on which flushes hang, on each kernel engine (C4, C6).

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rb_core::{EngineKind, Error, Store, StoreOptions};
use rb_testkit::{StallingFile, skip};

use crate::shutdown::watched;
use crate::stalled::formatted;
use crate::support::{FileFixture, KIB, ends_within, engines, key, serve, value};

const DEADLINE: Duration = Duration::from_millis(200);
/// Tolerance for delays on a machine with two cores.
const MORE: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);
const LEN: usize = 60 * KIB;

fn options(engine: EngineKind) -> StoreOptions {
    StoreOptions {
        engine,
        buffer_bytes: Some(512 * KIB),
        queue_depth: 8,
        busy_wait: DEADLINE,
        io_deadline: DEADLINE,
        lock_wait: Duration::ZERO,
        ..StoreOptions::default()
    }
}

/// A description, and a way to end a store.
type End = (&'static str, fn(&Store) -> Option<Error>);

const ENDS: [End; 3] = [
    ("close", |store| store.close().err()),
    ("close_async", |store| store.close_async().wait().err()),
    ("a sync, then close", |store| {
        assert!(store.sync().is_err());
        store.close().err()
    }),
];

/// `close` and `drop` hung as long as a flush that the device never completed: the memory device shows it, but has no
/// kernel whose request occupies the submitting thread. The file stays locked until the flush has ended, and is then
/// free even if clones remain.
#[test]
fn a_flush_that_hangs_keeps_no_store_from_ending() {
    watched(|now| {
        for engine in engines() {
            for end in ENDS.map(Some).into_iter().chain([None]) {
                now(format!(
                    "{engine}, {}",
                    end.map_or("drop", |(words, _)| words)
                ));
                ends_although_a_flush_hangs(engine, end);
            }
        }
    });
}

fn ends_although_a_flush_hangs(engine: EngineKind, end: Option<End>) {
    let words = end.map_or("drop", |(words, _)| words);
    let Some(file) = stalling_file("a store over a file that flushes nothing") else {
        return;
    };
    formatted(file.path());
    let store = Store::open(file.path(), options(engine)).unwrap();
    store.put(&key(0), &value(0, LEN)).unwrap();
    store.sync().unwrap();
    file.hold_flushes().unwrap();
    store.put(&key(1), &value(1, LEN)).unwrap();
    let start = Instant::now();
    let kept = match end {
        Some((_, end)) => {
            assert!(end(&store).is_some(), "{engine}, {words}: no error");
            Some(store)
        }
        None => {
            drop(store);
            None
        }
    };
    let took = start.elapsed();
    assert!(took < 4 * DEADLINE + MORE, "{engine}, {words}: {took:?}");
    assert!(file.wait_for_held(1, LONG), "{engine}, {words}");
    let refused = Store::open(file.path(), options(engine)).unwrap_err();
    let pid = format!("process {}", std::process::id());
    let said = std::error::Error::source(&refused)
        .map_or(refused.to_string(), |why| format!("{refused}: {why}"));
    assert!(said.contains(&pid), "{engine}, {words}: {said}");
    file.release().unwrap();
    let store = opens(file.path(), engine, words);
    assert!(store.get(&key(0)).unwrap().unwrap() == value(0, LEN)[..]);
    drop((kept, store));
}

/// Returns `None`, and records the skip, if the machine cannot mount a test file system.
fn stalling_file(what: &str) -> Option<StallingFile> {
    let file = StallingFile::new("stalled::serve_a_stalling_file", 16 << 20);
    file.inspect_err(|why| skip::note(what, &format!("no file system of our own: {why}")))
        .ok()
}

fn opens(file: &Path, engine: EngineKind, words: &str) -> Store {
    let start = Instant::now();
    loop {
        match Store::open(file, options(engine)) {
            Ok(store) => return store,
            Err(why) => assert!(start.elapsed() < LONG, "{engine}, {words}: {why}"),
        }
    }
}

const HOLDER: &str = "RB_HOLDING_STORE";

/// Does nothing unless started by the test below: opens the store, and keeps it open until its input ends.
#[test]
fn hold_a_store() {
    let Some(path) = std::env::var_os(HOLDER) else {
        return;
    };
    let store = Store::open(std::path::PathBuf::from(path), StoreOptions::default()).unwrap();
    store.put(&key(0), b"v").unwrap();
    println!("begun");
    drop(std::io::stdin().lines().next());
}

fn holder(fixture: &FileFixture) -> Child {
    serve(
        "hangs::hold_a_store",
        [(HOLDER, fixture.path().display().to_string())],
    )
    .0
}

/// Opening waited one second for the lock of a killed process, regardless of the caller's limit, and did not report who
/// held it.
#[test]
fn opening_waits_for_a_lock_as_long_as_it_may() {
    for engine in engines() {
        let fixture = FileFixture::new(4096, 16).on(engine);
        let mut child = holder(&fixture);
        let mut options = fixture.options();
        options.lock_wait = Duration::ZERO;
        let start = Instant::now();
        let refused = Store::open(fixture.path(), options).unwrap_err();
        let took = start.elapsed();
        assert!(took < Duration::from_millis(1500), "{engine}: {took:?}");
        let said = std::error::Error::source(&refused)
            .map_or(refused.to_string(), |why| format!("{refused}: {why}"));
        let pid = format!("process {} ", child.id());
        assert!(said.contains(&pid), "{engine}: {said}");
        // It is killed long after the second in which each attempt ends.
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2200));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let start = Instant::now();
        let store = fixture.open_with(|options| options.lock_wait = LONG);
        let took = start.elapsed();
        assert!(took > Duration::from_millis(1500), "{engine}: {took:?}");
        assert!(took < Duration::from_secs(5), "{engine}: {took:?}");
        killer.join().unwrap();
        drop(store);
    }
}

/// On a busy machine a killed process took longer to exit than an opening waited: the opening failed although waiting
/// would have been enough. Here the program that took the lock has ended, and one that inherited the file keeps it.
#[test]
fn a_lock_of_a_process_that_has_ended_is_waited_for_longer() {
    let fixture = FileFixture::new(4096, 16);
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "exec 9<>\"$0\"; flock -n 9 && echo taken && sleep 2.5",
    ]);
    let mut shell = shell
        .arg(fixture.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 6];
    let output = shell.stdout.as_mut().unwrap();
    if output.read_exact(&mut said).is_err() {
        drop(shell.wait());
        return skip::note("an inherited lock", "there is no flock program");
    }
    let open = |io_deadline| {
        let mut options = fixture.options();
        options.lock_wait = Duration::ZERO;
        options.io_deadline = io_deadline;
        Store::open(fixture.path(), options)
    };
    let refused = open(DEADLINE).unwrap_err();
    assert!(refused.to_string().contains("has ended"), "{refused}");
    open(LONG).unwrap();
    assert!(shell.wait().unwrap().success());
}

/// Operations that waited for buffers when the store was closed continued after it, and started the driver thread
/// again, which kept a queue of the device as long as a clone lived.
#[test]
fn an_operation_that_outlives_the_close_does_not_take_the_device_again() {
    let what = "a close with operations in flight";
    for engine in engines() {
        let Some(file) = stalling_file(what) else {
            return;
        };
        formatted(file.path());
        let mut options = options(engine);
        options.buffer_bytes = Some(256 * KIB);
        options.busy_wait = LONG;
        options.sync_interval = Duration::from_hours(1);
        let store = Store::open(file.path(), options).unwrap();
        store.put(&key(0), &value(0, LEN)).unwrap();
        store.sync().unwrap();
        let held: Vec<_> = (0..4).map(|_| store.buffer(LEN).unwrap()).collect();
        let late = [store.get_async(&key(0)), store.get_async(&key(0))];
        let put = store.put_async(&key(1), &value(1, LEN));
        // The flush of the close hangs, so that the buffers become free in the middle of the close.
        file.hold_flushes().unwrap();
        store.remove(&key(0)).unwrap();
        let closing = store.close_async();
        std::thread::sleep(DEADLINE + DEADLINE / 2);
        assert!(!closing.is_done(), "{engine}: closed too early");
        drop(held);
        assert!(closing.wait().is_err());
        for get in late {
            assert!(matches!(get.wait(), Err(Error::Closed)), "{engine}");
        }
        assert!(put.wait().is_err(), "{engine}");
        file.release().unwrap();
        let again = opens(file.path(), engine, what);
        again.audit().unwrap();
        drop((again, store));
        assert!(ends_within(LONG, move || drop(file)));
    }
}
