//! Checks of positions in memory and on the device: alignment, splitting, the end, discards.

use rb_io::{Buffer, Engine, IoError, Request, split};

use super::setup::{arena, block, buffer, lane, run_one, unit};
use crate::values::{fill, matches};

pub(super) fn memory_alignment(engine: &dyn Engine) {
    let block = block(engine);
    let align = engine.limits().memory_align.value as usize;
    let room = arena(4 * unit(engine) + 2 * block + align);
    let mut lane = lane(engine, 4);
    // From each position of a page at which memory may begin.
    let steps = (4096 / align).clamp(1, 16);
    let step = (4096 / steps).next_multiple_of(align);
    for at in (0..steps).map(|number| number * step) {
        let mut data = buffer(&room, at + 2 * block);
        fill(at as u64, &mut data[at..at + 2 * block]);
        let mut data =
            run_one(&mut lane, Request::write(0, data, at, 2 * block)).expect("the buffer");
        data.fill(0);
        let data = run_one(&mut lane, Request::read(0, data, at, 2 * block)).expect("the buffer");
        assert!(
            matches(at as u64, &data[at..at + 2 * block]),
            "memory at {at}"
        );
        assert!(data[..at].iter().all(|byte| *byte == 0), "memory at {at}");
    }
}

pub(super) fn parts_together(engine: &dyn Engine) {
    let limits = engine.limits();
    let block = block(engine);
    let room = arena(8 << 20);
    // Not on multiples of the limits.
    let (offset, shift) = (block as u64, block.next_multiple_of(4096));
    let most = (6 << 20) - shift;
    let longest = (8 * limits.transfer_max.value as usize + block).min(most / block * block);
    let mut lane = lane(engine, 64);
    for len in [block, longest] {
        let data = buffer(&room, shift + len);
        let at = data.arena_offset() + shift;
        let parts = split(offset, len as u64, limits, at).count() as u64;
        let before = lane.counters().parts;
        drop(run_one(&mut lane, Request::write(offset, data, shift, len)));
        assert_eq!(lane.counters().parts - before, parts, "{len} bytes");
        let together = u64::from(lane.counters().in_flight_max);
        assert_eq!(together, parts.min(64), "{len} bytes");
    }
}

pub(super) fn across_the_edge(engine: &dyn Engine) {
    let block = block(engine);
    let end = engine.capacity_bytes();
    let room = arena(8 * block.max(4096));
    let mut lane = lane(engine, 4);
    let data = filled(buffer(&room, 2 * block), 5);
    let last = end - block as u64;
    let mut data = run_one(&mut lane, Request::write(last, data, 0, block)).expect("the buffer");
    data.fill(0);
    for request in [
        Request::write(last, data, 0, 2 * block),
        Request::read(last, buffer(&room, 2 * block), 0, 2 * block),
        Request::discard(last, 2 * block as u64),
    ] {
        let unsupported = engine.limits().discard.is_none();
        let error = lane.run(vec![request]).remove(0).result;
        let error = error.expect_err("it passes the end");
        let words = matches!(error, IoError::OutOfRange { .. })
            || unsupported && matches!(error, IoError::Unsupported { .. });
        assert!(words, "{error}");
    }
    let data = run_one(
        &mut lane,
        Request::read(last, buffer(&room, block), 0, block),
    );
    let expected = filled(buffer(&room, 2 * block), 5);
    assert!(
        data.expect("the buffer")[..block] == expected[..block],
        "the block before the end is as it was"
    );
}

pub(super) fn discards(engine: &dyn Engine) {
    let Some(discard) = engine.limits().discard else {
        return;
    };
    let unit = (discard.granularity.value as usize).clamp(unit(engine), 1 << 20);
    let room = arena(8 * unit);
    let mut lane = lane(engine, 8);
    let end = engine.capacity_bytes() / unit as u64 * unit as u64;
    // At the beginning, and up to the last whole unit.
    for start in [0, end - 4 * unit as u64] {
        let data = filled(buffer(&room, 4 * unit), 7);
        drop(run_one(&mut lane, Request::write(start, data, 0, 4 * unit)));
        let inner = Request::discard(start + unit as u64, 2 * unit as u64);
        assert!(run_one(&mut lane, inner).is_none(), "the discard succeeds");
        let read = Request::read(start, buffer(&room, 4 * unit), 0, 4 * unit);
        let read = run_one(&mut lane, read).expect("the buffer");
        let expected = filled(buffer(&room, 4 * unit), 7);
        for kept in [0..unit, 3 * unit..4 * unit] {
            assert!(read[kept.clone()] == expected[kept], "next to a discard");
        }
        // A discarded range can be written again.
        let data = filled(read, 8);
        drop(run_one(&mut lane, Request::write(start, data, 0, 4 * unit)));
        let read = Request::read(start, buffer(&room, 4 * unit), 0, 4 * unit);
        let read = run_one(&mut lane, read).expect("the buffer");
        assert!(
            matches(8, &read[..4 * unit]),
            "bytes next to the discarded range are as before"
        );
    }
    // Longer than one part may be, concurrently with writes elsewhere.
    let whole = Request::discard(unit as u64, end - 2 * unit as u64);
    let write = Request::write(0, filled(buffer(&room, unit), 9), 0, unit);
    for done in lane.run(vec![whole, write]) {
        done.result.expect("it succeeds");
    }
    let read = run_one(&mut lane, Request::read(0, buffer(&room, unit), 0, unit));
    assert!(matches(9, &read.expect("the buffer")[..unit]));
}

pub(super) fn flush_among_writes(engine: &dyn Engine) {
    const COUNT: u64 = 12;
    let unit = unit(engine);
    let room = arena(COUNT as usize * unit);
    let mut lane = lane(engine, 16);
    let mut requests = Vec::new();
    for position in 0..COUNT {
        let data = filled(buffer(&room, unit), position);
        requests.push(Request::write(position * unit as u64, data, 0, unit));
        if position % 4 == 3 {
            requests.push(Request::flush());
        }
    }
    for done in lane.run(requests) {
        done.result.expect("it succeeds");
    }
    let read = |at| Request::read(at * unit as u64, buffer(&room, unit), 0, unit);
    for done in lane.run((0..COUNT).map(read).collect()) {
        assert!(matches(done.tag, &done.buf.expect("the buffer")));
    }
}

fn filled(mut data: Buffer, seed: u64) -> Buffer {
    fill(seed, &mut data);
    data
}
