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

use crate::core::gate::Pass;
use crate::core::inner::Inner;
use crate::error::Error;
use crate::operation::{Completer, Operation, Wakes, operation};
use crate::ops::batch::run;
use crate::ops::driver::Driver;
use crate::ops::put_batch::PutBatch;
use crate::ops::put_plan::{Plan, Planned, Put, PutResult, parts, plan, settle};
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
    for part in parts(inner, writer, planned) {
        let positions: Vec<usize> = part.iter().map(|planned| planned.at).collect();
        let prepared = PutBatch::prepare(inner, writer, part, options); // 2, 3
        match prepared {
            Ok(batch) => {
                let done = run(inner, batch); // the writes of 3, and 4
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

/// Starts putting many values: the driver thread does steps 3 and 4, the committer step 5. The values are copied or taken
/// over before this returns. A batch that does not fit in one part is refused: its later parts would have to keep the
/// caller's memory.
pub(crate) fn put_many_async(
    inner: &Arc<Inner>,
    driver: &Driver,
    puts: Vec<Put<'_>>,
    options: PutOptions,
) -> Operation<Vec<PutResult>> {
    let count = puts.len();
    let (operation, completer) =
        operation(move || (0..count).map(|_| Err(Error::Closed)).collect());
    let (pass, writer) = match inner.enter_writing() {
        Ok(entered) => entered,
        Err(error) => {
            completer.complete(vec![Err(error); count]);
            return operation;
        }
    };
    let Plan {
        planned,
        mut answers,
        followers,
    } = plan(inner, puts, options);
    if planned.is_empty() {
        settle(&mut answers, &followers);
        completer.complete(answers);
        return operation;
    }
    let prepared = only_part(parts(inner, writer, planned))
        .and_then(|part| PutBatch::prepare(inner, writer, part, options));
    let batch = match prepared {
        Ok(batch) => batch,
        Err(error) => {
            completer.complete(vec![Err(error); count]);
            return operation;
        }
    };
    let strict = inner.durability(options) == Durability::EachBatch;
    let store = Arc::clone(inner);
    driver.start(inner, batch, move |done, wakes| {
        for (at, answer) in done.answers {
            answers[at] = answer;
        }
        let reply = Reply {
            answers,
            followers,
            pass,
            completer,
        };
        match strict {
            true => reply.when_durable(&store, done.ticket),
            false => reply.give(wakes),
        }
    });
    operation
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
struct Reply {
    answers: Vec<PutResult>,
    followers: Vec<(usize, usize)>,
    pass: Pass,
    completer: Completer<Vec<PutResult>>,
}

impl Reply {
    /// Step 5, without blocking the driver: the committer gives the answers once the records are durable.
    fn when_durable(mut self, inner: &Arc<Inner>, ticket: u64) {
        let writer = inner.writer.as_ref().expect("puts have a writer");
        let store = Arc::downgrade(inner);
        let durable = move |outcome: Result<(), Error>| {
            let outcome = outcome.map_err(|error| match store.upgrade() {
                Some(inner) => inner.stopped(error),
                None => Error::Closed,
            });
            not_durable(&mut self.answers, outcome);
            self.give(&mut Wakes::default());
        };
        writer.log.when_durable(ticket, Box::new(durable));
        if inner.is_manual() && !writer.log.is_durable(ticket) {
            drop(inner.commit(writer));
        }
    }

    fn give(mut self, wakes: &mut Wakes) {
        settle(&mut self.answers, &self.followers);
        // The operation ends before it is answered: the woken caller may close the store.
        drop(self.pass);
        self.completer.answer(self.answers, wakes);
    }
}

/// Takes the answers back if the commit failed of what they say or refer to: an existing value, or a later change, may
/// be gone after a crash like a value that was stored.
pub(crate) fn not_durable(answers: &mut [PutResult], outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        let good = answers.iter_mut().filter(|answer| answer.is_ok());
        good.for_each(|answer| *answer = Err(error.clone()));
    }
}
