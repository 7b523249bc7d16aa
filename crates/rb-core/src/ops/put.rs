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
//! A batch larger than the buffers goes in waves of half of them, the last keys first, so that the
//! batch's first key ends as the most recently used.

use std::sync::Arc;

use crate::core::inner::Inner;
use crate::error::Error;
use crate::ops::put_plan::{Plan, Put, Stored, plan, settle, waves};
use crate::ops::put_wave::PutWave;
use crate::options::{Durability, PutOptions};
use crate::simulator::SwitchPoint;

/// One key's answer.
pub type PutResult = Result<Stored, Error>;

/// Puts many values in the calling thread.
pub(crate) fn put_many(
    inner: &Arc<Inner>,
    puts: Vec<Put<'_>>,
    options: PutOptions,
) -> Vec<PutResult> {
    let count = puts.len();
    let (pass, writer) = match inner.enter_writing() {
        Ok(entered) => entered,
        Err(error) => return vec![Err(error); count],
    };
    let Plan {
        planned,
        mut answers,
        followers,
    } = plan(inner, puts, options); // 1
    inner.switch(SwitchPoint::PutPlanned);
    let mut ticket = 0;
    for wave in waves(inner, writer, planned) {
        let positions: Vec<usize> = wave.iter().map(|planned| planned.at).collect();
        let outcome = PutWave::prepare(inner, writer, wave, options, &mut answers) // 2, 3
            .and_then(|(wave, requests)| {
                inner.lanes.drive(
                    wave,
                    requests,
                    inner.options.busy_wait,
                    inner.options.io_deadline,
                )
            });
        match outcome {
            Ok(done) => {
                ticket = ticket.max(done.ticket);
                for (at, answer) in done.answers {
                    answers[at] = answer;
                }
                inner.switch(SwitchPoint::PutWaveDone);
            }
            Err(error) => positions
                .into_iter()
                .for_each(|at| answers[at] = Err(error.clone())),
        }
    }
    if inner.durability(options) == Durability::EachBatch {
        let outcome = inner.make_durable(writer, ticket); // 5
        not_durable(&mut answers, outcome);
    }
    settle(&mut answers, &followers);
    drop(pass);
    answers
}

/// Takes the answers back if the commit failed of what they say or refer to: an existing value, or a later change, may
/// be gone after a crash like a value that was stored.
pub(crate) fn not_durable(answers: &mut [PutResult], outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        let good = answers.iter_mut().filter(|answer| answer.is_ok());
        good.for_each(|answer| *answer = Err(error.clone()));
    }
}
