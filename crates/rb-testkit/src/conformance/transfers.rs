//! Checks of requests through a lane: every size, the boundaries, and requests that must not be
//! sent.

use rb_io::{Buffer, Engine, IoError, OpKind, Request};

use super::setup::{arena, block, buffer, lane, run_one, unit};
use crate::values::{fill, matches, next_number};

/// Bytes outside a transfer, in memory and on the device, that must not change.
const GUARD: u8 = 0xa5;

pub(super) fn sizes_around_limits(engine: &dyn Engine) {
    let block = block(engine);
    let max = (engine.limits().transfer_max.value as usize).min(2 << 20);
    let sizes = [
        block,
        2 * block,
        max - block,
        max,
        max + block,
        3 * max + block,
    ];
    let guard = unit(engine);
    let room = arena(2 * (3 * max + block + 4 * guard));
    let mut lane = lane(engine, 32);
    for (seed, len) in (1..).zip(sizes.into_iter().filter(|len| *len > 0)) {
        for shift in [0, block] {
            let at = guard + shift;
            let whole = (at + len + guard).next_multiple_of(guard);
            let mut written = buffer(&room, whole);
            written.fill(GUARD);
            let mut back =
                run_one(&mut lane, Request::write(0, written, 0, whole)).expect("the buffer");
            fill(seed, &mut back[..len]);
            let back =
                run_one(&mut lane, Request::write(at as u64, back, 0, len)).expect("the buffer");
            drop(back);
            check_written(&mut lane, buffer(&room, whole), at, len, seed);
            check_read(&mut lane, buffer(&room, whole), guard, at, len, seed);
        }
    }
}

/// Reads the whole range back: the guards around the written bytes are untouched.
fn check_written(lane: &mut rb_io::Lane, mut read: Buffer, at: usize, len: usize, seed: u64) {
    read.fill(0);
    let whole = read.len();
    let read = run_one(lane, Request::read(0, read, 0, whole)).expect("the buffer");
    assert!(matches(seed, &read[at..at + len]), "{len} bytes at {at}");
    assert!(
        read[..at].iter().all(|byte| *byte == GUARD),
        "before {len} bytes at {at}"
    );
    assert!(
        read[at + len..].iter().all(|byte| *byte == GUARD),
        "after {len} bytes at {at}"
    );
}

/// Reads into the middle of a buffer: the memory around it is untouched.
fn check_read(
    lane: &mut rb_io::Lane,
    mut read: Buffer,
    into: usize,
    at: usize,
    len: usize,
    seed: u64,
) {
    read.fill(0x5a);
    let read = run_one(lane, Request::read(at as u64, read, into, len)).expect("the buffer");
    assert!(
        matches(seed, &read[into..into + len]),
        "read of {len} bytes at {at}"
    );
    assert!(
        read[..into].iter().all(|byte| *byte == 0x5a),
        "memory before a read of {len}"
    );
    assert!(
        read[into + len..].iter().all(|byte| *byte == 0x5a),
        "memory after a read of {len}"
    );
}

pub(super) fn capacity_edge(engine: &dyn Engine) {
    let block = block(engine);
    let room = arena(4 * unit(engine));
    let mut lane = lane(engine, 4);
    let last = engine.capacity_bytes() - block as u64;
    let mut data = buffer(&room, block);
    fill(3, &mut data[..block]);
    let mut data = run_one(&mut lane, Request::write(last, data, 0, block)).expect("the buffer");
    data.fill(0);
    let data = run_one(&mut lane, Request::read(last, data, 0, block)).expect("the buffer");
    assert!(matches(3, &data[..block]), "bytes read are those written");
    let done = lane.run(vec![Request::read(engine.capacity_bytes(), data, 0, block)]);
    let error = done[0].result.as_ref().expect_err("a read past the end");
    assert!(matches!(error, IoError::OutOfRange { .. }), "{error}");
}

pub(super) fn bad_requests_are_never_sent(engine: &dyn Engine) {
    let block = block(engine);
    let room = arena(64 * unit(engine));
    let mut lane = lane(engine, 4);
    let take = || buffer(&room, unit(engine));
    let big = unit(engine);
    let mut requests = vec![
        Request::read(u64::MAX - u64::MAX % block as u64, take(), 0, block),
        Request::write(engine.capacity_bytes(), take(), 0, block),
        Request::read(0, take(), big, block),
        Request::read(0, take(), 0, 2 * big),
        Request::read(0, take(), usize::MAX - 4095, block),
        Request {
            buf: None,
            ..Request::read(0, take(), 0, block)
        },
        Request::discard(engine.capacity_bytes(), block as u64),
    ];
    if block > 1 {
        requests.push(Request::write(1, take(), 0, block));
        requests.push(Request::write(0, take(), 0, block - 1));
        requests.push(Request::discard(1, block as u64));
    }
    if engine.limits().memory_align.value > 1 {
        requests.push(Request::read(0, take(), 1, block));
    }
    let buffers: Vec<bool> = requests
        .iter()
        .map(|request| request.buf.is_some())
        .collect();
    for (done, had_buffer) in lane.run(requests).into_iter().zip(buffers) {
        let error = done.result.expect_err("a bad request");
        assert_eq!(
            done.buf.is_some(),
            had_buffer,
            "the buffer comes back: {error}"
        );
        assert!(!error.is_transient() && !error.is_device_gone(), "{error}");
    }
    assert_eq!(lane.counters().parts, 0, "nothing was sent");
    let nothing = lane.run(vec![Request::read(0, take(), 0, 0)]);
    assert!(
        nothing[0].result.is_ok() && nothing[0].buf.is_some(),
        "nothing to do is done"
    );
}

pub(super) fn one_bad_request_fails_alone(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(8 * unit);
    let mut lane = lane(engine, 8);
    let mut requests = Vec::new();
    for position in 0..5_u64 {
        let mut data = buffer(&room, unit);
        fill(position, &mut data);
        let offset = if position == 2 {
            engine.capacity_bytes()
        } else {
            position * unit as u64
        };
        requests.push(Request::write(offset, data, 0, unit));
    }
    for (position, done) in (0..).zip(lane.run(requests)) {
        assert_eq!(
            done.tag, position,
            "completions come in the order of the requests"
        );
        assert_eq!(done.result.is_err(), position == 2, "request {position}");
        assert!(matches(position, &done.buf.expect("the buffer comes back")));
    }
}

pub(super) fn larger_than_depth(engine: &dyn Engine) {
    const COUNT: u64 = 150;
    let unit = unit(engine);
    let room = arena(COUNT as usize * unit);
    for depth in [1, 4, 16] {
        let mut lane = lane(engine, depth);
        let write = |position| {
            let mut data = buffer(&room, unit);
            fill(position ^ u64::from(depth), &mut data);
            Request::write(position * unit as u64, data, 0, unit)
        };
        let done = lane.run((0..COUNT).map(write).collect());
        assert!(
            done.iter().all(|done| done.result.is_ok()),
            "every request succeeds"
        );
        drop(done);
        let read = |position| Request::read(position * unit as u64, buffer(&room, unit), 0, unit);
        for done in lane.run((0..COUNT).map(read).collect()) {
            let data = done.buf.expect("the buffer");
            assert!(
                matches(done.tag ^ u64::from(depth), &data),
                "request {}",
                done.tag
            );
        }
        assert!(
            lane.counters().in_flight_max <= depth,
            "no more parts are in flight than the depth allows"
        );
        assert_eq!(lane.counters().in_flight_max, depth, "the depth is used");
        assert_eq!(lane.unfinished(), 0, "no request is left");
    }
}

pub(super) fn flush_and_discard(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(4 * unit);
    let mut lane = lane(engine, 4);
    let mut data = buffer(&room, unit);
    fill(9, &mut data);
    let data = run_one(&mut lane, Request::write(0, data, 0, unit)).expect("the buffer");
    assert!(
        run_one(&mut lane, Request::flush()).is_none(),
        "a flush succeeds"
    );
    let mut done = lane.run(vec![Request::discard(unit as u64 * 4, unit as u64 * 4)]);
    let result = done.remove(0).result;
    match engine.limits().discard {
        Some(_) => result.expect("a supported discard"),
        None => assert!(matches!(
            result,
            Err(IoError::Unsupported {
                op: OpKind::Discard
            })
        )),
    }
    let data = run_one(&mut lane, Request::read(0, data, 0, unit)).expect("the buffer");
    assert!(
        matches(9, &data),
        "a discard elsewhere changes nothing here"
    );
}

pub(super) fn random_operations(engine: &dyn Engine) {
    const SEED: u64 = 0x5eed_0001;
    const BYTES: usize = 4 << 20;
    let block = block(engine);
    let room = arena(2 * BYTES);
    let mut model = vec![0; BYTES];
    let mut lane = lane(engine, 16);
    let zeroes = {
        let mut zeroes = buffer(&room, BYTES);
        zeroes.fill(0);
        zeroes
    };
    drop(run_one(&mut lane, Request::write(0, zeroes, 0, BYTES)));
    let mut random = SEED;
    for step in 0..120_u64 {
        let mut pick = |below: usize| (next_number(&mut random) % below as u64) as usize;
        let len = block * (1 + pick((512 << 10) / block));
        let at = block * pick((BYTES - len) / block + 1);
        let mut data = buffer(&room, len);
        if pick(2) == 0 {
            fill(step, &mut data[..len]);
            model[at..at + len].copy_from_slice(&data[..len]);
            drop(run_one(&mut lane, Request::write(at as u64, data, 0, len)));
        } else {
            let data =
                run_one(&mut lane, Request::read(at as u64, data, 0, len)).expect("the buffer");
            let same = data[..len] == model[at..at + len];
            assert!(same, "seed {SEED:#x}, step {step}: {len} bytes at {at}");
        }
    }
}

pub(super) fn started_during_run(engine: &dyn Engine) {
    let unit = unit(engine);
    let room = arena(8 * unit);
    let mut lane = lane(engine, 4);
    for tag in 100..103_u64 {
        lane.start(tag, Request::read(0, buffer(&room, unit), 0, unit));
    }
    let done = lane.run(vec![Request::read(0, buffer(&room, unit), 0, unit)]);
    assert_eq!(done.len(), 1, "one request gives one completion");
    let mut started = Vec::new();
    while started.len() < 3 {
        let missing = 3 - started.len() as u32;
        lane.poll(missing, None, &mut started)
            .expect("the queue works");
    }
    let mut tags: Vec<_> = started.iter().map(|done| done.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, [100, 101, 102], "every tag comes back once");
}
