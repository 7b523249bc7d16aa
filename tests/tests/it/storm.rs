//! Tests of stores that end while many threads call them, repeatedly: nothing is left behind (C4, C6).

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rb_core::{Durability, Error, Operation, Put, PutOptions, Store};

use crate::support::{FileFixture, KIB, engines, is_long, key, resident_kib, value};

const STORM: &str = "RB_STORM";
const LEN: usize = 20 * KIB;
const KEYS: u64 = 8;
/// Maximum time of a close in which nothing hangs.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Runs in a separate process, so that all threads and descriptors belong to the stores.
#[test]
fn stores_that_end_in_the_middle_of_everything_leave_nothing() {
    for engine in engines() {
        let said = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storm::open_and_close", "--nocapture"])
            .env(STORM, engine.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(
            said.status.success() && text.contains("nothing is left"),
            "{engine}: {text}\n{}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
}

/// Does nothing unless started by the test above.
#[test]
fn open_and_close() {
    let Some(engine) = std::env::var_os(STORM) else {
        return;
    };
    let engine = engine.to_str().unwrap().parse().unwrap();
    let fixture = FileFixture::new(32 * KIB as u64, 64).on(engine);
    let cycles = if is_long() { 2_000 } else { 60 };
    let mut first = None;
    let mut longest = Duration::ZERO;
    for cycle in 0..cycles {
        longest = longest.max(one(&fixture, cycle));
        if cycle == 20 {
            first = Some(settled(None));
        }
    }
    let (first, last) = (first.unwrap(), settled(first));
    println!("{engine}: threads, descriptors, KiB: {first:?} {last:?}, longest end {longest:?}");
    assert!(last.0 <= first.0 && last.1 <= first.1);
    assert!(last.2 < first.2 + (32 << 10));
    assert!(longest < CLOSE_MAX);
    println!("nothing is left");
}

/// Returns threads, descriptors and resident KiB, once they are at most `wanted`: the last store's resources need a
/// moment to go.
fn settled(wanted: Option<(usize, usize, usize)>) -> (usize, usize, usize) {
    let count = |folder| std::fs::read_dir(folder).unwrap().count();
    let start = Instant::now();
    loop {
        let now = (
            count("/proc/self/task"),
            count("/proc/self/fd"),
            resident_kib(),
        );
        let few = wanted.is_some_and(|wanted| now.0 <= wanted.0 && now.1 <= wanted.1);
        if few || start.elapsed() > Duration::from_secs(2) {
            return now;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn one(fixture: &FileFixture, cycle: u64) -> Duration {
    let store = fixture.open_with(|options| {
        // More than the threads keep of it.
        options.buffer_bytes = Some(1024 * KIB);
        options.queues_max = 2;
        options.sync_interval = Duration::from_millis(2);
        if cycle % 2 == 1 {
            options.durability = Durability::EachBatch;
        }
    });
    store.audit().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, stop) = (store.clone(), &stop);
            scope.spawn(move || work(store, thread, cycle, stop));
        }
        std::thread::sleep(Duration::from_micros(cycle * 997 % 12_000));
        let start = Instant::now();
        match cycle % 4 {
            0 => store.close().unwrap(),
            1 => {
                let closing = store.close_async();
                drop(store);
                closing.wait().unwrap();
            }
            2 => std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| store.close().unwrap());
                }
            }),
            // The last clone is dropped in one of the threads.
            _ => {
                stop.store(true, Ordering::Relaxed);
                drop(store);
            }
        }
        start.elapsed()
    })
}

/// Calls everything until the store is closed.
fn work(store: Store, thread: u64, cycle: u64, stop: &AtomicBool) {
    let mut left: Vec<Operation<_>> = Vec::new();
    let mut kept = None;
    for turn in 0.. {
        let n = (turn + thread) % KEYS;
        let (key, bytes) = (key(n), value(n, LEN));
        let done = match (turn + thread * 3 + cycle) % 9 {
            0 => store.put(&key, &bytes).map(drop),
            1 => store.put_async(&key, &bytes).wait().map(drop),
            2 => match store.get(&key) {
                Ok(Some(got)) => {
                    assert!(got == bytes[..], "{key:?} has other bytes");
                    kept = Some(got);
                    Ok(())
                }
                other => other.map(drop),
            },
            3 => store.get_async(&key).wait().map(|got| {
                assert!(got.is_none_or(|got| got == bytes[..]));
            }),
            4 => store.remove(&key).map(drop),
            5 => {
                let locks = store.lookup_and_pin(&[&key]);
                let got = store.clone().get_many(&[&key]).remove(0);
                drop(locks);
                got.map(drop)
            }
            6 => store.sync_async().wait(),
            7 => {
                // Their results are not awaited.
                left.push(store.get_async(&key));
                drop(store.put_async(&key, &bytes));
                drop(store.remove_many_async(&[&key]));
                Ok(())
            }
            _ => {
                let puts = vec![Put::new(&key, &bytes)];
                let options = PutOptions::default();
                store
                    .put_many_async(puts, options)
                    .wait()
                    .remove(0)
                    .map(drop)
            }
        };
        left.truncate(2);
        match done {
            Ok(()) => {}
            Err(Error::Closed) => break,
            Err(error) => panic!("{thread}: {error}"),
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    drop(store);
    for operation in left {
        drop(operation.wait_for(CLOSE_MAX).expect("an answer"));
    }
    drop(kept);
}
