//! The way of a put.
//!
//! ```text
//! 1 validate keys and sizes, hash, fold duplicates             here
//! 2 reserve each key, take its slot, evicting as needed        rb-index
//! 3 build headers and checksums; one batch of writes           rb-format, rb-io
//! 4 per touched shard, once: publish and queue the log record  rb-index, rb-format
//! 5 acknowledge as the durability asks                         commit
//! ```
//!
//! A batch larger than the buffers goes in parts of half of them, the last keys first, so that the
//! batch's first key ends as the most recently used.

use std::sync::Arc;

use rb_io::Patience;

use crate::core::gate::Pass;
use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::error::Error;
use crate::operation::{Completer, Operation, Wakes, operation};
use crate::ops::batch::run;
use crate::ops::put_batch::{PutAnswers, PutBatch};
use crate::ops::put_plan::{
    Payload, Plan, Planned, Put, PutResult, parts, plan, settle, take_buffers,
};
use crate::ops::worker::{AsyncThreads, Queued};
use crate::options::{Durability, PutOptions};
use crate::simulator::SwitchPoint;

/// Puts many values in the calling thread.
pub(crate) fn put_many(
    inner: &Arc<Inner>,
    puts: Vec<Put<'_>>,
    options: PutOptions,
) -> Vec<PutResult> {
    let (_pass, writer) = match inner.enter_writing() {
        Ok(entered) => entered,
        Err(error) => return vec![Err(error); puts.len()],
    };
    let Plan {
        planned,
        mut answers,
        followers,
    } = plan(inner, puts, options); // 1
    let mut ticket = 0;
    let mut waits = Waits::of(inner);
    for part in parts(inner, writer, planned) {
        let positions: Vec<usize> = part.iter().map(|planned| planned.at).collect();
        let prepared = PutBatch::prepare(inner, writer, part, options, &mut waits); // 2, 3
        match prepared {
            Ok(batch) => {
                let done = run(inner, batch, &mut waits); // the writes of 3, and 4
                ticket = ticket.max(done.ticket);
                for (at, answer) in done.answers {
                    answers[at] = answer;
                }
                inner.switch(SwitchPoint::PutPartDone);
            }
            Err(error) => positions
                .into_iter()
                .for_each(|at| answers[at] = Err(error.clone())),
        }
    }
    if inner.durability(options) == Durability::EachBatch {
        let durable = inner.make_durable(writer, ticket); // 5
        not_durable(&mut answers, durable);
    }
    settle(&mut answers, &followers);
    answers
}

/// Starts putting many values: a worker does steps 2 and 3, the driver thread step 4, the committer step 5. Values in the
/// caller's memory are copied before this returns. A batch that does not fit in one part is refused.
pub(crate) fn put_many_async<T: Send + 'static>(
    inner: &Arc<Inner>,
    threads: &AsyncThreads,
    puts: Vec<Put<'_>>,
    options: PutOptions,
    shape: fn(Vec<PutResult>) -> T,
) -> Operation<T> {
    let count = puts.len();
    let (operation, completer) =
        operation(move || shape((0..count).map(|_| Err(Error::Closed)).collect()));
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
    let reply = Reply {
        answers,
        followers,
        pass,
        completer,
        shape,
    };
    let mut waits = Waits::of(inner);
    let owned = only_part(parts(inner, writer, planned)).and_then(|part| own(inner, threads, part));
    let owned = match owned {
        Ok((part, _)) if part.is_empty() => {
            reply.give(&mut Wakes::default());
            return operation;
        }
        Ok(owned) => owned,
        Err(error) => {
            reply.refuse(error);
            return operation;
        }
    };
    if inner.is_manual() {
        match PutBatch::prepare(inner, writer, owned.0, options, &mut waits) {
            Ok(batch) => {
                let done = run(inner, batch, &mut waits);
                reply.written(inner, options, done, &mut Wakes::default());
            }
            Err(error) => reply.refuse(error),
        }
        return operation;
    }
    let (inner, driver) = (Arc::clone(inner), Arc::clone(&threads.driver));
    threads.writes.run(waits, move |waits| {
        let (part, queued) = owned;
        let writer = inner.writer.as_ref().expect("puts have a writer");
        let prepared =
            waits.and_then(|waits| PutBatch::prepare(&inner, writer, part, options, waits));
        drop(queued);
        match prepared {
            Ok(batch) => {
                let store = Arc::clone(&inner);
                driver.start(&inner, batch, move |done, wakes| {
                    reply.written(&store, options, done, wakes);
                });
            }
            Err(error) => reply.refuse(error),
        }
    });
    operation
}

/// Copies what is in the caller's memory: to buffers if there are enough now, or else to memory of its own, of which the
/// operations that wait have at most as much as there is of buffers.
fn own(
    inner: &Inner,
    threads: &AsyncThreads,
    part: Vec<Planned<'_>>,
) -> Result<(Vec<Planned<'static>>, Option<Queued>), Error> {
    let buffers = take_buffers(inner, &part, &mut Patience::none()).ok();
    let queued = match buffers {
        Some(_) => None,
        None => {
            let bytes = part
                .iter()
                .filter(|put| matches!(put.payload, Payload::Bytes(_)));
            let bytes = bytes.map(|put| put.payload.len()).sum();
            Some(threads.queue_bytes(bytes, inner.arena.bytes())?)
        }
    };
    let mut buffers = buffers.into_iter().flatten();
    let owned = part.into_iter().map(|planned| {
        let buffer = planned.needs_buffer().then(|| buffers.next()).flatten();
        planned.into_owned(inner, buffer)
    });
    Ok((owned.collect(), queued))
}

fn only_part(mut parts: Vec<Vec<Planned<'_>>>) -> Result<Vec<Planned<'_>>, Error> {
    let bytes = |part: &[Planned<'_>]| part.iter().map(Planned::stride).sum::<usize>();
    let last = parts.pop().unwrap_or_default();
    match parts.is_empty() {
        true => Ok(last),
        false => Err(Error::BatchTooLarge {
            needed: bytes(&last) + parts.iter().map(|part| bytes(part)).sum::<usize>(),
            limit: bytes(&last),
        }),
    }
}

/// The answers of an async put, once they are known.
struct Reply<T: Send + 'static> {
    answers: Vec<PutResult>,
    followers: Vec<(usize, usize)>,
    pass: Pass,
    completer: Completer<T>,
    shape: fn(Vec<PutResult>) -> T,
}

impl<T: Send + 'static> Reply<T> {
    /// The writes have ended: step 5, if it is wanted, and the answers.
    fn written(
        mut self,
        inner: &Arc<Inner>,
        options: PutOptions,
        done: PutAnswers,
        wakes: &mut Wakes,
    ) {
        for (at, answer) in done.answers {
            self.answers[at] = answer;
        }
        match inner.durability(options) {
            Durability::EachBatch => self.when_durable(inner, done.ticket),
            Durability::Interval => self.give(wakes),
        }
    }

    /// None of the puts was begun.
    fn refuse(mut self, error: Error) {
        self.answers.fill_with(|| Err(error.clone()));
        self.give(&mut Wakes::default());
    }

    /// Step 5, without blocking the driver: the committer gives the answers once the records are durable.
    fn when_durable(mut self, inner: &Arc<Inner>, ticket: u64) {
        let writer = inner.writer.as_ref().expect("puts have a writer");
        inner.when_durable(writer, ticket, move |outcome| {
            not_durable(&mut self.answers, outcome);
            self.give(&mut Wakes::default());
        });
    }

    fn give(mut self, wakes: &mut Wakes) {
        settle(&mut self.answers, &self.followers);
        // The operation ends before it is answered: the woken caller may close the store.
        drop(self.pass);
        self.completer.answer((self.shape)(self.answers), wakes);
    }
}

/// Takes the answers back if the commit failed of what they say or refer to: an existing value, or a later change, may
/// be gone after a crash like a value that was stored.
pub(crate) fn not_durable<T>(answers: &mut [Result<T, Error>], outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        let good = answers.iter_mut().filter(|answer| answer.is_ok());
        good.for_each(|answer| *answer = Err(error.clone()));
    }
}
