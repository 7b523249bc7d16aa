//! The parts of a batch of puts.

use std::cmp::Reverse;

use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::log::delta::LogSpace;
use crate::ops::locking::have_entries;
use crate::ops::put_plan::PlannedPut;

/// Splits a batch into parts of at most half the buffer memory and `payload_max` bytes of values (or
/// one put), with as many records as one log reservation holds. Later keys go first, unless the policy judges
/// batches; each part is grouped by shard, last key first.
pub(crate) fn parts<'a>(
    inner: &Inner,
    writer: &Writer,
    mut planned: Vec<PlannedPut<'a>>,
    payload_max: usize,
) -> Vec<Vec<PlannedPut<'a>>> {
    let shards = inner.index.shards();
    let mut parts = Vec::new();
    while !planned.is_empty() {
        let (mut buffers, mut payloads, mut need) = (0, 0, LogSpace::default());
        let fits = |planned: &&PlannedPut<'_>| {
            buffers += planned.stride();
            payloads += planned.payload.len();
            need.add(&planned.key, &planned.metadata, planned.slots);
            buffers <= inner.arena.bytes() / 2
                && payloads <= payload_max
                && writer.log.takes_at_once(need, shards)
        };
        let count = planned.iter().rev().take_while(fits).count().max(1);
        let mut part = planned.split_off(planned.len() - count);
        part.sort_unstable_by_key(|planned| (planned.shard, Reverse(planned.at)));
        parts.push(part);
    }
    if inner.index.judges() {
        // The first key that is refused ends the batch. Its order of use is known from the positions.
        parts.reverse();
        if parts.len() > 1 {
            parts.iter_mut().for_each(|part| note_entries(inner, part));
        }
    }
    parts
}

/// Notes which keys have an entry before any part evicts something.
fn note_entries(inner: &Inner, part: &mut [PlannedPut<'_>]) {
    let exist = have_entries(inner, part);
    for (put, exists) in part.iter_mut().zip(exist) {
        put.had_entry = exists;
    }
}
