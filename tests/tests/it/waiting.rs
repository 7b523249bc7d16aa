//! Tests of queued callers, which get what is available in time, and of closed stores, which return an error (C6).

use std::io::{BufReader, Lines, Write};
use std::process::{Child, ChildStdout};
use std::sync::Arc;
use std::time::Duration;

use rb_core::{
    ClassRequest, Error, FormatOptions, Operation, Put, PutOptions, Share, Store, StoreOptions,
    format,
};
use rb_io::Engine;
use rb_testkit::{DriveEngine, DriveSpeed};

use crate::support::{FileFixture, KIB, engines, key, long_keys, serve, value};

const LEN: usize = 60 * KIB;

/// `for_each` showed the keys of a closed store, in which every other call found none.
#[test]
fn every_call_of_a_closed_store_returns_that_it_is_closed() {
    for engine in engines() {
        let fixture = FileFixture::new(4 * KIB as u64, 16).on(engine);
        let store = fixture.open();
        store.put(&key(0), b"value").unwrap();
        let (value, buffer) = (store.get(&key(0)).unwrap(), store.buffer(5).unwrap());
        let pins: Vec<_> = store.lookup_and_pin(&[&key(0)]);
        store.close().unwrap();
        let key = key(0);
        let keys: [&[u8]; 2] = [&key, b"other"];
        let puts = || Vec::from(keys.map(|key| Put::new(key, b"v")));
        let errors = [
            ("get", store.get(&key).err()),
            ("get_into", store.get_into(&key, &mut [0; 9]).err()),
            ("get_async", store.get_async(&key).wait().err()),
            ("put", store.put(&key, b"v").err()),
            ("put_async", store.put_async(&key, b"v").wait().err()),
            ("buffer", store.buffer(1).err()),
            ("remove", store.remove(&key).err()),
            ("sync", store.sync().err()),
            ("sync_async", store.sync_async().wait().err()),
            ("checkpoint", store.checkpoint().err()),
            ("step_commit", store.step_commit().err()),
            ("step_checkpoint", store.step_checkpoint().err()),
            ("step_validate", store.step_validate(1).err()),
            ("step_scrub", store.step_scrub(1).err()),
            ("step_discard", store.step_discard().err()),
            ("engine", store.engine().err()),
        ];
        for (call, error) in errors {
            assert!(matches!(error, Some(Error::Closed)), "{call}: {error:?}");
        }
        fn closed<T>(call: &str, answers: Vec<Result<T, Error>>) {
            assert_eq!(answers.len(), 2, "{call}");
            let closed = |answer: &Result<T, Error>| matches!(answer, Err(Error::Closed));
            assert!(answers.iter().all(closed), "{call}");
        }
        closed("get_many", store.get_many(&keys));
        let (mut one, mut other) = ([0; 9], [0; 9]);
        let into = store.get_many_into(&keys, &mut [&mut one, &mut other]);
        closed("get_many_into", into);
        closed("get_many_async", store.get_many_async(&keys).wait());
        closed("put_many", store.put_many(puts(), PutOptions::default()));
        let put = store.put_many_async(puts(), PutOptions::default());
        closed("put_many_async", put.wait());
        closed("remove_many", store.remove_many(&keys));
        closed("remove_many_async", store.remove_many_async(&keys).wait());
        assert!(!store.contains(&key) && store.longest_prefix(&keys) == 0);
        assert_eq!(store.contains_many(&keys), [false; 2]);
        assert_eq!(store.touch_many(&keys), [false; 2]);
        assert!(store.lookup_and_pin(&keys).iter().all(Option::is_none));
        store.for_each(|entry| panic!("{entry:?} is shown"));
        store.close().unwrap();
        store.close_async().wait().unwrap();
        // Its properties are still known, and what was taken from it is whole and can be dropped.
        store.audit().unwrap();
        assert!(store.stats().index.entries <= 1 && !store.engine_name().is_empty());
        store.unpin(pins.into_iter().flatten().collect());
        assert_eq!(value.unwrap()[..], *b"value");
        drop(buffer);
    }
}

const LINE: &str = "RB_PAUSED_LINE";
const BUSY_WAIT: Duration = Duration::from_millis(400);
const COMMITS: &str = "RB_PAUSED_COMMITS";
const COMMIT_WAIT: Duration = Duration::from_secs(2);

/// Does nothing unless started by the test below: two gets that need all buffers wait for them, one behind the other,
/// when the process is stopped.
#[test]
fn queue_up_in_a_paused_process() {
    let Some(path) = std::env::var_os(LINE) else {
        return;
    };
    let engine = std::env::var("RB_PAUSED_ENGINE").unwrap().parse().unwrap();
    let options = StoreOptions {
        engine,
        buffer_bytes: Some(256 * KIB),
        busy_wait: BUSY_WAIT,
        ..StoreOptions::default()
    };
    let store = Store::open(std::path::PathBuf::from(path), options).unwrap();
    let keys: Vec<_> = (0..4).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    for key in &keys {
        store.put(key, &value(1, LEN)).unwrap();
    }
    let held: Vec<_> = (0..4).map(|_| store.buffer(LEN).unwrap()).collect();
    let first = store.get_many_async(&keys);
    let second = store.get_many_async(&keys);
    println!("begun");
    drop(std::io::stdin().lines().next());
    drop(held);
    let first = first.wait();
    std::thread::sleep(Duration::from_millis(20));
    assert!(first.iter().all(Result::is_ok), "{first:?}");
    drop(first);
    let second = second.wait();
    let wrong = second.iter().find_map(|answer| answer.as_ref().err());
    println!("wrong: {wrong:?}");
}

/// A process that was stopped for longer than `busy_wait` used up the waiting time of all queued operations but the
/// first: they returned `Busy` as soon as it continued.
#[test]
fn queued_operations_do_not_lose_the_time_of_a_pause() {
    for engine in engines() {
        let fixture = FileFixture::new(64 * KIB as u64, 64).on(engine);
        let envs = [
            (LINE, fixture.path().display().to_string()),
            ("RB_PAUSED_ENGINE", engine.to_string()),
        ];
        let (child, lines) = serve("waiting::queue_up_in_a_paused_process", envs);
        assert_eq!(paused(child, lines, 2 * BUSY_WAIT), "None", "{engine}");
    }
}

/// Does nothing unless started by the test below: puts that fill the log commit in the threads of the callers, one
/// behind the other, when the process is stopped.
#[test]
fn queue_for_a_commit_in_a_paused_process() {
    if std::env::var_os(COMMITS).is_none() {
        return;
    }
    let (classes, log_bytes) = (
        vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(8192),
        }],
        Some(16 << 20),
    );
    let bytes = rb_format::device_bytes_for(&classes, 1024, 0, log_bytes).unwrap();
    let speed = DriveSpeed {
        transfer: Duration::from_millis(1),
        flush: Duration::from_millis(150),
        ..DriveSpeed::ssd(1)
    };
    let drive = Arc::new(DriveEngine::new(bytes as usize, speed));
    drive.set_timed(false);
    let made = FormatOptions {
        key_len_max: 1024,
        log_bytes,
        ..FormatOptions::new(Arc::clone(&drive) as Arc<dyn Engine>, classes)
    };
    format(&made).unwrap();
    let options = StoreOptions {
        buffer_bytes: Some(32 << 20),
        busy_wait: COMMIT_WAIT,
        sync_interval: Duration::from_hours(1),
        ..StoreOptions::default()
    };
    let store = Store::open(Arc::clone(&drive) as Arc<dyn Engine>, options).unwrap();
    drive.set_timed(true);
    // Each batch takes more than half of what may be queued for a commit.
    let put = |batch: u64| {
        let keys = long_keys(900 * batch..900 * (batch + 1));
        let puts = keys.iter().map(|key| Put::new(key, b"v")).collect();
        store.put_many_async(puts, PutOptions::default())
    };
    assert!(put(0).wait().iter().all(Result::is_ok));
    let waiting: Vec<_> = (1..5).map(put).collect();
    println!("begun");
    let answers = waiting.into_iter().flat_map(Operation::wait);
    let wrong = answers.map(Result::err).find(Option::is_some).flatten();
    println!("wrong: {wrong:?}");
}

/// The time that a commit took in a caller's thread was charged to the callers behind it, also while the process was
/// stopped: they got `Busy` as soon as it continued.
#[test]
fn puts_behind_a_commit_do_not_lose_the_time_of_a_pause() {
    let envs = [(COMMITS, "1".to_owned())];
    let (child, lines) = serve("waiting::queue_for_a_commit_in_a_paused_process", envs);
    // Until it is in the flush.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(paused(child, lines, 2 * COMMIT_WAIT), "None");
}

/// Stops a process for a time, and returns the failures that it prints.
fn paused(mut child: Child, mut lines: Lines<BufReader<ChildStdout>>, time: Duration) -> String {
    let pid = rustix::process::Pid::from_child(&child);
    let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
    signal(rustix::process::Signal::STOP);
    std::thread::sleep(time);
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "go").unwrap();
    signal(rustix::process::Signal::CONT);
    let said = lines.find_map(|line| {
        let line = line.unwrap();
        line.split_once("wrong: ").map(|(_, said)| said.to_owned())
    });
    assert!(child.wait().unwrap().success());
    said.unwrap()
}
