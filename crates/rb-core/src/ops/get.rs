//! The way of a get.
//!
//! ```text
//! 1 hash the keys; per touched shard, once: lease each hit      rb-index
//! 2 slot -> device range                                       rb-format
//! 3 one batch of reads                                         rb-io
//! 4 verify, end the leases, hand out values                    rb-format, rb-index
//! ```
//!
//! An entry that is proven reads its payload only: the index knows its generation, length and
//! checksum, and the checksum covers all of them. An unproven one (recovered, never read since)
//! reads its header too. A failed proof is read once more, and then forgets exactly that
//! generation; an I/O error forgets nothing (C7).

use std::sync::Arc;

use rb_index::Visit;

use crate::core::inner::Inner;
use crate::counters::add;
use crate::error::Error;
use crate::ops::batch::by_shard;
use crate::ops::get_wave::{GetWave, Hit};
use crate::simulator::SwitchPoint;
use crate::value::Value;

/// One key's answer: a value, a miss, or what went wrong.
pub type Lookup = Result<Option<Value>, Error>;

/// Looks up many keys in the calling thread.
pub(crate) fn get_many(inner: &Arc<Inner>, keys: &[&[u8]]) -> Vec<Lookup> {
    let mut answers: Vec<Lookup> = keys.iter().map(|_| Ok(None)).collect();
    let Ok(_pass) = inner.enter() else {
        return keys.iter().map(|_| Err(Error::Closed)).collect();
    };
    let wave = lease_all(inner, keys, &mut answers); // 1
    inner.switch(SwitchPoint::Leased);
    serve(inner, vec![wave], |at, answer| answers[at] = answer); // 2, 3, 4
    answers
}

/// Looks up many keys and copies each value into the caller's memory, in waves if the batch is
/// larger than the buffers. Answers the length of each hit.
pub(crate) fn get_many_into(
    inner: &Arc<Inner>,
    keys: &[&[u8]],
    outputs: &mut [&mut [u8]],
) -> Vec<Result<Option<usize>, Error>> {
    let mut answers: Vec<Lookup> = keys.iter().map(|_| Ok(None)).collect();
    let Ok(_pass) = inner.enter() else {
        return keys.iter().map(|_| Err(Error::Closed)).collect();
    };
    let all = lease_all(inner, keys, &mut answers);
    // Misses and bad keys are answered; what is left to answer are the hits.
    let mut lengths: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.map(|_| None))
        .collect();
    serve(inner, all.split(inner.arena.bytes() / 2), |at, answer| {
        lengths[at] = answer.and_then(|hit| hit.map(|value| copy(&value, outputs[at])).transpose());
    });
    lengths
}

fn copy(value: &Value, output: &mut [u8]) -> Result<usize, Error> {
    let (needed, given) = (value.len(), output.len());
    let to = output
        .get_mut(..needed)
        .ok_or(Error::OutputTooSmall { needed, given })?;
    to.copy_from_slice(value);
    Ok(needed)
}

/// Steps 2 to 4 for each wave, the last one first, so that the batch's first key ends as the most
/// recently used.
fn serve(inner: &Arc<Inner>, mut waves: Vec<GetWave>, mut answer: impl FnMut(usize, Lookup)) {
    while let Some(mut wave) = waves.pop() {
        if wave.is_empty() {
            continue;
        }
        let positions = wave.positions();
        let (wait, deadline) = (inner.options.busy_wait, inner.options.io_deadline);
        let outcome = wave
            .requests(inner.busy_wait()) // 2
            .and_then(|requests| inner.lanes.drive(wave, requests, wait, deadline)); // 3, 4
        match outcome {
            Ok(done) => {
                done.answers
                    .into_iter()
                    .for_each(|(at, lookup)| answer(at, lookup));
                waves.extend(done.again);
            }
            Err(error) => positions
                .into_iter()
                .for_each(|at| answer(at, Err(error.clone()))),
        }
    }
}

/// Step 1: answers bad keys and misses, leases the hits.
pub(crate) fn lease_all(inner: &Arc<Inner>, keys: &[&[u8]], answers: &mut [Lookup]) -> GetWave {
    inner.index.begin_batch(keys.len());
    let hashes: Vec<u64> = keys.iter().map(|key| inner.hash(key)).collect();
    inner.warm(&hashes);
    let mut hits = Vec::with_capacity(keys.len());
    for group in by_shard(keys.len(), |at| inner.index.shard_of(hashes[at])) {
        let mut shard = inner.index.lock(group.shard, Visit::Operation);
        for at in group.positions {
            if let Err(error) = inner.check_key(keys[at]) {
                answers[at] = Err(error);
                continue;
            }
            let Some(lease) = shard.lease(hashes[at], keys[at]) else {
                continue;
            };
            let located = *lease.located();
            hits.push(Hit {
                at,
                located,
                hash: hashes[at],
                shard: group.shard,
                key: keys[at].into(),
                metadata: shard.metadata(&lease).into(),
                whole: !located.proven,
                proven: None,
                lease: Some(lease),
            });
        }
    }
    add(&inner.counters.hits, hits.len());
    add(&inner.counters.misses, keys.len() - hits.len());
    GetWave::new(inner, hits)
}
