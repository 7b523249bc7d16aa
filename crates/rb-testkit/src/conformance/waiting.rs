//! Checks of waiting: timeouts, wakes, and no CPU use while idle.

use std::time::{Duration, Instant};

use rb_io::{Engine, OpKind, Part, Request};

use super::setup::{arena, buffer, lane, queue, unit};

/// Longer than any scheduling delay, for waits that must have ended by then.
const LONG: Duration = Duration::from_secs(20);

pub(super) fn reap_of_nothing(engine: &dyn Engine) {
    let mut queue = queue(engine, 4);
    let started = Instant::now();
    let mut done = Vec::new();
    for _ in 0..100 {
        queue.reap(0, None, &mut done).expect("the queue works");
    }
    assert!(
        done.is_empty(),
        "nothing was in flight, so nothing completes"
    );
    assert!(
        started.elapsed() < LONG,
        "a reap of nothing returns immediately"
    );
}

pub(super) fn submit_then_reap(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(2 * unit);
    let mut queue = queue(engine, 4);
    for token in 0..2 {
        let buf = Some(buffer(&room, unit).into_io());
        let (op, len) = (OpKind::Read, unit as u32);
        queue
            .push(Part {
                token,
                op,
                offset: 0,
                len,
                buf,
                buf_offset: 0,
                placement: None,
            })
            .expect("room");
    }
    queue.submit().expect("the queue works");
    queue.submit().expect("nothing is left to submit");
    let mut done = Vec::new();
    // More than the number in flight means all of them.
    queue
        .reap(100, Some(LONG), &mut done)
        .expect("the queue works");
    assert_eq!(done.len(), 2, "both parts complete");
    assert_eq!(
        queue.counters().submissions,
        1,
        "both parts were one submission"
    );
    assert_eq!(
        queue.in_flight(),
        0,
        "nothing is in flight after the completions"
    );
}

pub(super) fn timeout_ends_wait(engine: &dyn Engine) {
    const WAIT: Duration = Duration::from_millis(60);
    let mut queue = queue(engine, 4);
    let started = Instant::now();
    queue
        .reap(1, Some(WAIT), &mut Vec::new())
        .expect("the queue works");
    let waited = started.elapsed();
    assert!(waited >= WAIT, "only {waited:?}");
    assert!(waited < LONG, "{waited:?}");
    queue
        .reap(1, Some(Duration::ZERO), &mut Vec::new())
        .expect("the queue works");
    assert_eq!(queue.counters().wakes, 0, "no wake was sent");
}

pub(super) fn wake_ends_wait(engine: &dyn Engine) {
    let mut queue = queue(engine, 4);
    let waker = queue.waker();
    for round in 0..3 {
        // Before the wait: the wake is kept. Several count as one.
        waker.wake();
        waker.wake();
        let started = Instant::now();
        queue
            .reap(1, Some(LONG), &mut Vec::new())
            .expect("the queue works");
        assert!(started.elapsed() < LONG, "round {round}");
        // The wake was consumed: the next wait blocks.
        let started = Instant::now();
        queue
            .reap(1, Some(Duration::from_millis(30)), &mut Vec::new())
            .expect("it works");
        assert!(
            started.elapsed() >= Duration::from_millis(30),
            "round {round}"
        );
        // During the wait.
        let other = waker.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            other.wake();
        });
        let started = Instant::now();
        queue
            .reap(1, Some(LONG), &mut Vec::new())
            .expect("the queue works");
        assert!(started.elapsed() < LONG, "round {round}");
        thread.join().expect("the thread wakes");
    }
    assert_eq!(
        queue.counters().wakes,
        6,
        "the counter says how many wakes there were"
    );
    assert_eq!(queue.in_flight(), 0, "waiting for a wake is not in flight");
    drop(queue);
    waker.wake();
}

pub(super) fn wake_ends_poll(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(unit);
    let mut lane = lane(engine, 4);
    let waker = lane.waker();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        waker.wake();
    });
    let started = Instant::now();
    let mut done = Vec::new();
    lane.poll(1, Some(LONG), &mut done)
        .expect("the queue works");
    assert!(
        started.elapsed() < LONG && done.is_empty(),
        "a wake ends the wait"
    );
    thread.join().expect("the thread wakes");
    // A wake that arrives during a run is kept for the next poll.
    lane.waker().wake();
    let finished = lane.run(vec![Request::read(0, buffer(&room, unit), 0, unit)]);
    assert!(finished[0].result.is_ok(), "the request succeeds");
    let started = Instant::now();
    lane.poll(1, Some(LONG), &mut done)
        .expect("the queue works");
    assert!(
        started.elapsed() < LONG && done.is_empty(),
        "a wake ends the wait"
    );
}

pub(super) fn idle_uses_no_cpu(engine: &dyn Engine) {
    const WAIT: Duration = Duration::from_millis(300);
    let mut queue = queue(engine, 4);
    let waker = queue.waker();
    // The remains of an earlier wake must not keep ending waits inside the engine.
    waker.wake();
    queue
        .reap(1, Some(LONG), &mut Vec::new())
        .expect("the queue works");
    let mut cost = || -> Option<Duration> {
        let before = thread_cpu_ns()?;
        for _ in 0..2 {
            queue
                .reap(1, Some(WAIT / 2), &mut Vec::new())
                .expect("the queue works");
        }
        Some(Duration::from_nanos(thread_cpu_ns()? - before))
    };
    // An emulated processor charges a thread for time that its host gave to others: 43 ms were seen
    // in one wait. An engine that polls uses the processor every time, so the minimum counts.
    let mut least = Duration::MAX;
    for _ in 0..3 {
        let Some(used) = cost() else { return };
        least = least.min(used);
        if least < WAIT / 10 {
            return;
        }
    }
    panic!("idle waits of {WAIT:?} used at least {least:?} of a processor");
}

/// Returns the nanoseconds on a processor, the first number of `/proc/thread-self/schedstat`.
fn thread_cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}
