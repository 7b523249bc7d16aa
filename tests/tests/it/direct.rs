//! Tests of values that go straight between the device and the caller's memory.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rb_core::{
    Background, Change, Error, HeldLock, Loan, Payload, Put, PutOptions, Simulator, Store,
    StoreOptions, SwitchPoint,
};
use rb_io::{Arena, OpKind};
use rb_testkit::MemDevice;

use crate::support::{FileFixture, Sim, corrupt, engines, key, value};

const MIB: usize = 1 << 20;
const EIO: i32 = 5;
const EFAULT: i32 = 14;
/// A value of this length and longer is put directly.
const DIRECT_MIN: usize = 256 << 10;

/// Lengths with and without a tail, in one slot of 1 MiB and in several.
const LENGTHS: [usize; 6] = [
    DIRECT_MIN,
    DIRECT_MIN + 1,
    MIB,
    MIB + 4095,
    3 * MIB,
    5 * MIB + 12_345,
];

struct Memory(Arena);

impl Memory {
    fn new(bytes: usize) -> Memory {
        let memory = Memory(Arena::allocate(bytes).unwrap());
        memory.fill(0, bytes, 0x5A);
        memory
    }

    fn fill(&self, offset: usize, len: usize, byte: u8) {
        let mut loan = self.0.lend_exclusive(offset, len).unwrap();
        loan.bytes_mut().unwrap().fill(byte);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let mut loan = self.0.lend_exclusive(offset, bytes.len()).unwrap();
        loan.bytes_mut().unwrap().copy_from_slice(bytes);
    }

    fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.lend(offset, len).unwrap().copy_to(0, &mut bytes);
        bytes
    }

    fn lend(&self, offset: usize, len: usize) -> Loan {
        self.0.lend(offset, len).unwrap()
    }

    fn alone(&self, offset: usize, len: usize) -> Loan {
        self.0.lend_exclusive(offset, len).unwrap()
    }
}

fn put(store: &Store, name: &[u8], loan: Loan) -> Result<rb_core::PutOutcome, Error> {
    let put = Put {
        payload: Payload::Loan(loan),
        ..Put::new(name, &[])
    };
    store.put_many(vec![put], PutOptions::default()).remove(0)
}

#[test]
fn values_go_straight_from_and_into_the_callers_memory() {
    for engine in engines() {
        let memory = Memory::new(24 * MIB);
        let fixture = FileFixture::new(MIB as u64, 64).on(engine);
        let arena = memory.0.clone();
        let store = fixture.open_with(|options| options.arenas = vec![arena]);
        for (n, len) in (0..).zip(LENGTHS) {
            memory.write(4096, &value(n, len));
            put(&store, &key(n), memory.lend(4096, len)).unwrap();
        }
        assert_eq!(store.stats().bytes_copied, 0, "{engine:?}");
        let check = |store: &Store| {
            for (n, len) in (0..).zip(LENGTHS) {
                memory.fill(0, 8 * MIB, 0x5A);
                // Longer than the value: nothing behind it is touched.
                let loan = memory.alone(8192, len + 777);
                let found = store.get_many_at(&[&key(n)], vec![loan]).remove(0);
                let found = found.unwrap().expect("it was put");
                assert_eq!((found.len, found.loan.len()), (len, len + 777));
                drop(found);
                assert!(memory.read(8192, len) == value(n, len), "{engine:?}: {len}");
                let around = [memory.read(0, 8192), memory.read(8192 + len, 777)].concat();
                assert!(around.iter().all(|byte| *byte == 0x5A), "{len}");
            }
        };
        check(&store);
        assert_eq!(store.stats().bytes_copied, 0);
        store.close().unwrap();
        drop(store);
        // Entries of the session before are verified with their headers.
        let store = fixture.open();
        check(&store);
        for (n, len) in (0..).zip(LENGTHS) {
            assert!(store.get(&key(n)).unwrap().unwrap() == value(n, len)[..]);
        }
        assert_eq!(
            memory.0.available(),
            memory.0.bytes(),
            "every loan has ended"
        );
        store.audit().unwrap();
    }
}

/// Short values are copied, and so is memory that the device cannot transfer. Both are counted.
#[test]
fn short_and_unaligned_values_are_copied_and_counted() {
    let memory = Memory::new(4 * MIB);
    let fixture = FileFixture::new(MIB as u64, 16);
    let store = fixture.open();
    memory.write(4096, &value(0, DIRECT_MIN - 1));
    put(&store, &key(0), memory.lend(4096, DIRECT_MIN - 1)).unwrap();
    assert_eq!(store.stats().bytes_copied, DIRECT_MIN as u64 - 1);
    memory.write(4097, &value(1, DIRECT_MIN));
    put(&store, &key(1), memory.lend(4097, DIRECT_MIN)).unwrap();
    assert_eq!(store.stats().bytes_copied, 2 * DIRECT_MIN as u64 - 1);
    let before = store.stats().bytes_copied;
    let keys = [key(0), key(1)];
    let loans = vec![
        memory.alone(8192, DIRECT_MIN),
        memory.alone(MIB + 3, DIRECT_MIN),
    ];
    let found = store.get_many_at(&[&keys[0], &keys[1]], loans);
    assert!(
        found.iter().all(|found| matches!(found, Ok(Some(_)))),
        "{found:?}"
    );
    drop(found);
    assert!(memory.read(8192, DIRECT_MIN - 1) == value(0, DIRECT_MIN - 1));
    assert!(memory.read(MIB + 3, DIRECT_MIN) == value(1, DIRECT_MIN));
    assert_eq!(store.stats().bytes_copied - before, DIRECT_MIN as u64);
}

#[test]
fn misses_small_and_shared_memory_end_their_loans() {
    let memory = Memory::new(2 * MIB);
    let fixture = FileFixture::new(MIB as u64, 16);
    let store = fixture.open();
    store.put(&key(0), &value(0, 5000)).unwrap();
    let ask = |name: &[u8], loan| store.get_many_at(&[name], vec![loan]).remove(0);
    assert!(ask(b"missing", memory.alone(0, 5000)).unwrap().is_none());
    let small = ask(&key(0), memory.alone(0, 4999));
    assert!(
        matches!(
            small,
            Err(Error::OutputTooSmall {
                needed: 5000,
                given: 4999
            })
        ),
        "{small:?}"
    );
    let shared = ask(&key(0), memory.lend(0, 5000));
    assert!(matches!(shared, Err(Error::SharedLoan)), "{shared:?}");
    assert!(ask(b"", memory.alone(0, 5000)).is_err());
    assert_eq!(memory.0.available(), memory.0.bytes());
    assert!(ask(&key(0), memory.alone(0, 5000)).unwrap().is_some());
}

/// A value that fails verification must not stay in the caller's memory, which might take it for
/// the right one.
#[test]
fn memory_is_zeroed_when_verification_fails() {
    let memory = Memory::new(4 * MIB);
    let fixture = FileFixture::new(MIB as u64, 16);
    let store = fixture.open();
    store.put(&key(0), &value(0, 2 * MIB + 100)).unwrap();
    let mut slots = Vec::new();
    store.for_each(|info| {
        slots = std::iter::once(info.slot).chain(info.more_slots).collect();
        true
    });
    let second = store.geometry().payload_offset(slots[1]).unwrap();
    corrupt(&fixture, second + 5000, 1);
    let loan = memory.alone(0, 3 * MIB);
    let found = store.get_many_at(&[&key(0)], vec![loan]).remove(0);
    assert!(matches!(found, Ok(None)), "{found:?}");
    assert!(memory.read(0, 2 * MIB + 100).iter().all(|byte| *byte == 0));
    assert!(
        memory
            .read(2 * MIB + 100, MIB - 100)
            .iter()
            .all(|byte| *byte == 0x5A)
    );
    assert_eq!(store.stats().dropped, 1);
    store.audit().unwrap();
}

/// Some memory of accelerators cannot be transferred (EFAULT). The value is copied then, and after
/// three of them all of that memory is.
#[test]
fn memory_that_the_device_refuses_is_copied() {
    let memory = Memory::new(2 * MIB);
    let sim = Sim::new(256);
    let store = sim.open_with(|options| {
        options.buffer_bytes = Some(4 * MIB);
        options.direct_min = 1;
    });
    let slots = crate::support::slots_of(&store);
    let len = 5 * 4096 + 17;
    for n in 0..5 {
        memory.write(0, &value(n, len));
        let op = [OpKind::Write, OpKind::Read][n as usize % 2];
        if n < 3 {
            sim.device.fail_next(op, slots.clone(), EFAULT);
        }
        put(&store, &key(n), memory.lend(0, len)).unwrap();
        let loan = memory.alone(MIB, len);
        let found = store.get_many_at(&[&key(n)], vec![loan]).remove(0).unwrap();
        drop(found.expect("it was put"));
        assert!(memory.read(MIB, len) == value(n, len), "{n}");
        sim.device.heal();
    }
    let stats = store.stats();
    assert_eq!((stats.direct_refused, stats.dropped), (3, 0));
    assert!(stats.direct_off.is_some_and(|why| why.contains("failed")));
    let class = store.stats().index.classes[0];
    assert_eq!((class.quarantined, class.bad, class.reserved), (0, 0, 0));
    // A put, a get and a put by a copy after the refusal, then everything.
    assert_eq!(stats.bytes_copied, (3 + 1 + 2 * 2) * len as u64);
    assert_eq!(memory.0.available(), memory.0.bytes());
    store.audit().unwrap();
}

/// Several puts may read one range at once, and a batch needs no buffers for its payloads.
#[test]
fn a_batch_larger_than_all_buffers_is_one_call() {
    let memory = Memory::new(4 * MIB);
    let fixture = FileFixture::new(MIB as u64, 100);
    let arena = memory.0.clone();
    let store = fixture.open_with(|options| {
        options.buffer_bytes = Some(3 * MIB);
        options.arenas = vec![arena];
    });
    let len = 3 * MIB - 7;
    memory.write(0, &value(0, len));
    let keys: Vec<_> = (0..30).map(key).collect();
    let puts = || {
        keys.iter().map(|name| Put {
            payload: Payload::Loan(memory.lend(0, len)),
            ..Put::new(name, &[])
        })
    };
    let outcomes = store.put_many(puts().collect(), PutOptions::default());
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let outcomes = store
        .put_many_async(puts().collect(), PutOptions::default())
        .wait();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(store.stats().bytes_copied, 0);
    let large = Memory::new(30 * 3 * MIB);
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let loans = || (0..30).map(|n| large.alone(n * 3 * MIB, 3 * MIB)).collect();
    for is_async in [false, true] {
        let found = match is_async {
            false => store.get_many_at(&asked, loans()),
            true => store.get_many_at_async(&asked, loans()).wait(),
        };
        assert!(
            found.iter().all(|found| matches!(found, Ok(Some(_)))),
            "{found:?}"
        );
        drop(found);
        for n in 0..30 {
            assert!(large.read(n * 3 * MIB, len) == value(0, len));
            large.fill(n * 3 * MIB, 3 * MIB, 0);
        }
    }
    assert_eq!(store.stats().bytes_copied, 0);
    assert_eq!(memory.0.available(), memory.0.bytes());
}

/// Unaligned memory is filled by way of buffers, in as many rounds as they need. A call that needed more than all buffers
/// was refused.
#[test]
fn unaligned_gets_of_more_than_all_buffers_are_one_call() {
    let fixture = FileFixture::new(MIB as u64, 40);
    let store = fixture.open_with(|options| options.buffer_bytes = Some(4 * MIB));
    let len = MIB - 9;
    let keys: Vec<_> = (0..12).map(key).collect();
    for (n, key) in (0..).zip(&keys) {
        store.put(key, &value(n, len)).unwrap();
    }
    let mut asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    asked.insert(3, b"absent");
    let memory = Memory::new(13 * MIB);
    for is_async in [false, true] {
        let loans = (0..13).map(|n| memory.alone(n * MIB + 1, len)).collect();
        let found = match is_async {
            false => store.get_many_at(&asked, loans),
            true => store.get_many_at_async(&asked, loans).wait(),
        };
        let hits: Vec<_> = found
            .iter()
            .map(|found| found.as_ref().unwrap().is_some())
            .collect();
        assert!((0..13).all(|n| hits[n] == (n != 3)), "{hits:?}");
        drop(found);
        for n in 0..13 {
            let stored = n - usize::from(n > 3);
            if n != 3 {
                assert!(memory.read(n * MIB + 1, len) == value(stored as u64, len));
            }
        }
        memory.fill(0, 13 * MIB, 0);
    }
    assert_eq!(memory.0.available(), memory.0.bytes());
}

/// A device that does not answer keeps the memory: the call ends at the deadline, and a callback says
/// when the memory is free again. Until then nothing else may be written there.
#[test]
fn a_dead_device_keeps_the_memory_until_it_answers() {
    let memory = Memory::new(2 * MIB);
    let sim = Sim::new(256);
    let store = sim.open_with(|options: &mut StoreOptions| {
        options.background = Background::Threads;
        options.buffer_bytes = Some(4 * MIB);
        options.io_deadline = Duration::from_millis(100);
        options.direct_min = 1;
    });
    let len = 3 * 4096 + 5;
    memory.write(0, &value(1, len));
    put(&store, &key(1), memory.lend(0, len)).unwrap();
    store.sync().unwrap();
    let slots = crate::support::slots_of(&store);
    for is_async in [false, true] {
        memory.fill(MIB, MIB, 0x5A);
        sim.device.hold(slots.clone());
        let loan = memory.alone(MIB, len);
        let found = match is_async {
            false => store.get_many_at(&[&key(1)], vec![loan]).remove(0),
            true => store
                .get_many_at_async(&[&key(1)], vec![loan])
                .wait()
                .remove(0),
        };
        assert!(matches!(found, Err(Error::TimedOut { .. })), "{found:?}");
        let released = Arc::new(AtomicBool::new(false));
        let release = Arc::clone(&released);
        (memory.0).when_free(MIB, len, move || release.store(true, Ordering::SeqCst));
        std::thread::sleep(Duration::from_millis(50));
        assert!(
            !released.load(Ordering::SeqCst),
            "the device may still write there"
        );
        assert!(memory.0.lend(MIB + 4096, 1).is_err());
        sim.device.release();
        let start = std::time::Instant::now();
        while !released.load(Ordering::SeqCst) {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "it is never released"
            );
            std::thread::yield_now();
        }
        // From here on nothing writes to it.
        memory.fill(MIB, MIB, 0xC3);
        std::thread::sleep(Duration::from_millis(50));
        assert!(memory.read(MIB, MIB).iter().all(|byte| *byte == 0xC3));
    }
    // The same for a put: its memory is read until the device answers.
    sim.device.hold(slots);
    let late = put(&store, &key(2), memory.lend(0, len));
    assert!(matches!(late, Err(Error::TimedOut { .. })), "{late:?}");
    assert!(memory.0.lend_exclusive(0, 1).is_err());
    drop(memory.lend(0, len));
    sim.device.release();
    let start = std::time::Instant::now();
    while memory.0.available() < memory.0.bytes() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it is never released"
        );
        std::thread::yield_now();
    }
    store.audit().unwrap();
}

/// Regression test: loans of hits that came to nothing ended under the lock of their key's shard. A callback that
/// asked the store for anything waited for its own thread.
#[test]
fn callbacks_come_with_no_lock_held() {
    let memory = Memory::new(2 * MIB);
    let fixture = FileFixture::new(MIB as u64, 16);
    let store = fixture.open_with(|options| options.shards = Some(1));
    store.put(&key(0), &value(0, DIRECT_MIN)).unwrap();
    let mut slot = 0;
    store.for_each(|info| {
        slot = info.slot;
        true
    });
    let asks = |len: usize| {
        let (sender, called) = std::sync::mpsc::channel();
        let loan = memory.alone(0, len);
        let other = store.clone();
        memory
            .0
            .when_free(0, len, move || _ = sender.send(other.contains(&key(1))));
        let found = store.get_many_at(&[&key(0)], vec![loan]).remove(0);
        drop(found);
        called
            .recv_timeout(Duration::from_secs(10))
            .expect("the callback came");
    };
    asks(1000);
    asks(DIRECT_MIN);
    corrupt(
        &fixture,
        store.geometry().payload_offset(slot).unwrap() + 9,
        1,
    );
    asks(DIRECT_MIN);
    assert_eq!(store.stats().dropped, 1);
}

/// Regression test: a put whose memory was refused was published in a hold of its shard's lock of its own, after the
/// others of its batch. The log space of a batch is for one hold of each lock, so the reservation was too small.
#[test]
fn a_refused_put_is_published_with_its_batch() {
    let memory = Memory::new(2 * MIB);
    let sim = Sim::new(256);
    let store = sim.open_with(|options| {
        options.buffer_bytes = Some(4 * MIB);
        options.direct_min = 1;
        options.shards = Some(4);
    });
    let len = 2 * 4096 + 100;
    memory.write(0, &value(7, len));
    sim.device
        .fail_next(OpKind::Write, crate::support::slots_of(&store), EFAULT);
    let keys: Vec<_> = (0..40).map(key).collect();
    let puts = keys.iter().map(|name| Put {
        payload: Payload::Loan(memory.lend(0, len)),
        ..Put::new(name, &[])
    });
    let before = store.stats().index.operation_locks;
    let outcomes = store.put_many(puts.collect(), PutOptions::default());
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    // One hold of each shard's lock to reserve the keys, and one to publish them.
    assert_eq!(store.stats().index.operation_locks - before, 2 * 4);
    assert_eq!(
        (store.stats().direct_refused, store.stats().bytes_copied),
        (1, len as u64)
    );
    for name in &keys {
        assert!(store.get(name).unwrap().unwrap() == value(7, len)[..]);
    }
    store.audit().unwrap();
}

/// Takes the only I/O queue for a get that the device holds, when the writes of a put have ended.
struct TakesTheQueue {
    device: Arc<MemDevice>,
    slots: Range<u64>,
    store: OnceLock<Store>,
    getter: Mutex<Option<JoinHandle<()>>>,
}

impl Simulator for TakesTheQueue {
    fn switch(&self, point: SwitchPoint) {
        let (SwitchPoint::Arrived, Some(store)) = (point, self.store.get()) else {
            return;
        };
        let mut getter = self.getter.lock().unwrap();
        if getter.is_none() {
            self.device.hold(self.slots.clone());
            let store = store.clone();
            *getter = Some(std::thread::spawn(move || drop(store.get(&key(0)))));
            while self.device.held() == 0 {
                std::thread::yield_now();
            }
        }
    }

    fn blocked(&self, _: HeldLock) {}

    fn changed(&self, _: &Change<'_>) {}
}

impl fmt::Debug for TakesTheQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TakesTheQueue")
    }
}

/// Regression test: a put whose memory was refused is written again from a copy. If no I/O queue was free for
/// that, the other puts of its batch failed, too, although their writes had ended, and a slot whose write had
/// failed was not set aside.
#[test]
fn a_refused_put_without_a_queue_fails_alone() {
    let memory = Memory::new(2 * MIB);
    let sim = Sim::new(256);
    let slots = crate::support::slots_of(&sim.open());
    let simulator = Arc::new(TakesTheQueue {
        device: Arc::clone(&sim.device),
        slots,
        store: OnceLock::new(),
        getter: Mutex::default(),
    });
    let store = sim.open_with(|options| {
        options.direct_min = 1;
        options.queues_max = 1;
        options.simulator = Some(Arc::clone(&simulator) as _);
    });
    let len = 2 * 4096 + 100;
    memory.write(0, &value(7, len));
    put(&store, &key(0), memory.lend(0, len)).unwrap();
    // Each value takes three slots: the first ones of two of those to come.
    for (slot, errno) in [(3, EFAULT), (6, EIO)] {
        let start = store.geometry().slot_offset(slot).unwrap();
        (sim.device).fail_next(OpKind::Write, start..start + 1, errno);
    }
    assert!(simulator.store.set(store.clone()).is_ok());
    let keys: Vec<_> = (1..=3).map(key).collect();
    let puts = keys.iter().map(|name| Put {
        payload: Payload::Loan(memory.lend(0, len)),
        ..Put::new(name, &[])
    });
    let outcomes = store.put_many(puts.collect(), PutOptions::default());
    sim.device.release();
    let getter = simulator.getter.lock().unwrap().take();
    getter.expect("the queue was taken").join().unwrap();
    let count = |is: fn(&Result<_, Error>) -> bool| outcomes.iter().filter(|put| is(put)).count();
    assert_eq!(count(Result::is_ok), 1, "{outcomes:?}");
    let is_busy = |put: &Result<_, Error>| matches!(put, Err(Error::Busy { .. }));
    assert_eq!(count(is_busy), 1, "{outcomes:?}");
    let class = store.stats().index.classes[0];
    assert_eq!((class.live, class.quarantined, class.reserved), (6, 3, 0));
    for (name, outcome) in keys.iter().zip(&outcomes) {
        let found = store.get(name).unwrap();
        assert_eq!(found.is_some(), outcome.is_ok());
        assert!(found.is_none_or(|found| found == value(7, len)[..]));
    }
    store.audit().unwrap();
}
