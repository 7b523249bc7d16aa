//! Tests of the statistics of a running store.

use std::time::{Duration, Instant};

use rb_core::{Background, Error, Latency, Put, PutMode, PutOptions, Store};
use rb_io::OpKind;

use crate::support::{FileFixture, Sim, key, value};

const EIO: i32 = 5;
const EFAULT: i32 = 14;

/// The numbers of durations of gets, puts, removes and syncs.
fn counts(store: &Store) -> [u64; 4] {
    let latency = store.stats().latency;
    [latency.get, latency.put, latency.remove, latency.sync].map(|latency| latency.count())
}

/// Each call is one duration, of one key or many, and blocking and async ones count alike. A get
/// that finds nothing reads nothing, and is not timed.
#[test]
fn every_operation_is_timed_once() {
    let fixture = FileFixture::new(4096, 64);
    let store = fixture.open();
    let keys = [key(0), key(1), key(2)];
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let puts = || keys.iter().map(|key| Put::new(key, b"value")).collect();
    store.put(&key(0), b"value").unwrap();
    store.put_many(puts(), PutOptions::default());
    drop(store.put_many_async(puts(), PutOptions::default()).wait());
    assert_eq!(counts(&store), [0, 3, 0, 0]);
    drop(store.get_many(&keys));
    drop(store.get_many_async(&keys).wait());
    drop(store.get(b"missing").unwrap());
    drop(store.get_many_async(&[b"missing"]).wait());
    assert_eq!(counts(&store), [2, 3, 0, 0]);
    drop(store.remove_many(&keys));
    drop(store.remove_many_async(&keys).wait());
    store.sync().unwrap();
    store.sync_async().wait().unwrap();
    assert_eq!(counts(&store), [2, 3, 2, 2]);
    let before = store.stats().latency.checkpoint.count();
    store.checkpoint().unwrap();
    let stats = store.stats();
    assert_eq!(stats.latency.checkpoint.count(), before + 1);
    assert!(stats.latency.commit.count() > 0);
    let put = stats.latency.put;
    assert!(put.quantile(0.5) <= put.max() && put.max() <= put.total());
    assert!(put.quantile(0.5) > Duration::ZERO);
}

/// Requests are counted by what they are for.
#[test]
fn requests_are_counted_by_purpose() {
    let fixture = FileFixture::new(4096, 64);
    let store = fixture.open();
    for n in 0..10 {
        store.put(&key(n), &value(n, 4096)).unwrap();
        drop(store.get(&key(n)).unwrap());
    }
    store.sync().unwrap();
    store.checkpoint().unwrap();
    let device = store.stats().device;
    let values = &device.values;
    assert_eq!(values.write.latency.count(), 10);
    assert_eq!(values.write.bytes, 10 * (4096 + 4096));
    assert_eq!(
        (values.read.latency.count(), values.read.bytes),
        (10, 10 * 4096)
    );
    // A block in each of two rings.
    assert!(device.log.write.latency.count() >= 2, "{device:?}");
    assert!(device.log.flush.latency.count() >= 1, "{device:?}");
    assert!(
        device.base.write.bytes > 0 && device.base.flush.latency.count() >= 2,
        "{device:?}"
    );
    assert_eq!((device.in_flight, device.oldest), (0, None));
    let failures = [&values.read, &values.write, &device.log.write];
    assert!(failures.iter().all(|requests| requests.failures == 0));
    // Without times there is nothing of it.
    store.close().unwrap();
    let store = fixture.open_with(|options| options.timed = false);
    store.put(&key(0), b"value").unwrap();
    store.sync().unwrap();
    assert_eq!(store.stats().device, rb_core::DeviceStats::default());
    assert_eq!(store.stats().latency.put.count(), 0);
    assert_eq!(store.stats().puts, 1);
}

/// A request that hangs is seen while it hangs, and so is its age; blocking or async.
#[test]
fn the_oldest_request_is_seen_while_it_hangs() {
    for is_async in [false, true] {
        let sim = Sim::new(64);
        let store = sim.open_with(|options| {
            options.background = Background::Threads;
            options.io_deadline = Duration::from_millis(50);
        });
        store.put(&key(0), b"value").unwrap();
        sim.device.hold(crate::support::slots_of(&store));
        let late = match is_async {
            false => store.get(&key(0)).map(drop),
            true => store.get_async(&key(0)).wait().map(drop),
        };
        assert!(matches!(late, Err(Error::TimedOut { .. })), "{late:?}");
        let stats = store.stats();
        assert_eq!(stats.failures.timed_out, 1);
        // A commit may be in flight, too.
        assert!(stats.device.in_flight >= 1);
        let age = stats.device.oldest.expect("a request hangs");
        assert!(age >= Duration::from_millis(50), "{age:?}");
        sim.device.release();
        let start = Instant::now();
        while store.stats().device.in_flight > 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "it never ends");
            std::thread::yield_now();
        }
        let device = store.stats().device;
        assert_eq!(device.oldest, None);
        assert!(device.values.read.latency.max() >= age, "{device:?}");
    }
}

/// Failures are counted by their error, and those of the device by the kind of the request.
#[test]
fn failures_are_counted_by_their_error() {
    let sim = Sim::new(8);
    let store = sim.open();
    for n in 0..8 {
        store.put(&key(n), b"value").unwrap();
    }
    let keys: Vec<_> = (0..8).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let pins = store.lookup_and_pin(&keys);
    assert!(store.put(b"ninth", b"value").is_err());
    drop(pins);
    let slots = crate::support::slots_of(&store);
    sim.device.fail_next(OpKind::Read, slots.clone(), EIO);
    assert!(store.get(&key(0)).is_err());
    sim.device.fail_next(OpKind::Write, slots, EIO);
    assert!(store.put(&key(0), b"other").is_err());
    assert!(store.put(b"", b"value").is_err());
    let failures = store.stats().failures;
    assert_eq!((failures.no_space, failures.io, failures.other), (1, 2, 1));
    let all = [
        failures.busy,
        failures.timed_out,
        failures.out_of_space,
        failures.poisoned,
    ];
    assert_eq!(all, [0; 4]);
    let values = store.stats().device.values;
    assert_eq!((values.read.failures, values.write.failures), (1, 1));
}

/// A store that has stopped refuses operations before they begin. Those were not counted, so its figures showed no failure.
#[test]
fn refusals_of_a_stopped_store_are_counted() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(&key(0), b"value").unwrap();
    sim.device.fail_next(OpKind::Flush, 0..u64::MAX, EIO);
    assert!(store.sync().is_err());
    let before = store.stats().failures.poisoned;
    assert!(store.put(&key(1), b"value").is_err());
    assert!(store.remove(&key(0)).is_err());
    let puts = || vec![Put::new(b"a", b"value"), Put::new(b"b", b"value")];
    drop(store.put_many(puts(), PutOptions::default()));
    drop(store.put_many_async(puts(), PutOptions::default()).wait());
    drop(store.remove_many_async(&[b"a", b"b", b"c"]).wait());
    assert_eq!(store.stats().failures.poisoned, before + 9);
    assert_eq!(store.stats().failures.other, 0);
}

/// Entries that fail verification are counted by the check that they failed.
#[test]
fn drops_are_counted_by_check() {
    let fixture = FileFixture::new(4096, 64);
    let store = fixture.open_with(|options| {
        options.background = Background::Manual;
        options.scrub = Some(rb_core::Scrub::daily(1_000_000_000.try_into().unwrap()));
    });
    for n in 0..2 {
        store.put(&key(n), &value(n, 4096)).unwrap();
    }
    store.sync().unwrap();
    for range in [0, 1].map(|slot| store.geometry().slot_offset(slot).unwrap()) {
        crate::support::corrupt(&fixture, range + 4096 + 100, 1);
    }
    assert!(store.get(&key(0)).unwrap().is_none());
    while store.stats().scrub.passes == 0 {
        store.step_scrub(64).unwrap();
    }
    let stats = store.stats();
    assert_eq!(
        (stats.dropped, stats.drops.get, stats.drops.scrub),
        (2, 1, 1)
    );
    assert_eq!(stats.drops.validation, 0);
}

/// A wait for buffers is counted with its length; one that was not needed is not.
#[test]
fn waits_are_counted_by_cause() {
    let fixture = FileFixture::new(64 << 10, 64);
    let limit = Duration::from_millis(20);
    let store = fixture.open_with(|options| {
        options.buffer_bytes = Some(256 << 10);
        options.busy_wait = limit;
    });
    store.put(&key(0), &value(0, 64 << 10)).unwrap();
    assert_eq!(store.stats().waits, rb_core::WaitsStats::default());
    // Values own their buffers.
    let held: Vec<_> = (0..3).map(|_| store.get(&key(0)).unwrap()).collect();
    let refused = store.get(&key(0));
    assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
    let stats = store.stats();
    assert_eq!((stats.waits.buffers.count, stats.failures.busy), (1, 1));
    assert!(stats.waits.buffers.total >= limit, "{:?}", stats.waits);
    assert_eq!(stats.waits.queues, rb_core::WaitStats::default());
    drop(held);
}

/// Latencies can be compared over time: what came between two looks.
#[test]
fn latency_since_an_earlier_look() {
    let fixture = FileFixture::new(4096, 64);
    let store = fixture.open();
    store.put(&key(0), b"value").unwrap();
    let earlier: Latency = store.stats().latency.put;
    let options = PutOptions {
        mode: PutMode::KeepExisting,
        ..PutOptions::default()
    };
    for _ in 0..3 {
        store.put_many(vec![Put::new(&key(0), b"value")], options);
    }
    let since = store.stats().latency.put.since(&earlier);
    assert_eq!(since.count(), 3);
}

/// A direct transfer is counted when it has ended, and one that the device refused is a copy.
#[test]
fn direct_bytes_are_those_that_arrived() {
    let sim = Sim::new(64);
    let store = sim.open_with(|options| {
        options.buffer_bytes = Some(1 << 20);
        options.direct_min = 1;
    });
    let arena = rb_io::Arena::allocate(64 << 10).unwrap();
    let put = |n: u64| {
        let key = key(n);
        let payload = rb_core::Payload::Loan(arena.lend(0, 8192).unwrap());
        let put = Put {
            payload,
            ..Put::new(&key, &[])
        };
        store.put_many(vec![put], PutOptions::default()).remove(0)
    };
    let slots = crate::support::slots_of(&store);
    put(1).unwrap();
    assert_eq!(store.stats().bytes_direct, 8192);
    sim.device.fail_next(OpKind::Write, slots.clone(), EIO);
    assert!(put(2).is_err());
    sim.device.fail_next(OpKind::Write, slots, EFAULT);
    put(3).unwrap();
    let stats = store.stats();
    assert_eq!((stats.bytes_direct, stats.bytes_copied), (8192, 8192));
    let loan = arena.lend_exclusive(16 << 10, 8192).unwrap();
    drop(store.get_many_at(&[&key(1)], vec![loan]));
    assert_eq!(store.stats().bytes_direct, 2 * 8192);
}
