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

use rb_format::{FORMAT_BLOCK, SlotHeader, padded_len, payload_checksum};
use rb_index::{Lease, Located, Visit};
use rb_io::{Buffer, Completion, Request};

use crate::batch::by_shard;
use crate::error::Error;
use crate::events::{DropReason, Event};
use crate::inner::Inner;
use crate::lanes::Wave;
use crate::stats::add;
use crate::value::{Value, ValueBuf};

/// One key's answer: a value, a miss, or what went wrong.
pub type Lookup = Result<Option<Value>, Error>;

/// A hit on its way: leased in the index, to be read and proven.
pub(crate) struct Hit {
    /// Position of the key in the batch.
    at: usize,
    lease: Option<Lease>,
    hash: u64,
    located: Located,
    shard: usize,
    key: Box<[u8]>,
    metadata: Box<[u8]>,
    /// Read and check the header too.
    whole: bool,
}

/// Hits whose reads are in flight together. Owns their leases.
pub(crate) struct GetWave {
    inner: Arc<Inner>,
    hits: Vec<Hit>,
    /// These were read before, and the proof failed.
    again: bool,
}

/// What a wave of reads came to.
pub(crate) struct GetAnswers {
    pub(crate) answers: Vec<(usize, Lookup)>,
    /// Hits whose proof failed for the first time.
    pub(crate) again: Option<GetWave>,
}

/// Looks up many keys in the calling thread.
pub(crate) fn get_many(inner: &Arc<Inner>, keys: &[&[u8]]) -> Vec<Lookup> {
    let mut answers: Vec<Lookup> = (0..keys.len()).map(|_| Ok(None)).collect();
    let pass = match inner.enter() {
        Ok(pass) => pass,
        Err(_) => return keys.iter().map(|_| Err(Error::Closed)).collect(),
    };
    let mut wave = Some(lease_all(inner, keys, &mut answers)); // 1
    while let Some(next) = wave.take() {
        let positions = next.positions();
        let Some(outcome) = run(inner, next, &mut answers) else {
            continue;
        };
        match outcome {
            Ok(done) => {
                for (at, answer) in done.answers {
                    answers[at] = answer;
                }
                wave = done.again;
            }
            Err(error) => fail(&mut answers, &positions, &error),
        }
    }
    drop(pass);
    answers
}

/// Looks up many keys and copies each value into the caller's memory, in waves if the batch is
/// larger than the buffers. Answers the length of each hit.
pub(crate) fn get_many_into(
    inner: &Arc<Inner>,
    keys: &[&[u8]],
    outputs: &mut [&mut [u8]],
) -> Vec<Result<Option<usize>, Error>> {
    let mut answers: Vec<Lookup> = (0..keys.len()).map(|_| Ok(None)).collect();
    let mut lengths: Vec<Result<Option<usize>, Error>> = keys.iter().map(|_| Ok(None)).collect();
    let pass = match inner.enter() {
        Ok(pass) => pass,
        Err(_) => return keys.iter().map(|_| Err(Error::Closed)).collect(),
    };
    let mut rest = lease_all(inner, keys, &mut answers);
    // Later keys first, so that the batch's first key ends as the most recently used.
    let mut waves = Vec::new();
    while !rest.hits.is_empty() {
        waves.push(rest.split_off_wave(inner.arena.bytes() / 2));
    }
    while let Some(next) = waves.pop() {
        let positions = next.positions();
        let Some(outcome) = run(inner, next, &mut answers) else {
            continue;
        };
        match outcome {
            Ok(done) => {
                waves.extend(done.again);
                for (at, answer) in done.answers {
                    lengths[at] =
                        answer.and_then(|hit| hit.map(|v| copy(&v, outputs[at])).transpose());
                }
            }
            Err(error) => fail(&mut answers, &positions, &error),
        }
    }
    drop(pass);
    for (length, answer) in lengths.iter_mut().zip(answers) {
        if let Err(error) = answer {
            *length = Err(error);
        }
    }
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

/// Steps 2 and 3 and, through the wave, 4. None if there was nothing to read or no buffers; then
/// the answers say so.
fn run(
    inner: &Arc<Inner>,
    mut wave: GetWave,
    answers: &mut [Lookup],
) -> Option<Result<GetAnswers, Error>> {
    if wave.hits.is_empty() {
        return None;
    }
    match wave.requests() {
        Ok(requests) => Some(inner.lanes.drive(
            wave,
            requests,
            inner.options.busy_wait,
            inner.options.io_deadline,
        )),
        Err(error) => {
            fail(answers, &wave.positions(), &error);
            None
        }
    }
}

/// Answers every key of a wave that was not served with the same failure.
pub(crate) fn fail(answers: &mut [Lookup], positions: &[usize], error: &Error) {
    for &at in positions {
        answers[at] = Err(error.clone());
    }
}

/// Step 1: answers bad keys and misses, leases the hits.
pub(crate) fn lease_all(inner: &Arc<Inner>, keys: &[&[u8]], answers: &mut [Lookup]) -> GetWave {
    inner.index.begin_batch(keys.len());
    let hashes: Vec<u64> = keys.iter().map(|key| inner.hash(key)).collect();
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
                lease: Some(lease),
            });
        }
    }
    add(&inner.counters.hits, hits.len());
    add(&inner.counters.misses, keys.len() - hits.len());
    hits.sort_unstable_by_key(|hit| hit.at);
    GetWave {
        inner: Arc::clone(inner),
        hits,
        again: false,
    }
}

impl GetWave {
    pub(crate) fn positions(&self) -> Vec<usize> {
        self.hits.iter().map(|hit| hit.at).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// Steps 2 and 3: one read per hit, with the buffers of all taken at once.
    pub(crate) fn requests(&mut self) -> Result<Vec<Request>, Error> {
        let inner = &self.inner;
        let strides: Vec<usize> = self
            .hits
            .iter()
            .map(|hit| ValueBuf::stride(hit.located.payload_len as usize))
            .collect();
        let buffers = take_buffers(inner, &strides)?;
        Ok(self
            .hits
            .iter()
            .zip(buffers)
            .map(|(hit, buf)| hit.request(inner, buf))
            .collect())
    }

    /// Moves the first hits, up to `bytes` of buffers but at least one, into a wave of their own.
    fn split_off_wave(&mut self, bytes: usize) -> GetWave {
        let mut sum = 0;
        let mut count = 0;
        for hit in &self.hits {
            sum += ValueBuf::stride(hit.located.payload_len as usize);
            if count > 0 && sum > bytes {
                break;
            }
            count += 1;
        }
        let hits = self.hits.drain(..count).collect();
        GetWave {
            inner: Arc::clone(&self.inner),
            hits,
            again: self.again,
        }
    }

    /// Ends the leases of these hits: per touched shard, once.
    fn release(inner: &Inner, hits: &mut [(Hit, Verdict)]) {
        for group in by_shard(hits.len(), |at| hits[at].0.shard) {
            let mut shard = inner.index.lock(group.shard, Visit::Operation);
            for at in group.positions {
                let (hit, verdict) = &mut hits[at];
                let Some(lease) = hit.lease.take() else {
                    continue;
                };
                match verdict {
                    Verdict::Proven => shard.prove(&lease),
                    Verdict::Disproven => *verdict = Verdict::Dropped(shard.forget(&lease)),
                    Verdict::Unknown | Verdict::Dropped(_) => {}
                }
                shard.release(lease);
            }
        }
    }
}

/// What a read said about its entry.
enum Verdict {
    /// The bytes are what was put.
    Proven,
    /// They are not, twice.
    Disproven,
    /// The read failed.
    Unknown,
    /// Forgotten; whether that generation was still live.
    Dropped(bool),
}

impl Wave for GetWave {
    type Output = GetAnswers;

    /// Step 4.
    fn complete(mut self, completions: Vec<Completion>) -> GetAnswers {
        let inner = Arc::clone(&self.inner);
        let hits = std::mem::take(&mut self.hits);
        let mut judged = Vec::with_capacity(hits.len());
        let mut answers = Vec::with_capacity(hits.len());
        let mut again = Vec::new();
        for (mut hit, completion) in hits.into_iter().zip(completions) {
            let at = hit.at;
            match (completion.result, completion.buf) {
                (Ok(()), Some(buf)) if hit.is_proven_by(&inner, &buf) => {
                    let len = hit.located.payload_len as usize;
                    let metadata = std::mem::take(&mut hit.metadata);
                    let value = Value::new(buf, len, metadata, hit.located.generation);
                    add(&inner.counters.bytes_got, len);
                    answers.push((at, Ok(Some(value))));
                    judged.push((hit, Verdict::Proven));
                }
                (Ok(()), _) if self.again => {
                    answers.push((at, Ok(None)));
                    judged.push((hit, Verdict::Disproven));
                }
                (Ok(()), _) => again.push(Hit { whole: true, ..hit }),
                (Err(error), _) => {
                    add(&inner.counters.read_errors, 1);
                    answers.push((at, Err(error.into())));
                    judged.push((hit, Verdict::Unknown));
                }
            }
        }
        GetWave::release(&inner, &mut judged);
        for (hit, verdict) in &judged {
            if let Verdict::Dropped(true) = verdict {
                add(&inner.counters.dropped, 1);
                let (key, generation) = (&*hit.key, hit.located.generation);
                inner.emit(&Event::Dropped {
                    key,
                    generation,
                    reason: DropReason::FailedProof,
                });
            }
        }
        let again = (!again.is_empty()).then(|| GetWave {
            inner,
            hits: again,
            again: true,
        });
        GetAnswers { answers, again }
    }
}

impl Drop for GetWave {
    /// A wave that was never sent ends its leases here.
    fn drop(&mut self) {
        let mut unread: Vec<(Hit, Verdict)> = self
            .hits
            .drain(..)
            .map(|hit| (hit, Verdict::Unknown))
            .collect();
        GetWave::release(&self.inner, &mut unread);
    }
}

impl Hit {
    /// Step 2: where to read. The payload lands behind one block of head room either way.
    fn request(&self, inner: &Inner, buf: Buffer) -> Request {
        let slot = inner
            .geometry
            .slot_offset(self.located.slot.0)
            .unwrap_or(u64::MAX);
        let payload = padded_len(u64::from(self.located.payload_len)) as usize;
        if self.whole {
            Request::read(slot, buf, 0, FORMAT_BLOCK + payload)
        } else {
            Request::read(slot + FORMAT_BLOCK as u64, buf, FORMAT_BLOCK, payload)
        }
    }

    fn is_proven_by(&self, inner: &Inner, buf: &[u8]) -> bool {
        let Located {
            slot,
            generation,
            payload_len,
            payload_checksum: expected,
            ..
        } = self.located;
        let generation = rb_format::Generation(generation);
        let payload = &buf[FORMAT_BLOCK..FORMAT_BLOCK + payload_len as usize];
        let header_agrees = !self.whole
            || SlotHeader::decode(&buf[..FORMAT_BLOCK], &inner.identity).is_ok_and(|header| {
                header.key == self.key
                    && header.generation == generation
                    && header.slot == slot.0
                    && header.payload_len == payload_len
                    && header.payload_checksum == expected
            });
        header_agrees
            && payload_checksum(&inner.identity, generation, slot.0, self.hash, payload) == expected
    }
}

/// Takes the buffers of a wave, all or none.
pub(crate) fn take_buffers(inner: &Inner, strides: &[usize]) -> Result<Vec<Buffer>, Error> {
    let needed: usize = strides.iter().sum();
    if needed > inner.arena.bytes() {
        return Err(Error::BatchTooLarge {
            needed,
            limit: inner.arena.bytes(),
        });
    }
    let wait = inner.busy_wait();
    inner
        .arena
        .take_many(strides, wait)
        .map_err(|_| Error::Busy {
            what: "buffer memory",
            waited: wait,
        })
}
