//! Steps 2 to 4 of a put: values whose writes are in flight together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rb_format::{Generation, MoreSlots, Record, SlotHeaderRef, payload_checksum};
use rb_index::{NewEntry, Published, Reservation, SlotId, Visit};
use rb_io::{Completion, PlacementId, Request};

use crate::core::inner::{Inner, Writer};
use crate::counters::add;
use crate::error::Error;
use crate::io::lanes::Wave;
use crate::log::delta::{Need, Permit};
use crate::ops::batch::by_shard;
use crate::ops::get_wave::take_buffers;
use crate::ops::put::PutResult;
use crate::ops::put_plan::{Payload, Planned, Put, Stored};
use crate::ops::slots::{Taken, Wanted, take_slots};
use crate::options::{Durability, PutOptions};
use crate::simulator::{Change, SwitchPoint};
use crate::value::ValueBuf;

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
    placement: Option<PlacementId>,
    /// Its puts are acknowledged when they are durable.
    strict: bool,
    /// What was answered so far refers to nothing that is not durable with this ticket.
    ticket: u64,
    sent: Arc<AtomicBool>,
}

/// What a wave of writes came to.
pub(crate) struct PutAnswers {
    pub(crate) answers: Vec<(usize, PutResult)>,
    /// They, and what they refer to, are durable once this ticket is.
    pub(crate) ticket: u64,
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
        let mut need = Need::default();
        planned
            .iter()
            .for_each(|p| need.add(p.put.key, p.put.metadata));
        let permit = inner.admit(writer, need)?;
        let strides: Vec<usize> = planned
            .iter()
            .filter(|p| matches!(p.put.payload, Payload::Bytes(_)))
            .map(Planned::stride)
            .collect();
        let mut buffers = take_buffers(inner, &strides, inner.busy_wait())?.into_iter();

        let wanted: Vec<_> = planned
            .iter()
            .map(|p| Wanted {
                key: p.put.key,
                hash: p.hash,
                shard: p.shard,
                class: p.class,
            })
            .collect();
        inner.switch(SwitchPoint::PutAdmitted);
        let placement = inner.placement_of(options.lifetime);
        let near = placement.map_or(0, |id| id.0.get());
        let taken = take_slots(inner, writer, &wanted, options.mode, near);
        let mut wave = PutWave {
            inner: Arc::clone(inner),
            writings: Vec::new(),
            permit,
            placement,
            strict: inner.durability(options) == Durability::EachBatch,
            ticket: 0,
            sent: Arc::default(),
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
            let (reservation, slot) = match taken {
                Taken::Slot(reservation, slot) => (reservation, slot),
                Taken::Exists(ticket) => {
                    answers[at] = Ok(Stored::Existed);
                    wave.ticket = wave.ticket.max(ticket);
                    continue;
                }
                Taken::Failed(error) => {
                    answers[at] = Err(error);
                    continue;
                }
            };
            let Some(mut memory) = memory else {
                unreachable!("a buffer was taken for each value in the caller's memory")
            };
            if let Some(bytes) = foreign {
                memory.copy_from_slice(bytes);
                add(&inner.counters.bytes_copied, bytes.len());
            }
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
                placement: near,
            };
            requests.push(wave.add(writing, memory));
        }
        inner.switch(SwitchPoint::Sending);
        Ok((wave, requests))
    }

    /// Step 3 for one value: checksum, header, request.
    fn add(&mut self, mut writing: Writing, mut memory: ValueBuf) -> Request {
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
            more: MoreSlots::NONE,
            key_hash: hash,
            payload_len: writing.payload_len,
            payload_checksum: writing.payload_checksum,
            placement: writing.placement,
            policy: 0,
            expiry: 0,
            key: &writing.key,
            metadata: &writing.metadata,
        };
        header.encode_into(&inner.identity, memory.parts().0);
        self.writings.push(writing);
        let (buf, stride) = memory.into_sealed();
        let offset = inner.geometry.slot_offset(slot.0).unwrap_or(u64::MAX);
        Request {
            placement: self.placement,
            ..Request::write(offset, buf, 0, stride)
        }
    }
}

impl PutWave {
    /// What was answered before anything was sent is durable with this ticket.
    pub(crate) fn ticket(&self) -> u64 {
        self.ticket
    }

    /// What [`Wave::sent`] sets, for a driver that does not see the wave.
    pub(crate) fn sent_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.sent)
    }
}

impl Wave for PutWave {
    type Output = PutAnswers;

    fn sent(&mut self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// Step 4. An entry and its record appear in one hold of the shard's lock, so that the order of
    /// a key's records is the order of its changes.
    fn complete(mut self, completions: Vec<Completion>) -> PutAnswers {
        let inner = Arc::clone(&self.inner);
        inner.switch(SwitchPoint::Arrived);
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
        let mut ticket = self.ticket;
        for group in by_shard(writings.len(), |at| writings[at].shard) {
            let mut shard = inner.index.lock(group.shard, Visit::Operation);
            let mut published = Vec::with_capacity(group.positions.len());
            for position in group.positions {
                let writing = &mut writings[position];
                let Some(reservation) = writing.reservation.take() else {
                    continue;
                };
                if let Some(error) = &failures[position] {
                    shard.cancel(reservation, &writing.key);
                    set_aside(&inner, writer, writing.slot, error);
                    answers.push((writing.at, Err(error.clone())));
                    continue;
                }
                if let Some(error) = &stopped {
                    shard.cancel(reservation, &writing.key);
                    inner.index.give_back(&[writing.slot]);
                    answers.push((writing.at, Err(error.clone())));
                    continue;
                }
                let stored = match shard.publish(reservation, &writing.key, writing.entry()) {
                    Published::Inserted | Published::Replaced { .. } => {
                        inner.changed(&Change::Put {
                            key: &writing.key,
                            generation: writing.generation.0,
                            slot: writing.slot.0,
                        });
                        published.push(position);
                        Stored::Stored
                    }
                    // The answer refers to what came before it, which may not be durable.
                    Published::Exists => {
                        let existing = shard.ticket_of(writing.hash, &writing.key);
                        ticket = ticket.max(existing);
                        Stored::Existed
                    }
                    Published::Superseded | Published::Removed => {
                        ticket = ticket.max(shard.last_ticket());
                        Stored::Superseded
                    }
                };
                add(&inner.counters.bytes_put, writing.payload_len as usize);
                answers.push((writing.at, Ok(stored)));
            }
            if !published.is_empty() {
                let records = published.iter().map(|&at| writings[at].record());
                let now = inner.options.clock.now();
                let queued = writer.log.queue(&self.permit, records, now);
                shard.recorded(queued, self.strict);
                ticket = ticket.max(queued);
            }
            drop(shard);
            inner.switch(SwitchPoint::Published);
        }
        add(&inner.counters.puts, answers.len());
        let went_well = |at: &usize| failures[*at].is_none();
        let well = (0..writings.len())
            .filter(went_well)
            .map(|at| writings[at].slot);
        writer.quarantine.lock().forgive(well);
        PutAnswers { answers, ticket }
    }
}

/// Takes a slot out of use whose write failed. If the failure was the device's answer, until a later
/// flush ends; if the queue failed, nobody will ever know.
fn set_aside(inner: &Inner, writer: &Writer, slot: SlotId, error: &Error) {
    let mut quarantine = writer.quarantine.lock();
    if error.is_answer_for_place() {
        quarantine.add(&inner.index, slot, !error.is_out_of_space());
        writer.log.want_commit();
    } else {
        quarantine.add_for_good(&inner.index, slot);
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
            more: MoreSlots::NONE,
            generation: self.generation,
            payload_len: self.payload_len,
            payload_checksum: self.payload_checksum,
            placement: self.placement,
            policy: 0,
            expiry: 0,
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
                Some(writer) if self.sent.load(Ordering::Relaxed) => {
                    let mut quarantine = writer.quarantine.lock();
                    quarantine.add_for_good(&self.inner.index, writing.slot);
                }
                _ => self.inner.index.give_back(&[writing.slot]),
            }
        }
        if let Some(writer) = &self.inner.writer {
            self.inner.look_for_discards(writer);
        }
    }
}
