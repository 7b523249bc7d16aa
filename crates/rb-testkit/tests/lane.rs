//! The lane over a device with faults.

use std::sync::Arc;
use std::time::Duration;

use rb_io::{Arena, Engine, IoError, Issuer, Lane, Limits, OpKind, QueueOptions, Request};
use rb_testkit::{MemDevice, MemEngine, values};

const UNIT: usize = 4096;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const ENODEV: i32 = 19;

fn lane(device: &Arc<MemDevice>, depth: u32) -> Lane {
    let engine = MemEngine::new(Arc::clone(device));
    let options = QueueOptions {
        depth,
        arenas: vec![],
        issuer: Issuer::Any,
        inline: true,
        linger: Duration::ZERO,
    };
    Lane::new(
        engine.queue(&options).expect("the queue opens"),
        engine.limits(),
    )
}

/// A device with parts of one unit, so that requests have several.
fn small_parts(bytes: u64) -> Arc<MemDevice> {
    MemDevice::with_limits(bytes, Limits::simple(512, UNIT as u64, "test"))
}

fn filled(arena: &Arena, seed: u64, bytes: usize) -> rb_io::Buffer {
    let mut buffer = arena.take(bytes).expect("room in the arena");
    values::fill(seed, &mut buffer);
    buffer
}

#[test]
fn short_transfers_are_joined() {
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(1 << 20).unwrap();
    let mut lane = lane(&device, 4);
    let all = 0..1 << 20;
    // Whole blocks, part of a block (moved again), and everything except a little.
    for (seed, shorts) in [(1, vec![512]), (2, vec![1000, 512, 513]), (3, vec![65535])] {
        for bytes in &shorts {
            device.short_next(OpKind::Write, all.clone(), *bytes);
            device.short_next(OpKind::Read, all.clone(), *bytes);
        }
        let done = lane.run(vec![Request::write(
            UNIT as u64,
            filled(&arena, seed, 65536),
            0,
            65536,
        )]);
        assert!(done[0].result.is_ok(), "{:?}", done[0].result);
        drop(done);
        let done = lane.run(vec![Request::read(
            UNIT as u64,
            arena.take(65536).unwrap(),
            0,
            65536,
        )]);
        assert!(
            values::matches(seed, done[0].buf.as_ref().unwrap()),
            "{shorts:?}"
        );
    }
    assert_eq!(device.counts().writes, 3 + 5);
}

#[test]
fn no_progress_is_short() {
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(1 << 20).unwrap();
    let mut lane = lane(&device, 4);
    device.short_next(OpKind::Read, 0..1, 512);
    device.short_next(OpKind::Read, 0..1024, 0);
    let mut done = lane.run(vec![Request::read(0, arena.take(UNIT).unwrap(), 0, UNIT)]);
    let error = done.remove(0).result.unwrap_err();
    assert!(
        matches!(
            error,
            IoError::Short {
                moved: 512,
                wanted: 4096,
                ..
            }
        ),
        "{error}"
    );
    // The lane gives up on a device that never moves a whole block.
    for _ in 0..1000 {
        device.short_next(OpKind::Read, 0..1024, 100);
    }
    let done = lane.run(vec![Request::read(0, arena.take(UNIT).unwrap(), 0, UNIT)]);
    assert!(
        matches!(done[0].result, Err(IoError::Short { .. })),
        "{:?}",
        done[0].result
    );
    assert!(device.counts().reads < 200);
}

#[test]
fn not_now_is_tried_again_with_a_bound() {
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(1 << 20).unwrap();
    let mut lane = lane(&device, 4);
    device.fail_times(OpKind::Write, 0..1, EAGAIN, 8);
    let done = lane.run(vec![Request::write(0, filled(&arena, 1, UNIT), 0, UNIT)]);
    assert!(done[0].result.is_ok());
    drop(done);
    device.fail_always(OpKind::Write, 0..1, EAGAIN);
    let before = device.counts().writes;
    let done = lane.run(vec![Request::write(0, filled(&arena, 1, UNIT), 0, UNIT)]);
    let error = done[0].result.as_ref().unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(
        device.counts().writes - before,
        17,
        "once, and sixteen times more"
    );
    assert_eq!(arena.available() + UNIT, arena.bytes());
}

#[test]
fn a_failing_part_fails_its_request_alone() {
    let device = small_parts(1 << 20);
    let arena = Arena::allocate(1 << 20).unwrap();
    let mut lane = lane(&device, 4);
    let bytes = 10 * UNIT;
    device.fail_next(OpKind::Write, 2 * UNIT as u64..2 * UNIT as u64 + 1, EIO);
    let request = |at: usize| {
        Request::write(
            (at * bytes) as u64,
            filled(&arena, at as u64, bytes),
            0,
            bytes,
        )
    };
    let done = lane.run((0..3).map(request).collect());
    let error = done[0].result.as_ref().unwrap_err();
    let IoError::Os {
        op: OpKind::Write,
        offset,
        len,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (*offset, *len),
        (2 * UNIT as u64, UNIT as u64),
        "the part is named"
    );
    assert!(!error.is_transient() && !error.is_device_gone());
    assert!(done[1].result.is_ok() && done[2].result.is_ok());
    assert!(done.iter().all(|done| done.buf.is_some()));
    assert!(
        device.counts().writes < 30,
        "what had not started is not started"
    );
    assert!(values::matches(1, &device.live_image()[bytes..2 * bytes]));
    device.fail_next(OpKind::Flush, 0..1, ENODEV);
    let done = lane.run(vec![Request::flush()]);
    assert!(done[0].result.as_ref().unwrap_err().is_device_gone());
}

#[test]
fn a_request_ends_when_its_last_part_ends() {
    let device = small_parts(1 << 20);
    let arena = Arena::allocate(4 * UNIT).unwrap();
    let mut lane = lane(&device, 8);
    // The first part fails, the last hangs: the device may still write to the buffer.
    device.fail_next(OpKind::Read, 0..1, EIO);
    device.hold(3 * UNIT as u64..4 * UNIT as u64);
    lane.start(
        7,
        Request::read(0, arena.take(4 * UNIT).unwrap(), 0, 4 * UNIT),
    );
    let mut done = Vec::new();
    lane.poll(1, Some(Duration::from_millis(20)), &mut done)
        .unwrap();
    assert!(done.is_empty() && lane.unfinished() == 1);
    assert_eq!(arena.available(), 0);
    device.release();
    lane.poll(1, None, &mut done).unwrap();
    assert_eq!(done[0].tag, 7);
    assert!(done[0].result.is_err() && done[0].buf.is_some());
}

#[test]
fn memory_outlives_a_dropped_lane() {
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(2 * UNIT).unwrap();
    device.poke(0, &[0x77; UNIT]);
    device.hold(0..UNIT as u64);
    let mut lane = lane(&device, 4);
    lane.start(1, Request::read(0, arena.take(UNIT).unwrap(), 0, UNIT));
    lane.poll(0, None, &mut Vec::new()).unwrap();
    drop(lane);
    // The device has the address and will write to it: the range must not be given to anyone else.
    assert_eq!((device.held(), arena.available()), (1, UNIT));
    let mut other = arena.take(UNIT).unwrap();
    other.fill(1);
    device.release();
    assert!(
        other.iter().all(|byte| *byte == 1),
        "the late read hit another buffer"
    );
    drop(other);
    assert_eq!(
        arena.available(),
        2 * UNIT,
        "the range comes back when the device is done"
    );
}

#[test]
fn a_broken_queue_answers_every_request() {
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(1 << 20).unwrap();
    let mut lane = lane(&device, 2);
    lane.start(5, Request::read(0, arena.take(UNIT).unwrap(), 0, UNIT));
    device.break_queues(ENODEV);
    let requests = (0..6).map(|_| Request::read(0, arena.take(UNIT).unwrap(), 0, UNIT));
    let done = lane.run(requests.collect());
    assert_eq!(done.len(), 6);
    for done in &done {
        let error = done.result.as_ref().unwrap_err();
        assert!(
            matches!(error, IoError::QueueFailed { .. }) && error.is_device_gone(),
            "{error}"
        );
    }
    let mut started = Vec::new();
    assert!(lane.poll(1, None, &mut started).is_err());
    assert_eq!((started.len(), started[0].tag), (1, 5));
    let later = lane.run(vec![Request::flush()]);
    assert!(matches!(later[0].result, Err(IoError::QueueFailed { .. })));
}

#[test]
fn a_batch_that_just_fits_is_one_submission() {
    let device = small_parts(1 << 20);
    let arena = Arena::allocate(1 << 20).unwrap();
    let mut lane = lane(&device, 16);
    let request = |at: u64| {
        Request::write(
            at * 4 * UNIT as u64,
            filled(&arena, at, 4 * UNIT),
            0,
            4 * UNIT,
        )
    };
    let done = lane.run((0..4).map(request).collect());
    assert!(done.iter().all(|done| done.result.is_ok()));
    let counters = lane.counters();
    assert_eq!(
        (counters.submissions, counters.parts, counters.in_flight_max),
        (1, 16, 16)
    );
}

#[test]
fn a_flush_covers_what_was_complete_before_it() {
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(1 << 20).unwrap();
    let mut lane = lane(&device, 4);
    let write = Request::write(0, filled(&arena, 1, UNIT), 0, UNIT);
    drop(lane.run(vec![write, Request::flush()]));
    assert!(
        !values::matches(1, &device.crash_image()[..UNIT]),
        "in flight concurrently with the flush"
    );
    drop(lane.run(vec![Request::flush()]));
    assert!(values::matches(1, &device.crash().crash_image()[..UNIT]));
    device.lose_flushes();
    drop(lane.run(vec![Request::write(0, filled(&arena, 2, UNIT), 0, UNIT)]));
    drop(lane.run(vec![Request::flush()]));
    assert!(
        values::matches(1, &device.crash_image()[..UNIT]),
        "a lying flush"
    );
    let torn = (0..64)
        .map(|seed| device.crash_image_seeded(seed))
        .filter(|image| !values::matches(1, &image[..UNIT]) && !values::matches(2, &image[..UNIT]));
    assert!(torn.count() > 0, "some crashes tear a page");
    device.corrupt(10..11);
    assert!(!values::matches(2, &device.live_image()[..UNIT]));
}
