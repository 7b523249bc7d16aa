//! No call waits where it must not, nor longer than it may (C4, C6).

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use rb_core::{Background, Durability, Error, Operation, Put, PutOptions, Store, StoreOptions};
use rb_io::EngineKind;

use crate::shutdown::{EVERYWHERE, watched};
use crate::support::{
    FileFixture, KIB, Sim, engines, is_long, key, long_keys, serve, slices, value,
};

const LEN: usize = 60 * KIB;
/// Maximum time that calls wait for buffers and log space.
const BUSY_WAIT: Duration = Duration::from_millis(400);
/// Tolerance for delays on a machine with two cores.
const MORE: Duration = Duration::from_millis(300);

/// Makes a store with four values and buffers for as many, all of which the caller holds.
fn without_buffers(engine: EngineKind) -> (FileFixture, Store, Vec<rb_core::ValueBuf>) {
    let fixture = FileFixture::new(64 * KIB as u64, 64).on(engine);
    let store = fixture.open_with(|options| {
        options.buffer_bytes = Some(256 * KIB);
        options.busy_wait = BUSY_WAIT;
    });
    for n in 0..4 {
        store.put(&key(n), &value(n, LEN)).unwrap();
    }
    let held = (0..4).map(|_| store.buffer(LEN).unwrap()).collect();
    (fixture, store, held)
}

fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let answer = call();
    (answer, start.elapsed())
}

fn is_busy<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Busy { .. }))
}

/// The *calls* of async gets and puts waited for buffers, for up to `busy_wait`, in the thread of an executor.
#[test]
fn a_call_that_returns_an_operation_waits_for_nothing() {
    for engine in engines() {
        let (_fixture, store, held) = without_buffers(engine);
        let bytes = value(9, LEN);
        let (get, took) = timed(|| store.get_many_async(&[&key(0)]));
        assert!(
            took < BUSY_WAIT / 4,
            "{engine}: a get was called for {took:?}"
        );
        let (put, took) = timed(|| store.put_async(&key(9), &bytes));
        assert!(
            took < BUSY_WAIT / 4,
            "{engine}: a put was called for {took:?}"
        );
        let start = Instant::now();
        assert!(is_busy(&get.wait()[0]) && is_busy(&put.wait()));
        let took = start.elapsed();
        assert!(took < BUSY_WAIT + MORE, "{engine}: both took {took:?}");
        // Waiting operations continue when buffers become free.
        let get = store.get_async(&key(0));
        let put = store.put_async(&key(9), &bytes);
        let remove = store.remove_many_async(&[&key(1)]);
        assert!(
            matches!(remove.wait()[..], [Ok(Some(_))]),
            "a remove needs no buffers"
        );
        assert!(!get.is_done() && !put.is_done());
        drop(held);
        assert!(get.wait().unwrap().unwrap() == value(0, LEN)[..]);
        put.wait().unwrap();
        assert!(store.get(&key(9)).unwrap().unwrap() == bytes[..]);
        store.close().unwrap();
    }
}

/// Values that wait for buffers are copies. Their memory was unbounded.
#[test]
fn copies_that_wait_for_buffers_take_no_more_memory_than_the_buffers() {
    for engine in engines() {
        let (_fixture, store, held) = without_buffers(engine);
        let (bytes, start) = (value(9, LEN), Instant::now());
        let puts: Vec<_> = (0..10).map(|n| store.put_async(&key(n), &bytes)).collect();
        let refused = puts.iter().filter(|put| put.is_done()).count();
        assert!(start.elapsed() < BUSY_WAIT / 2);
        assert_eq!(refused, 6, "{engine}: four of 60 KiB fit in 256 KiB");
        drop(held);
        let answers: Vec<_> = puts.into_iter().map(Operation::wait).collect();
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 4);
        assert_eq!(answers.iter().filter(|answer| is_busy(answer)).count(), 6);
        // Their memory is no longer counted.
        store.put_async(&key(9), &bytes).wait().unwrap();
    }
}

/// Each part of a batch had a deadline of its own: 20 values took 20 times `busy_wait`.
#[test]
fn a_call_has_one_deadline_however_many_parts_it_has() {
    for engine in engines() {
        let (_fixture, store, _held) = without_buffers(engine);
        let (keys, bytes) = ((0..20).map(key).collect::<Vec<_>>(), value(9, LEN));
        let puts = keys.iter().map(|key| Put::new(key, &bytes)).collect();
        let (answers, took) = timed(|| store.put_many(puts, PutOptions::default()));
        assert!(answers.iter().all(is_busy));
        assert!(took < BUSY_WAIT + MORE, "{engine}: puts took {took:?}");
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).take(4).collect();
        let mut outputs = vec![vec![0; LEN]; 4];
        let mut outputs: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let (answers, took) = timed(|| store.get_many_into(&keys, &mut outputs));
        assert!(answers.iter().all(is_busy));
        assert!(took < BUSY_WAIT + MORE, "{engine}: gets took {took:?}");
    }
}

/// On a device that completes nothing, a call of several rounds waited for each of them.
#[test]
fn a_call_of_several_rounds_waits_for_a_dead_device_once() {
    watched(|now| {
        let sim = Sim::new(64);
        let deadline = Duration::from_millis(200);
        let store = sim.open_with(|options| {
            options.background = Background::Threads;
            options.io_deadline = deadline;
            options.busy_wait = deadline;
            // For two values.
            options.buffer_bytes = Some(16 * KIB);
        });
        for n in 0..16 {
            store.put(&key(n), b"v").unwrap();
        }
        sim.device.hold(EVERYWHERE);
        let keys: Vec<_> = (0..16).map(key).collect();
        now("gets".into());
        let mut outputs = [[0; 1]; 16];
        let mut outputs: Vec<&mut [u8]> = outputs.iter_mut().map(|out| &mut out[..]).collect();
        let (answers, took) = timed(|| store.get_many_into(&slices(&keys), &mut outputs));
        assert!(answers.iter().all(Result::is_err));
        assert!(took < 2 * deadline + MORE, "gets took {took:?}");
        sim.device.release();
    });
}

/// A remove of many keys needs a quarter of the ring in one reservation. While other threads put single keys it failed
/// with `Busy` after five seconds, although the ring was nearly empty: each put overtook it.
#[test]
fn a_large_batch_does_not_starve_behind_small_ones() {
    watched(|now| {
        for engine in engines() {
            now(format!("{engine}"));
            let fixture = FileFixture::new(4 * KIB as u64, 1024).on(engine);
            let store = fixture.open_with(|options| options.busy_wait = Duration::from_secs(10));
            let stop = AtomicBool::new(false);
            let puts = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let (store, stop, puts) = (&store, &stop, &puts);
                    scope.spawn(move || {
                        let mut n = 0;
                        while !stop.load(Ordering::Relaxed) {
                            n += 1;
                            store.put(&key(thread << 32 | n), b"v").unwrap();
                            puts.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                let keys = long_keys_of(&store, 20_000);
                for _ in 0..if is_long() { 10 } else { 2 } {
                    let answers = store.remove_many(&slices(&keys));
                    let failed = answers.iter().filter(|answer| answer.is_err()).count();
                    assert_eq!(
                        failed,
                        0,
                        "{engine}: {:?}",
                        answers.iter().find(|a| a.is_err())
                    );
                }
                stop.store(true, Ordering::Relaxed);
            });
            assert!(puts.into_inner() > 100, "{engine}: the others continued");
        }
    });
}

/// Keys as long as the store allows.
fn long_keys_of(store: &Store, count: u64) -> Vec<Vec<u8>> {
    let len = store.superblock().key_len_max as usize;
    let of = |n: u64| [&n.to_le_bytes()[..], &vec![b'k'; len - 8]].concat();
    (0..count).map(of).collect()
}

/// A remove of many keys that failed halfway returned an error for all of them, even for those that were removed.
#[test]
fn each_removed_key_has_its_own_result() {
    let sim = Sim::with_ring(64, 64);
    let store = sim.open();
    let keys = long_keys(0..300);
    for some in keys[..60].chunks(6) {
        let puts = some.iter().map(|key| Put::new(key, b"v")).collect();
        let answers = store.put_many(puts, PutOptions::default());
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        store.checkpoint().unwrap();
    }
    store.sync().unwrap();
    // Without checkpoints the ring is soon full.
    let answers = store.remove_many(&slices(&keys));
    let removed = answers.iter().take_while(|answer| answer.is_ok()).count();
    assert!((6..300).contains(&removed), "{removed} of 300");
    assert!(answers[removed..].iter().all(is_busy));
    for (at, key) in keys.iter().enumerate().take(60) {
        assert_eq!(answers[at].is_ok(), at < removed);
        assert_eq!(store.get(key).unwrap().is_some(), at >= removed, "key {at}");
    }
}

/// Under `EachBatch`, removes that a failed commit may have lost must return errors.
#[test]
fn removes_that_are_not_durable_are_errors() {
    let sim = Sim::new(8);
    let store = sim.open_with(|options| options.durability = Durability::EachBatch);
    store.put(&key(0), b"v").unwrap();
    sim.device
        .fail_next(rb_io::OpKind::Flush, EVERYWHERE, crate::support::EIO);
    let answers = store.remove_many_async(&[&key(0)]).wait();
    assert!(
        matches!(answers[..], [Err(Error::Poisoned { .. })]),
        "{answers:?}"
    );
}

/// The last clone of a store was dropped in a waker, which the driver thread calls: the thread waited for itself, and
/// all its operations with it, for `io_deadline`.
#[test]
fn a_store_dropped_by_a_waker_ends() {
    struct Last {
        store: Mutex<Option<Store>>,
        took: Mutex<Option<Duration>>,
    }
    impl Wake for Last {
        fn wake(self: Arc<Self>) {
            let store = self.store.lock().unwrap().take();
            let ((), took) = timed(|| drop(store));
            *self.took.lock().unwrap() = Some(took);
        }
    }
    watched(|_| {
        for engine in engines() {
            let fixture = FileFixture::new(4 * KIB as u64, 16).on(engine);
            let store = fixture.open();
            store.put(&key(0), b"v").unwrap();
            let mut get = Box::pin(store.get_async(&key(0)));
            let last = Arc::new(Last {
                store: Mutex::new(Some(store)),
                took: Mutex::default(),
            });
            let waker = Waker::from(Arc::clone(&last));
            let mut context = Context::from_waker(&waker);
            if get.as_mut().poll(&mut context).is_ready() {
                waker.wake_by_ref();
            }
            let took = loop {
                if let Some(took) = *last.took.lock().unwrap() {
                    break took;
                }
                std::thread::yield_now();
            };
            assert!(took < Duration::from_millis(500), "{engine}: {took:?}");
            // The put was committed, and the lock was released.
            let store = fixture.open();
            assert!(store.get(&key(0)).unwrap().is_some());
        }
    });
}

/// A description, and a way to end a store.
type End = (&'static str, fn(Store));

/// The device of the store completes no flush: `close` and `drop` hung as long as the device did.
#[test]
fn close_and_drop_end_although_a_flush_hangs() {
    let ends: [End; 3] = [
        ("close", |store| assert!(store.close().is_err())),
        ("close_async", |store| {
            assert!(store.close_async().wait().is_err());
        }),
        ("drop", drop),
    ];
    for (words, end) in ends {
        let sim = Sim::new(8);
        let deadline = Duration::from_millis(200);
        let store = sim.open_with(|options| {
            options.background = Background::Threads;
            options.io_deadline = deadline;
            options.sync_interval = Duration::from_millis(5);
        });
        sim.device.hold(EVERYWHERE);
        drop(store.put_async(&key(0), b"v"));
        let ((), took) = timed(|| end(store));
        assert!(took < 4 * deadline + MORE, "{words} took {took:?}");
        sim.device.release();
    }
}

const PAUSED: &str = "RB_PAUSED_STORE";
/// Request deadline in the process that is paused, and duration of the pause.
const DEADLINE: Duration = Duration::from_millis(400);
const PAUSE: Duration = Duration::from_secs(1);

/// Does nothing unless started by the test below: puts, gets and syncs until its input ends, and prints failures.
#[test]
fn serve_a_paused_store() {
    let Some(path) = std::env::var_os(PAUSED) else {
        return;
    };
    let engine = std::env::var("RB_PAUSED_ENGINE").unwrap().parse().unwrap();
    let store = Store::open(
        std::path::PathBuf::from(path),
        StoreOptions {
            engine,
            io_deadline: DEADLINE,
            busy_wait: DEADLINE,
            sync_interval: Duration::from_millis(5),
            ..StoreOptions::default()
        },
    )
    .unwrap();
    let stop = AtomicBool::new(false);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, stop, wrong) = (&store, &stop, &wrong);
            scope.spawn(move || {
                let bytes = value(thread, LEN);
                for n in 0.. {
                    let put = store.put(&key(thread), &bytes).map(drop);
                    let put = put.and(store.put_async(&key(thread), &bytes).wait().map(drop));
                    let got = store.get_async(&key(thread)).wait().map(drop);
                    let synced = if n % 4 == 0 { store.sync() } else { Ok(()) };
                    if let Err(error) = put.and(got).and(synced) {
                        wrong.lock().unwrap().push(error.to_string());
                        return;
                    }
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        println!("begun");
        drop(std::io::stdin().lines().next());
        stop.store(true, Ordering::Relaxed);
    });
    println!(
        "wrong: {:?}, close: {:?}",
        wrong.into_inner().unwrap(),
        store.close()
    );
}

/// A container was paused, or a virtual machine suspended, for longer than `io_deadline`: the store concluded that the
/// device had not responded, and on posix it stopped writing permanently.
#[test]
fn a_paused_process_is_not_a_dead_device() {
    for engine in engines() {
        let fixture = FileFixture::new(64 * KIB as u64, 64).on(engine);
        let envs = [
            (PAUSED, fixture.path().display().to_string()),
            ("RB_PAUSED_ENGINE", engine.to_string()),
        ];
        let (mut child, mut lines) = serve("liveness::serve_a_paused_store", envs);
        let pid = rustix::process::Pid::from_child(&child);
        let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
        for _ in 0..if is_long() { 20 } else { 3 } {
            std::thread::sleep(Duration::from_millis(100));
            signal(rustix::process::Signal::STOP);
            std::thread::sleep(PAUSE);
            signal(rustix::process::Signal::CONT);
        }
        std::thread::sleep(Duration::from_millis(100));
        drop(child.stdin.take());
        let said = lines.find_map(|line| {
            line.unwrap()
                .split_once("wrong: ")
                .map(|(_, said)| said.to_owned())
        });
        assert_eq!(said.as_deref(), Some("[], close: Ok(())"), "{engine}");
        assert!(child.wait().unwrap().success());
    }
}
