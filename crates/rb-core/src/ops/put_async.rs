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
//! A batch of more than [`PART_BYTES`] is split into parts, each of which goes this way alone. The
//! operation completes with its last part.

use std::collections::VecDeque;
use std::sync::Arc;

use rb_io::{Buffer, Patience};

use crate::core::gate::Pass;
use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::error::Error;
use crate::operation::{Completer, Operation, Wakes, operation};
use crate::ops::driver::Driver;
use crate::ops::gather::Gather;
use crate::ops::put::{not_durable, write};
use crate::ops::put_batch::{PutAnswers, PutBatch};
use crate::ops::put_plan::{
    Payload, Plan, PlannedPut, Put, PutResult, parts, plan, settle, take_buffers,
};
use crate::ops::worker::{AsyncThreads, Queued};
use crate::options::{Durability, PutOptions};

/// Most bytes of values in one part of a batch: a worker makes the checksums of a part while the
/// device writes the parts before it.
const PART_BYTES: usize = 8 << 20;

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
            completer.complete(shape(vec![Err(error); count]));
            return operation;
        }
    };
    let Plan {
        planned,
        answers,
        followers,
    } = plan(inner, puts, options); // 1
    let parts = parts(inner, writer, planned, PART_BYTES);
    let done = Done {
        answers,
        ticket: 0,
        followers,
        pass,
        completer,
        shape,
    };
    if parts.is_empty() {
        done.give(&mut Wakes::default());
        return operation;
    }
    let gather = Gather::new(parts.len(), done);
    let parts = parts.into_iter().map(|planned| Part {
        reply: PartReply {
            positions: planned.iter().map(|planned| planned.at).collect(),
            options,
            gather: Arc::clone(&gather),
        },
        planned,
    });
    if inner.is_manual() {
        parts.for_each(|part| part.run(inner));
    } else {
        start_parts(inner, threads, parts);
    }
    operation
}

/// Does as much as possible without waiting and hands the rest to workers. The first parts take
/// buffers while some are free. The values of the others are copied to the heap until there are some.
fn start_parts<'a, T: Send + 'static>(
    inner: &Arc<Inner>,
    threads: &Arc<AsyncThreads>,
    parts: impl ExactSizeIterator<Item = Part<'a, T>>,
) {
    let writer = inner.writer.as_ref().expect("puts have a writer");
    let is_only = parts.len() == 1;
    let mut waiting = Vec::new();
    for part in parts {
        // A part must not take the buffers that one before it waits for.
        let now = match waiting.is_empty() {
            true => take_buffers(inner, &part.planned, &mut Patience::none()).ok(),
            false => None,
        };
        let Some(buffers) = now else {
            waiting.push(part);
            continue;
        };
        let mut part = part.own(inner, buffers);
        // With buffers, prepare the batch in this thread if nothing blocks.
        if is_only {
            match PutBatch::prepare_now(inner, writer, part.planned, part.reply.options) {
                Ok(batch) => return part.reply.start(inner, &threads.driver, batch),
                Err(planned) => part.planned = planned,
            }
        }
        part.write_later(inner, threads, Waits::of(inner));
    }
    if waiting.is_empty() {
        return;
    }
    let bytes = waiting.iter().map(|part| copied(&part.planned)).sum();
    match threads.queue_bytes(bytes, inner.arena.bytes()) {
        Ok(queued) => {
            let waiting = waiting.into_iter().map(|part| part.own(inner, Vec::new()));
            let mut waits = Waits::of(inner);
            if !is_only {
                // Parts wait for the writes of those before them, too.
                waits.resources = Patience::new(inner.busy_wait().max(inner.options.io_deadline));
            }
            let waiting = Waiting {
                parts: waiting.collect(),
                _queued: queued,
            };
            wait_for_buffers(inner, threads, waiting, waits);
        }
        Err(error) => waiting
            .into_iter()
            .for_each(|part| part.reply.refuse(inner, &error)),
    }
}

/// Parts that wait for buffers.
struct Waiting<T: Send + 'static> {
    parts: VecDeque<Part<'static, T>>,
    /// Counts their copies of the caller's memory.
    _queued: Queued,
}

/// Lets a worker take the buffers of the first part, and then those of the others: operations that
/// came meanwhile have their turn between two parts. Another worker writes, because waiting for
/// buffers must not delay puts that have theirs.
fn wait_for_buffers<T: Send + 'static>(
    inner: &Arc<Inner>,
    threads: &Arc<AsyncThreads>,
    mut waiting: Waiting<T>,
    waits: Waits,
) {
    let Some(part) = waiting.parts.pop_front() else {
        return;
    };
    let (inner, all) = (Arc::clone(inner), Arc::clone(threads));
    threads.buffers.run(waits, move |waits, outcome| {
        let taken =
            outcome.and_then(|()| take_buffers(&inner, &part.planned, &mut waits.resources));
        match taken {
            Ok(buffers) => {
                part.own(&inner, buffers).write_later(&inner, &all, *waits);
                wait_for_buffers(&inner, &all, waiting, *waits);
            }
            Err(error) => {
                let refused = std::iter::once(part).chain(waiting.parts);
                refused.for_each(|part| part.reply.refuse(&inner, &error));
            }
        }
    });
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

/// A part of a batch.
struct Part<'a, T: Send + 'static> {
    planned: Vec<PlannedPut<'a>>,
    reply: PartReply<T>,
}

impl<T: Send + 'static> Part<'_, T> {
    /// Moves its values into `buffers`.
    fn own(self, inner: &Inner, buffers: Vec<Buffer>) -> Part<'static, T> {
        Part {
            planned: own(inner, self.planned, buffers),
            reply: self.reply,
        }
    }

    /// Steps 2 to 5 in the calling thread, without waiting for buffers.
    fn run(self, inner: &Arc<Inner>) {
        let writer = inner.writer.as_ref().expect("puts have a writer");
        let mut waits = Waits::of(inner);
        let buffers = take_buffers(inner, &self.planned, &mut Patience::none());
        let prepared = buffers.and_then(|buffers| {
            let planned = own(inner, self.planned, buffers);
            PutBatch::prepare(inner, writer, planned, self.reply.options, &mut waits) // 2
        });
        match prepared {
            Ok(prepared) => {
                let done = write(inner, prepared, &mut waits); // 3, 4
                self.reply.written(inner, done, &mut Wakes::default()); // 5
            }
            Err(error) => self.reply.refuse(inner, &error),
        }
    }
}

impl<T: Send + 'static> Part<'static, T> {
    /// Steps 2 and 3 in a worker.
    fn write_later(self, inner: &Arc<Inner>, threads: &Arc<AsyncThreads>, waits: Waits) {
        let (inner, all) = (Arc::clone(inner), Arc::clone(threads));
        threads.writes.run(waits, move |waits, outcome| {
            let writer = inner.writer.as_ref().expect("puts have a writer");
            let (planned, options) = (self.planned, self.reply.options);
            let prepared =
                outcome.and_then(|()| PutBatch::prepare(&inner, writer, planned, options, waits)); // 2
            match prepared {
                Ok(prepared) => {
                    let batch = PutBatch::seal_all(prepared); // 3
                    self.reply.start(&inner, &all.driver, batch);
                }
                Err(error) => self.reply.refuse(&inner, &error),
            }
        });
    }
}

/// The way to answer the puts of a part.
struct PartReply<T: Send + 'static> {
    /// Their positions in the batch.
    positions: Vec<usize>,
    options: PutOptions,
    gather: Arc<Gather<Done<T>>>,
}

impl<T: Send + 'static> PartReply<T> {
    /// Steps 4 and 5.
    fn start(self, inner: &Arc<Inner>, driver: &Driver, batch: PutBatch) {
        let store = Arc::clone(inner);
        driver.start(inner, batch, move |done, wakes| {
            self.written(&store, done, wakes);
        });
    }

    /// Records the results of the writes, then does step 5 if the durability requires it.
    fn written(self, inner: &Arc<Inner>, done: PutAnswers, wakes: &mut Wakes) {
        let all = self.gather.add(|all| {
            for (at, answer) in done.answers {
                all.answers[at] = answer;
            }
            all.ticket = all.ticket.max(done.ticket);
        });
        let Some(all) = all else {
            return;
        };
        match inner.durability(self.options) {
            Durability::EachBatch => all.when_durable(inner),
            Durability::Interval => all.give(wakes),
        }
    }

    /// Fails the puts of the part; none was started.
    fn refuse(self, inner: &Arc<Inner>, error: &Error) {
        let answers = self.positions.iter().map(|&at| (at, Err(error.clone())));
        let done = PutAnswers {
            answers: answers.collect(),
            ticket: 0,
        };
        self.written(inner, done, &mut Wakes::default());
    }
}

/// The results of an async put and the way to deliver them.
struct Done<T: Send + 'static> {
    answers: Vec<PutResult>,
    /// Once this ticket is durable, so is everything the results refer to.
    ticket: u64,
    followers: Vec<(usize, usize)>,
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

    fn give(mut self, wakes: &mut Wakes) {
        settle(&mut self.answers, &self.followers);
        // End the operation before its result is delivered: the woken caller may close the store.
        drop(self.pass);
        self.completer.answer((self.shape)(self.answers), wakes);
    }
}
