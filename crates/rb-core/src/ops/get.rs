//! The path of a get.
//!
//! ```text
//! 1 hash the keys; per touched shard, once: lease each hit      get_lease.rs; rb-index
//! 2 take buffers; slots -> device ranges                       get_hit.rs, core/pieces.rs; rb-format
//! 3 one batch of reads                                         get_batch.rs, batch.rs; rb-io
//! 4 verify, end the leases, return the values                  get_hit.rs, core/verify.rs; rb-index
//! ```
//!
//! A verified entry reads its payload only: the index knows its generation, length and checksum,
//! and the checksum covers all of them. An unverified entry (recovered, never read since) reads its
//! header too. A read that fails verification is repeated once; if it fails again, exactly that
//! generation is invalidated. An I/O error invalidates nothing (C7).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rb_index::Hints;
use rb_io::{Loan, Patience};

use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::counters::{Counters, Timer};
use crate::error::Error;
use crate::operation::{Operation, Wakes, operation};
use crate::ops::batch::{Batch, run};
use crate::ops::get_batch::GetBatch;
use crate::ops::get_hit::{Answer, Found, Target};
use crate::ops::get_lease::{lease, lease_at};
use crate::ops::turns::{Begun, Turns};
use crate::ops::worker::AsyncThreads;
use crate::value::{Lookup, LookupAt, Value, ValueAt};

/// Looks up many keys in the calling thread.
pub(crate) fn get_many(inner: &Arc<Inner>, keys: &[&[u8]], hints: Hints) -> Vec<Lookup> {
    let _pass = match inner.enter() {
        Ok(pass) => pass,
        Err(error) => return refused(keys.len(), &error),
    };
    let timer = inner.begin(|trace| trace.get(keys.len()));
    let batch = lease(inner, keys, hints, |_| Target::Buffer); // 1
    let reads = !batch.is_empty();
    let read = run(inner, batch, &mut Waits::of(inner)); // 2, 3, 4
    ended(
        &inner.counters,
        timer,
        reads,
        in_order(keys.len(), read, value),
        |value| value.len(),
    )
}

/// Looks up many keys and reads each value into the caller's memory.
pub(crate) fn get_many_at(
    inner: &Arc<Inner>,
    keys: &[&[u8]],
    hints: Hints,
    loans: Vec<Loan>,
) -> Vec<LookupAt> {
    let _pass = match inner.enter() {
        Ok(pass) => pass,
        Err(error) => return refused(keys.len(), &error),
    };
    let timer = inner.begin(|trace| trace.get(keys.len()));
    let mut waits = Waits::of(inner);
    let batch = lease_at(inner, keys, hints, loans);
    let reads = !batch.is_empty();
    let read = batch.split(inner.arena.bytes() / 2).into_iter().rev();
    let read = read.flat_map(|batch| run(inner, batch, &mut waits));
    let answers = in_order(keys.len(), read.collect(), value_at);
    ended(&inner.counters, timer, reads, answers, |value| value.len)
}

/// Starts a lookup of many keys whose values are read into the caller's memory.
pub(crate) fn get_many_at_async(
    inner: &Arc<Inner>,
    threads: &Arc<AsyncThreads>,
    keys: &[&[u8]],
    hints: Hints,
    loans: Vec<Loan>,
) -> Operation<Vec<LookupAt>> {
    start(
        inner,
        threads,
        keys.len(),
        |inner| lease_at(inner, keys, hints, loans).split(inner.arena.bytes() / 2),
        (value_at, |value| value.len),
        |answers| answers,
    )
}

/// The form of a value in the results, and its length in bytes.
type Shape<V> = (fn(Found) -> V, fn(&V) -> usize);

/// Ends a get: counts its time if it read anything, and its failures. `len` returns the bytes of a value.
fn ended<T>(
    counters: &Counters,
    timer: Timer,
    reads: bool,
    answers: Vec<Result<Option<T>, Error>>,
    len: fn(&T) -> usize,
) -> Vec<Result<Option<T>, Error>> {
    // A get that finds nothing takes less time than its measurement.
    if reads {
        timer.count(&counters.times.get);
    }
    counters.ended("get", timer, &answers, |found| found.as_ref().map(len));
    answers
}

/// Returns the results in the order of the keys; those without one are misses.
fn in_order<T>(
    count: usize,
    read: Vec<(usize, Answer)>,
    shape: fn(Found) -> T,
) -> Vec<Result<Option<T>, Error>> {
    let mut answers: Vec<_> = (0..count).map(|_| Ok(None)).collect();
    for (at, answer) in read {
        answers[at] = answer.map(|found| found.map(shape));
    }
    answers
}

fn value(found: Found) -> Value {
    match found {
        Found::Value(value) => value,
        Found::At(_) => unreachable!("its target is a buffer"),
    }
}

fn value_at(found: Found) -> ValueAt {
    match found {
        Found::At(value) => value,
        Found::Value(_) => unreachable!("its target is the caller's memory"),
    }
}

/// Starts a lookup of many keys.
pub(crate) fn get_many_async<T: Send + 'static>(
    inner: &Arc<Inner>,
    threads: &Arc<AsyncThreads>,
    keys: &[&[u8]],
    hints: Hints,
    shape: fn(Vec<Lookup>) -> T,
) -> Operation<T> {
    let lease = |inner: &Arc<Inner>| vec![lease(inner, keys, hints, |_| Target::Buffer)];
    let of_value: Shape<Value> = (value, |value| value.len());
    start(inner, threads, keys.len(), lease, of_value, shape)
}

/// Starts a lookup in one or several batches. Step 2 runs in the call; if no buffers are free, a
/// worker waits for them. The driver thread does steps 3 and 4, and all of a second round.
fn start<V: Send + 'static, T: Send + 'static>(
    inner: &Arc<Inner>,
    threads: &Arc<AsyncThreads>,
    count: usize,
    lease: impl FnOnce(&Arc<Inner>) -> Vec<GetBatch>,
    (value, len): Shape<V>,
    shape: fn(Vec<Result<Option<V>, Error>>) -> T,
) -> Operation<T> {
    let (operation, completer) = operation(move |error| shape(refused(count, &error)));
    let pass = match inner.enter() {
        Ok(pass) => pass,
        Err(error) => {
            completer.complete(shape(refused(count, &error)));
            return operation;
        }
    };
    let timer = inner.begin(|trace| trace.get(count));
    // Last keys first, so that the first key ends as the most recently used.
    let batches: VecDeque<GetBatch> = lease(inner).into_iter().rev().collect();
    let reads = batches.iter().any(|batch| !batch.is_empty());
    if inner.is_manual() {
        let mut waits = Waits::of(inner);
        let read = batches.into_iter();
        let read = read
            .flat_map(|batch| run(inner, batch, &mut waits))
            .collect();
        drop(pass);
        let answers = in_order(count, read, value);
        let answers = ended(&inner.counters, timer, reads, answers, len);
        completer.answer(shape(answers), &mut Wakes::default());
        return operation;
    }
    let waits = match batches.len() {
        1 => Waits::of(inner),
        _ => Waits::of_parts(inner),
    };
    let counters = Arc::clone(&inner.counters);
    let call = Arc::new(Call {
        inner: Arc::clone(inner),
        threads: Arc::clone(threads),
        turns: Turns::new(batches, waits, Vec::new()),
        begun: Begun::default(),
        finish: Mutex::new(Some(move |read, wakes: &mut Wakes| {
            let answers = in_order(count, read, value);
            let answers = ended(&counters, timer, reads, answers, len);
            // End the operation before its result is delivered: the woken caller may close the
            // store.
            drop(pass);
            completer.answer(shape(answers), wakes);
        })),
    });
    call.begin();
    operation
}

/// A lookup in batches.
struct Call<F> {
    inner: Arc<Inner>,
    threads: Arc<AsyncThreads>,
    turns: Turns<GetBatch, Vec<(usize, Answer)>>,
    begun: Begun,
    finish: Mutex<Option<F>>,
}

impl<F: FnOnce(Vec<(usize, Answer)>, &mut Wakes) + Send + 'static> Call<F> {
    fn begin(self: &Arc<Self>) {
        self.turns
            .begin(|batch, waits| self.begin_batch(batch, waits));
    }

    fn begin_batch(self: &Arc<Self>, mut batch: GetBatch, waits: Waits) {
        let call = Arc::clone(self);
        if batch.take_buffers(&mut Patience::none()).is_ok() {
            return call.read(batch);
        }
        self.threads.buffers.run(waits, move |waits, outcome| {
            let taken = outcome.and_then(|()| batch.take_buffers(&mut waits.resources));
            call.turns.waited(*waits);
            // A refused batch has no more requests; the driver only delivers its results.
            if let Err(error) = taken {
                batch.refused(&error);
            }
            call.read(batch);
        });
    }

    /// Steps 3 and 4.
    fn read(self: Arc<Self>, batch: GetBatch) {
        let (threads, inner) = (Arc::clone(&self.threads), Arc::clone(&self.inner));
        let begun = Arc::clone(&self.begun);
        threads
            .driver
            .start(&inner, batch, &begun, move |read, wakes| {
                let mut errors = read.iter().filter_map(|(_, answer)| answer.as_ref().err());
                if let Some(late) = errors.find(|error| matches!(error, Error::TimedOut { .. })) {
                    for mut batch in self.turns.give_up() {
                        batch.refused(late);
                        Arc::clone(&self).read(batch);
                    }
                }
                match self.turns.end(|all| all.extend(read)) {
                    Some(all) => {
                        let finish = self.finish.lock().take();
                        finish.expect("a call ends once")(all, wakes);
                    }
                    None => self.begin(),
                }
            });
    }
}

/// Looks up many keys and copies each value into the caller's memory, in several batches if the
/// values exceed the buffer memory. Returns the length of each hit.
pub(crate) fn get_many_into(
    inner: &Arc<Inner>,
    keys: &[&[u8]],
    hints: Hints,
    outputs: &mut [&mut [u8]],
) -> Vec<Result<Option<usize>, Error>> {
    let _pass = match inner.enter() {
        Ok(pass) => pass,
        Err(error) => return refused(keys.len(), &error),
    };
    let timer = inner.begin(|trace| trace.get(keys.len()));
    let mut waits = Waits::of(inner);
    let all = lease(inner, keys, hints, |_| Target::Buffer);
    let reads = !all.is_empty();
    let mut lengths: Vec<_> = keys.iter().map(|_| Ok(None)).collect();
    // Last keys first, so that the first key ends as the most recently used.
    for batch in all.split(inner.arena.bytes() / 2).into_iter().rev() {
        for (at, answer) in run(inner, batch, &mut waits) {
            let copied = |found| copy(&value(found), outputs[at]);
            lengths[at] = answer.and_then(|hit| hit.map(copied).transpose());
        }
    }
    ended(&inner.counters, timer, reads, lengths, |len| *len)
}

/// Returns the same error for each key.
fn refused<T>(count: usize, error: &Error) -> Vec<Result<T, Error>> {
    (0..count).map(|_| Err(error.clone())).collect()
}

fn copy(value: &Value, output: &mut [u8]) -> Result<usize, Error> {
    let (needed, given) = (value.len(), output.len());
    let to = output
        .get_mut(..needed)
        .ok_or(Error::OutputTooSmall { needed, given })?;
    to.copy_from_slice(value);
    Ok(needed)
}
