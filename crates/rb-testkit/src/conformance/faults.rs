//! Checks with a device that fails, transfers less than requested, or loses its power.

use rb_io::{Engine, IoError, Lane, OpKind, Request};

use super::loans;
use super::setup::{arena, block, buffer, lane, run_one, unit};
use super::subject::Faults;
use crate::values::{fill, matches};

const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;

/// Returns a length of a little more than three parts, so that there is a part in the middle.
fn long(engine: &dyn Engine) -> usize {
    let part = (engine.limits().transfer_max.value as usize).min(128 << 10);
    (3 * part + block(engine)).next_multiple_of(unit(engine))
}

pub(super) fn one_request_fails(engine: &dyn Engine, faults: &dyn Faults) -> bool {
    const COUNT: u64 = 5;
    const BAD: u64 = 2;
    let len = long(engine);
    let room = arena(COUNT as usize * len);
    let mut lane = lane(engine, 32);
    for op in [OpKind::Write, OpKind::Read] {
        let middle = BAD * len as u64 + len as u64 / 2;
        let middle = middle / block(engine) as u64 * block(engine) as u64;
        let range = middle..middle + block(engine) as u64;
        if !faults.fail_next(op, range.clone(), EIO) {
            return false;
        }
        let request = |position: u64| {
            let mut data = buffer(&room, len);
            fill(position, &mut data[..len]);
            match op {
                OpKind::Write => Request::write(position * len as u64, data, 0, len),
                _ => Request::read(position * len as u64, data, 0, len),
            }
        };
        for done in lane.run((0..COUNT).map(request).collect()) {
            let position = done.tag;
            let data = done.buf.expect("the buffer comes back");
            if position != BAD {
                done.result.expect("it is none of its business");
                assert!(matches(position, &data[..len]), "{op:?} {position}");
                continue;
            }
            let error = done.result.expect_err("a part of it failed");
            let IoError::Os {
                offset,
                len,
                source,
                ..
            } = &error
            else {
                panic!("{error}");
            };
            assert_eq!(
                source.raw_os_error(),
                Some(EIO),
                "the errno of the device is reported"
            );
            assert!(
                *offset < range.end && range.start < offset + len,
                "{error} does not name the place"
            );
        }
        // The device works again.
        let mut data = buffer(&room, len);
        fill(BAD, &mut data[..len]);
        drop(run_one(
            &mut lane,
            Request::write(BAD * len as u64, data, 0, len),
        ));
    }
    true
}

pub(super) fn short_transfers(engine: &dyn Engine, faults: &dyn Faults) -> bool {
    let (len, block) = (long(engine), block(engine));
    let room = arena(2 * len);
    let mut lane = lane(engine, 16);
    for op in [OpKind::Write, OpKind::Read] {
        // Also in the middle of a block: the remainder begins with that block again.
        for (seed, bytes) in [(1, block), (2, block + block / 2), (3, 2 * block)] {
            if !faults.short_next(op, 0..len as u64, bytes as u32) {
                return false;
            }
            let mut data = buffer(&room, len);
            fill(seed, &mut data[..len]);
            let mut data = run_one(&mut lane, Request::write(0, data, 0, len)).expect("the buffer");
            data.fill(0);
            let read = Request {
                checksummed: Some(0..len),
                ..Request::read(0, data, 0, len)
            };
            let done = lane.run(vec![read]).remove(0);
            done.result.expect("the request succeeds");
            let data = done.buf.expect("the buffer");
            assert!(matches(seed, &data[..len]), "{op:?} of {bytes} bytes first");
            loans::check(&done.sums, 0..len, &data);
        }
    }
    true
}

pub(super) fn no_progress(engine: &dyn Engine, faults: &dyn Faults) -> bool {
    let unit = unit(engine);
    let room = arena(unit);
    let mut lane = lane(engine, 4);
    for op in [OpKind::Write, OpKind::Read] {
        if !faults.short_next(op, 0..unit as u64, 0) {
            return false;
        }
        let data = buffer(&room, unit);
        let request = match op {
            OpKind::Write => Request::write(0, data, 0, unit),
            _ => Request::read(0, data, 0, unit),
        };
        let done = lane.run(vec![request]).remove(0);
        let error = done.result.expect_err("nothing was moved");
        assert!(matches!(error, IoError::Short { moved: 0, .. }), "{error}");
        assert!(done.buf.is_some(), "the buffer comes back");
    }
    true
}

pub(super) fn transient_errors(engine: &dyn Engine, faults: &dyn Faults) -> bool {
    let unit = unit(engine);
    let room = arena(unit);
    let mut lane = lane(engine, 4);
    for (seed, errno) in [(1, EAGAIN), (2, ENOMEM)] {
        for op in [OpKind::Write, OpKind::Read, OpKind::Flush] {
            if !(faults.fail_next(op, 0..unit as u64, errno)
                && faults.fail_next(op, 0..unit as u64, errno))
            {
                return false;
            }
        }
        let mut data = buffer(&room, unit);
        fill(seed, &mut data);
        let mut data = run_one(&mut lane, Request::write(0, data, 0, unit)).expect("the buffer");
        data.fill(0);
        assert!(
            run_one(&mut lane, Request::flush()).is_none(),
            "a flush succeeds"
        );
        let data = run_one(&mut lane, Request::read(0, data, 0, unit)).expect("the buffer");
        assert!(matches(seed, &data), "error {errno}");
    }
    true
}

pub(super) fn failing_flush(engine: &dyn Engine, faults: &dyn Faults) -> bool {
    if !faults.fail_next(OpKind::Flush, 0..u64::MAX, EIO) {
        return false;
    }
    let mut lane = lane(engine, 4);
    let done = lane.run(vec![Request::flush()]).remove(0);
    let error = done.result.expect_err("the flush failed");
    assert!(!error.is_transient(), "{error}");
    assert!(
        run_one(&mut lane, Request::flush()).is_none(),
        "a flush succeeds after one that failed"
    );
    true
}

pub(super) fn flush_order(engine: &dyn Engine, faults: &dyn Faults) -> bool {
    let unit = unit(engine);
    let room = arena(2 * unit);
    let mut lane = lane(engine, 4);
    for seed in 1..4 {
        write(&mut lane, buffer(&room, unit), 0, seed);
        assert!(
            run_one(&mut lane, Request::flush()).is_none(),
            "a flush succeeds"
        );
        // After the flush, and without another one.
        write(&mut lane, buffer(&room, unit), unit as u64, seed);
        let Some(left) = faults.crash() else {
            return false;
        };
        let mut after = super::setup::lane(&*left, 4);
        let data = run_one(&mut after, Request::read(0, buffer(&room, unit), 0, unit));
        assert!(matches(seed, &data.expect("the buffer")), "it was flushed");
    }
    true
}

fn write(lane: &mut Lane, mut data: rb_io::Buffer, offset: u64, seed: u64) {
    let len = data.len();
    fill(seed, &mut data);
    drop(run_one(lane, Request::write(offset, data, 0, len)));
}
