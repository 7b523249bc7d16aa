//! Steps 2 to 4 of a get: hits whose reads are in flight together, and their proof.

use std::sync::Arc;
use std::time::Duration;

use rb_format::{FORMAT_BLOCK, padded_len};
use rb_index::{Lease, Located, Visit};
use rb_io::{Buffer, Completion, Request};

use crate::core::inner::Inner;
use crate::core::proof::{header_proves, payload_proves};
use crate::counters::add;
use crate::error::Error;
use crate::events::{DropReason, Event};
use crate::io::lanes::Wave;
use crate::ops::batch::by_shard;
use crate::ops::get::Lookup;
use crate::simulator::SwitchPoint;
use crate::value::{Value, ValueBuf};

/// A hit on its way: leased in the index, to be read and proven.
pub(crate) struct Hit {
    /// Position of the key in the batch.
    pub(crate) at: usize,
    pub(crate) lease: Option<Lease>,
    pub(crate) hash: u64,
    pub(crate) located: Located,
    pub(crate) shard: usize,
    pub(crate) key: Box<[u8]>,
    pub(crate) metadata: Box<[u8]>,
    /// Read and check the header too.
    pub(crate) whole: bool,
    /// What its bytes prove, if they were looked at before all of the wave was read.
    pub(crate) proven: Option<bool>,
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
    pub(crate) dropped: Dropped,
}

/// Entries that were dropped. The observer is told when this is dropped: a driver first wakes those whose answers it
/// holds.
pub(crate) struct Dropped {
    inner: Arc<Inner>,
    hits: Vec<Hit>,
}

impl GetWave {
    /// A wave of hits that were not read before. Sorts them by position.
    pub(crate) fn new(inner: &Arc<Inner>, mut hits: Vec<Hit>) -> GetWave {
        hits.sort_unstable_by_key(|hit| hit.at);
        GetWave {
            inner: Arc::clone(inner),
            hits,
            again: false,
        }
    }

    pub(crate) fn positions(&self) -> Vec<usize> {
        self.hits.iter().map(|hit| hit.at).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// Steps 2 and 3: one read per hit, with the buffers of all taken at once.
    pub(crate) fn requests(&mut self, wait: Duration) -> Result<Vec<Request>, Error> {
        let inner = &self.inner;
        let strides: Vec<usize> = self.hits.iter().map(Hit::stride).collect();
        let buffers = take_buffers(inner, &strides, wait)?;
        inner.switch(SwitchPoint::Sending);
        Ok(self
            .hits
            .iter()
            .zip(buffers)
            .map(|(hit, buf)| hit.request(inner, buf))
            .collect())
    }

    /// Cuts the wave into waves of at most `bytes` of buffers, but at least one hit.
    pub(crate) fn split(mut self, bytes: usize) -> Vec<GetWave> {
        let mut waves = Vec::new();
        while !self.hits.is_empty() {
            let mut sum = 0;
            let fits = |hit: &&Hit| {
                sum += hit.stride();
                sum <= bytes
            };
            let count = self.hits.iter().take_while(fits).count().max(1);
            waves.push(GetWave::new(
                &self.inner,
                self.hits.drain(..count).collect(),
            ));
        }
        waves
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
                    Verdict::Disproven => {
                        let live = shard.forget(&lease);
                        inner.changed_if(live, &hit.key, hit.located.generation);
                        *verdict = Verdict::Dropped(live);
                    }
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
    const EARLY: bool = true;

    fn arrived(&mut self, answer: &Completion) {
        let hit = usize::try_from(answer.tag)
            .ok()
            .and_then(|at| self.hits.get_mut(at));
        if let (Some(hit), Ok(()), Some(buf)) = (hit, &answer.result, &answer.buf) {
            hit.proven = Some(hit.is_proven_by(&self.inner, buf));
        }
    }

    /// Step 4.
    fn complete(mut self, completions: Vec<Completion>) -> GetAnswers {
        let inner = Arc::clone(&self.inner);
        inner.switch(SwitchPoint::Arrived);
        let hits = std::mem::take(&mut self.hits);
        let mut judged = Vec::with_capacity(hits.len());
        let mut answers = Vec::with_capacity(hits.len());
        let mut again = Vec::new();
        for (position, (mut hit, completion)) in (0..).zip(hits.into_iter().zip(completions)) {
            let at = hit.at;
            // What was found out early was found out by the tag.
            hit.proven = hit.proven.filter(|_| completion.tag == position);
            match (completion.result, completion.buf) {
                (Ok(()), Some(buf))
                    if hit.proven.unwrap_or_else(|| hit.is_proven_by(&inner, &buf)) =>
                {
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
                (Ok(()), _) => again.push(Hit {
                    whole: true,
                    proven: None,
                    ..hit
                }),
                (Err(error), _) => {
                    add(&inner.counters.read_errors, 1);
                    answers.push((at, Err(error.into())));
                    judged.push((hit, Verdict::Unknown));
                }
            }
        }
        inner.switch(SwitchPoint::Verified);
        GetWave::release(&inner, &mut judged);
        inner.switch(SwitchPoint::Released);
        let dropped = judged
            .into_iter()
            .filter_map(|(hit, verdict)| match verdict {
                Verdict::Dropped(true) => Some(hit),
                _ => None,
            });
        let dropped = Dropped {
            inner: Arc::clone(&inner),
            hits: dropped.collect(),
        };
        add(&inner.counters.dropped, dropped.hits.len());
        let again = (!again.is_empty()).then(|| GetWave {
            inner,
            hits: again,
            again: true,
        });
        GetAnswers {
            answers,
            again,
            dropped,
        }
    }
}

impl Dropped {
    pub(crate) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        for hit in &self.hits {
            self.inner.emit(&Event::Dropped {
                key: &hit.key,
                generation: hit.located.generation,
                reason: DropReason::FailedProof,
            });
        }
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
    /// Bytes of buffer memory that it takes.
    fn stride(&self) -> usize {
        ValueBuf::stride(self.located.payload_len as usize)
    }

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
        let (header, payload) = buf.split_at(FORMAT_BLOCK);
        (!self.whole || header_proves(&inner.identity, header, &self.key, &self.located))
            && payload_proves(&inner.identity, payload, self.hash, &self.located)
    }
}

/// Takes the buffers of a wave, all or none.
pub(crate) fn take_buffers(
    inner: &Inner,
    strides: &[usize],
    wait: Duration,
) -> Result<Vec<Buffer>, Error> {
    let needed: usize = strides.iter().sum();
    if needed > inner.arena.bytes() {
        return Err(Error::BatchTooLarge {
            needed,
            limit: inner.arena.bytes(),
        });
    }
    inner
        .arena
        .take_many(strides, wait)
        .map_err(|_| Error::Busy {
            what: "buffer memory",
            waited: wait,
        })
}
