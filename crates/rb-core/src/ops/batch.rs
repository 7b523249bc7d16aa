//! A batch of requests in flight, and how the caller's thread drives it. The driver thread drives the same batches for
//! async operations.
//!
//! ```text
//! requests -> arrived, for each -> complete -> requests of the next round, or none: the answers are there
//! ```
//!
//! A blocking call takes a lane out of a pool and drives it itself: no thread hop, no wake-up. A batch that misses its
//! deadline leaves with its lane: a thread of its own waits for the kernel, because buffers, leases and reservations
//! belong to the batch until the last request is answered.

use std::sync::Arc;

use parking_lot::Mutex;
use rb_io::{Completion, Lane, Patience, Request};

use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::error::Error;
use crate::io::lanes::{Late, elsewhere};

/// Requests that belong together, and what to do when they are answered. It owns everything that must outlive the requests,
/// and gives it back in `complete` or `refused`, but for what the next round needs: one of the two follows each `requests`.
pub(crate) trait Batch: Send + 'static {
    type Answers: Send + 'static;

    /// `arrived` takes its time: the device is to work on meanwhile.
    const LOOKS_EARLY: bool;

    /// The requests of the next round, with their buffers; waits for those as long as `patience` lasts. None once
    /// everything is answered.
    fn requests(&mut self, patience: &mut Patience) -> Vec<Request>;

    /// One request of the round was answered; its tag is its position. Others may be under way.
    fn arrived(&mut self, answer: Completion);

    /// No request of the round is under way any more. Calls `before_observer` before an observer is called, which may be
    /// slow.
    fn complete(&mut self, before_observer: &mut dyn FnMut());

    /// No request of the round was sent.
    fn refused(&mut self, error: &Error);

    /// The answers, once. What is not answered yet gets `late`.
    fn answers(&mut self, late: Option<&Error>) -> Self::Answers;
}

/// Answers of a large batch are looked at whenever there are as many bytes more: what is done with them, such as
/// a checksum, takes far longer than a sleep, and the device works on meanwhile. A smaller batch is one sleep.
const TOGETHER_BYTES: u64 = 2 << 20;

/// Runs a batch in the calling thread.
pub(crate) fn run<B: Batch>(inner: &Inner, mut batch: B, waits: &mut Waits) -> B::Answers {
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
                continue;
            }
        };
        match drive(inner, lane, batch, requests, &mut waits.device) {
            Ok(driven) => batch = driven,
            Err(answers) => return answers,
        }
    }
}

/// A lane for the next round, which is not begun after the call's deadline.
fn lane(inner: &Inner, waits: &mut Waits) -> Result<Lane, Error> {
    if waits.device.is_over() {
        let waited = waits.device.limit();
        return Err(Error::TimedOut { waited });
    }
    inner.lanes.checkout(&mut waits.resources)
}

/// Drives one round to its end; fails with the answers if the device is late.
fn drive<B: Batch>(
    inner: &Inner,
    mut lane: Lane,
    mut batch: B,
    requests: Vec<Request>,
    patience: &mut Patience,
) -> Result<B, B::Answers> {
    let mut missing = requests.len();
    let bytes: u64 = requests.iter().map(|request| request.len).sum();
    let together = match B::LOOKS_EARLY {
        true => missing.div_ceil((bytes / TOGETHER_BYTES).max(1) as usize),
        false => missing,
    };
    for (tag, request) in (0..).zip(requests) {
        lane.start(tag, request);
    }
    let mut arrived = Vec::with_capacity(together);
    let mut healthy = true;
    while missing > 0 {
        let wanted = u32::try_from(missing.min(together)).unwrap_or(u32::MAX);
        // Polls once even at the deadline: completions that arrived while earlier ones were verified are in time.
        let last = patience.is_over();
        let polled = patience.spend(|step| lane.poll(wanted, Some(step), &mut arrived));
        healthy &= polled.is_ok();
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

/// Waits for the rest of a late batch in a thread of its own, however long the device takes.
fn wait_elsewhere<B: Batch>(lane: Lane, batch: B, missing: usize, late: Late) {
    let parked = Arc::new(Mutex::new(Some((lane, batch))));
    let waiting = Arc::clone(&parked);
    let started = elsewhere(move || {
        let Some((mut lane, mut batch)) = waiting.lock().take() else {
            return;
        };
        wait_for(&mut lane, &mut batch, missing);
        // The lane's memory goes first.
        drop(lane);
        drop(late);
    });
    if !started && let Some((lane, mut batch)) = parked.lock().take() {
        // No thread to wait in. The lane keeps the memory, and what it did not answer counts as failed.
        end(&mut batch);
        drop(lane);
    }
}

fn wait_for<B: Batch>(lane: &mut Lane, batch: &mut B, mut missing: usize) {
    let mut arrived = Vec::new();
    while missing > 0 {
        let wanted = u32::try_from(missing).unwrap_or(u32::MAX);
        let failed = lane.poll(wanted, None, &mut arrived).is_err();
        missing -= arrived.len();
        arrived.drain(..).for_each(|answer| batch.arrived(answer));
        if failed {
            break;
        }
    }
    end(batch);
}

/// Ends a batch whose answers are no longer awaited.
fn end<B: Batch>(batch: &mut B) {
    batch.complete(&mut || {});
    if !batch.requests(&mut Patience::none()).is_empty() {
        batch.refused(&Error::Closed);
    }
}
