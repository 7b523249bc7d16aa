//! Tests of stores that end, devices that disappear, and callers that panic while work is in flight: every caller gets
//! a result in time, nothing is left leased, reserved or taken, and synced data is there afterwards (C4, C5, C7).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use rb_core::{
    Background, Durability, Error, Event, Events, ManualClock, Operation, Put, PutOptions,
    PutResult, Store,
};
use rb_io::OpKind;
use rb_testkit::MemDevice;

use crate::shutdown::{EVERYWHERE, device_goes, watched};
use crate::support::{EIO, FileFixture, Sim, ends_within, engines, key, slots_of, value};

const LONG: Duration = Duration::from_secs(20);
const EACH_BATCH: PutOptions = PutOptions {
    durability: Some(Durability::EachBatch),
    mode: rb_core::PutMode::Replace,
    lifetime: None,
    hints: rb_core::Hints::new(),
};

/// Makes a store with threads, three synced keys, and a record that is not synced.
fn with_synced_keys(sim: &Sim, deadline: Duration) -> Store {
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.io_deadline = deadline;
        options.busy_wait = deadline;
        options.sync_interval = Duration::from_hours(1);
    });
    for n in 0..3 {
        store.put(&key(n), &value(n, 3000)).unwrap();
    }
    store.sync().unwrap();
    store.put(b"not synced", b"v").unwrap();
    store
}

fn synced_keys_are_there(sim: &Sim) {
    let store = sim.crash().open();
    for n in 0..3 {
        assert!(store.get(&key(n)).unwrap().unwrap() == value(n, 3000)[..]);
    }
    store.audit().unwrap();
}

fn put_async(store: &Store, options: PutOptions) -> Operation<Vec<PutResult>> {
    store.put_many_async(vec![Put::new(b"in flight", b"v")], options)
}

/// A description, and a call that returns whether it succeeded.
type Call = (&'static str, fn(&Store) -> bool);

const CALLS: [Call; 9] = [
    ("get", |store| store.get(&key(0)).is_ok()),
    ("put", |store| store.put(b"in flight", b"v").is_ok()),
    ("durable put", |store| {
        let put = vec![Put::new(b"in flight", b"v")];
        store.put_many(put, EACH_BATCH)[0].is_ok()
    }),
    ("async get", |store| {
        store.get_many_async(&[&key(0)]).wait()[0].is_ok()
    }),
    ("async put", |store| {
        put_async(store, EACH_BATCH).wait()[0].is_ok()
    }),
    ("sync", |store| store.sync().is_ok()),
    ("async sync", |store| store.sync_async().wait().is_ok()),
    ("checkpoint", |store| store.checkpoint().is_ok()),
    ("close", |store| store.close().is_ok()),
];

/// A description, and an event while a call is in flight.
type Fate = (&'static str, fn(&MemDevice));

const FATES: [Fate; 3] = [
    ("goes", |device| {
        device_goes(device);
        device.release();
    }),
    ("hangs", |_| {}),
    ("breaks its queues", |device| {
        device.break_queues(EIO);
        device.release();
    }),
];

#[test]
fn a_device_that_disappears_or_hangs_fails_what_is_in_flight_and_lets_the_store_end() {
    let mut cases = Vec::new();
    for call in CALLS {
        for fate in FATES {
            // Most of the time is spent waiting, so all cases wait concurrently.
            cases.push(std::thread::spawn(move || {
                watched(move |now| {
                    now(format!("{} while the device {}", call.0, fate.0));
                    call_while(call, fate);
                });
            }));
        }
    }
    for case in cases {
        case.join().unwrap();
    }
}

fn call_while((words, call): Call, (fate, happens): Fate) {
    let sim = Sim::new(8);
    let store = with_synced_keys(&sim, Duration::from_millis(100));
    sim.device.hold(EVERYWHERE);
    let calling = {
        let store = store.clone();
        std::thread::spawn(move || call(&store))
    };
    sim.wait_for_held(1);
    happens(&sim.device);
    // A completion that arrived before the queue broke still counts.
    let went_well = calling.join().unwrap();
    assert!(
        !went_well || fate == "breaks its queues",
        "{words} went well"
    );
    store.audit().unwrap();
    if words == "close" {
        assert!(matches!(store.get(&key(0)), Err(Error::Closed)));
    }
    drop(store.close());
    drop(store);
    // The hung request completes after the store's end, and belongs to no caller any more.
    sim.device.heal();
    sim.device.release();
    synced_keys_are_there(&sim);
}

/// The device is slow, and the store ends in the meantime: everything that was accepted is done and completes.
#[test]
fn closing_and_dropping_finish_what_is_in_flight() {
    for close in [true, false] {
        let sim = Sim::new(8);
        let store = with_synced_keys(&sim, LONG);
        sim.device.hold(slots_of(&store));
        let get = store.get_many_async(&[&key(0)]);
        let put = put_async(&store, PutOptions::default());
        let durable = store.put_many_async(vec![Put::new(b"durable", b"v")], EACH_BATCH);
        sim.wait_for_held(3);
        let sync = store.sync_async();
        let ending = std::thread::spawn(move || match close {
            true => store.close().unwrap(),
            false => drop(store),
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!ending.is_finished(), "it waits");
        sim.device.release();
        ending.join().unwrap();
        assert!(get.wait()[0].as_ref().unwrap().is_some());
        assert!(put.wait()[0].is_ok() && durable.wait()[0].is_ok());
        sync.wait().unwrap();
        synced_keys_are_there(&sim);
        let store = sim.crash().open();
        assert_eq!(store.recovery().clean, close);
        assert!(store.contains(b"in flight") && store.contains(b"durable"));
    }
}

/// Checks that everything is free: no slot reserved or leased, all buffers available, and the store continues.
fn nothing_is_left_behind(store: &Store, slots: u64) {
    store.audit().unwrap();
    let class = store.stats().index.classes[0];
    assert_eq!(
        (class.reserved, class.quarantined, class.retired),
        (0, 0, 0)
    );
    store.for_each(|entry| {
        assert!(!entry.leased, "{entry:?}");
        true
    });
    // The whole arena, and every slot.
    let buffers: Vec<_> = (0..128).map(|_| store.buffer(4096).unwrap()).collect();
    drop(buffers);
    for n in 100..100 + slots {
        store.put(&key(n), b"v").unwrap();
    }
    store.sync().unwrap();
    assert_eq!(store.stats().index.classes[0].live, slots);
}

#[test]
fn a_caller_that_panics_leaves_nothing_behind() {
    let callers: [fn(&Store); 5] = [
        |store| {
            let _held = store.get(&key(0)).unwrap().unwrap();
            panic!("with a value");
        },
        |store| {
            let _held = store.lookup_and_pin(&[&key(0), &key(1)]);
            assert!(store.remove(&key(0)).unwrap().is_some());
            panic!("with locks, one of them of a removed entry");
        },
        |store| {
            let mut buf = store.buffer(3000).unwrap();
            buf[0] = 1;
            panic!("with memory for a put");
        },
        |store| store.for_each(|_| panic!("within a walk")),
        |store| {
            let _get = store.get_many_async(&[&key(0)]);
            let _put = put_async(store, EACH_BATCH);
            panic!("with operations in flight");
        },
    ];
    for call in callers {
        let sim = Sim::new(8);
        let store = with_synced_keys(&sim, LONG);
        let caller = store.clone();
        assert!(std::thread::spawn(move || call(&caller)).join().is_err());
        // The operations in flight continue without the caller, gets in their order, and puts.
        put_async(&store, EACH_BATCH).wait().remove(0).unwrap();
        let last = store.get_many_async(&[&key(2)]).wait().remove(0);
        assert!(last.unwrap().is_some());
        store.sync().unwrap();
        nothing_is_left_behind(&store, 8);
        assert!(ends_within(LONG, move || store.close().unwrap()));
        assert!(sim.crash().open().recovery().clean);
    }
}

/// An observer that panics at every notification.
#[derive(Debug, Default)]
struct Panicking(Mutex<usize>);

impl Events for Panicking {
    fn event(&self, event: &Event<'_>) {
        *self.0.lock().unwrap() += 1;
        std::panic::panic_any(format!("an observer of {event:?} that panics on purpose"));
    }
}

/// An observer that panicked leaked resources of the thread that notified it: the slots and reservations of a put,
/// permanently; or it ended the thread behind all async operations, which then reported a closed store; or the thread
/// that commits.
#[test]
fn an_observer_that_panics_leaks_nothing() {
    let events = Arc::new(Panicking::default());
    let clock = Arc::new(ManualClock::new());
    let of_store = clock.clone();
    let sim = Sim::new(8);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.events = Some(events.clone());
        options.sync_interval = Duration::from_millis(5);
        options.clock = of_store;
    });
    let notified = || *events.0.lock().unwrap();
    // By puts: evictions.
    for n in 0..20 {
        drop(catch_unwind(AssertUnwindSafe(|| store.put(&key(n), b"v"))));
    }
    assert_eq!(notified(), 12);
    // By the driver: rot.
    sim.device.corrupt(slots_of(&store));
    let names: Vec<_> = (0..20).map(key).collect();
    for name in &names {
        assert!(matches!(
            store.get_many_async(&[name]).wait()[..],
            [Ok(None)]
        ));
    }
    assert_eq!(notified(), 20);
    // By the committing thread: a slot that becomes bad.
    let slot = store.geometry().slot_offset(0).unwrap();
    sim.device.fail_always(OpKind::Write, slot..slot + 1, EIO);
    let start = Instant::now();
    while notified() == 20 {
        drop(store.put(b"k", b"v"));
        // A slot rests for ten seconds after a failure.
        clock.advance(Duration::from_secs(11));
        assert!(start.elapsed() < LONG, "no slot went bad");
    }
    sim.device.heal();
    put_async(&store, PutOptions::default())
        .wait()
        .remove(0)
        .unwrap();
    let start = Instant::now();
    while !sim.crash().open().contains(b"in flight") {
        clock.advance(Duration::from_secs(1));
        assert!(start.elapsed() < LONG, "no commits any more");
    }
    nothing_is_left_behind(&store, 7);
    assert!(ends_within(LONG, move || store.close().unwrap()));
}

/// The same with an executor's waker, which the driver or the committing thread calls.
#[test]
fn a_waker_that_panics_leaks_nothing() {
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any("a waker that panics on purpose");
        }
    }
    let sim = Sim::new(8);
    let store = with_synced_keys(&sim, LONG);
    let waker = Waker::from(Arc::new(Panicking));
    let mut context = Context::from_waker(&waker);
    sim.device.hold(EVERYWHERE);
    let name = key(0);
    let (mut get, mut sync) = (store.get_many_async(&[&name]), store.sync_async());
    assert!(Pin::new(&mut get).poll(&mut context).is_pending());
    assert!(Pin::new(&mut sync).poll(&mut context).is_pending());
    sim.wait_for_held(2);
    sim.device.release();
    assert!(get.wait()[0].is_ok());
    sync.wait().unwrap();
    put_async(&store, EACH_BATCH).wait().remove(0).unwrap();
    nothing_is_left_behind(&store, 8);
    assert!(ends_within(LONG, move || store.close().unwrap()));
}

/// Once the queue of the thread behind async operations had failed, later operations were neither sent nor completed:
/// the thread slept with pending results, and never opened another queue.
#[test]
fn async_operations_go_on_after_their_queue_has_failed() {
    let sim = Sim::new(8);
    let store = with_synced_keys(&sim, LONG);
    let name = key(0);
    let get = || store.get_many_async(&[&name]).wait_for(LONG);
    assert!(get().unwrap()[0].is_ok());
    sim.device.break_queues(EIO);
    for round in 0..3 {
        let answers = get().unwrap_or_else(|_| panic!("round {round} did not complete"));
        assert!(matches!(answers[..], [Err(Error::Io(_))]), "{answers:?}");
    }
    sim.device.heal();
    // A get that was accepted before the failure was noticed may still use the failed queue.
    drop(get());
    assert!(get().unwrap()[0].is_ok());
    assert!(put_async(&store, PutOptions::default()).wait()[0].is_ok());
}

/// Each call that the device did not complete kept a thread and a queue, up to the number of buffers. Now there is a
/// limit, and further callers get `Busy`.
#[test]
fn late_calls_are_bounded_and_end_when_the_device_completes_them() {
    let sim = Sim::new(8);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.io_deadline = Duration::from_millis(1);
        options.busy_wait = Duration::from_millis(1);
        options.queues_max = 2;
    });
    store.put(&key(0), b"v").unwrap();
    sim.device.hold(slots_of(&store));
    let answers: Vec<_> = (0..100).map(|_| store.get(&key(0)).unwrap_err()).collect();
    let late = answers
        .iter()
        .take_while(|e| matches!(e, Error::TimedOut { .. }))
        .count();
    assert_eq!(late, 66, "{:?}", answers[late]);
    assert!(
        answers[late..]
            .iter()
            .all(|e| matches!(e, Error::Busy { .. }))
    );
    sim.device.release();
    let start = Instant::now();
    while store.get(&key(0)).is_err() {
        assert!(start.elapsed() < LONG);
    }
    while sim.device.held() > 0 || store.buffer(4096).is_err() {
        assert!(start.elapsed() < LONG);
    }
    store.audit().unwrap();
}

/// When a file shrinks behind the store's back, reads return fewer bytes than asked: an error for the keys beyond its
/// end, on every engine; never a panic, a hang or other bytes.
#[test]
fn a_file_cut_behind_the_stores_back_fails_the_keys_beyond_its_end() {
    for engine in engines() {
        let fixture = FileFixture::new(64 << 10, 32).on(engine);
        let store = fixture.open();
        for n in 0..32 {
            store.put(&key(n), &value(n, 60_000)).unwrap();
        }
        store.sync().unwrap();
        let cut = store.geometry().payload_offset(16).unwrap() + 4096;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(fixture.path())
            .unwrap();
        file.set_len(cut).unwrap();
        let keys: Vec<_> = (0..32).map(key).collect();
        let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for answers in [store.get_many(&names), store.get_many_async(&names).wait()] {
            for (n, answer) in (0..).zip(&answers) {
                match answer {
                    Ok(Some(found)) => assert!(*found == value(n, 60_000)[..]),
                    other => assert!(other.is_err(), "{engine}: key {n}: {other:?}"),
                }
            }
            let hits = answers.iter().filter(|answer| answer.is_ok()).count();
            assert_eq!(hits, 16, "{engine}");
        }
        store.audit().unwrap();
        assert!(ends_within(LONG, move || drop(store.close())), "{engine}");
        assert!(
            Store::open(fixture.path(), fixture.options()).is_err(),
            "{engine}: it is too small"
        );
    }
}
