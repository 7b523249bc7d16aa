//! Step 4 of a put: publishes the values of a batch whose writes have ended, and queues their records.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use rb_index::{LockPurpose, Published, SlotId};

use crate::core::expiry::Expiry;
use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::error::Error;
use crate::log::delta::LogReservation;
use crate::ops::put_pending::PendingPut;
use crate::ops::put_plan::{PlannedPut, PutAnswers, PutOutcome, PutResult};
use crate::ops::refused::{RefusedPut, Trace};
use crate::options::{Durability, PutMode, PutOptions};
use crate::simulator::{Change, SwitchPoint};

/// Publishes the puts of a batch.
pub(crate) struct Publisher {
    inner: Arc<Inner>,
    reservation: LogReservation,
    /// True if the puts are acknowledged only once durable.
    strict: bool,
    mode: PutMode,
    /// Refused puts without a result, by shard. Their records are queued with those of the written ones.
    refused: BTreeMap<usize, Vec<RefusedPut>>,
    pub(crate) done: PutAnswers,
}

impl Publisher {
    /// The publisher of a batch whose records fit `reservation`.
    pub(crate) fn new(
        inner: &Arc<Inner>,
        reservation: LogReservation,
        options: PutOptions,
    ) -> Publisher {
        Publisher {
            inner: Arc::clone(inner),
            reservation,
            strict: inner.durability(options) == Durability::EachBatch,
            mode: options.mode,
            refused: BTreeMap::new(),
            done: PutAnswers::default(),
        }
    }

    /// Takes a refused put, which ends with the others.
    pub(crate) fn refused(&mut self, put: PlannedPut<'_>) {
        let (shard, refused) = (put.shard, RefusedPut::new(put));
        match self.mode {
            PutMode::Replace => self.refused.entry(shard).or_default().push(refused),
            // An evicted value that returns is one that it would have kept.
            PutMode::KeepExisting => self.not_admitted(&refused, 0),
        }
    }

    fn not_admitted(&mut self, put: &RefusedPut, ticket: u64) {
        put.count(&self.inner);
        self.answer(put.at, Ok(PutOutcome::NotAdmitted), ticket);
    }

    /// Positions of the refused puts without a result.
    pub(crate) fn open(&self) -> impl Iterator<Item = usize> {
        self.refused.values().flatten().map(|put| put.at)
    }

    /// Forgets the refused puts: the device has missed the deadline of the batch, and their records would come after puts
    /// of the same keys that began later.
    pub(crate) fn forget_refused(&mut self) {
        self.refused.clear();
    }

    pub(crate) fn answer(&mut self, at: usize, answer: PutResult, ticket: u64) {
        self.done.answers.push((at, answer));
        self.done.ticket = self.done.ticket.max(ticket);
    }

    /// Step 4 for the puts of one shard, under its lock. Entry and record appear in the same lock
    /// hold, so that the records of a key are in the order of its changes.
    fn publish(
        &mut self,
        writer: &Writer,
        number: usize,
        group: &mut [PendingPut],
        refused: &[RefusedPut],
        expiry: &mut Expiry<'_>,
        stopped: Option<&Error>,
    ) {
        let inner = Arc::clone(&self.inner);
        let mut shard = inner.index.lock(number, LockPurpose::Operation);
        let mut removed = Vec::with_capacity(refused.len());
        for put in refused {
            let ended = match stopped {
                Some(error) => Err(error.clone()),
                None => put.end(&inner, writer, &mut shard, expiry),
            };
            match ended {
                Ok(Trace::Recorded(ticket)) => self.not_admitted(put, ticket),
                Ok(Trace::Unrecorded(generation)) => {
                    removed.push(put.record(generation));
                    self.not_admitted(put, 0);
                }
                Err(error) => self.answer(put.at, Err(error), 0),
            }
        }
        let mut published = Vec::with_capacity(group.len());
        for (number, writing) in group.iter_mut().enumerate() {
            let reservation = writing.reservation.take();
            let reservation = reservation.expect("a put in flight holds its reservation");
            // A put without a completion was in a queue that failed.
            let failed = writing
                .written
                .as_ref()
                .map_or(Some(&Error::Closed), |written| written.as_ref().err());
            if let Some(error) = failed {
                shard.cancel(reservation, &writing.key);
                match error.is_given_up() {
                    // No write of it is under way, so the slots can be reused immediately.
                    true => inner.index.give_back(&writing.slots),
                    false => set_aside(&inner, writer, &writing.slots, error),
                }
                self.done.answers.push((writing.at, Err(error.clone())));
                continue;
            }
            debug_assert!(writing.payload_len > 0, "no value is empty");
            if let Some(error) = stopped {
                shard.cancel(reservation, &writing.key);
                // The write has ended, so the slots can be reused immediately.
                inner.index.give_back(&writing.slots);
                self.done.answers.push((writing.at, Err(error.clone())));
                continue;
            }
            if self.mode == PutMode::KeepExisting {
                expiry.apply(&mut shard, writing.hash, &writing.key);
            }
            let (stored, ticket) = match shard.publish(reservation, &writing.key, writing.entry()) {
                Published::Inserted => (PutOutcome::Inserted, 0),
                Published::Replaced { payload_len, .. } => {
                    (PutOutcome::Replaced { len: payload_len }, 0)
                }
                // This result refers to an earlier change, which may not be durable yet.
                Published::Exists => {
                    let existing = shard.ticket_of(writing.hash, &writing.key);
                    (PutOutcome::Existed, existing)
                }
                Published::Superseded | Published::Removed => {
                    (PutOutcome::Superseded, shard.last_ticket())
                }
            };
            if stored.is_written() {
                inner.changed(&Change::Put {
                    key: &writing.key,
                    generation: writing.generation.0,
                    slots: &writing.slots,
                });
                published.push(number);
            }
            inner.counters.add_written(writing.payload_len);
            self.answer(writing.at, Ok(stored), ticket);
        }
        if !(published.is_empty() && removed.is_empty()) {
            let published = published.iter().map(|&number| group[number].record());
            let records = published.chain(removed);
            let now = inner.options.clock.now();
            let queued = writer.log.queue(&self.reservation, records, now);
            shard.recorded(queued, self.strict);
            self.done.ticket = self.done.ticket.max(queued);
        }
        drop(shard);
        inner.switch(SwitchPoint::Published);
    }

    /// Step 4 for puts whose writes have ended: publishes or fails each.
    pub(crate) fn end(&mut self, mut writings: Vec<PendingPut>, before_observer: &mut dyn FnMut()) {
        let inner = Arc::clone(&self.inner);
        let writer = inner.writer.as_ref().expect("puts have a writer");
        // The writes of a batch that missed its deadline may end after the store was closed.
        let stopped = writer
            .log
            .is_stopped()
            .then(|| inner.stopped(Error::Closed));
        // A round of copies has changed the order.
        writings.sort_by_key(|writing| (writing.shard, Reverse(writing.at)));
        let mut expiry = Expiry::new(&inner);
        let mut refused = std::mem::take(&mut self.refused);
        for group in writings.chunk_by_mut(|one, other| one.shard == other.shard) {
            let number = group[0].shard;
            let refused = refused.remove(&number).unwrap_or_default();
            self.publish(
                writer,
                number,
                group,
                &refused,
                &mut expiry,
                stopped.as_ref(),
            );
        }
        for (number, group) in &refused {
            self.publish(
                writer,
                *number,
                &mut [],
                group,
                &mut expiry,
                stopped.as_ref(),
            );
        }
        if expiry.has_dropped() {
            before_observer();
            expiry.notify();
        }
        inner.counters.add_puts(writings.len());
        let trace = &inner.counters.trace;
        for writing in &writings {
            if let Some(Err(error)) = &writing.written
                && !error.is_given_up()
            {
                let slots = writing.slots.iter();
                slots.for_each(|slot| trace.quarantined(slot.0, error));
            }
        }
        trace.direct_off(|| inner.direct.newly_off());
        // A slot that takes a write is not bad: its earlier failures no longer count.
        let well = writings
            .iter()
            .filter(|writing| matches!(writing.written, Some(Ok(()))));
        writer
            .quarantine
            .lock()
            .forgive(well.flat_map(|writing| writing.slots.iter().copied()));
        inner.look_for_discards(writer);
    }
}

/// Takes the slots of a put whose write failed out of use: until a flush ends if the device reported
/// the failure, for the whole session if the queue failed, because the write may still land.
fn set_aside(inner: &Inner, writer: &Writer, slots: &[SlotId], error: &Error) {
    let mut quarantine = writer.quarantine.lock();
    if !error.is_answer_for_place() {
        // Neither the device nor a later flush says when the write has ended.
        for &slot in slots {
            quarantine.add_for_good(&inner.index, slot);
        }
        return;
    }
    // A full file system fails writes without the slot being bad, and so does refused memory.
    let counts = error.is_damage() && !error.is_out_of_space() && !error.is_memory_refused();
    let failed = error.device_offset();
    for &slot in slots {
        // Of several slots only the one with the place that failed may be bad.
        let is_at_fault = match failed {
            Some(offset) => inner.geometry.slot_at(offset) == Some(slot.0),
            None => slots.len() == 1,
        };
        let now = inner.options.clock.now();
        quarantine.add(&inner.index, slot, counts && is_at_fault, now);
    }
    writer.log.want_commit();
}
