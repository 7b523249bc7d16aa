//! Guarantees specific to io_uring: one enter per batch, and truthful reports.

use std::sync::Arc;
use std::time::Duration;

use super::arenas::Registered;
use super::{UringEngine, flavours};
use crate::sys::encode::BlockEncoder;
use crate::sys::ring::{Ended, Ring};
use crate::{Arena, Device, Engine, Issuer, Lane, OpKind, Part, QueueOptions, Request};

const BLOCK: usize = 4096;

/// `None` if the machine forbids io_uring, which the tests of the test kit report as a skip.
fn engine(directory: &tempfile::TempDir) -> Option<UringEngine> {
    let path = directory.path().join("device");
    let device = Device::create_file(&path, 8 << 20, true).unwrap();
    match UringEngine::new(Arc::new(device)) {
        Ok(engine) => Some(engine),
        Err(why) => {
            eprintln!("skipped: io_uring does not work here: {why}");
            None
        }
    }
}

fn batch(arena: &Arena, count: u64) -> Vec<Request> {
    let read = |at| Request::read(at * BLOCK as u64, arena.take(BLOCK).unwrap(), 0, BLOCK);
    (0..count).map(read).collect()
}

#[test]
fn one_enter_per_batch() {
    let directory = tempfile::tempdir().unwrap();
    let Some(engine) = engine(&directory) else {
        return;
    };
    let arena = Arena::allocate(64 * BLOCK).unwrap();
    for issuer in [Issuer::Any, Issuer::OneThread] {
        let options = QueueOptions {
            depth: 64,
            arenas: vec![arena.clone()],
            issuer,
            inline: issuer == Issuer::Any,
            linger: Duration::ZERO,
        };
        let mut lane = Lane::new(engine.queue(&options).unwrap(), engine.limits());
        // A dropped waker costs nothing.
        drop(lane.waker());
        for (round, count) in (1..).zip([1, 2, 17, 64, 64]) {
            let done = lane.run(batch(&arena, count));
            assert!(done.iter().all(|done| done.result.is_ok()));
            let counters = lane.counters();
            assert_eq!(
                (counters.enters, counters.submissions),
                (round, round),
                "{issuer:?}"
            );
        }
        let counters = lane.counters();
        assert_eq!(counters.unregistered_parts, 0, "{:?}", lane.report());
        assert_eq!(counters.fixed_parts, counters.parts);
    }
}

/// Buffers at every position of an arena of several windows, the last one cut short, lie in a
/// window, whether windows are pinned on first use or, as before Linux 5.19, all up front.
#[test]
fn every_part_lies_in_a_window() {
    const MIB: usize = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let Some(engine) = engine(&directory) else {
        return;
    };
    let arenas = [5 * MIB, 9 * MIB + BLOCK].map(|bytes| Arena::allocate(bytes).unwrap());
    for lazy in [true, false] {
        let device = Arc::clone(&engine.device);
        let encoder = BlockEncoder;
        let mut ring = Ring::new(8, &flavours(Issuer::Any), device, encoder).unwrap();
        let mut windows = Registered::new(&mut ring, &arenas, MIB as u64, lazy);
        let pinned = |windows: &Registered| {
            let report = windows.report();
            assert!(report.on, "{report}");
            report
                .detail
                .split(' ')
                .next()
                .unwrap()
                .parse::<u16>()
                .unwrap()
        };
        assert_eq!(pinned(&windows), if lazy { 0 } else { 5 });
        for arena in &arenas {
            let last = arena.bytes() - MIB;
            for at in (0..last).step_by(MIB - BLOCK).chain([last]) {
                let part = Part {
                    token: 0,
                    op: OpKind::Read,
                    offset: 0,
                    len: MIB as u32,
                    buf: Some(arena.take_at(at, MIB).unwrap().into_io()),
                    buf_offset: 0,
                    placement: None,
                };
                let first = if arena.id() == arenas[0].id() { 0 } else { 2 };
                let window = windows.window_of(&mut ring, &part);
                assert_eq!(window, Some(first + (at / (4 * MIB)) as u16), "{at}");
                // The kernel checks that the memory is in that window.
                assert!(ring.push(part, window).is_ok());
                ring.enter(1, None, None).unwrap();
                ring.pop_all(|ended| match ended {
                    Ended::Part(_, moved) => assert_eq!(moved.unwrap(), MIB as u32, "{at}"),
                    Ended::Wake(_) => unreachable!("there is no waker"),
                })
                .unwrap();
            }
        }
        assert_eq!(pinned(&windows), 5);
    }
}

#[test]
fn a_driver_with_a_waker_still_fills_the_queue_in_one_call() {
    let directory = tempfile::tempdir().unwrap();
    let Some(engine) = engine(&directory) else {
        return;
    };
    let arena = Arena::allocate(16 * BLOCK).unwrap();
    let options = QueueOptions {
        depth: 16,
        arenas: vec![],
        issuer: Issuer::OneThread,
        inline: false,
        linger: Duration::ZERO,
    };
    let mut lane = Lane::new(engine.queue(&options).unwrap(), engine.limits());
    let waker = lane.waker();
    for (tag, request) in (0..).zip(batch(&arena, 16)) {
        lane.start(tag, request);
    }
    let mut done = Vec::new();
    lane.poll(1, Some(Duration::from_secs(20)), &mut done)
        .unwrap();
    assert_eq!(lane.counters().submissions, 1);
    assert!(lane.counters().in_flight_max == 16);
    drop(waker);
}

#[test]
fn another_thread_is_refused_by_a_one_thread_queue() {
    let directory = tempfile::tempdir().unwrap();
    let Some(engine) = engine(&directory) else {
        return;
    };
    let options = QueueOptions {
        depth: 4,
        arenas: vec![],
        issuer: Issuer::OneThread,
        inline: false,
        linger: Duration::ZERO,
    };
    let mut queue = engine.queue(&options).unwrap();
    let deferred = queue
        .report()
        .iter()
        .any(|line| line.name == "single issuer" && line.on);
    queue
        .reap(1, Some(Duration::from_millis(1)), &mut Vec::new())
        .unwrap();
    let other = std::thread::spawn(move || {
        queue
            .reap(1, Some(Duration::from_millis(1)), &mut Vec::new())
            .map_err(|e| e.kind())
    });
    let answer = other.join().unwrap();
    if deferred {
        assert_eq!(answer, Err(std::io::ErrorKind::PermissionDenied));
    }
}

#[test]
fn a_device_can_be_reopened_immediately() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..30 {
        // The ring holds the file and is dropped with the queue.
        let Some(engine) = engine(&directory) else {
            return;
        };
        let options = QueueOptions {
            depth: 4,
            arenas: vec![],
            issuer: Issuer::Any,
            inline: true,
            linger: Duration::ZERO,
        };
        let queue = engine.queue(&options).unwrap();
        drop(engine);
        drop(queue);
    }
}
