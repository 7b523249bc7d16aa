//! How a lane waits: for no more parts than must complete, and for all of those in one call.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Lane, Request, Segment};
use crate::arena::Arena;
use crate::buffer::Buffer;
use crate::engine::{Feature, Queue, QueueCounters};
use crate::limits::Limits;
use crate::request::{Memory, OpKind, Part, PartDone};
use crate::wake::Waker;

const UNIT: u64 = 4096;

/// Completes exactly as many parts as are waited for, and records every wait.
struct Obedient {
    depth: u32,
    parts: Vec<Part>,
    waits: Arc<Mutex<Vec<u32>>>,
    /// The error of every part.
    errno: Option<i32>,
}

impl Queue for Obedient {
    fn engine(&self) -> &'static str {
        "obedient"
    }

    fn capacity_bytes(&self) -> u64 {
        1 << 30
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn in_flight(&self) -> u32 {
        self.parts.len() as u32
    }

    fn push(&mut self, part: Part) -> Result<(), Part> {
        if self.in_flight() == self.depth {
            return Err(part);
        }
        self.parts.push(part);
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reap(
        &mut self,
        at_least: u32,
        _timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()> {
        self.waits.lock().push(at_least);
        assert!(at_least <= self.in_flight(), "waits for what cannot end");
        for part in self.parts.drain(..at_least as usize) {
            let errno = self.errno.map(io::Error::from_raw_os_error);
            let (token, buf, result) = (part.token, part.buf, errno.map_or(Ok(part.len), Err));
            done.push(PartDone { token, buf, result });
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }

    fn counters(&self) -> QueueCounters {
        QueueCounters::default()
    }

    fn report(&self) -> Vec<Feature> {
        Vec::new()
    }
}

fn lane(depth: u32) -> (Lane, Arc<Mutex<Vec<u32>>>) {
    lane_that_fails(depth, None)
}

fn lane_that_fails(depth: u32, errno: Option<i32>) -> (Lane, Arc<Mutex<Vec<u32>>>) {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let queue = Obedient {
        depth,
        parts: Vec::new(),
        waits: Arc::clone(&waits),
        errno,
    };
    // A discard has parts like any transfer and needs no memory.
    let mut limits = Limits::simple(512, UNIT, "test");
    if let Some(discard) = &mut limits.discard {
        discard.bytes_max.value = UNIT;
    }
    (Lane::new(Box::new(queue), &limits), waits)
}

/// A request of `count` parts.
fn parts(count: u64) -> Request {
    let request = Request::discard(0, count * UNIT);
    assert_eq!(request.op, OpKind::Discard);
    request
}

#[test]
fn a_batch_that_just_fits_is_one_wait() {
    let (mut lane, waits) = lane(16);
    let done = lane.run(vec![parts(4), parts(8), parts(4)]);
    assert!(done.iter().all(|done| done.result.is_ok()));
    assert_eq!(*waits.lock(), [16]);
}

#[test]
fn a_batch_that_does_not_fit_is_refilled_early() {
    let (mut lane, waits) = lane(16);
    lane.run((0..10).map(|_| parts(4)).collect());
    let waits = waits.lock();
    // A quarter of the depth at a time while there is more to push, then all the rest.
    assert_eq!(waits[..6], [4; 6]);
    assert_eq!(waits.iter().sum::<u32>(), 40);
    assert_eq!(*waits.last().expect("a wait"), 16);
}

#[test]
fn a_poll_waits_for_no_more_than_it_was_asked() {
    let (mut lane, waits) = lane(16);
    for tag in 0..4 {
        lane.start(tag, parts(1));
    }
    let mut done = Vec::new();
    lane.poll(2, None, &mut done).expect("the queue works");
    assert_eq!((done.len(), lane.unfinished()), (2, 2));
    assert_eq!(*waits.lock(), [2]);
    lane.poll(9, None, &mut done).expect("the queue works");
    assert_eq!((done.len(), lane.unfinished()), (4, 0));
    assert_eq!(*waits.lock(), [2, 2], "no call more than needed");
}

#[test]
fn a_poll_for_nothing_starts_what_waits() {
    let (mut lane, waits) = lane(16);
    lane.start(1, parts(3));
    lane.poll(0, None, &mut Vec::new())
        .expect("the queue works");
    assert_eq!(*waits.lock(), [0]);
    assert_eq!(lane.queue.in_flight(), 3);
}

/// A request of several ranges is one request: each range is cut by the limits, empty ones are
/// skipped, and one completion brings the buffer back.
#[test]
fn several_ranges_complete_as_one_request() {
    let (mut lane, waits) = lane(16);
    let arena = Arena::allocate(16 << 10).expect("memory");
    let segment = |offset, len, buf_offset| Segment {
        offset,
        len,
        buf_offset,
        memory: Memory::Buffer,
    };
    let request = Request {
        more: vec![
            segment(1 << 20, 0, 0),
            segment(1 << 20, 2 * UNIT, 4096),
            segment(1 << 21, UNIT, 12288),
        ],
        ..Request::write(0, arena.take(16 << 10).expect("free"), 0, 0)
    };
    assert_eq!(request.bytes(), 3 * UNIT);
    let done = lane.run(vec![request]);
    assert!(done[0].result.is_ok() && done[0].buf.is_some());
    assert_eq!(*waits.lock(), [3]);
}

/// Each range is checked before anything is sent.
#[test]
fn a_range_that_cannot_be_sent_fails_the_request() {
    let (mut lane, waits) = lane(16);
    let arena = Arena::allocate(8 << 10).expect("memory");
    let wrong = [(1 << 30, 4096, 4096), (100, 4096, 4096), (4096, 4096, 8192)];
    for (offset, len, buf_offset) in wrong {
        let buffer = arena.take(8 << 10).expect("free");
        let more = vec![Segment {
            offset,
            len,
            buf_offset,
            memory: Memory::Buffer,
        }];
        let done = lane.run(vec![Request {
            more,
            ..Request::write(0, buffer, 0, 4096)
        }]);
        assert!(done[0].result.is_err() && done[0].buf.is_some());
    }
    assert!(waits.lock().is_empty());
}

/// A request may take some of its ranges from a loan. A read needs an exclusive one.
#[test]
fn a_loan_is_memory_of_a_request_and_comes_back() {
    let (mut lane, waits) = lane(16);
    let (arena, lent) = (Arena::allocate(8192), Arena::allocate(64 << 10));
    let (arena, lent) = (arena.expect("memory"), lent.expect("memory"));
    let request = |op: fn(u64, Buffer, usize, usize) -> Request, loan| Request {
        more: vec![Segment {
            offset: 4096,
            len: 3 * UNIT,
            buf_offset: 512,
            memory: Memory::Loan,
        }],
        loan: Some(loan),
        ..op(0, arena.take(4096).expect("free"), 0, 4096)
    };
    let loan = |exclusive: bool| match exclusive {
        true => lent.lend_exclusive(1024, 20_000).expect("free"),
        false => lent.lend(1024, 20_000).expect("free"),
    };
    for (op, exclusive, works) in [
        (Request::write as fn(_, _, _, _) -> _, false, true),
        (Request::write, true, true),
        (Request::read, true, true),
        (Request::read, false, false),
    ] {
        let done = lane.run(vec![request(op, loan(exclusive))]).remove(0);
        assert_eq!(done.result.is_ok(), works);
        let back = done.loan.expect("it comes back");
        assert_eq!((back.arena_offset(), back.len()), (1024, 20_000));
        assert_eq!(back.is_exclusive(), exclusive);
    }
    assert_eq!(*waits.lock(), [4; 3]);
    assert_eq!(lent.available(), lent.bytes());
}

/// A request that is given up starts no more parts, and ends with those in flight. Other requests go on.
#[test]
fn a_request_that_is_given_up_starts_nothing_more() {
    let (mut lane, waits) = lane(4);
    let mut done = Vec::new();
    for (tag, count) in [(1, 6), (2, 3), (3, 1)] {
        lane.start(tag, parts(count));
    }
    lane.poll(0, None, &mut done).expect("the queue works");
    assert_eq!(lane.queue.in_flight(), 4, "four parts of the first");
    lane.give_up(|tag| tag != 3);
    // Nothing of the second was in flight.
    lane.poll(1, None, &mut done).expect("the queue works");
    assert_eq!((done.len(), done[0].tag), (1, 2));
    lane.poll(2, None, &mut done).expect("the queue works");
    assert_eq!((done.len(), lane.unfinished()), (3, 0));
    for done in done {
        let words = done.result.map_err(|error| error.to_string());
        match done.tag {
            1 => assert!(words.is_err_and(|words| words.contains("4096 bytes at 16384"))),
            2 => assert!(words.is_err_and(|words| words.contains("4096 bytes at 0"))),
            _ => assert!(words.is_ok()),
        }
    }
    assert_eq!(waits.lock().iter().sum::<u32>(), 5, "parts that were sent");
}

/// A request of which all parts are in flight is not failed by giving it up.
#[test]
fn a_request_that_is_given_up_may_still_be_done() {
    let (mut lane, _) = lane(4);
    let mut done = Vec::new();
    lane.start(1, parts(3));
    lane.poll(0, None, &mut done).expect("the queue works");
    lane.give_up(|_| true);
    lane.poll(1, None, &mut done).expect("the queue works");
    assert!(done[0].result.is_ok());
}

/// A part that has failed may still land, so it says more than one that was not sent. One that the kernel has cancelled was
/// not sent, and one that waits for another try may have been.
#[test]
fn what_failed_counts_for_more_than_what_was_not_sent() {
    for (errno, is_given_up) in [
        (libc::EIO, false),
        (libc::EBUSY, false),
        (libc::ECANCELED, true),
    ] {
        let (mut lane, _) = lane_that_fails(4, Some(errno));
        let mut done = Vec::new();
        lane.start(1, parts(6));
        lane.poll(0, None, &mut done).expect("the queue works");
        lane.give_up(|_| true);
        lane.poll(1, None, &mut done).expect("the queue works");
        let error = done.pop().and_then(|done| done.result.err());
        let error = error.expect("two parts were not sent");
        assert_eq!(error.is_given_up(), is_given_up, "{error:?}");
    }
}
