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

use std::collections::HashMap;
use std::sync::Arc;

use rb_format::{Generation, RECORD_LEN_MAX, Record, SlotHeaderRef, payload_checksum};
use rb_index::{NewEntry, Published, PutMode, Reservation, SlotId, Visit};
use rb_io::{Completion, Request};

use crate::batch::by_shard;
use crate::error::Error;
use crate::get::take_buffers;
use crate::inner::{Inner, Writer};
use crate::lanes::Wave;
use crate::log::Permit;
use crate::options::{Durability, PutOptions};
use crate::slots::take_slots;
use crate::stats::add;
use crate::value::ValueBuf;

/// One value to put.
#[derive(Debug)]
pub struct Put<'a> {
    /// The key, 1 byte to the store's longest.
    pub key: &'a [u8],
    /// The value.
    pub payload: Payload<'a>,
    /// Opaque bytes kept with the value and in memory, up to the store's longest.
    pub metadata: &'a [u8],
}

impl<'a> Put<'a> {
    /// A value without metadata in the caller's memory.
    #[must_use]
    pub fn new(key: &'a [u8], value: &'a [u8]) -> Put<'a> {
        Put {
            key,
            payload: Payload::Bytes(value),
            metadata: &[],
        }
    }
}

/// Where a value to put is.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In the caller's memory; copied once.
    Bytes(&'a [u8]),
    /// In memory of the store; not copied.
    Buffer(ValueBuf),
}

impl Payload<'_> {
    fn len(&self) -> usize {
        match self {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Buffer(buffer) => buffer.len(),
        }
    }
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// The value is there.
    Stored,
    /// The key was there and was to be kept.
    Existed,
    /// The value was written, but a later put or remove of the key overtook it.
    Superseded,
}

/// One key's answer.
pub type PutResult = Result<Stored, Error>;

/// A valid put that has not started.
pub(crate) struct Planned<'a> {
    at: usize,
    hash: u64,
    shard: usize,
    class: u8,
    put: Put<'a>,
}

impl Planned<'_> {
    /// Bytes of buffer memory that it takes.
    pub(crate) fn stride(&self) -> usize {
        ValueBuf::stride(self.put.payload.len())
    }
}

/// A put in flight. Owns its reservation, slot and memory.
struct Writing {
    at: usize,
    hash: u64,
    shard: usize,
    key: Box<[u8]>,
    metadata: Box<[u8]>,
    generation: Generation,
    reservation: Option<Reservation>,
    slot: SlotId,
    payload_len: u32,
    payload_checksum: u64,
    placement: u16,
}

/// Puts whose writes are in flight together.
pub(crate) struct PutWave {
    inner: Arc<Inner>,
    writings: Vec<Writing>,
    permit: Permit,
    sent: bool,
}

/// What a wave of writes came to.
pub(crate) struct PutAnswers {
    pub(crate) answers: Vec<(usize, PutResult)>,
    /// Durable once this ticket is.
    pub(crate) ticket: u64,
}

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
    let (planned, mut answers) = plan(inner, puts, options); // 1
    let mut ticket = 0;
    for wave in waves(inner, planned) {
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
            }
            Err(error) => positions
                .into_iter()
                .for_each(|at| answers[at] = Err(error.clone())),
        }
    }
    if options.durability.unwrap_or(inner.options.durability) == Durability::EachBatch
        && let Err(error) = inner.make_durable(writer, ticket)
    // 5
    {
        for answer in answers
            .iter_mut()
            .filter(|answer| matches!(answer, Ok(Stored::Stored)))
        {
            *answer = Err(error.clone());
        }
    }
    drop(pass);
    answers
}

/// Step 1. Of the puts of one key in one batch only one is written: the last if they replace, the
/// first if they keep; the others are answered as overtaken.
pub(crate) fn plan<'a>(
    inner: &Inner,
    puts: Vec<Put<'a>>,
    options: PutOptions,
) -> (Vec<Planned<'a>>, Vec<PutResult>) {
    inner.index.begin_batch(puts.len());
    let mut answers = Vec::with_capacity(puts.len());
    let mut winners: HashMap<&'a [u8], usize> = HashMap::with_capacity(puts.len());
    let mut planned = Vec::with_capacity(puts.len());
    for (at, put) in puts.into_iter().enumerate() {
        match check(inner, &put, options) {
            Err(error) => answers.push(Err(error)),
            Ok(class) => {
                let loser = match (winners.get(put.key), options.mode) {
                    (Some(_), PutMode::KeepExisting) => Some((at, Stored::Existed)),
                    (Some(&earlier), PutMode::Replace) => Some((earlier, Stored::Superseded)),
                    (None, _) => None,
                };
                answers.push(Ok(Stored::Stored));
                if let Some((loser, answer)) = loser {
                    answers[loser] = Ok(answer);
                }
                if loser.is_none_or(|(loser, _)| loser != at) {
                    winners.insert(put.key, at);
                    let hash = inner.hash(put.key);
                    let shard = inner.index.shard_of(hash);
                    planned.push(Planned {
                        at,
                        hash,
                        shard,
                        class,
                        put,
                    });
                }
            }
        }
    }
    planned.retain(|planned| winners.get(planned.put.key) == Some(&planned.at));
    (planned, answers)
}

/// C9: what is wrong with this put, or the class its value goes to.
fn check(inner: &Inner, put: &Put<'_>, options: PutOptions) -> Result<u8, Error> {
    inner.check_key(put.key)?;
    let max = inner.superblock.metadata_len_max as usize;
    if put.metadata.len() > max {
        return Err(Error::MetadataLength {
            len: put.metadata.len(),
            max,
        });
    }
    if let Some(id) = options.placement {
        // No engine of this version announces placement ids.
        return Err(Error::Placement { id: id.0.get() });
    }
    let len = put.payload.len();
    let too_long = Error::ValueLength {
        len,
        max: inner.geometry.largest_value() as usize,
    };
    match len {
        0 => Err(too_long),
        _ => inner.geometry.class_for(len as u64).ok_or(too_long),
    }
}

/// Cuts a batch into waves of at most half the buffer memory, later keys first.
pub(crate) fn waves<'a>(inner: &Inner, mut planned: Vec<Planned<'a>>) -> Vec<Vec<Planned<'a>>> {
    let limit = inner.arena.bytes() / 2;
    let mut waves = Vec::new();
    while !planned.is_empty() {
        let mut from = planned.len();
        let mut sum = 0;
        while from > 0 {
            sum += planned[from - 1].stride();
            if sum > limit && from < planned.len() {
                break;
            }
            from -= 1;
        }
        waves.push(planned.split_off(from));
    }
    waves
}

impl PutWave {
    /// Steps 2 and 3: everything that can be refused is taken before a slot is: log space, buffers.
    /// Keys that are not written are answered in `answers`.
    pub(crate) fn prepare(
        inner: &Arc<Inner>,
        writer: &Writer,
        planned: Vec<Planned<'_>>,
        options: PutOptions,
        answers: &mut [PutResult],
    ) -> Result<(PutWave, Vec<Request>), Error> {
        let records = planned
            .iter()
            .map(|p| RECORD_LEN_MAX.min(64 + p.put.key.len() + p.put.metadata.len()))
            .sum();
        let groups = planned.len().min(inner.index.shards());
        let permit = writer
            .log
            .admit(records, groups, inner.busy_wait())
            .map_err(|error| inner.stopped(error))?;
        let strides: Vec<usize> = planned
            .iter()
            .filter(|p| matches!(p.put.payload, Payload::Bytes(_)))
            .map(Planned::stride)
            .collect();
        let mut buffers = take_buffers(inner, &strides)?.into_iter();

        let wanted: Vec<_> = planned
            .iter()
            .map(|p| crate::slots::Wanted {
                key: p.put.key,
                hash: p.hash,
                shard: p.shard,
                class: p.class,
            })
            .collect();
        let taken = take_slots(inner, writer, &wanted, options.mode);
        let mut wave = PutWave {
            inner: Arc::clone(inner),
            writings: Vec::new(),
            permit,
            sent: false,
        };
        let mut requests = Vec::with_capacity(planned.len());
        for (planned, taken) in planned.into_iter().zip(taken) {
            // The buffer is taken in any case, so that each goes to the value it was cut for.
            let Planned {
                at,
                hash,
                shard,
                put,
                ..
            } = planned;
            let Put {
                key,
                payload,
                metadata,
            } = put;
            let (memory, foreign) = match payload {
                Payload::Buffer(buffer) => (Some(buffer), None),
                Payload::Bytes(bytes) => (
                    buffers.next().map(|buf| ValueBuf::new(buf, bytes.len())),
                    Some(bytes),
                ),
            };
            match (taken, memory) {
                (Ok(Some((reservation, slot))), Some(mut memory)) => {
                    if let Some(bytes) = foreign {
                        memory.copy_from_slice(bytes);
                        add(&inner.counters.bytes_copied, bytes.len());
                    }
                    let placement = options.placement.map_or(0, |id| id.0.get());
                    let writing = Writing {
                        at,
                        hash,
                        shard,
                        key: key.into(),
                        metadata: metadata.into(),
                        generation: Generation(reservation.generation()),
                        reservation: Some(reservation),
                        slot,
                        payload_len: 0,
                        payload_checksum: 0,
                        placement,
                    };
                    requests.push(wave.add(writing, memory, options));
                }
                (Ok(None), _) => answers[at] = Ok(Stored::Existed),
                (Err(error), _) => answers[at] = Err(error),
                (Ok(Some((reservation, slot))), None) => {
                    // Unreachable: there is a buffer for each value. Give everything back anyway.
                    inner
                        .index
                        .lock(shard, Visit::Operation)
                        .cancel(reservation, key);
                    inner.index.give_back(&[slot]);
                }
            }
        }
        wave.sent = true;
        Ok((wave, requests))
    }

    /// Step 3 for one value: checksum, header, request.
    fn add(&mut self, mut writing: Writing, mut memory: ValueBuf, options: PutOptions) -> Request {
        let inner = &self.inner;
        let Writing {
            generation,
            slot,
            hash,
            ..
        } = writing;
        writing.payload_len = u32::try_from(memory.len()).unwrap_or(u32::MAX);
        writing.payload_checksum =
            payload_checksum(&inner.identity, generation, slot.0, hash, &memory);
        let header = SlotHeaderRef {
            generation,
            slot: slot.0,
            key_hash: hash,
            payload_len: writing.payload_len,
            payload_checksum: writing.payload_checksum,
            placement: writing.placement,
            key: &writing.key,
            metadata: &writing.metadata,
        };
        header.encode_into(&inner.identity, memory.parts().0);
        self.writings.push(writing);
        let (buf, stride) = memory.into_sealed();
        let offset = inner.geometry.slot_offset(slot.0).unwrap_or(u64::MAX);
        Request {
            placement: options.placement,
            ..Request::write(offset, buf, 0, stride)
        }
    }
}

impl Wave for PutWave {
    type Output = PutAnswers;

    /// Step 4. An entry and its record appear in one hold of the shard's lock, so that the order of
    /// a key's records is the order of its changes.
    fn complete(mut self, completions: Vec<Completion>) -> PutAnswers {
        let inner = Arc::clone(&self.inner);
        let mut writings = std::mem::take(&mut self.writings);
        let mut failures: Vec<Option<Error>> = completions
            .into_iter()
            .map(|done| done.result.err().map(Error::from))
            .collect();
        failures.resize_with(writings.len(), || Some(Error::Closed));
        let mut answers = Vec::with_capacity(writings.len());
        let Some(writer) = &inner.writer else {
            return PutAnswers { answers, ticket: 0 };
        };
        // Late writes of a wave that missed its deadline may end after the store was closed.
        let stopped = writer
            .log
            .is_stopped()
            .then(|| inner.stopped(Error::Closed));
        let mut ticket = 0;
        for group in by_shard(writings.len(), |at| writings[at].shard) {
            let mut shard = inner.index.lock(group.shard, Visit::Operation);
            let mut published = Vec::with_capacity(group.positions.len());
            for position in group.positions {
                let writing = &mut writings[position];
                let Some(reservation) = writing.reservation.take() else {
                    continue;
                };
                if let Some(error) = failures[position].take().or_else(|| stopped.clone()) {
                    shard.cancel(reservation, &writing.key);
                    writer.quarantine.lock().add(&inner.index, writing.slot);
                    answers.push((writing.at, Err(error)));
                    continue;
                }
                let stored = match shard.publish(reservation, &writing.key, writing.entry()) {
                    Published::Inserted | Published::Replaced { .. } => {
                        published.push(position);
                        Stored::Stored
                    }
                    Published::Exists => Stored::Existed,
                    Published::Superseded | Published::Removed => Stored::Superseded,
                };
                add(&inner.counters.bytes_put, writing.payload_len as usize);
                answers.push((writing.at, Ok(stored)));
            }
            let records = published.iter().map(|&at| writings[at].record());
            ticket = writer
                .log
                .queue(&self.permit, records, inner.options.clock.now());
        }
        add(&inner.counters.puts, answers.len());
        PutAnswers { answers, ticket }
    }
}

impl Writing {
    fn entry(&self) -> NewEntry<'_> {
        NewEntry {
            slot: self.slot,
            payload_len: self.payload_len,
            payload_checksum: self.payload_checksum,
            placement: self.placement,
            metadata: &self.metadata,
            proven: true,
        }
    }

    fn record(&self) -> Record<'_> {
        Record::Put {
            key: &self.key,
            slot: self.slot.0,
            generation: self.generation,
            payload_len: self.payload_len,
            payload_checksum: self.payload_checksum,
            placement: self.placement,
            metadata: &self.metadata,
        }
    }
}

impl Drop for PutWave {
    /// A wave that was not completed gives its keys back. Its slots are free again only if nothing
    /// was sent to them; otherwise a write may still land there.
    fn drop(&mut self) {
        for mut writing in self.writings.drain(..) {
            if let Some(reservation) = writing.reservation.take() {
                self.inner
                    .index
                    .lock(writing.shard, Visit::Operation)
                    .cancel(reservation, &writing.key);
            }
            match &self.inner.writer {
                Some(writer) if self.sent => writer
                    .quarantine
                    .lock()
                    .add(&self.inner.index, writing.slot),
                _ => self.inner.index.give_back(&[writing.slot]),
            }
        }
    }
}
