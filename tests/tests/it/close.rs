//! Tests of the end of a store: operations that hang, concurrent closes, and which closes count as clean (C4).

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use rb_core::{Background, Error, FormatOptions, Store, StoreOptions, format};
use rb_format::{ClassRequest, Share};
use rb_io::{Engine, OpKind};
use rb_testkit::{DriveEngine, DriveSpeed, MemDevice};

use crate::support::{EIO, Sim, ends_within, key, range_of, slots_of};

const LONG: Duration = Duration::from_secs(5);

/// Makes a store whose async get of key 0 hangs in the device.
fn with_stuck_get() -> (Sim, Store, rb_core::Operation<Vec<rb_core::Lookup>>) {
    let sim = Sim::new(8);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.io_deadline = Duration::from_millis(100);
    });
    store.put(&key(0), b"v").unwrap();
    sim.device.hold(slots_of(&store));
    let stuck = store.get_many_async(&[&key(0)]);
    (sim, store, stuck)
}

/// `close` and drop joined the thread behind async operations without a deadline, so one request that the device never
/// completed made both hang.
#[test]
fn close_and_drop_end_although_an_async_operation_hangs() {
    let ends: [fn(Store); 2] = [|store| drop(store.close()), drop];
    for (number, end) in ends.into_iter().enumerate() {
        let (sim, store, _stuck) = with_stuck_get();
        assert!(ends_within(LONG, move || end(store)), "end {number} hangs");
        sim.device.release();
    }
}

/// Only blocking calls had a deadline; a caller that awaited an async get that hung waited forever.
#[test]
fn an_async_get_has_a_deadline() {
    let (sim, _store, stuck) = with_stuck_get();
    let Ok(answers) = stuck.wait_for(LONG) else {
        panic!("no answer");
    };
    assert!(matches!(answers[..], [Err(Error::TimedOut { .. })]));
    sim.device.release();
}

/// The second of two concurrent closes did not wait for the first, but stopped the log under it: the first one's close
/// failed, and the next opening found a crash.
#[test]
fn closing_twice_at_the_same_time_is_clean() {
    for round in 0..10 {
        let sim = Sim::new(4096);
        let store = sim.open_with(|options| options.background = Background::Threads);
        for n in 0..400 {
            store.put(&key(n), b"v").unwrap();
        }
        let barrier = Arc::new(Barrier::new(2));
        let threads = [(); 2].map(|()| {
            let (store, barrier) = (store.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                store.close()
            })
        });
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        drop(store);
        assert!(sim.crash().open().recovery().clean, "round {round}");
    }
}

/// When an opening crashed before its first commit, the close record of the previous session was still the end of the
/// log: the store counted as clean, and slots that the crashed session had overwritten were not validated.
#[test]
fn an_opening_that_crashed_before_its_first_commit_is_not_clean() {
    let sim = Sim::new(4);
    let store = sim.open();
    for n in 0..4 {
        store.put(&key(n), b"v").unwrap();
    }
    store.close().unwrap();
    let store = sim.open();
    assert!(store.recovery().clean);
    for n in 4..8 {
        store.put(&key(n), b"v").unwrap(); // Evicts, and overwrites every slot.
    }
    let everything = MemDevice::from_image(&sim.device.live_image());
    assert!(!Sim::on(everything).open().recovery().clean);
}

/// The close record needed log space like any other, so a store whose log was full could not be closed.
#[test]
fn a_store_with_a_full_log_closes_cleanly() {
    let sim = Sim::with_ring(8, 64);
    let store = sim.open();
    store.put(b"a", b"v").unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    let full = (0..200).find_map(|n| {
        let answer = store.put(&key(n % 4), b"v").err();
        store.sync().unwrap();
        answer
    });
    assert!(matches!(full, Some(Error::Busy { .. })), "{full:?}");
    store.close().unwrap();
    drop(store);
    assert!(sim.open().recovery().clean);
}

/// The write of a put may end after writing has stopped. Its record can then never become durable, so the key must not
/// appear: it must neither be acknowledged, nor be readable, nor own a slot.
#[test]
fn a_write_that_ends_after_writing_has_stopped_publishes_nothing() {
    let sim = Sim::new(4);
    let store = sim.open();
    store.put(b"before", b"v").unwrap();
    sim.device.hold(slots_of(&store));
    let putting = {
        let store = store.clone();
        std::thread::spawn(move || store.put(b"late", b"v"))
    };
    sim.wait_for_held(1);
    for log in store.superblock().log_rings() {
        sim.device.fail_next(OpKind::Write, range_of(log), EIO);
    }
    assert!(store.sync().unwrap_err().is_poisoned());
    sim.device.release();
    let answer = putting.join().unwrap();
    assert!(answer.as_ref().is_err_and(Error::is_poisoned), "{answer:?}");
    assert!(store.get(b"late").unwrap().is_none());
    assert!(store.get(b"before").unwrap().is_some(), "reads go on");
    store.audit().unwrap();
}

/// The same with a put that was given up long before the store was closed.
#[test]
fn a_write_that_ends_after_the_close_publishes_nothing() {
    let sim = Sim::new(4);
    let store = sim.open_with(|options| options.io_deadline = Duration::from_millis(50));
    sim.device.hold(slots_of(&store));
    assert!(matches!(
        store.put(b"late", b"v"),
        Err(Error::TimedOut { .. })
    ));
    // Its flush does not end either, so the close fails; the store is closed anyway.
    assert!(store.close().is_err());
    sim.device.release();
    let class = || store.stats().index.classes[0];
    let start = Instant::now();
    while class().reserved > 0 && start.elapsed() < LONG {
        std::thread::yield_now();
    }
    assert_eq!((class().live, class().free), (0, 4));
    assert!(matches!(store.get(b"late"), Err(Error::Closed)));
}

/// A closed store kept its device as long as a clone, a lock or a value of it lived: it could not be reopened, and a
/// block device stayed in use.
#[test]
fn a_closed_store_releases_its_device_although_handles_remain() {
    for engine in crate::support::engines() {
        let fixture = crate::support::FileFixture::new(4096, 16).on(engine);
        let store = fixture.open_with(|options| {
            options.scrub = Some(rb_core::Scrub {
                bytes_per_second: std::num::NonZero::new(1 << 20).unwrap(),
                pass_interval: Duration::from_secs(1),
            });
            options.discard_freed = true;
        });
        store.put(&key(0), b"v").unwrap();
        let (clone, value) = (store.clone(), store.get(&key(0)).unwrap().unwrap());
        let locks = store.lookup_and_pin(&[&key(0)]);
        let buffer = store.buffer(100).unwrap();
        drop(store.get_async(&key(0)).wait().unwrap());
        store.close().unwrap();
        assert!(matches!(clone.engine(), Err(Error::Closed)));
        let again = fixture.open();
        assert!(again.recovery().clean);
        // Remaining handles of the first store do not affect the second, and return that the store
        // is closed.
        let is_closed = |answer: Option<Error>| matches!(answer, Some(Error::Closed));
        assert!(is_closed(clone.get(&key(0)).err()) && is_closed(clone.put(&key(1), b"v").err()));
        assert!(is_closed(clone.remove(&key(0)).err()) && is_closed(clone.sync().err()));
        assert!(is_closed(clone.checkpoint().err()) && is_closed(clone.buffer(1).err()));
        assert!(is_closed(clone.get_async(&key(0)).wait().err()));
        assert!(is_closed(clone.put_async(&key(1), b"v").wait().err()));
        assert!(is_closed(clone.sync_async().wait().err()));
        let removed = clone.remove_many_async(&[&key(0)]).wait();
        assert!(matches!(removed[..], [Err(Error::Closed)]));
        assert!(!clone.contains(&key(0)) && clone.lookup_and_pin(&[&key(0)])[0].is_none());
        assert_eq!(value[..], *b"v");
        drop((locks, buffer, value, clone, store));
        assert!(again.get(&key(0)).unwrap().is_some());
        again.close().unwrap();
    }
}

/// The last clone was dropped before the closing thread had begun, and ended the store without a checkpoint.
#[test]
fn a_store_that_is_dropped_after_close_async_is_closed() {
    for _ in 0..50 {
        let sim = Sim::new(16);
        let store = sim.open_with(|options| options.background = Background::Threads);
        store.put(&key(0), b"v").unwrap();
        let closing = store.close_async();
        drop(store);
        closing.wait().unwrap();
        assert!(sim.crash().open().recovery().clean);
    }
}

/// `close` allowed each request of its checkpoint the full deadline: on a device that needs a third of that for each,
/// it took 45 times the deadline.
#[test]
fn close_is_bounded_on_a_slow_device() {
    const DEADLINE: Duration = Duration::from_millis(60);
    const ENTRIES: u64 = 3500;
    let classes = vec![ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(4000),
    }];
    let bytes = rb_format::device_bytes_for(&classes, 1024, 0, None).unwrap();
    let slow = DEADLINE / 3;
    let drive = Arc::new(DriveEngine::new(
        bytes as usize,
        DriveSpeed {
            channels: 64,
            transfer: slow,
            bytes_per_second: 1 << 34,
            flush: slow,
            discard: slow,
            discarded_per_second: 1 << 40,
        },
    ));
    drive.set_timed(false);
    let engine: Arc<dyn Engine> = drive.clone();
    let options = FormatOptions {
        key_len_max: 1024,
        ..FormatOptions::new(Arc::clone(&engine), classes)
    };
    format(&options).unwrap();
    let open = |io_deadline| {
        let options = StoreOptions {
            background: Background::Threads,
            io_deadline,
            ..StoreOptions::default()
        };
        Store::open(Arc::clone(&engine), options).unwrap()
    };
    let store = open(DEADLINE);
    for n in 0..ENTRIES {
        store.put(&key(n), b"v").unwrap();
    }
    drive.set_timed(true);
    let start = Instant::now();
    let closed = store.close();
    let took = start.elapsed();
    drive.set_timed(false);
    // The checkpoint has four, a commit follows what was written by then, and each thread that ends
    // may be in a request.
    assert!(took < 10 * DEADLINE, "{took:?}");
    assert!(
        matches!(closed, Err(Error::TimedOut { waited }) if waited == 4 * DEADLINE),
        "{closed:?}"
    );
    drop(store);
    let store = open(LONG);
    assert!(!store.recovery().clean);
    assert_eq!(store.recovery().entries, ENTRIES);
    store.close().unwrap();
    drop(store);
    assert!(open(LONG).recovery().clean);
}
