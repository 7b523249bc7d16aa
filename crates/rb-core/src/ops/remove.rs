//! The way of a remove: per touched shard, once, the entry goes and its record is queued.
//!
//! A record is queued even for a key that is not there: it may have been evicted, and evictions
//! leave no record, so without one the key could return after a crash (C3).

use std::sync::Arc;

use rb_format::Record;
use rb_index::Visit;

use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::counters::add;
use crate::error::Error;
use crate::log::delta::Need;
use crate::ops::groups::by_shard;
use crate::options::Durability;
use crate::simulator::{Change, SwitchPoint};

/// Removes many keys; answers for each whether it was there.
pub(crate) fn remove_many(inner: &Arc<Inner>, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
    let answers = inner.enter_writing().and_then(|(_pass, writer)| {
        let (answers, ticket) = remove_all(inner, writer, keys)?;
        inner.switch(SwitchPoint::RemovesDone);
        if inner.options.durability == Durability::EachBatch {
            inner.make_durable(writer, ticket)?;
        }
        Ok(answers)
    });
    answers.unwrap_or_else(|error| vec![Err(error); keys.len()])
}

/// Removes many keys without waiting for durability, as many at once as the log takes. Also returns
/// the ticket.
fn remove_all(
    inner: &Inner,
    writer: &Writer,
    keys: &[&[u8]],
) -> Result<(Vec<Result<bool, Error>>, u64), Error> {
    let mut answers = Vec::with_capacity(keys.len());
    let mut ticket = 0;
    let mut rest = keys;
    while !rest.is_empty() {
        let mut need = Need::default();
        let fits = |key: &&&[u8]| {
            reckon(inner, &mut need, key);
            writer.log.takes_at_once(need, inner.index.shards())
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        ticket = ticket.max(remove_some(inner, writer, now, &mut answers)?);
        rest = later;
    }
    add(&inner.counters.removes, keys.len());
    Ok((answers, ticket))
}

/// A key that is refused gets no record. It may be longer than a log block.
fn reckon(inner: &Inner, need: &mut Need, key: &[u8]) {
    if inner.check_key(key).is_ok() {
        need.add(key, &[]);
    }
}

/// Removes the keys under one permit and adds their answers. Answers the ticket.
fn remove_some(
    inner: &Inner,
    writer: &Writer,
    keys: &[&[u8]],
    answers: &mut Vec<Result<bool, Error>>,
) -> Result<u64, Error> {
    let mut need = Need::default();
    keys.iter().for_each(|key| reckon(inner, &mut need, key));
    let permit = inner.admit(writer, need)?;
    inner.switch(SwitchPoint::RemoveAdmitted);
    let first = answers.len();
    answers.extend(keys.iter().map(|_| Ok(false)));
    let hashes: Vec<u64> = keys.iter().map(|key| inner.hash(key)).collect();
    inner.warm(&hashes);
    let mut ticket = 0;
    for group in by_shard(keys.len(), |at| inner.index.shard_of(hashes[at])) {
        let mut shard = inner.index.lock(group.shard, Visit::Operation);
        let mut records = Vec::with_capacity(group.positions.len());
        for at in group.positions {
            let key = keys[at];
            answers[first + at] = inner.check_key(key).and_then(|()| {
                let generation = writer.next_generation()?;
                inner.changed(&Change::Removed {
                    key,
                    generation: generation.0,
                });
                records.push(Record::Remove { key, generation });
                Ok(shard.remove(hashes[at], key, generation.0).is_some())
            });
        }
        if !records.is_empty() {
            let now = inner.options.clock.now();
            ticket = writer.log.queue(&permit, records, now);
            let strict = inner.options.durability == Durability::EachBatch;
            shard.recorded(ticket, strict);
        }
        drop(shard);
        inner.switch(SwitchPoint::Removed);
    }
    Ok(ticket)
}
