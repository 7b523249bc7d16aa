//! The path of a put.
//!
//! ```text
//! 1 validate keys and sizes, hash, fold duplicates; parts      put_plan.rs, put_parts.rs
//! 2 take a slot for each key, evicting as needed; reserve it   put_batch.rs, slots.rs; rb-index
//! 3 value by value: checksum, headers, start its write         put_pending.rs, batch.rs; rb-format, rb-io
//! 4 per touched shard, once: publish and queue the log record  put_publish.rs; rb-index, log/delta.rs
//! 5 acknowledge at the requested durability                    core/commit.rs
//! ```
//!
//! A batch larger than the buffer memory is split into parts of half of it. The last keys go first,
//! so that the batch's first key ends as the most recently used.

use std::sync::Arc;

use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::core::writer::Writer;
use crate::error::Error;
use crate::ops::batch::run_sealed;
use crate::ops::budgeting::pay;
pub(crate) use crate::ops::budgeting::pay_back;
use crate::ops::put_batch::{Prepared, PutBatch};
use crate::ops::put_parts::parts;
use crate::ops::put_plan::{
    Ended, Parts, Plan, PlannedPut, Put, PutAnswers, PutOutcome, PutResult, plan, settle,
};
use crate::options::{Durability, PutOptions};
use crate::simulator::SwitchPoint;

/// Step 1: plans the batch, removes what the write budget refuses, and splits the rest into parts of at most `payload_max`
/// bytes of values.
pub(crate) fn plan_parts<'a>(
    inner: &Inner,
    writer: &Writer,
    puts: Vec<Put<'a>>,
    options: PutOptions,
    payload_max: usize,
) -> Parts<'a> {
    let Plan {
        mut planned,
        mut answers,
        followers,
    } = plan(inner, puts, options);
    let paid = pay(inner, &mut planned, options.mode, &mut answers);
    Parts {
        parts: parts(inner, writer, planned, payload_max),
        answers,
        followers,
        paid,
    }
}

/// Puts many values in the calling thread.
pub(crate) fn put_many(
    inner: &Arc<Inner>,
    puts: Vec<Put<'_>>,
    options: PutOptions,
) -> Vec<PutResult> {
    let (_pass, writer) = match inner.enter_writing() {
        Ok(entered) => entered,
        Err(error) => return inner.counters.failures.refuse(error, puts.len()),
    };
    let bytes = || puts.iter().map(|put| put.payload.len()).sum();
    let timer = inner.begin(|trace| trace.put(puts.len(), bytes));
    let Parts {
        mut parts,
        mut answers,
        followers,
        paid,
    } = plan_parts(inner, writer, puts, options, usize::MAX); // 1
    let mut ticket = 0;
    let (ended, mut waits) = (Ended::default(), Waits::of(inner));
    // What has its memory waits for no other part, which may wait for that memory.
    parts.sort_by_key(|part| part.iter().any(PlannedPut::needs_buffer));
    for part in parts {
        // `prepare` consumes the part; the positions are needed if it fails.
        let positions: Vec<usize> = part.iter().map(|planned| planned.at).collect();
        let prepared = PutBatch::prepare(inner, writer, part, options, &ended, &mut waits); // 2
        match prepared {
            Ok(prepared) => {
                let done = write(inner, prepared, &mut waits); // 3, 4
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
    pay_back(inner, &paid, &answers);
    if inner.durability(options) == Durability::EachBatch {
        let durable = inner.make_durable(writer, ticket); // 5
        not_durable(&mut answers, durable);
    }
    settle(&mut answers, &followers);
    timer.count(&inner.counters.times.put);
    inner.counters.ended("put", timer, &answers, written);
    answers
}

/// Steps 3 and 4 in the calling thread.
pub(crate) fn write(
    inner: &Inner,
    (batch, sources): Prepared<'_>,
    waits: &mut Waits,
) -> PutAnswers {
    // Taken in the first round. In a second one the batch has sealed its requests itself.
    let mut sources: Vec<_> = sources.into_iter().map(Some).collect();
    run_sealed(inner, batch, waits, |batch, tag, request| {
        let source = sources[tag].take();
        source
            .map(|source| batch.seal(tag, source, request))
            .is_some()
    })
}

/// Replaces all successful results by the error if the commit failed. This includes `Existed` and
/// `Superseded`: the value they refer to may be lost in a crash just like a new one.
pub(crate) fn not_durable<T>(answers: &mut [Result<T, Error>], outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        let good = answers.iter_mut().filter(|answer| answer.is_ok());
        good.for_each(|answer| *answer = Err(error.clone()));
    }
}

/// Returns `Some` if the value was written, without its length, which the span of a put knows from its start.
pub(crate) fn written(outcome: &PutOutcome) -> Option<usize> {
    outcome.is_written().then_some(0)
}
