//! The path of a remove: per touched shard, once, the entry is removed and its record queued.
//!
//! A record is queued even for a key that does not exist: it may have been evicted, and evictions
//! leave no record, so without one the key could return after a crash (C3).

use std::sync::Arc;

use rb_format::Record;
use rb_index::LockPurpose;

use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::core::writer::Writer;
use crate::counters::{Counters, Timer, add};
use crate::error::Error;
use crate::log::delta::LogSpace;
use crate::operation::{Operation, operation};
use crate::ops::groups::by_shard;
use crate::ops::put::not_durable;
use crate::ops::worker::AsyncThreads;
use crate::options::Durability;
use crate::simulator::{Change, SwitchPoint};

/// Behavior of a remove whose key has an entry that is leased, by a get in progress or by a
/// [`Pin`](crate::Pin).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoveMode {
    /// The entry disappears immediately, and its slots become free when the last lease ends.
    #[default]
    Always,
    /// The entry stays, and the remove of this key does nothing.
    UnlessLeased,
}

/// Outcome of a successful remove of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoveOutcome {
    /// The entry was removed.
    Removed {
        /// Length of its value in bytes.
        len: u32,
    },
    /// The store had no entry for the key.
    Missing,
    /// [`RemoveMode::UnlessLeased`], and the entry is leased. It stays.
    Leased,
}

impl RemoveOutcome {
    /// The length of the value that was removed, in bytes; `None` if none was.
    ///
    /// ```
    /// use rb_core::RemoveOutcome;
    ///
    /// assert_eq!(RemoveOutcome::Removed { len: 3 }.removed_len(), Some(3));
    /// assert_eq!(RemoveOutcome::Leased.removed_len(), None);
    /// ```
    #[must_use]
    pub fn removed_len(self) -> Option<u32> {
        match self {
            RemoveOutcome::Removed { len } => Some(len),
            RemoveOutcome::Missing | RemoveOutcome::Leased => None,
        }
    }
}

/// The result for one key.
pub type RemoveResult = Result<RemoveOutcome, Error>;

/// The result for one key as the length of the value that was removed.
pub(crate) fn len_of(answer: RemoveResult) -> Result<Option<u32>, Error> {
    answer.map(RemoveOutcome::removed_len)
}

/// Removes many keys in the calling thread.
pub(crate) fn remove_many(
    inner: &Arc<Inner>,
    keys: &[&[u8]],
    mode: RemoveMode,
) -> Vec<RemoveResult> {
    let (_pass, writer) = match inner.enter_writing() {
        Ok(entered) => entered,
        Err(error) => return inner.counters.failures.refuse(error, keys.len()),
    };
    let timer = inner.begin(|trace| trace.remove(keys.len()));
    let (mut answers, ticket) = remove_all(inner, writer, keys, mode, &mut Waits::of(inner));
    inner.switch(SwitchPoint::RemovesDone);
    if inner.options.durability == Durability::EachBatch {
        not_durable(&mut answers, inner.make_durable(writer, ticket));
    }
    ended(&inner.counters, timer, &answers);
    answers
}

/// Counts a remove that has ended.
fn ended(counters: &Counters, timer: Timer, answers: &[RemoveResult]) {
    timer.count(&counters.times.remove);
    counters.ended("remove", timer, answers, |outcome| {
        outcome.removed_len().map(|len| len as usize)
    });
}

/// Starts a remove of many keys in a worker, because it may wait for log space.
pub(crate) fn remove_many_async<T: Send + 'static>(
    inner: &Arc<Inner>,
    threads: &AsyncThreads,
    keys: &[&[u8]],
    mode: RemoveMode,
    shape: fn(Vec<RemoveResult>) -> T,
) -> Operation<T> {
    let count = keys.len();
    let (operation, completer) = operation(move |error| shape(vec![Err(error); count]));
    let pass = match inner.enter_writing() {
        Ok((pass, _)) => pass,
        Err(error) => {
            completer.complete(shape(inner.counters.failures.refuse(error, count)));
            return operation;
        }
    };
    if inner.is_manual() {
        completer.complete(shape(remove_many(inner, keys, mode)));
        return operation;
    }
    let timer = inner.begin(|trace| trace.remove(count));
    let keys: Vec<Box<[u8]>> = keys.iter().map(|key| Box::from(*key)).collect();
    let store = Arc::clone(inner);
    threads.writes.run(Waits::of(inner), move |waits, outcome| {
        let writer = store.writer.as_ref().expect("removes have a writer");
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let (mut answers, ticket) = match outcome {
            Ok(()) => remove_all(&store, writer, &keys, mode, waits),
            Err(error) => (vec![Err(error); count], 0),
        };
        let counters = Arc::clone(&store.counters);
        let give = move |outcome| {
            not_durable(&mut answers, outcome);
            ended(&counters, timer, &answers);
            drop(pass);
            completer.complete(shape(answers));
        };
        match store.options.durability {
            Durability::EachBatch => store.when_durable(writer, ticket, give),
            Durability::Interval => give(Ok(())),
        }
    });
    operation
}

/// Removes the keys without waiting for durability, as many per reservation as the log takes. Also
/// returns the ticket. Keys removed before a failure keep their results.
fn remove_all(
    inner: &Inner,
    writer: &Writer,
    keys: &[&[u8]],
    mode: RemoveMode,
    waits: &mut Waits,
) -> (Vec<RemoveResult>, u64) {
    let mut answers = Vec::with_capacity(keys.len());
    let mut ticket = 0;
    let mut rest = keys;
    while !rest.is_empty() {
        let mut need = LogSpace::default();
        let fits = |key: &&&[u8]| {
            reckon(inner, &mut need, key);
            writer.log.takes_at_once(need, inner.index.shards())
        };
        // At least one key, or the loop would not end; a single record always fits.
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        match remove_some(inner, writer, now, mode, &mut answers, waits) {
            Ok(queued) => ticket = ticket.max(queued),
            Err(error) => {
                answers.extend(rest.iter().map(|_| Err(error.clone())));
                break;
            }
        }
        rest = later;
    }
    add(&inner.counters.removes, keys.len());
    (answers, ticket)
}

/// Adds the log space of a key's record. Invalid keys get no record, and may be longer than a log
/// block.
fn reckon(inner: &Inner, need: &mut LogSpace, key: &[u8]) {
    if inner.check_key(key).is_ok() {
        need.add(key, &[], 1);
    }
}

/// Removes the keys under one reservation and appends their results. Returns the ticket.
fn remove_some(
    inner: &Inner,
    writer: &Writer,
    keys: &[&[u8]],
    mode: RemoveMode,
    answers: &mut Vec<RemoveResult>,
    waits: &mut Waits,
) -> Result<u64, Error> {
    let mut need = LogSpace::default();
    keys.iter().for_each(|key| reckon(inner, &mut need, key));
    let reservation = inner.admit(writer, need, &mut waits.resources)?;
    inner.switch(SwitchPoint::RemoveAdmitted);
    let first = answers.len();
    answers.extend(keys.iter().map(|_| Ok(RemoveOutcome::Missing)));
    let hashes: Vec<u64> = keys.iter().map(|key| inner.hash(key)).collect();
    inner.prefetch(&hashes);
    let mut ticket = 0;
    for group in by_shard(keys.len(), |at| inner.index.shard_of(hashes[at])) {
        let mut shard = inner.index.lock(group.shard, LockPurpose::Operation);
        let mut records = Vec::with_capacity(group.positions.len());
        for at in group.positions {
            let key = keys[at];
            answers[first + at] = inner.check_key(key).and_then(|()| {
                // The lock is held until the entry is gone: no lease begins in between.
                if mode == RemoveMode::UnlessLeased && shard.is_leased(hashes[at], key) {
                    // This result refers to an entry whose put may not be durable yet.
                    ticket = ticket.max(shard.ticket_of(hashes[at], key));
                    return Ok(RemoveOutcome::Leased);
                }
                let generation = writer.next_generation()?;
                inner.changed(&Change::Removed {
                    key,
                    generation: generation.0,
                });
                records.push(Record::Remove { key, generation });
                let removed = shard.remove(hashes[at], key, generation.0);
                Ok(
                    removed.map_or(RemoveOutcome::Missing, |gone| RemoveOutcome::Removed {
                        len: gone.payload_len,
                    }),
                )
            });
        }
        if !records.is_empty() {
            let now = inner.options.clock.now();
            let queued = writer.log.queue(&reservation, records, now);
            let strict = inner.options.durability == Durability::EachBatch;
            shard.recorded(queued, strict);
            ticket = ticket.max(queued);
        }
        drop(shard);
        inner.switch(SwitchPoint::Removed);
    }
    Ok(ticket)
}
