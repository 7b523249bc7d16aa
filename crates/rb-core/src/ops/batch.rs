//! A batch of requests in flight, driven by the calling thread or, for async operations, by the
//! driver thread.
//!
//! ```text
//! requests -> arrived, once per request -> complete -> requests of the next round; none: every result is known
//! ```
//!
//! A blocking call takes a lane out of the pool and drives it itself: no thread hop, no wake-up. If
//! it misses its deadline, it returns, and lane and batch move to a thread of their own that waits
//! for the kernel: buffers, leases and reservations belong to the batch until its last request
//! completes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rb_io::{Completion, Lane, Patience, Request};

use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::error::Error;
use crate::io::lanes::{Late, PoolLane, elsewhere};

/// A set of requests and the handling of their completions.
///
/// The batch owns everything that must outlive its requests. Each call of `requests` is followed by
/// exactly one of `complete` and `refused`, which release all of it except what the next round
/// needs.
pub(crate) trait Batch: Send + 'static {
    type Answers: Send + 'static;

    /// True if `arrived` is expensive, so that it should run while the device works on the other
    /// requests.
    const LOOKS_EARLY: bool;

    /// Returns the requests of the next round with their buffers; waits for buffers up to
    /// `patience`. Returns none once every result is known.
    fn requests(&mut self, patience: &mut Patience) -> Vec<Request>;

    /// Handles the completion of one request of the round; its tag is its position. Other requests
    /// may still be in flight.
    fn arrived(&mut self, answer: Completion);

    /// Ends a round: none of its requests is in flight any more. Calls `before_observer` before it
    /// calls an observer, which may be slow.
    fn complete(&mut self, before_observer: &mut dyn FnMut());

    /// Ends a round none of whose requests was submitted.
    fn refused(&mut self, error: &Error);

    /// Takes the results. Keys without a result get `late`.
    fn answers(&mut self, late: Option<&Error>) -> Self::Answers;
}

/// Completions of a large batch are handled in portions of this many bytes: verifying a portion
/// takes far longer than a sleep, and the device works in the meantime. A smaller batch is awaited
/// in one sleep.
const TOGETHER_BYTES: u64 = 2 << 20;

/// A batch whose requests are sealed starts them whenever it has sealed this many bytes: sealing
/// those takes about as long as a fast device takes to write them.
const SEALED_BYTES: u64 = 1 << 20;

/// Runs a batch to its end in the calling thread.
pub(crate) fn run<B: Batch>(inner: &Inner, batch: B, waits: &mut Waits) -> B::Answers {
    run_sealed(inner, batch, waits, |_, _, _| false)
}

/// Runs a batch to its end in the calling thread. Calls `seal` with the position of each request just
/// before it starts, while earlier ones are in flight; it returns false if there was nothing to do.
pub(crate) fn run_sealed<B: Batch>(
    inner: &Inner,
    mut batch: B,
    waits: &mut Waits,
    mut seal: impl FnMut(&mut B, usize, &mut Request) -> bool,
) -> B::Answers {
    let _using = inner.lanes.load.using();
    loop {
        let requests = batch.requests(&mut waits.resources);
        if requests.is_empty() {
            return batch.answers(None);
        }
        let lane = match lane(inner, waits) {
            Ok(lane) => lane,
            Err(error) => {
                batch.refused(&error);
                // A refused batch has no more requests: the next turn of the loop returns its
                // results.
                continue;
            }
        };
        match drive(inner, lane, batch, requests, &mut seal, &mut waits.device) {
            Ok(driven) => batch = driven,
            Err(answers) => return answers,
        }
    }
}

/// Checks a lane out for the next round; fails after the call's deadline.
fn lane(inner: &Inner, waits: &mut Waits) -> Result<PoolLane, Error> {
    if waits.device.is_over() {
        let waited = waits.device.limit();
        return Err(Error::TimedOut { waited });
    }
    let counter = &inner.counters.waits.queues;
    counter.during(&mut waits.resources, |patience| {
        inner.lanes.checkout(patience)
    })
}

/// Drives one round to its end. If the device is late, fails with the results so far and leaves the
/// batch to a thread of its own.
fn drive<B: Batch>(
    inner: &Inner,
    mut lane: PoolLane,
    mut batch: B,
    requests: Vec<Request>,
    seal: &mut impl FnMut(&mut B, usize, &mut Request) -> bool,
    patience: &mut Patience,
) -> Result<B, B::Answers> {
    let mut missing = requests.len();
    let bytes: u64 = requests.iter().map(Request::bytes).sum();
    let together = match B::LOOKS_EARLY {
        true => missing.div_ceil((bytes / TOGETHER_BYTES).max(1) as usize),
        false => missing,
    };
    let mut arrived = Vec::with_capacity(together);
    let mut healthy = true;
    let mut sealed = 0;
    for (tag, mut request) in requests.into_iter().enumerate() {
        if seal(&mut batch, tag, &mut request) {
            sealed += request.bytes();
        }
        lane.start(tag as u64, request);
        if sealed >= SEALED_BYTES {
            sealed = 0;
            healthy &= lane.poll(0, Some(Duration::ZERO), &mut arrived).is_ok();
        }
    }
    missing -= arrived.len();
    arrived.drain(..).for_each(|answer| batch.arrived(answer));
    while missing > 0 {
        let wanted = u32::try_from(missing.min(together)).unwrap_or(u32::MAX);
        // Poll once even at the deadline: completions that arrived while earlier ones were verified
        // still count as on time.
        let last = patience.is_over();
        let polled = patience.spend(|step| lane.poll(wanted, Some(step), &mut arrived));
        // A failed queue completes every unfinished request with an error, so the loop still ends;
        // only the lane cannot be reused.
        healthy &= polled.is_ok();
        assert!(arrived.len() <= missing, "a lane completes a request once");
        missing -= arrived.len();
        arrived.drain(..).for_each(|answer| batch.arrived(answer));
        if missing > 0 && last {
            let late = inner.lanes.late(&lane);
            let waited = patience.limit();
            let answers = batch.answers(Some(&Error::TimedOut { waited }));
            wait_elsewhere(lane, batch, missing, late);
            return Err(answers);
        }
    }
    match healthy {
        true => inner.lanes.give_back(lane),
        false => inner.lanes.lost(&lane),
    }
    batch.complete(&mut || {});
    Ok(batch)
}

/// Gives up what the device does not have yet of a late batch, and waits for the rest in a thread of its own, however
/// long the device takes.
fn wait_elsewhere<B: Batch>(lane: PoolLane, batch: B, missing: usize, late: Late) {
    // If no thread can be started, the closure is dropped. Lane and batch must survive that.
    let parked = Arc::new(Mutex::new(Some((lane, batch))));
    let waiting = Arc::clone(&parked);
    let started = elsewhere(move || {
        let Some((mut lane, mut batch)) = waiting.lock().take() else {
            return;
        };
        wait_for(&mut lane, &mut batch, missing);
        // `late` is dropped last, so that it covers the lane's memory.
        drop(lane);
        drop(late);
    });
    if !started && let Some((lane, mut batch)) = parked.lock().take() {
        // No thread could be started. The lane keeps its memory, and requests without a completion
        // count as failed.
        end(&mut batch);
        drop(lane);
    }
}

fn wait_for<B: Batch>(lane: &mut Lane, batch: &mut B, mut missing: usize) {
    lane.give_up(|_| true);
    let mut arrived = Vec::new();
    while missing > 0 {
        // One by one: each gives its memory back.
        let failed = lane.poll(1, None, &mut arrived).is_err();
        assert!(arrived.len() <= missing, "a lane completes a request once");
        missing -= arrived.len();
        arrived.drain(..).for_each(|answer| batch.arrived(answer));
        if failed {
            break;
        }
    }
    end(batch);
}

/// Ends a batch whose results no caller waits for.
fn end<B: Batch>(batch: &mut B) {
    batch.complete(&mut || {});
    // No caller waits for another round, such as a second read.
    if !batch.requests(&mut Patience::none()).is_empty() {
        batch.refused(&Error::Closed);
    }
}
