//! The crash states of the device in memory, and its random faults.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use rb_io::{Arena, Engine, Issuer, Lane, OpKind, QueueOptions, Request};
use rb_testkit::{FaultRates, Kept, MemDevice, MemEngine};

fn lane(device: &Arc<MemDevice>) -> Lane {
    let engine = MemEngine::new(Arc::clone(device));
    let options = QueueOptions {
        depth: 8,
        arenas: vec![],
        issuer: Issuer::Any,
        inline: true,
        linger: std::time::Duration::ZERO,
    };
    Lane::new(engine.queue(&options).unwrap(), engine.limits())
}

fn write(lane: &mut Lane, arena: &Arena, offset: u64, byte: u8) -> bool {
    let mut buf = arena.take(4096).unwrap();
    buf.fill(byte);
    let done = lane.run(vec![Request::write(offset, buf, 0, 4096)]);
    done[0].result.is_ok()
}

fn flush(lane: &mut Lane) {
    assert!(lane.run(vec![Request::flush()])[0].result.is_ok());
}

fn byte_at(device: &MemDevice, offset: u64) -> u8 {
    let mut byte = [0];
    device.peek(offset, &mut byte);
    byte[0]
}

/// Flushed data is present; of unflushed data, any version of any sector may be.
#[test]
fn a_crash_keeps_what_was_flushed_and_any_of_the_rest() {
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(64 << 10).unwrap();
    let mut lane = lane(&device);
    device.record();
    assert!(write(&mut lane, &arena, 0, 1));
    flush(&mut lane);
    assert!(write(&mut lane, &arena, 0, 2));
    assert!(write(&mut lane, &arena, 0, 3));
    let mut points = device.crash_points().unwrap();
    while points.advance() {}
    assert_eq!((points.at(), points.pending().len()), (4, 2));
    let firsts: BTreeSet<u8> = (0..64)
        .map(|seed| points.image(&[Kept::Some(seed), Kept::Some(seed + 99)]))
        .map(|image| byte_at(&image.device(), 0))
        .collect();
    assert_eq!(firsts, [1, 2, 3].into());
    let torn = points.image(&[Kept::All, Kept::First(2)]);
    let device = torn.device();
    let sectors: Vec<u8> = (0..8).map(|n| byte_at(&device, n * 512)).collect();
    assert_eq!(sectors, [3, 3, 2, 2, 2, 2, 2, 2]);
    let [none, all] = [Kept::Nothing, Kept::All].map(|kept| points.image(&[kept, kept]).hash());
    assert_ne!(none, all);
    // Equal contents are equal images, regardless of how they were produced.
    assert_eq!(points.image(&[Kept::Nothing, Kept::All]).hash(), all);
}

/// A write between the sending of a flush and its execution was not complete when the flush was
/// sent: a device need not include it.
#[test]
fn a_flush_does_not_cover_what_was_written_after_it_was_sent() {
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(64 << 10).unwrap();
    let [mut first, second] = [lane(&device), lane(&device)];
    let second = Mutex::new(Some((second, arena.clone())));
    device.record();
    assert!(write(&mut first, &arena, 0, 1));
    device.observe(move |_, _| {
        let other = second.lock().unwrap().take();
        if let Some((mut lane, arena)) = other {
            assert!(write(&mut lane, &arena, 4096, 2));
        }
    });
    flush(&mut first);
    let crashed = device.crash();
    assert_eq!((byte_at(&crashed, 0), byte_at(&crashed, 4096)), (1, 0));
    let mut points = device.crash_points().unwrap();
    while points.advance() {}
    let [lost, kept] = [Kept::Nothing, Kept::All].map(|kept| points.image(&[kept]).device());
    assert_eq!((byte_at(&lost, 0), byte_at(&lost, 4096)), (1, 0));
    assert_eq!(byte_at(&kept, 4096), 2);
    flush(&mut first);
    assert_eq!(byte_at(&device.crash(), 4096), 2);
}

#[test]
fn a_late_write_fails_and_lands_with_the_next_flush_over_what_came_between() {
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(64 << 10).unwrap();
    let mut lane = lane(&device);
    device.late_next(0..4096, 5);
    assert!(!write(&mut lane, &arena, 0, 1));
    assert!(write(&mut lane, &arena, 0, 2));
    assert_eq!(byte_at(&device, 0), 2);
    flush(&mut lane);
    assert_eq!(byte_at(&device, 0), 1);
}

/// Each kind of random fault, at a rate of 100 %: the caller's result, and the contents.
#[test]
fn chance_does_what_its_rates_say_and_only_in_its_region() {
    let always = 10_000;
    let none = FaultRates::default();
    let cases = [
        (
            FaultRates {
                write_error: always,
                ..none
            },
            false,
            0,
        ),
        (
            FaultRates {
                lost_write: always,
                ..none
            },
            true,
            0,
        ),
        (
            FaultRates {
                late_write: always,
                ..none
            },
            false,
            0,
        ),
        (
            FaultRates {
                slow: always,
                ..none
            },
            true,
            7,
        ),
    ];
    for (rates, told, there) in cases {
        let device = MemDevice::new(1 << 20);
        let arena = Arena::allocate(64 << 10).unwrap();
        let mut lane = lane(&device);
        device.set_rates(1, vec![(0..8192, rates)]);
        assert_eq!(write(&mut lane, &arena, 0, 7), told, "{rates:?}");
        assert_eq!(byte_at(&device, 0), there, "{rates:?}");
        assert!(write(&mut lane, &arena, 8192, 7), "{rates:?}: elsewhere");
        assert_eq!(byte_at(&device, 8192), 7, "{rates:?}: elsewhere");
    }
    let device = MemDevice::new(1 << 20);
    let arena = Arena::allocate(64 << 10).unwrap();
    let mut lane = lane(&device);
    assert!(write(&mut lane, &arena, 0, 7));
    let rates = FaultRates {
        rot: always,
        ..none
    };
    device.set_rates(1, vec![(0..4096, rates)]);
    let read = Request::read(0, arena.take(4096).unwrap(), 0, 4096);
    let done = lane.run(vec![read]);
    let wrong = done[0]
        .buf
        .as_ref()
        .unwrap()
        .iter()
        .filter(|byte| **byte != 7);
    assert_eq!(wrong.count(), 1, "one bit of one byte");
    device.set_rates(
        1,
        vec![(
            0..4096,
            FaultRates {
                misdirected_write: always,
                ..none
            },
        )],
    );
    assert!(write(&mut lane, &arena, 0, 9));
    let writes = device
        .log()
        .iter()
        .filter(|op| op.op == OpKind::Write)
        .count();
    assert_eq!(writes, 2);
    assert!(
        device
            .live_image()
            .iter()
            .filter(|byte| **byte == 9)
            .count()
            >= 4096
    );
    assert_ne!(byte_at(&device, 0), 9);
}
