//! Tests of calls larger than the buffers, the store or the device's patience. A review that used real threads found each
//! of these faults in the first version of async calls in parts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_core::{
    Background, ClassRequest, Error, FormatOptions, Payload, Put, PutOptions, PutResult, Share,
    Store, StoreOptions, format,
};
use rb_io::{Arena, Engine, Limits, OpKind};
use rb_testkit::{DriveEngine, DriveSpeed, MemDevice};

use crate::support::{FileFixture, Sim, key, slices, slots_of, value};

const MIB: usize = 1 << 20;
const EFAULT: i32 = 14;

fn classes(slots: u64) -> Vec<ClassRequest> {
    vec![ClassRequest {
        slot_bytes: MIB as u64,
        share: Share::Slots(slots),
    }]
}

/// A store of slots of 1 MiB on a simulated device.
fn sim(slots: u64) -> Sim {
    let classes = classes(slots);
    let bytes = rb_format::device_bytes_for(&classes, 64, 0, None).unwrap();
    let limits = Limits::simple(512, MIB as u64, "memory device");
    let sim = Sim::on(MemDevice::with_limits(bytes, limits));
    let options = FormatOptions::new(sim.engine(), classes);
    format(&FormatOptions {
        key_len_max: 64,
        ..options
    })
    .unwrap();
    sim
}

/// The same on a drive that moves so many bytes per second while it is timed.
fn drive(slots: u64, bytes_per_second: u64, log_bytes: Option<u64>) -> Arc<DriveEngine> {
    let classes = classes(slots);
    let bytes = rb_format::device_bytes_for(&classes, 64, 0, log_bytes).unwrap();
    let speed = DriveSpeed {
        bytes_per_second,
        ..DriveSpeed::ssd(1)
    };
    let drive = Arc::new(DriveEngine::new(bytes as usize, speed));
    drive.set_timed(false);
    let engine: Arc<dyn Engine> = Arc::clone(&drive) as Arc<dyn Engine>;
    format(&FormatOptions {
        key_len_max: 64,
        log_bytes,
        ..FormatOptions::new(engine, classes)
    })
    .unwrap();
    drive
}

fn open(drive: &Arc<DriveEngine>, change: impl FnOnce(&mut StoreOptions)) -> Store {
    let engine: Arc<dyn Engine> = Arc::clone(drive) as Arc<dyn Engine>;
    let mut options = StoreOptions {
        buffer_bytes: Some(16 * MIB),
        ..StoreOptions::default()
    };
    change(&mut options);
    Store::open(engine, options).unwrap()
}

fn put(store: &Store, puts: Vec<Put<'_>>, is_async: bool) -> Vec<PutResult> {
    match is_async {
        false => store.put_many(puts, PutOptions::default()),
        true => store.put_many_async(puts, PutOptions::default()).wait(),
    }
}

/// Puts of these keys, all with the same lent value.
fn lent<'a>(keys: &'a [Vec<u8>], arena: &Arena, at: usize, len: usize) -> Vec<Put<'a>> {
    let puts = keys.iter().map(|key| Put {
        payload: Payload::Loan(arena.lend(at, len).unwrap()),
        ..Put::new(key, &[])
    });
    puts.collect()
}

/// The tail of a batch larger than the store was kept: parts in flight held their slots against the parts with the first
/// keys.
#[test]
fn of_a_batch_larger_than_the_store_the_first_keys_stay() {
    let drive = drive(16, 400 << 20, None);
    let arena = Arena::allocate(2 * MIB).unwrap();
    let keys: Vec<_> = (0..24).map(key).collect();
    for is_async in [false, true] {
        let store = open(&drive, |options| {
            options.arenas = vec![arena.clone()];
            options.buffer_bytes = Some(64 * MIB);
        });
        drive.set_timed(true);
        put(&store, lent(&keys, &arena, 0, MIB), is_async);
        drive.set_timed(false);
        assert!(
            store.contains_many(&slices(&keys))[..8]
                .iter()
                .all(|is_there| *is_there)
        );
        drop(store.remove_many(&slices(&keys)));
        store.close().unwrap();
    }
}

/// A value larger than the buffers failed the whole batch.
#[test]
fn a_value_larger_than_the_buffers_fails_alone() {
    let fixture = FileFixture::new(MIB as u64, 64);
    let store = fixture.open_with(|options| options.buffer_bytes = Some(4 * MIB));
    let (large, small) = (value(0, 6 * MIB), value(1, 5000));
    for is_async in [false, true] {
        let mut puts: Vec<_> = [b"a", b"b", b"c"].map(|key| Put::new(key, &small)).into();
        puts.push(Put::new(b"d", &large));
        let answers = put(&store, puts, is_async);
        assert!(answers[..3].iter().all(Result::is_ok), "{answers:?}");
        assert!(
            matches!(answers[3], Err(Error::BatchTooLarge { .. })),
            "{answers:?}"
        );
    }
}

/// A call was `Busy` because it waited for buffers that its own parts had.
#[test]
fn a_call_waits_for_its_own_parts_as_long_as_for_the_device() {
    let drive = drive(40, 40 << 20, None);
    let store = open(&drive, |options| {
        options.buffer_bytes = Some(4 * MIB);
        options.busy_wait = Duration::from_millis(100);
        options.io_deadline = Duration::from_secs(20);
    });
    let len = MIB - 9;
    let keys: Vec<_> = (0..24).map(key).collect();
    drive.set_timed(true);
    let owned = keys.iter().map(|key| Put {
        payload: Payload::Owned(value(1, len)),
        ..Put::new(key, &[])
    });
    let answers = put(&store, owned.collect(), true);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let arena = Arena::allocate(24 * MIB).unwrap();
    let loan = |n| arena.lend_exclusive(n * MIB + 1, len).unwrap();
    let loans = (0..24).map(loan).collect();
    let found = store.get_many_at_async(&slices(&keys), loans).wait();
    let is_hit = |found: &rb_core::LookupAt| matches!(found, Ok(Some(_)));
    assert!(found.iter().all(is_hit), "{found:?}");
    drive.set_timed(false);
    store.close().unwrap();
}

/// A call held all log space with the parts that were in flight, and its next parts were `Busy`; the time in which earlier
/// parts were checksummed counted as waiting, too.
#[test]
fn a_call_waits_for_the_log_space_of_its_own_parts() {
    let drive = drive(400, 200_000_000, Some(256 << 10));
    let arena = Arena::allocate(9 * MIB).unwrap();
    let store = open(&drive, |options| {
        options.arenas = vec![arena.clone()];
        options.busy_wait = Duration::from_millis(100);
    });
    let keys: Vec<_> = (0..40).map(key).collect();
    drive.set_timed(true);
    let answers = put(&store, lent(&keys, &arena, 0, 8 * MIB - 8192), true);
    drive.set_timed(false);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    store.close().unwrap();
}

/// All of a large call was in the driver's queue at once: a get of 4 KiB behind it timed out.
#[test]
fn a_small_get_has_its_turn_during_a_large_put() {
    let drive = drive(400, 100_000_000, None);
    let arena = Arena::allocate(9 * MIB).unwrap();
    let store = open(&drive, |options| {
        options.arenas = vec![arena.clone()];
        options.queue_depth = 16;
        options.io_deadline = Duration::from_secs(10);
    });
    store.put(b"there", &value(3, 4096)).unwrap();
    let keys: Vec<_> = (0..40).map(key).collect();
    drive.set_timed(true);
    let puts = lent(&keys, &arena, 0, 8 * MIB - 8192);
    let large = store.put_many_async(puts, PutOptions::default());
    let begun = Instant::now();
    assert!(store.get_async(b"there").wait().unwrap().is_some());
    // Two parts of 8 MiB may be before it: 0.17 s. All of them take 3.4 s.
    assert!(
        begun.elapsed() < Duration::from_millis(1200),
        "{:?}",
        begun.elapsed()
    );
    drive.set_timed(false);
    assert!(large.wait().iter().all(Result::is_ok));
    store.close().unwrap();
}

/// Each part of a call had a deadline of its own, so that a call waited for a dead device once for every two parts.
#[test]
fn a_call_in_parts_has_one_deadline() {
    let arena = Arena::allocate(64 * MIB).unwrap();
    let sim = sim(600);
    let store = sim.open_with(|options| {
        options.buffer_bytes = Some(4 * MIB);
        options.background = Background::Threads;
        options.io_deadline = Duration::from_millis(300);
    });
    let keys: Vec<_> = (0..48).map(key).collect();
    for key in &keys {
        store.put(key, &value(1, MIB - 9)).unwrap();
    }
    sim.device.hold(slots_of(&store));
    let begun = Instant::now();
    let answers = put(&store, lent(&keys, &arena, 0, MIB), true);
    let is_late = |error: &Error| matches!(error, Error::TimedOut { .. });
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_err_and(is_late)),
        "{answers:?}"
    );
    // Unaligned, so that they are read in parts.
    let loans = (0..48).map(|n| {
        let at = 2 * MIB + n * MIB + 1;
        arena.lend_exclusive(at, MIB - 9).unwrap()
    });
    let found = store
        .get_many_at_async(&slices(&keys), loans.collect())
        .wait();
    assert!(
        found.iter().all(|found| found.as_ref().is_err_and(is_late)),
        "{found:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    sim.device.release();
    while arena.available() < arena.bytes() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "a loan never ended"
        );
        std::thread::yield_now();
    }
}

/// Memory that the device refuses was copied only if there were buffers for all of the batch at once.
#[test]
fn refused_memory_of_a_large_batch_is_copied_in_rounds() {
    for is_async in [false, true] {
        let arena = Arena::allocate(16 * MIB).unwrap();
        let sim = sim(64);
        let open = || {
            sim.open_with(|options| {
                options.buffer_bytes = Some(4 * MIB);
                options.background = Background::Threads;
            })
        };
        let store = open();
        let slots = slots_of(&store);
        let keys: Vec<_> = (0..16).map(key).collect();
        sim.device
            .fail_times(OpKind::Write, slots.clone(), EFAULT, 16);
        let answers = put(&store, lent(&keys, &arena, 0, MIB), is_async);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        sim.device.heal();
        // The arena is off after three refusals, so the store is opened again.
        drop(store);
        let store = open();
        for key in &keys {
            store.put(key, &value(1, MIB)).unwrap();
        }
        sim.device.fail_times(OpKind::Read, slots, EFAULT, 16);
        let loans = (0..16)
            .map(|n| arena.lend_exclusive(n * MIB, MIB).unwrap())
            .collect();
        let found = match is_async {
            false => store.get_many_at(&slices(&keys), loans),
            true => store.get_many_at_async(&slices(&keys), loans).wait(),
        };
        for found in found {
            let found = found.unwrap().unwrap();
            assert!(found.loan.bytes().unwrap() == value(1, MIB));
        }
        sim.device.heal();
        assert_eq!(arena.available(), arena.bytes());
        store.audit().unwrap();
    }
}

/// A put whose value is in a buffer of the store waited behind one that waited for that buffer.
#[test]
fn values_in_buffers_do_not_wait_for_buffers() {
    let fixture = FileFixture::new(MIB as u64, 64);
    for is_async in [false, true] {
        let store = fixture.open_with(|options| {
            options.buffer_bytes = Some(4 * MIB);
            options.busy_wait = Duration::from_secs(2);
        });
        let buffer = store.buffer(5 * MIB / 2).unwrap();
        let large = value(1, 3 * MIB / 2);
        let payload = Payload::Buffer(buffer);
        let first = Put {
            payload,
            ..Put::new(b"a", &[])
        };
        let answers = put(&store, vec![first, Put::new(b"b", &large)], is_async);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        store.close().unwrap();
    }
}

/// The result of a refused put came before its loans ended, so that the memory was taken when the caller tried again.
#[test]
fn loans_of_refused_puts_have_ended_when_the_result_is_there() {
    // In memory: a file may take longer than this deadline to be opened.
    let sim = sim(64);
    let store = sim.open_with(|options| {
        options.buffer_bytes = Some(4 * MIB);
        options.background = Background::Threads;
        options.busy_wait = Duration::from_millis(2);
        options.io_deadline = Duration::from_millis(2);
    });
    let arena = Arena::allocate(16 * MIB).unwrap();
    let hold = store.buffer(3 * MIB).unwrap();
    let keys: Vec<_> = (0..12).map(key).collect();
    for _ in 0..300 {
        // Unaligned, so that they wait for buffers.
        let answers = put(&store, lent(&keys, &arena, 1, MIB + 10), true);
        assert_eq!(arena.available(), arena.bytes());
        let is_busy = |answer: &PutResult| matches!(answer, Err(Error::Busy { .. }));
        assert!(answers.iter().all(is_busy), "{answers:?}");
    }
    drop(hold);
}

/// A device that refused the memory after the store was closed got a copy of the value to write.
#[test]
fn no_copy_is_written_after_the_close() {
    let writes = |refused: bool| {
        let sim = sim(16);
        let store = sim.open_with(|options| {
            options.buffer_bytes = Some(8 * MIB);
            options.background = Background::Threads;
            options.io_deadline = Duration::from_millis(200);
        });
        let slots = slots_of(&store);
        let arena = Arena::allocate(2 * MIB).unwrap();
        sim.device.hold(slots.clone());
        if refused {
            sim.device.fail_times(OpKind::Write, slots, EFAULT, 1);
        }
        let keys = [key(1)];
        let puts = lent(&keys, &arena, 0, MIB);
        let putting = store.put_many_async(puts, PutOptions::default());
        let late = putting.wait();
        assert!(matches!(late[0], Err(Error::TimedOut { .. })), "{late:?}");
        drop(store.close());
        let before = sim.device.counts().writes;
        sim.device.release();
        let begun = Instant::now();
        while arena.available() < arena.bytes() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the loan never ended"
            );
            std::thread::yield_now();
        }
        sim.device.counts().writes - before
    };
    assert_eq!(writes(true), writes(false));
}
