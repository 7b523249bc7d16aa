//! Checks of memory that is lent to requests, and of the checksums of reads.

use std::ops::Range;

use rb_io::{Arena, Engine, Loan, Memory, PartSum, Request, Segment};

use super::setup::{arena, block, buffer, lane, unit};
use crate::values::{fill, matches};

/// A request whose memory is a loan, and whose buffer gets its last block.
fn request(write: bool, engine: &dyn Engine, room: &Arena, loan: Loan, offset: u64) -> Request {
    let (block, tail) = (block(engine), buffer(room, unit(engine)));
    let body = loan.len() as u64;
    let at = offset + body;
    let last = match write {
        true => Request::write(at, tail, 0, block),
        false => Request::read(at, tail, 0, block),
    };
    Request {
        more: vec![Segment {
            offset,
            len: body,
            buf_offset: 0,
            memory: Memory::Loan,
        }],
        checksummed: (!write).then(|| 0..loan.len()),
        loan: Some(loan),
        ..last
    }
}

pub(super) fn shared_and_exclusive(engine: &dyn Engine) {
    let (block, unit) = (block(engine), unit(engine));
    let len = (engine.limits().transfer_max.value as usize).min(1 << 20) + unit + block;
    let (room, lent) = (arena(4 * unit), arena(2 * len.next_multiple_of(4096)));
    let mut lane = lane(engine, 8);
    let mut loan = lent.lend_exclusive(unit, len).expect("free");
    fill(3, loan.bytes_mut().expect("an exclusive loan"));
    drop(loan);
    // Several writes of one range at once.
    let offsets = [0, 2 << 20].map(|at| at + block as u64);
    let writes = offsets.map(|offset| {
        let loan = lent.lend(unit, len).expect("shared with other writes");
        request(true, engine, &room, loan, offset)
    });
    for done in lane.run(writes.into()) {
        done.result.expect("the request succeeds");
        let loan = done.loan.expect("it comes back");
        assert!(!loan.is_exclusive() && loan.len() == len);
        assert!(done.sums.is_empty(), "no write is checksummed");
    }
    for offset in offsets {
        let mut loan = lent.lend_exclusive(unit, len).expect("free");
        loan.bytes_mut().expect("an exclusive loan").fill(0);
        let read = request(false, engine, &room, loan, offset);
        let done = lane.run(vec![read]).pop().expect("a completion");
        done.result.expect("the request succeeds");
        let loan = done.loan.expect("it comes back");
        let bytes = loan.bytes().expect("an exclusive loan");
        assert!(matches(3, bytes), "the bytes at {offset}");
        check(&done.sums, 0..len, bytes);
    }
    assert_eq!(lent.available(), lent.bytes(), "every loan has ended");
}

pub(super) fn checksums_of_a_range(engine: &dyn Engine) {
    let (block, unit) = (block(engine), unit(engine));
    let room = arena(8 << 20);
    let len = (engine.limits().transfer_max.value as usize).min(1 << 20) + unit;
    let mut lane = lane(engine, 2);
    let ranges = [0..len, 1..len - 1, len - 2..len - 1, block - 1..block + 1];
    for range in ranges {
        let mut data = buffer(&room, len.next_multiple_of(4096));
        fill(7, &mut data[..len]);
        let done = lane.run(vec![Request::write(0, data, 0, len)]);
        let data = done.into_iter().next().and_then(|done| done.buf);
        let read = Request {
            checksummed: Some(range.clone()),
            ..Request::read(0, data.expect("the buffer"), 0, len)
        };
        let done = lane.run(vec![read]).pop().expect("a completion");
        done.result.expect("the request succeeds");
        check(&done.sums, range, &done.buf.expect("the buffer"));
    }
}

/// Each part of the range is checksummed once.
pub(super) fn check(sums: &[PartSum], range: Range<usize>, bytes: &[u8]) {
    let mut at = range.start;
    for sum in sums {
        assert_eq!(sum.at, at, "the checksums are contiguous");
        let part = &bytes[sum.at..][..sum.len];
        assert_eq!(sum.crc32, crc32fast::hash(part), "{} at {at}", sum.len);
        at += sum.len;
    }
    assert_eq!(at, range.end, "all of the range is checksummed");
}
