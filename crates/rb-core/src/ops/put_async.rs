//! An async put. The call itself does step 1 of `put.rs` and copies payloads out of the caller's
//! memory.
//!
//! ```text
//! wait for buffers, if none are free  the worker `buffers`
//! steps 2 and 3                       the call, if nothing has to be waited for and little to be checksummed;
//!                                    else the worker `writes`
//! step 4                              the driver
//! step 5                              the thread whose commit makes the records durable
//! ```
//!
//! A batch of more than [`PART_BYTES`] is split into parts, which go this way one after the other. The
//! operation completes with its last part.

use std::collections::VecDeque;
use std::sync::Arc;

use rb_io::{Buffer, Patience};

use crate::core::gate::Pass;
use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::counters::{Counters, Timer};
use crate::error::Error;
use crate::operation::{Completer, Operation, Wakes, operation};
use crate::ops::put::{not_durable, pay_back, plan_parts, write, written};
use crate::ops::put_batch::PutBatch;
use crate::ops::put_plan::{
    Ended, Parts, Payload, PlannedPut, Put, PutAnswers, PutResult, settle, take_buffers,
};
use crate::ops::turns::{Begun, Turns};
use crate::ops::worker::{AsyncThreads, Queued};
use crate::options::{Durability, PutOptions};

/// Most bytes of values in one part of a batch: a worker makes the checksums of a part while the
/// device writes the part before it.
const PART_BYTES: u64 = 8 << 20;
/// A part has at most one of so many parts of the store: the slots of parts in flight cannot be
/// evicted for those of the next one.
const PARTS_MIN: u64 = 8;

/// Starts a put of many values. Payloads in the caller's memory are copied before this returns,
/// even if no buffers are free and a worker must wait for them.
pub(crate) fn put_many_async<T: Send + 'static>(
    inner: &Arc<Inner>,
    threads: &Arc<AsyncThreads>,
    puts: Vec<Put<'_>>,
    options: PutOptions,
    shape: fn(Vec<PutResult>) -> T,
) -> Operation<T> {
    let count = puts.len();
    let (operation, completer) = operation(move |error| shape(vec![Err(error); count]));
    let (pass, writer) = match inner.enter_writing() {
        Ok(entered) => entered,
        Err(error) => {
            completer.complete(shape(inner.counters.failures.refuse(error, count)));
            return operation;
        }
    };
    let bytes = || puts.iter().map(|put| put.payload.len()).sum();
    let timer = inner.begin(|trace| trace.put(count, bytes));
    let Parts {
        parts,
        answers,
        followers,
        paid,
    } = plan_parts(inner, writer, puts, options, part_bytes(inner)); // 1
    let done = Done {
        answers,
        ticket: 0,
        followers,
        timer,
        counters: Arc::clone(&inner.counters),
        pass,
        completer,
        shape,
    };
    if parts.is_empty() {
        done.give(&mut Wakes::default());
        return operation;
    }
    let is_only = parts.len() == 1;
    let waits = match is_only {
        true => Waits::of(inner),
        false => Waits::of_parts(inner),
    };
    let parts = match own_all(inner, threads, parts) {
        Ok(parts) => parts,
        Err(error) => {
            done.refuse(&error, |answers| pay_back(inner, &paid, answers));
            return operation;
        }
    };
    let call = Arc::new(Call {
        inner: Arc::clone(inner),
        threads: Arc::clone(threads),
        options,
        is_only,
        ended: Ended::default(),
        paid,
        turns: Turns::new(parts, waits, done),
        begun: Begun::default(),
    });
    call.begin();
    operation
}

/// Most bytes of values in a part of a batch.
fn part_bytes(inner: &Inner) -> usize {
    let slots = u64::from(inner.geometry.slots());
    let bytes = inner.geometry.slot_capacity(0).unwrap_or(0) * slots / PARTS_MIN;
    usize::try_from(PART_BYTES.min(bytes)).unwrap_or(usize::MAX)
}

/// Moves all parts out of the caller's memory: the first of them to buffers, up to half of those, and
/// the others to the heap.
///
/// # Errors
/// `Busy`: the heap has too many values that wait for buffers.
fn own_all(
    inner: &Inner,
    threads: &AsyncThreads,
    parts: Vec<Vec<PlannedPut<'_>>>,
) -> Result<VecDeque<Part>, Error> {
    let mut left = inner.arena.bytes() / 2;
    let with_buffers = parts.into_iter().map(|planned| {
        let needed = strides(&planned);
        let buffers = match copied(&planned) > 0 && needed <= left {
            true => take_buffers(inner, &planned, &mut Patience::none()).ok(),
            false => None,
        };
        // Not past a part that waits: parts must not take each other's buffers.
        if copied(&planned) > 0 {
            left = buffers.as_ref().map_or(0, |_| left - needed);
        }
        (planned, buffers)
    });
    let with_buffers: Vec<_> = with_buffers.collect();
    let on_heap = |(planned, buffers): &(Vec<_>, Option<_>)| match buffers {
        Some(_) => 0,
        None => copied(planned),
    };
    let bytes = with_buffers.iter().map(on_heap).sum();
    let mut queued = threads.queue_bytes(bytes, inner.arena.bytes())?;
    let owned = with_buffers.into_iter().map(|part| Part {
        queued: Some(queued.split(on_heap(&part))),
        positions: part.0.iter().map(|planned| planned.at).collect(),
        planned: own(inner, part.0, part.1.unwrap_or_default()),
    });
    let mut parts: VecDeque<Part> = owned.collect();
    // What has its memory waits for no other part, which may wait for that memory.
    parts.make_contiguous().sort_by_key(Part::needs_buffers);
    Ok(parts)
}

/// Bytes of buffers that these puts need.
fn strides(planned: &[PlannedPut<'_>]) -> usize {
    let needy = planned.iter().filter(|planned| planned.needs_buffer());
    needy.map(PlannedPut::stride).sum()
}

/// Bytes to copy from the caller's memory.
fn copied(planned: &[PlannedPut<'_>]) -> usize {
    let bytes = planned.iter().map(|put| match put.payload {
        Payload::Bytes(bytes) => bytes.len(),
        Payload::Owned(_) | Payload::Buffer(_) | Payload::Loan(_) => 0,
    });
    bytes.sum()
}

/// Copies payloads out of the caller's memory: into `buffers` if there are any, else to the heap.
fn own(
    inner: &Inner,
    planned: Vec<PlannedPut<'_>>,
    buffers: Vec<Buffer>,
) -> Vec<PlannedPut<'static>> {
    let mut buffers = buffers.into_iter();
    let owned = planned.into_iter().map(|planned| {
        let buffer = planned.needs_buffer().then(|| buffers.next()).flatten();
        planned.into_owned(inner, buffer)
    });
    owned.collect()
}

/// A part of a batch, out of the caller's memory.
struct Part {
    planned: Vec<PlannedPut<'static>>,
    /// Positions in the batch.
    positions: Vec<usize>,
    /// Counts its copies on the heap, until they may go to buffers.
    queued: Option<Queued>,
}

impl Part {
    fn needs_buffers(&self) -> bool {
        self.planned.iter().any(PlannedPut::needs_buffer)
    }

    /// Gives each of its puts its buffer.
    fn with(self, inner: &Inner, buffers: Vec<Buffer>) -> Part {
        Part {
            planned: own(inner, self.planned, buffers),
            positions: self.positions,
            queued: None,
        }
    }
}

/// An async put.
struct Call<T: Send + 'static> {
    inner: Arc<Inner>,
    threads: Arc<AsyncThreads>,
    options: PutOptions,
    /// True if the batch has one part.
    is_only: bool,
    ended: Ended,
    /// Puts that the write budget has paid.
    paid: Vec<(usize, u64)>,
    turns: Turns<Part, Done<T>>,
    begun: Begun,
}

impl<T: Send + 'static> Call<T> {
    fn begin(self: &Arc<Self>) {
        self.turns
            .begin(|part, waits| match self.inner.is_manual() {
                true => self.run(part, waits),
                false => self.begin_part(part, waits),
            });
    }

    /// Does as much as possible without waiting and hands the rest to workers.
    fn begin_part(self: &Arc<Self>, mut part: Part, waits: Waits) {
        let inner = &self.inner;
        let writer = inner.writer.as_ref().expect("puts have a writer");
        let Ok(buffers) = take_buffers(inner, &part.planned, &mut Patience::none()) else {
            return self.wait_for_buffers(part, waits);
        };
        part = part.with(inner, buffers);
        // With buffers, prepare the batch in this thread if nothing blocks.
        if self.is_only {
            match PutBatch::prepare_now(inner, writer, part.planned, self.options, &self.ended) {
                Ok(batch) => return self.start(batch),
                Err(planned) => part.planned = planned,
            }
        }
        self.write_later(part, waits);
    }

    /// Lets a worker wait for buffers. Another one writes, because that must not delay puts that
    /// have theirs.
    fn wait_for_buffers(self: &Arc<Self>, part: Part, waits: Waits) {
        let call = Arc::clone(self);
        self.threads.buffers.run(waits, move |waits, outcome| {
            let inner = &call.inner;
            let taken =
                outcome.and_then(|()| take_buffers(inner, &part.planned, &mut waits.resources));
            call.turns.waited(*waits);
            match taken {
                Ok(buffers) => call.write_later(part.with(inner, buffers), *waits),
                Err(error) => call.refuse(part, &error),
            }
        });
    }

    /// Steps 2 and 3 in a worker.
    fn write_later(self: &Arc<Self>, part: Part, waits: Waits) {
        let call = Arc::clone(self);
        self.threads.writes.run(waits, move |waits, outcome| {
            let inner = &call.inner;
            let writer = inner.writer.as_ref().expect("puts have a writer");
            let Part {
                planned, positions, ..
            } = part;
            let (options, ended) = (call.options, &call.ended);
            let prepared = outcome.and_then(|()| {
                PutBatch::prepare(inner, writer, planned, options, ended, waits) // 2
            });
            call.turns.waited(*waits);
            match prepared {
                Ok(prepared) => call.start(PutBatch::seal_all(prepared)), // 3
                Err(error) => call.failed(&positions, &error),
            }
        });
    }

    /// Steps 4 and 5.
    fn start(self: &Arc<Self>, batch: PutBatch) {
        let call = Arc::clone(self);
        let driver = &self.threads.driver;
        driver.start(&self.inner, batch, &self.begun, move |done, wakes| {
            call.ended(done, wakes);
        });
    }

    /// Steps 2 to 5 in the calling thread, without waiting for buffers.
    fn run(self: &Arc<Self>, part: Part, mut waits: Waits) {
        let inner = &self.inner;
        let writer = inner.writer.as_ref().expect("puts have a writer");
        let buffers = match take_buffers(inner, &part.planned, &mut Patience::none()) {
            Ok(buffers) => buffers,
            Err(error) => return self.refuse(part, &error),
        };
        let planned = own(inner, part.planned, buffers);
        let (options, ended) = (self.options, &self.ended);
        let prepared = PutBatch::prepare(inner, writer, planned, options, ended, &mut waits); // 2
        match prepared {
            Ok(prepared) => {
                let done = write(inner, prepared, &mut waits); // 3, 4
                self.turns.waited(waits);
                self.ended(done, &mut Wakes::default()); // 5
            }
            Err(error) => self.failed(&part.positions, &error),
        }
    }

    /// Fails the puts of a part; none was started.
    fn refuse(self: &Arc<Self>, part: Part, error: &Error) {
        let Part {
            planned,
            positions,
            queued,
        } = part;
        // Before the caller gets the error and tries again: the loans and the memory.
        drop((planned, queued));
        self.failed(&positions, error);
    }

    fn failed(self: &Arc<Self>, positions: &[usize], error: &Error) {
        let answers = positions.iter().map(|&at| (at, Err(error.clone())));
        let done = PutAnswers {
            answers: answers.collect(),
            ticket: 0,
        };
        self.ended(done, &mut Wakes::default());
    }

    /// Records the results of a part. After the last one, does step 5 if the durability requires it.
    fn ended(self: &Arc<Self>, part: PutAnswers, wakes: &mut Wakes) {
        let mut errors = part
            .answers
            .iter()
            .filter_map(|(_, answer)| answer.as_ref().err());
        if let Some(late) = errors.find(|error| matches!(error, Error::TimedOut { .. })) {
            let rest = self.turns.give_up();
            rest.into_iter().for_each(|part| self.refuse(part, late));
        }
        let all = self.turns.end(|all| {
            for (at, answer) in part.answers {
                all.answers[at] = answer;
            }
            all.ticket = all.ticket.max(part.ticket);
        });
        let Some(all) = all else {
            return self.begin();
        };
        pay_back(&self.inner, &self.paid, &all.answers);
        match self.inner.durability(self.options) {
            Durability::EachBatch => all.when_durable(&self.inner),
            Durability::Interval => all.give(wakes),
        }
    }
}

/// The results of an async put and the way to deliver them.
struct Done<T: Send + 'static> {
    answers: Vec<PutResult>,
    /// Once this ticket is durable, so is everything the results refer to.
    ticket: u64,
    followers: Vec<(usize, usize)>,
    timer: Timer,
    counters: Arc<Counters>,
    pass: Pass,
    completer: Completer<T>,
    shape: fn(Vec<PutResult>) -> T,
}

impl<T: Send + 'static> Done<T> {
    /// Step 5 without blocking the driver: the thread whose commit makes the records durable
    /// delivers the results.
    fn when_durable(mut self, inner: &Arc<Inner>) {
        let writer = inner.writer.as_ref().expect("puts have a writer");
        inner.when_durable(writer, self.ticket, move |outcome| {
            not_durable(&mut self.answers, outcome);
            self.give(&mut Wakes::default());
        });
    }

    /// Fails every put; none was started.
    fn refuse(mut self, error: &Error, then: impl FnOnce(&[PutResult])) {
        not_durable(&mut self.answers, Err(error.clone()));
        then(&self.answers);
        self.give(&mut Wakes::default());
    }

    fn give(mut self, wakes: &mut Wakes) {
        settle(&mut self.answers, &self.followers);
        self.timer.count(&self.counters.times.put);
        let counters = self.counters;
        counters.ended("put", self.timer, &self.answers, written);
        // End the operation before its result is delivered: the woken caller may close the store.
        drop(self.pass);
        self.completer.answer((self.shape)(self.answers), wakes);
    }
}
