//! Tests of a store in a forked child: every call is refused, nothing is released, and the parent is not disturbed.
//!
//! The seed does not decide when the system switches between parent and child.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fork::Fork;
use rb_core::{EngineKind, Error, Lookup, Operation, Pin, Put, PutOptions, Store, Value};
use rb_io::{Arena, Device, Issuer, Lane, QueueOptions, Request};
use rustix::process::{Signal, kill_process};

use crate::support::{FileFixture, KIB, engines, is_long, key, resident_kib, value};

const LEN: usize = 64 * KIB;
const SLOTS: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `work` in a forked child; returns its failures as text.
fn in_child(work: impl FnOnce() -> Vec<String>) -> Result<(), String> {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let child = match fork::fork().unwrap() {
        Fork::Child => {
            let wrong = catch_unwind(AssertUnwindSafe(work));
            let wrong = wrong.unwrap_or_else(|_| vec!["a panic".into()]);
            let words = format!("{}.", wrong.join("; "));
            let _ = theirs.write_all(words.as_bytes());
            // Skips destructors and the test runner's exit handlers.
            loop {
                let _ = kill_process(rustix::process::getpid(), Signal::KILL);
            }
        }
        Fork::Parent(child) => rustix::process::Pid::from_raw(child).unwrap(),
    };
    drop(theirs);
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut words = String::new();
    let read = ours.read_to_string(&mut words);
    let _ = kill_process(child, Signal::KILL);
    rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap();
    match words.strip_suffix('.') {
        Some("") => Ok(()),
        Some(wrong) => Err(wrong.into()),
        None => Err(format!("the child hangs or died: {words:?}, {read:?}")),
    }
}

/// Objects of the store that a parent has when it forks.
struct Held {
    store: Store,
    value: Value,
    pins: Vec<Option<Pin>>,
    pending: Operation<Vec<Lookup>>,
}

fn refused<T>(answer: Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Forked { opened_by }) if opened_by != std::process::id())
}

fn all_refused<T>(answers: Vec<Result<T, Error>>) -> bool {
    !answers.is_empty() && answers.into_iter().all(refused)
}

/// Calls everything in a child, and drops all of it. Returns the names of the calls that were not refused.
fn call_everything(held: Held) -> Vec<String> {
    let (store, a) = (held.store, key(0));
    let keys: [&[u8]; 1] = [&a];
    let puts = || vec![Put::new(&a, b"child")];
    let mut memory = vec![0; LEN];
    let mut shown = 0;
    store.for_each(|_| {
        shown += 1;
        true
    });
    let calls = [
        ("value", held.value[..] == value(0, LEN)),
        ("pending", held.pending.is_done()),
        ("wait", all_refused(held.pending.wait())),
        ("get", refused(store.get(&a))),
        ("get_many", all_refused(store.get_many(&keys))),
        ("get_into", refused(store.get_into(&a, &mut memory))),
        ("get_async", refused(store.get_async(&a).wait())),
        (
            "get_many_async",
            all_refused(store.get_many_async(&keys).wait()),
        ),
        ("put", refused(store.put(&a, b"child"))),
        ("put_async", refused(store.put_async(&a, b"child").wait())),
        (
            "put_many",
            all_refused(store.put_many(puts(), PutOptions::default())),
        ),
        (
            "put_many_async",
            all_refused(store.put_many_async(puts(), PutOptions::default()).wait()),
        ),
        ("buffer", refused(store.buffer(LEN))),
        ("remove", refused(store.remove(&a))),
        ("remove_many", all_refused(store.remove_many(&keys))),
        (
            "remove_many_async",
            all_refused(store.remove_many_async(&keys).wait()),
        ),
        ("sync", refused(store.sync())),
        ("sync_async", refused(store.sync_async().wait())),
        ("checkpoint", refused(store.checkpoint())),
        ("step_commit", refused(store.step_commit())),
        ("step_checkpoint", refused(store.step_checkpoint())),
        ("step_validate", refused(store.step_validate(1))),
        ("step_scrub", refused(store.step_scrub(1))),
        ("step_discard", refused(store.step_discard())),
        ("engine", refused(store.engine().map(drop))),
        ("contains", !store.contains(&a)),
        ("longest_prefix", store.longest_prefix(&keys) == 0),
        ("touch_many", store.touch_many(&keys) == [false]),
        ("lookup_and_pin", store.lookup_and_pin(&keys)[0].is_none()),
        ("for_each", shown == 0),
        ("audit", store.audit().is_err()),
        ("stats", store.stats().hits == 0),
        ("close", refused(store.close())),
        ("close_async", refused(store.close_async().wait())),
    ];
    let mut pins = held.pins;
    store.unpin(pins.pop().flatten().into_iter().collect());
    drop(pins);
    let again = store.clone();
    drop((store, held.value));
    drop(again);
    let wrong = calls.iter().filter(|(_, good)| !good);
    wrong.map(|(name, _)| (*name).to_owned()).collect()
}

fn filled(fixture: &FileFixture) -> Store {
    let store = fixture.open();
    for n in 0..SLOTS / 2 {
        store.put(&key(n), &value(n, LEN)).unwrap();
    }
    store
}

fn held(store: &Store) -> Held {
    let (a, b) = (key(0), key(1));
    Held {
        store: store.clone(),
        value: store.get(&a).unwrap().unwrap(),
        pins: store.lookup_and_pin(&[&a, &b]),
        pending: store.get_many_async(&[&a]),
    }
}

fn check(store: &Store, engine: EngineKind) {
    for n in 0..SLOTS / 2 {
        let got = store.get(&key(n)).unwrap();
        assert!(got.unwrap()[..] == value(n, LEN), "{engine}: key {n}");
    }
}

/// A read-only parent lost every later get (its child destroyed the ring); a writing child hung on locks of threads
/// that do not exist in it, or crashed.
#[test]
fn a_forked_child_is_refused_and_the_parent_continues() {
    for engine in engines() {
        let fixture = FileFixture::new(LEN as u64, SLOTS).on(engine);
        let store = filled(&fixture);
        // The parent drops everything, too, after the child.
        let held = held(&store);
        assert_eq!(in_child(|| call_everything(held)), Ok(()), "{engine}");
        store.audit().unwrap();
        check(&store, engine);
        store.close().unwrap();
        drop(store);

        let store = fixture.open_with(|options| options.read_only = true);
        check(&store, engine);
        let in_hand = (store.clone(), store.get(&key(0)).unwrap());
        let child = in_child(|| {
            drop(in_hand);
            let answer = store.get(&key(0));
            drop(store.clone());
            (!refused(answer))
                .then(|| "get".to_owned())
                .into_iter()
                .collect()
        });
        assert_eq!(child, Ok(()), "{engine}");
        check(&store, engine);
    }
}

/// Set in the process that forks: a separate process, so that its open descriptors can be counted.
const FORKS: &str = "RB_FORKS";

/// Forks while other threads put, get and sync: no child hangs on a lock that one of them held, and none of them is
/// affected. At the end, descriptors, threads and memory are what they were at the start.
#[test]
fn forks_among_busy_threads_disturb_nothing() {
    let Ok(forks) = std::env::var(FORKS) else {
        let forks = if is_long() { "200" } else { "20" };
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fork::forks_among_busy_threads_disturb_nothing"])
            .env(FORKS, forks)
            .status();
        return assert!(status.unwrap().success());
    };
    for engine in engines() {
        // Once before the count: the first use may open things that stay open.
        fork_storm(engine, 1);
        let (before, resident) = (least_open_things(), resident_kib());
        fork_storm(engine, forks.parse().unwrap());
        let after = least_open_things();
        let grows = before
            .iter()
            .zip(after)
            .any(|(&before, after)| after > before);
        assert!(!grows, "{engine}: {before:?} -> {after:?}");
        let after = resident_kib();
        assert!(
            after < resident + (16 << 10),
            "{engine}: {resident} -> {after} KiB"
        );
    }
}

/// Returns the least numbers of open things within half a second: a thread is counted for a moment after it was joined,
/// which made a first count too large and the last one look like a difference.
fn least_open_things() -> [usize; 2] {
    let mut least = open_things();
    for _ in 0..25 {
        std::thread::sleep(Duration::from_millis(20));
        let now = open_things();
        least = [least[0].min(now[0]), least[1].min(now[1])];
    }
    least
}

/// Returns the numbers of descriptors and threads. The kernel's own workers for io_uring end some seconds after their
/// work.
fn open_things() -> [usize; 2] {
    let names = |path: &str| std::fs::read_dir(path).unwrap().flatten();
    let is_ours = |task: &std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm"));
        name.is_ok_and(|name| !name.starts_with("iou-"))
    };
    [
        names("/proc/self/fd").count(),
        names("/proc/self/task").filter(is_ours).count(),
    ]
}

fn fork_storm(engine: EngineKind, forks: u32) {
    let fixture = FileFixture::new(LEN as u64, SLOTS).on(engine);
    let store = filled(&fixture);
    let (stop, wrong) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, stop, wrong) = (&store, &stop, &wrong);
            scope.spawn(move || {
                let mut turn = (thread..SLOTS / 2).step_by(4).cycle();
                while let (false, Some(n)) = (stop.load(Ordering::Relaxed), turn.next()) {
                    if let Err(why) = one_round(store, n) {
                        wrong.lock().unwrap().push(why);
                    }
                }
            });
        }
        for number in 0..forks {
            let held = held(&store);
            let child = in_child(|| call_everything(held));
            if child.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            assert_eq!(child, Ok(()), "{engine}: fork {number}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong.into_inner().unwrap(), [""; 0], "{engine}");
    store.audit().unwrap();
    store.close().unwrap();
    drop(store);
    check(&fixture.open(), engine);
}

fn one_round(store: &Store, n: u64) -> Result<(), String> {
    let bytes = value(n, LEN);
    let words = |error: Error| error.to_string();
    store.put(&key(n), &bytes).map_err(words)?;
    store.put_async(&key(n), &bytes).wait().map_err(words)?;
    if n.is_multiple_of(4) {
        store.sync().map_err(words)?;
    }
    let blocking = store.get(&key(n)).map_err(words)?;
    let awaited = store.get_async(&key(n)).wait().map_err(words)?;
    let right = |got: Option<Value>| got.is_some_and(|got| got[..] == bytes);
    match right(blocking) && right(awaited) {
        true => Ok(()),
        false => Err(format!("key {n} has other bytes")),
    }
}

/// A lane without a store: the child's requests fail with an error, and dropping the lane takes nothing from the
/// parent.
#[test]
fn a_lane_in_a_forked_child_fails_its_requests() {
    for engine in engines() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::create_file(&dir.path().join("device"), 1 << 20, false).unwrap();
        let opened = rb_io::open(device, engine).unwrap();
        let arena = Arena::allocate(1 << 20).unwrap();
        let options = QueueOptions {
            depth: 8,
            arenas: vec![arena.clone()],
            issuer: Issuer::Any,
            inline: false,
            linger: Duration::ZERO,
        };
        let queue = opened.engine.queue(&options).unwrap();
        let mut lane = Lane::new(queue, opened.engine.limits());
        let read = |arena: &Arena| {
            let requests = (0..4).map(|n| {
                let buffer = arena.take(4096).unwrap();
                Request::read(n * 4096, buffer, 0, 4096)
            });
            requests.collect::<Vec<_>>()
        };
        let good = |lane: &mut Lane| {
            lane.run(read(&arena))
                .iter()
                .all(|done| done.result.is_ok())
        };
        assert!(good(&mut lane), "{engine}");
        let requests = read(&arena);
        let mut in_hand = Some((lane, opened));
        let child = in_child(|| {
            let (mut lane, opened) = in_hand.take().unwrap();
            let done = lane.run(requests);
            let failed = |done: &rb_io::Completion| {
                let words = done.result.as_ref().map_err(|why| format!("{why:?}"));
                words.is_err_and(|words| words.contains("fork"))
            };
            let all = done.len() == 4 && done.iter().all(failed);
            drop((lane, done, opened));
            (!all).then(|| "a request".to_owned()).into_iter().collect()
        });
        assert_eq!(child, Ok(()), "{engine}");
        let (mut lane, _opened) = in_hand.unwrap();
        assert!(good(&mut lane), "{engine}");
    }
}
