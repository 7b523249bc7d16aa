//! What only io_uring promises: one enter per batch, and reports that are true.

use std::sync::Arc;
use std::time::Duration;

use super::UringEngine;
use crate::{Arena, Device, Engine, Issuer, Lane, QueueOptions, Request};

const BLOCK: usize = 4096;

/// None where the machine forbids io_uring, which the tests of the test kit note as skips.
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
        };
        let mut lane = Lane::new(engine.queue(&options).unwrap(), engine.limits());
        // A waker that is gone costs nothing.
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

#[test]
fn a_driver_with_a_waker_still_fills_the_queue_at_once() {
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
fn a_device_can_be_opened_again_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..30 {
        // The ring holds the file, and goes with the queue.
        let Some(engine) = engine(&directory) else {
            return;
        };
        let options = QueueOptions {
            depth: 4,
            arenas: vec![],
            issuer: Issuer::Any,
            inline: true,
        };
        let queue = engine.queue(&options).unwrap();
        drop(engine);
        drop(queue);
    }
}
