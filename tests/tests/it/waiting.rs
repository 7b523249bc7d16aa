//! Who stands in line gets what is there in time, and a closed store says so (C6).

use std::io::Write;
use std::time::Duration;

use rb_core::{Error, Put, PutOptions, Store, StoreOptions};

use crate::support::{Bed, KIB, engines, key, serve, value};

const LEN: usize = 60 * KIB;

/// `for_each` showed the keys of a store that was closed, in which every other call found none.
#[test]
fn every_call_of_a_closed_store_answers_that_it_is_closed() {
    for engine in engines() {
        let bed = Bed::new(4 * KIB as u64, 16).on(engine);
        let store = bed.open();
        store.put(&key(0), b"value").unwrap();
        let (value, buffer) = (store.get(&key(0)).unwrap(), store.buffer(5).unwrap());
        let locks: Vec<_> = store.lookup_and_lock(&[&key(0)]);
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
        assert!(store.lookup_and_lock(&keys).iter().all(Option::is_none));
        store.for_each(|entry| panic!("{entry:?} is shown"));
        store.close().unwrap();
        store.close_async().wait().unwrap();
        // What it was is still known, and what was taken from it is whole and may go.
        store.audit().unwrap();
        assert!(store.stats().index.entries <= 1 && !store.engine_name().is_empty());
        store.unlock(locks.into_iter().flatten().collect());
        assert_eq!(value.unwrap()[..], *b"value");
        drop(buffer);
    }
}

const LINE: &str = "RB_PAUSED_LINE";
const BUSY_WAIT: Duration = Duration::from_millis(400);

/// Does nothing unless started by the test below: two gets that need all buffers wait for them, one behind the other, when
/// the process is stopped.
#[test]
fn stand_in_line_in_a_paused_process() {
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

/// A process that was stopped for longer than `busy_wait` had lost the patience of all operations but the first of a line:
/// they were answered `Busy` as soon as it went on.
#[test]
fn operations_in_line_do_not_lose_the_time_of_a_pause() {
    for engine in engines() {
        let bed = Bed::new(64 * KIB as u64, 64).on(engine);
        let envs = [
            (LINE, bed.path().display().to_string()),
            ("RB_PAUSED_ENGINE", engine.to_string()),
        ];
        let (mut child, mut lines) = serve("waiting::stand_in_line_in_a_paused_process", envs);
        let pid = rustix::process::Pid::from_child(&child);
        let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
        signal(rustix::process::Signal::STOP);
        std::thread::sleep(2 * BUSY_WAIT);
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "go").unwrap();
        signal(rustix::process::Signal::CONT);
        let said = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("wrong: ").map(|(_, said)| said.to_owned())
        });
        assert_eq!(said.as_deref(), Some("None"), "{engine}");
        assert!(child.wait().unwrap().success());
    }
}
