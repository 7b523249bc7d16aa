//! Checks of queues: parts, depth, threads, memory.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rb_io::{Engine, IoBuf, Issuer, Lane, OpKind, OpenError, Part, Queue, QueueOptions, Request};

use super::setup::{arena, block, buffer, lane, options, queue, unit};
use crate::values::{fill, matches};

fn part(token: u64, op: OpKind, offset: u64, buf: &IoBuf, len: usize) -> Part {
    let (buf, len) = (Some(buf.clone()), len as u32);
    Part {
        token,
        op,
        offset,
        len,
        buf,
        buf_offset: 0,
        placement: None,
    }
}

pub(super) fn limits_make_sense(engine: &dyn Engine) {
    engine.limits().validate().expect("consistent limits");
    assert!(
        engine.capacity_bytes().is_multiple_of(block(engine) as u64),
        "the capacity is a multiple of the logical block"
    );
    assert!(!engine.name().is_empty(), "the engine has a name");
    assert_eq!(
        queue(engine, 1).engine(),
        engine.name(),
        "a queue has the name of its engine"
    );
    assert_eq!(
        queue(engine, 1).capacity_bytes(),
        engine.capacity_bytes(),
        "a queue has the capacity of its engine"
    );
    assert!(
        !queue(engine, 1).report().is_empty(),
        "a queue reports what it was given"
    );
}

pub(super) fn depths_out_of_range(engine: &dyn Engine) {
    for depth in [0, rb_io::DEPTH_MAX + 1, u32::MAX] {
        let refused = engine
            .queue(&options(depth))
            .err()
            .expect("a refused depth");
        assert!(matches!(refused, OpenError::Depth { .. }), "{refused}");
    }
    assert_eq!(
        queue(engine, rb_io::DEPTH_MAX).depth(),
        rb_io::DEPTH_MAX,
        "the greatest depth is taken"
    );
}

pub(super) fn tokens_and_buffers_come_back(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(4 * unit);
    let mut queue = queue(engine, 4);
    let mut data = buffer(&room, unit);
    fill(11, &mut data);
    let data = data.into_io();
    queue
        .push(part(u64::MAX, OpKind::Write, 0, &data, unit))
        .expect("room");
    let mut done = Vec::new();
    queue.reap(1, None, &mut done).expect("the queue works");
    let done = done.pop().expect("a completion");
    assert_eq!(
        done.token,
        u64::MAX,
        "the completion has the token of its part"
    );
    assert_eq!(done.result.expect("written"), unit as u32);
    assert!(
        data.into_buffer().is_err(),
        "the completion holds the buffer too"
    );
    let data = done
        .buf
        .expect("the buffer")
        .into_buffer()
        .expect("the last one");
    assert!(matches(11, &data), "a write leaves its buffer as it was");
    assert_eq!(
        queue.in_flight(),
        0,
        "nothing is in flight after the completion"
    );
}

pub(super) fn full_queue(engine: &dyn Engine) {
    const DEPTH: u32 = 3;
    let unit = unit(engine);
    let room = arena(unit);
    let data = buffer(&room, unit).into_io();
    let mut queue = queue(engine, DEPTH);
    for round in 0..5 {
        for token in 0..u64::from(DEPTH) {
            queue
                .push(part(token, OpKind::Read, 0, &data, unit))
                .expect("room");
        }
        let back = queue
            .push(part(99, OpKind::Read, 0, &data, unit))
            .expect_err("a full queue");
        assert_eq!(
            (back.token, queue.in_flight()),
            (99, DEPTH),
            "round {round}"
        );
        let mut done = Vec::new();
        queue.reap(DEPTH, None, &mut done).expect("the queue works");
        let mut tokens: Vec<_> = done.iter().map(|done| done.token).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [0, 1, 2], "every token comes back once");
    }
    assert_eq!(
        queue.counters().in_flight_max,
        DEPTH,
        "the counter says that the queue was full"
    );
    assert_eq!(
        queue.counters().parts,
        15,
        "the counter says how many parts there were"
    );
}

pub(super) fn part_without_memory(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(4 * unit);
    let data = buffer(&room, unit).into_io();
    let mut queue = queue(engine, 4);
    let without = Part {
        buf: None,
        ..part(1, OpKind::Read, 0, &data, unit)
    };
    let too_far = Part {
        buf_offset: unit,
        ..part(2, OpKind::Read, 0, &data, unit)
    };
    let overflow = Part {
        buf_offset: usize::MAX,
        ..part(3, OpKind::Write, 0, &data, unit)
    };
    for bad in [without, too_far, overflow] {
        let token = bad.token;
        queue.push(bad).expect("room");
        let mut done = Vec::new();
        queue
            .reap(1, Some(Duration::from_secs(10)), &mut done)
            .expect("the queue works");
        let done = done.pop().expect("a completion");
        assert_eq!(
            done.token, token,
            "the completion has the token of its part"
        );
        let error = done.result.expect_err("a part without memory");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

pub(super) fn part_past_the_end(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(unit);
    let data = buffer(&room, unit).into_io();
    let mut queue = queue(engine, 1);
    let beyond = engine.capacity_bytes().next_multiple_of(unit as u64);
    queue
        .push(part(1, OpKind::Read, beyond, &data, unit))
        .expect("room");
    let mut done = Vec::new();
    queue.reap(1, None, &mut done).expect("the queue works");
    let moved = done.pop().expect("a completion").result.unwrap_or(0);
    assert_eq!(moved, 0, "there is nothing beyond the end");
}

pub(super) fn drop_in_flight(engine: &dyn Engine) {
    const COUNT: u64 = 48;
    let unit = unit(engine);
    let room = arena(COUNT as usize * unit);
    for round in 0..8_u64 {
        let mut lane = lane(engine, 16);
        for tag in 0..COUNT {
            let mut data = buffer(&room, unit);
            fill(tag + round, &mut data);
            let offset = tag * unit as u64;
            let request = if tag % 2 == 0 {
                Request::write(offset, data, 0, unit)
            } else {
                Request::read(offset, data, 0, unit)
            };
            lane.start(tag, request);
        }
        lane.poll(0, None, &mut Vec::new())
            .expect("the queue works");
        drop(lane);
        // The queue waits for its parts, so their memory is free after the drop.
        assert_eq!(room.available(), room.bytes(), "round {round}");
    }
}

pub(super) fn batch_is_one_submission(engine: &dyn Engine) {
    const COUNT: u64 = 16;
    let unit = unit(engine);
    let room = arena(COUNT as usize * unit);
    let mut lane = lane(engine, 32);
    for _round in 0..3 {
        let before = lane.counters();
        let read = |at| Request::read(at * unit as u64, buffer(&room, unit), 0, unit);
        let done = lane.run((0..COUNT).map(read).collect());
        assert!(
            done.iter().all(|done| done.result.is_ok()),
            "every request succeeds"
        );
        let after = lane.counters();
        let parts_per_unit = (unit as u64).div_ceil(engine.limits().transfer_max.value);
        assert_eq!(
            after.parts - before.parts,
            COUNT * parts_per_unit,
            "the counter says how many parts there were"
        );
        if COUNT * parts_per_unit <= 32 {
            assert_eq!(
                after.submissions - before.submissions,
                1,
                "a batch is one submission"
            );
            assert!(after.enters - before.enters <= 1, "{before:?} {after:?}");
        }
    }
}

pub(super) fn moves_between_threads(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(16 * unit);
    let mut lane = lane(engine, 8);
    // With a waker, the queue may have state that belongs to the exiting thread.
    let _waker = lane.waker();
    for seed in 0..6_u64 {
        let mut data = Vec::new();
        for position in 0..4 {
            let mut buffer = buffer(&room, unit);
            fill(seed * 4 + position, &mut buffer);
            data.push(Request::write(position * unit as u64, buffer, 0, unit));
        }
        lane = on_thread(lane, |lane| {
            assert!(
                lane.run(data).iter().all(|done| done.result.is_ok()),
                "every write succeeds"
            );
        });
        lane = on_thread(lane, |lane| {
            let read = |at| Request::read(at * unit as u64, buffer(&room, unit), 0, unit);
            for done in lane.run((0..4).map(read).collect()) {
                done.result.expect("a read");
                assert!(matches(seed * 4 + done.tag, &done.buf.expect("the buffer")));
            }
        });
    }
}

/// Uses a lane on a thread that exits before this returns.
fn on_thread(mut lane: Lane, work: impl FnOnce(&mut Lane) + Send) -> Lane {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            work(&mut lane);
            lane
        });
        thread.join().expect("the thread's checks hold")
    })
}

pub(super) fn one_thread(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(4 * unit);
    let options = QueueOptions {
        depth: 4,
        arenas: vec![],
        issuer: Issuer::OneThread,
        inline: false,
        linger: Duration::ZERO,
    };
    // Opened here, used there: the first user becomes the one thread.
    let lane = Lane::new(
        engine.queue(&options).expect("the queue opens"),
        engine.limits(),
    );
    drop(on_thread(lane, |lane| {
        for seed in 0..20 {
            let mut data = buffer(&room, unit);
            fill(seed, &mut data);
            let done = lane.run(vec![Request::write(0, data, 0, unit)]);
            assert!(done[0].result.is_ok(), "{:?}", done[0].result);
            drop(done);
            let done = lane.run(vec![Request::read(0, buffer(&room, unit), 0, unit)]);
            assert!(matches(seed, done[0].buf.as_ref().expect("the buffer")));
        }
    }));
    assert_eq!(
        room.available(),
        room.bytes(),
        "all memory of the arena is free again"
    );
}

pub(super) fn side_by_side(engine: &dyn Engine) {
    const THREADS: u64 = 4;
    let unit = unit(engine);
    let room = arena(THREADS as usize * 8 * unit);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let room = &room;
            scope.spawn(move || {
                let mut lane = lane(engine, 4);
                for round in 0..10_u64 {
                    let seed = thread << 32 | round;
                    let at = |position: u64| (thread * 8 + position) * unit as u64;
                    let write = |position| {
                        let mut data = buffer(room, unit);
                        fill(seed ^ position << 16, &mut data);
                        Request::write(at(position), data, 0, unit)
                    };
                    drop(lane.run((0..8).map(write).collect()));
                    let read = |position| Request::read(at(position), buffer(room, unit), 0, unit);
                    for done in lane.run((0..8).map(read).collect()) {
                        let data = done.buf.expect("the buffer");
                        assert!(matches(seed ^ done.tag << 16, &data), "{thread} {round}");
                    }
                }
            });
        }
    });
}

pub(super) fn registered_and_other_buffers(engine: &dyn Engine) {
    let unit = unit(engine);
    // Memory from the engine itself, and memory that it has never seen.
    let registered = engine.arena(16 * unit).expect("memory for an arena");
    let other = arena(16 * unit);
    let options = QueueOptions {
        depth: 8,
        arenas: vec![registered.clone()],
        issuer: Issuer::Any,
        inline: true,
        linger: Duration::ZERO,
    };
    let queue: Box<dyn Queue> = engine.queue(&options).expect("the queue opens");
    let says_on = queue
        .report()
        .iter()
        .any(|line| line.name == "registered buffers" && line.on);
    let mut lane = Lane::new(queue, engine.limits());
    for (seed, room) in [(1, &registered), (2, &other)] {
        // Neither at the start of the arena nor at the start of the buffer.
        let _first = buffer(room, unit);
        let mut data = buffer(room, 3 * unit);
        fill(seed, &mut data[unit..2 * unit]);
        let done = lane.run(vec![Request::write(seed * unit as u64, data, unit, unit)]);
        let mut data = done
            .into_iter()
            .next()
            .and_then(|done| done.buf)
            .expect("the buffer");
        data.fill(0);
        let done = lane.run(vec![Request::read(
            seed * unit as u64,
            data,
            2 * unit,
            unit,
        )]);
        let data = done
            .into_iter()
            .next()
            .and_then(|done| done.buf)
            .expect("the buffer");
        assert!(
            matches(seed, &data[2 * unit..]),
            "bytes read are those written"
        );
    }
    let counters = lane.counters();
    assert_eq!(
        counters.fixed_parts + counters.unregistered_parts,
        counters.parts
    );
    assert_eq!(
        counters.fixed_parts > 0,
        says_on,
        "the report matches the counters"
    );
    if says_on {
        assert_eq!(
            counters.fixed_parts, counters.unregistered_parts,
            "one arena of two"
        );
    }
    // The queue may outlive the arena's owner.
    drop(registered);
    let started = Instant::now();
    lane.run(vec![Request::flush()]);
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "dropping a queue ends within 30 s"
    );
}
