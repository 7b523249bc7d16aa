//! Tests every failure at every write of a run, blocking and async, ended by `close` or by dropping the store: nothing
//! panics or hangs, every slot is accounted for, reads are never wrong, and what a crash leaves holds everything that
//! was acknowledged and synced (C2, C4, C7).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rb_core::{Background, Durability, OpenError, Put, PutOptions, Store, Superblock};
use rb_format::{Region, base_header_offsets};
use rb_io::OpKind;
use rb_testkit::values::{bytes, matches};
use rb_testkit::{MemDevice, MemOp};

use crate::oracle::{Evictions, Oracle, content};
use crate::support::{EIO, ENOSPC, Sim, range_of};

const ENODEV: i32 = 19;
const LONG: Duration = Duration::from_mins(1);
const KEYS: u64 = 12;
const SLOTS: u64 = 10;
pub(crate) const EVERYWHERE: Range<u64> = 0..u64::MAX;

/// A description, and an action just before a write or flush of the given kind.
type Fault = (&'static str, fn(&MemDevice, OpKind));

const FAULTS: [Fault; 8] = [
    ("fails once", |device, op| {
        device.fail_next(op, EVERYWHERE, EIO);
    }),
    ("finds no space once", |device, op| {
        device.fail_next(op, EVERYWHERE, ENOSPC);
    }),
    ("finds no space six times", |device, op| {
        device.fail_times(op, EVERYWHERE, ENOSPC, 6);
    }),
    ("finds no space from now on", |device, op| {
        device.fail_always(op, EVERYWHERE, ENOSPC);
    }),
    ("fails from now on", |device, op| {
        device.fail_always(op, EVERYWHERE, EIO);
    }),
    ("moves nothing", |device, op| {
        device.short_next(op, EVERYWHERE, 0);
    }),
    ("finds the device gone", |device, _| device_goes(device)),
    ("breaks the queues", |device, _| device.break_queues(EIO)),
];

/// Makes every later request fail with ENODEV.
pub(crate) fn device_goes(device: &MemDevice) {
    for op in [OpKind::Read, OpKind::Write, OpKind::Flush] {
        device.fail_always(op, EVERYWHERE, ENODEV);
    }
}

/// The way in which a run calls the store.
#[derive(Clone, Copy, Debug)]
enum Calls {
    /// Blocking, with the background work in the calls.
    Blocking,
    /// Async, through the driver and background threads.
    Async,
}

struct Run {
    sim: Sim,
    calls: Calls,
    evictions: Arc<Evictions>,
    oracle: Oracle,
    next_version: u64,
    /// True once a metadata write or a flush has failed.
    metadata_failed: Arc<AtomicBool>,
}

impl Run {
    /// Makes a store that was used and closed before.
    fn new(calls: Calls) -> Run {
        let mut run = Run {
            sim: Sim::with(SLOTS, 64, Some(64 * 4096)),
            calls,
            evictions: Arc::default(),
            oracle: Oracle::default(),
            next_version: 1,
            metadata_failed: Arc::default(),
        };
        let store = run.open().unwrap();
        run.put(&store, 0..4, false);
        store.close().unwrap();
        run.oracle.synced();
        run
    }

    fn open(&self) -> Result<Store, OpenError> {
        self.sim.try_open(|options| {
            options.events = Some(self.evictions.clone());
            options.sync_interval = Duration::from_hours(1);
            options.shards = Some(2);
            if let Calls::Async = self.calls {
                options.background = Background::Threads;
            }
        })
    }

    /// Does everything that writes, once or more, regardless of the results.
    fn work(&mut self, store: &Store) {
        self.put(store, 2..6, false);
        self.remove(store, 0);
        self.sync(store);
        self.put(store, 6..9, true);
        self.check(store);
        drop(store.checkpoint());
        self.put(store, 8..KEYS, false); // Evicts.
        self.sync(store);
        self.remove(store, 3);
        self.check(store);
        drop(store.checkpoint());
        self.put(store, 0..2, false);
    }

    fn put(&mut self, store: &Store, keys: Range<u64>, each_batch: bool) {
        let first = self.next_version;
        self.next_version += keys.end - keys.start;
        let items: Vec<_> = keys
            .clone()
            .zip(first..)
            .map(|(key, version)| {
                let bytes = bytes(content(key, version), 3000);
                (key.to_le_bytes(), bytes)
            })
            .collect();
        let puts = items
            .iter()
            .map(|(key, bytes)| Put::new(key, bytes))
            .collect();
        let options = PutOptions {
            durability: each_batch.then_some(Durability::EachBatch),
            ..PutOptions::default()
        };
        let answers = match self.calls {
            Calls::Blocking => store.put_many(puts, options),
            Calls::Async => store.put_many_async(puts, options).wait(),
        };
        for key in self.evictions.0.lock().unwrap().drain(..) {
            self.oracle.evicted(key);
        }
        let durable = each_batch && answers.iter().all(Result::is_ok);
        for ((key, version), answer) in keys.zip(first..).zip(answers) {
            if answer.is_ok() {
                self.oracle.set(key, Some(version));
                self.oracle.may_become(key, None);
            } else {
                self.oracle.may_be_put(key, version);
            }
        }
        if durable {
            self.oracle.synced();
        }
    }

    fn remove(&mut self, store: &Store, key: u64) {
        match store.remove(&key.to_le_bytes()) {
            Ok(_) => self.oracle.set(key, None),
            Err(_) => self.oracle.may_become(key, None),
        }
    }

    fn sync(&mut self, store: &Store) {
        let answer = match self.calls {
            Calls::Blocking => store.sync(),
            Calls::Async => store.sync_async().wait(),
        };
        if answer.is_ok() {
            self.oracle.synced();
        }
    }

    /// Checks that everything that is read is legal now.
    fn check(&self, store: &Store) {
        let names: Vec<_> = (0..KEYS).map(u64::to_le_bytes).collect();
        let names: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
        let answers = match self.calls {
            Calls::Blocking => store.get_many(&names),
            Calls::Async => store.get_many_async(&names).wait(),
        };
        for (key, answer) in (0..KEYS).zip(answers) {
            if let Ok(found) = answer {
                let version = self.version_of(key, found.as_deref());
                let legal = self.oracle.now(key);
                assert!(
                    legal.contains(&version),
                    "key {key} is {version:?}, legal {legal:?}"
                );
            }
        }
        store.audit().unwrap();
    }

    fn version_of(&self, key: u64, bytes: Option<&[u8]>) -> Option<u64> {
        let bytes = bytes?;
        let known = (1..self.next_version).find(|version| matches(content(key, *version), bytes));
        Some(known.expect("bytes that were never put"))
    }

    /// Runs the work from the opening to the end, which is a close or a drop. Writing must have stopped if metadata
    /// could not be written.
    fn whole(&mut self, close: bool) {
        // An opening that fails has changed nothing that counts.
        let Ok(store) = self.open() else { return };
        self.work(&store);
        self.check(&store);
        if self.metadata_failed.load(Ordering::SeqCst) {
            for answer in [store.sync(), store.step_commit(), store.checkpoint()] {
                assert!(answer.is_err_and(|error| error.is_poisoned()));
            }
        }
        if close {
            let closed = store.close();
            let fails = self.metadata_failed.load(Ordering::SeqCst);
            assert!(!fails || closed.is_err(), "closed as if all were well");
            if closed.is_ok() {
                self.oracle.synced();
            }
        }
    }

    /// Checks that what a crash leaves, at worst and otherwise, opens and holds what it must.
    fn check_crashes(&self) {
        for sim in [self.sim.crash(), self.sim.crash_seeded(self.next_version)] {
            let store = sim.open();
            assert_eq!(store.recovery().lost_metadata, None);
            for key in 0..KEYS {
                let found = store.get(&key.to_le_bytes()).unwrap();
                let version = self.version_of(key, found.as_deref());
                let legal = self.oracle.may_be(key);
                assert!(
                    legal.contains(&version),
                    "after a crash key {key} is {version:?}, legal {legal:?}"
                );
            }
            store.audit().unwrap();
        }
    }
}

/// Runs `work`, which names its next step; fails with that name if a step hangs or panics.
pub(crate) fn watched(work: impl FnOnce(&dyn Fn(String)) + Send + 'static) {
    let name = Arc::new(Mutex::new(String::new()));
    let (sender, ended) = channel();
    let thread = {
        let name = name.clone();
        std::thread::spawn(move || {
            work(&|now| *name.lock().unwrap() = now);
            let _ = sender.send(());
        })
    };
    let mut step = String::new();
    while ended.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
        let now = name.lock().unwrap().clone();
        assert_ne!(step, now, "it hangs");
        step = now;
    }
    let name = name.lock().unwrap().clone();
    assert!(thread.join().is_ok(), "{name}: it panicked");
}

/// Returns the writes and flushes of a run without faults, and the store's layout.
fn writes_of(calls: Calls, close: bool) -> (Vec<MemOp>, Superblock) {
    let mut run = Run::new(calls);
    let before = run.sim.device.log().len();
    run.whole(close);
    let mut writes = run.sim.device.log().split_off(before);
    writes.retain(|op| op.op != OpKind::Read);
    let store = run.open().unwrap();
    let superblock = store.superblock();
    let regions = superblock.bases().into_iter().chain(superblock.log_rings());
    for region in regions {
        let range = range_of(region);
        assert!(
            writes.iter().any(|op| range.contains(&op.offset)),
            "{region:?}"
        );
    }
    (writes, superblock.clone())
}

/// Returns whether writing must have stopped once this write or flush has failed in this way.
fn ends_writing(op: &MemOp, words: &str, layout: &Superblock) -> bool {
    let within = |region: &Region| range_of(region).contains(&op.offset);
    let [ring_1, ring_2] = layout.log_rings().map(within);
    let [first, second] = [0, 1].map(|place| {
        let mut bases = layout.bases().into_iter();
        bases.any(|base| base_header_offsets(base)[place] == op.offset)
    });
    let in_base = layout.bases().into_iter().any(within);
    let once = ["fails once", "moves nothing"].contains(&words);
    match op.op {
        // A flush moves nothing in any case.
        OpKind::Flush => words != "moves nothing",
        // It waits for space.
        _ if words.starts_with("finds no space") => false,
        // One copy is enough, and the second is the last request of its batch.
        _ if ring_1 || first => !once,
        _ if ring_2 || second => !once && words != "fails from now on",
        // It avoids a bad block.
        _ if in_base => !once,
        // Of the incarnation blocks and the superblock's copies one is enough as well.
        _ => op.offset < layout.runs[0].first_byte && !once,
    }
}

fn every_write_fails(calls: Calls) {
    watched(move |now| {
        let (writes, layout) = writes_of(calls, true);
        for (number, op) in (0..).zip(writes) {
            for (at, (words, fault)) in (0..).zip(FAULTS) {
                let close = (number + at) % 2 == 0;
                now(format!(
                    "{calls:?}, close {close}: write {number}, {op:?}, {words}"
                ));
                let mut run = Run::new(calls);
                let failed = run.metadata_failed.clone();
                let metadata = ends_writing(&op, words, &layout);
                run.sim.device.before_write(number, move |device| {
                    fault(device, op.op);
                    failed.store(metadata, Ordering::SeqCst);
                });
                run.whole(close);
                run.check_crashes();
            }
        }
    });
}

#[test]
fn every_write_of_blocking_calls_may_fail() {
    every_write_fails(Calls::Blocking);
}

#[test]
fn every_write_of_async_calls_may_fail() {
    every_write_fails(Calls::Async);
}
