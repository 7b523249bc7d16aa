//! Steps 2 and 3 of a put: the slots, headers and writes of a batch of values.
//!
//! A request is sealed, which takes the time of a checksum, just before it starts: the device writes
//! the values before it meanwhile.

use std::sync::Arc;

use rb_format::Generation;
use rb_index::{LockPurpose, Reservation, SlotId};
use rb_io::{Buffer, Completion, Patience, Request};

use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::core::writer::Writer;
use crate::error::Error;
use crate::log::delta::{LogReservation, LogSpace};
use crate::ops::batch::Batch;
use crate::ops::put_pending::{PendingPut, Source};
use crate::ops::put_plan::{Ended, Payload, PlannedPut, PutAnswers, PutOutcome, take_buffers};
use crate::ops::put_publish::Publisher;
use crate::ops::slots::{Taken, Taking, take_slots};
use crate::options::PutOptions;
use crate::simulator::SwitchPoint;

/// Most bytes an async call checksums itself, about 10 us of work: waking a thread for a value of
/// 64 KiB costs more CPU time than checksumming it.
const NOW_BYTES: usize = 256 << 10;

/// A prepared batch, and the payload of each of its requests, to be sealed.
pub(crate) type Prepared<'a> = (PutBatch, Vec<Source<'a>>);

/// Puts whose writes are in flight together.
pub(crate) struct PutBatch {
    inner: Arc<Inner>,
    /// Puts without a result, grouped by shard.
    writings: Vec<PendingPut>,
    /// One for each of the first of `writings`, until they are submitted.
    requests: Vec<Request>,
    publisher: Publisher,
}

impl PutBatch {
    /// Step 2, and the requests of step 3. Takes everything that can be refused, buffers and log
    /// space, before any slot. `planned` must be grouped by shard.
    pub(crate) fn prepare<'a>(
        inner: &Arc<Inner>,
        writer: &Writer,
        planned: Vec<PlannedPut<'a>>,
        options: PutOptions,
        ended: &Ended,
        waits: &mut Waits,
    ) -> Result<Prepared<'a>, Error> {
        let buffers = take_buffers(inner, &planned, &mut waits.resources)?;
        // Log space last: it is scarce, and nothing may be waited for while it is held.
        let reservation = inner.admit(writer, need(&planned), &mut waits.resources)?;
        inner.switch(SwitchPoint::PutAdmitted);
        let counter = &inner.counters.waits.slots;
        let taken = counter.during(&mut waits.resources, |patience| {
            writer.committing(patience, || {
                let taking = Taking {
                    mode: options.mode,
                    may_commit: true,
                };
                take_slots(inner, writer, &planned, taking, ended) // 2
            })
        });
        end_if_refused(ended, &planned, &taken);
        Ok(PutBatch::new(
            inner,
            reservation,
            options,
            planned,
            taken,
            buffers,
        ))
    }

    /// Does steps 2 and 3 like `prepare` for values that are already in buffers, without waiting.
    /// Returns the puts if something would have to be waited for or they have more than `NOW_BYTES`
    /// to checksum.
    pub(crate) fn prepare_now<'a>(
        inner: &Arc<Inner>,
        writer: &Writer,
        planned: Vec<PlannedPut<'a>>,
        options: PutOptions,
        ended: &Ended,
    ) -> Result<PutBatch, Vec<PlannedPut<'a>>> {
        let bytes: usize = planned.iter().map(|planned| planned.payload.len()).sum();
        if bytes > NOW_BYTES {
            return Err(planned);
        }
        let (need, shards) = (need(&planned), inner.index.shards());
        let Ok(reservation) = writer.log.admit(need, shards, &mut Patience::none()) else {
            return Err(planned);
        };
        let taking = Taking {
            mode: options.mode,
            may_commit: false,
        };
        let taken = take_slots(inner, writer, &planned, taking, ended);
        let is_busy = |taken: &Taken| matches!(taken, Taken::Failed(Error::Busy { .. }));
        // Some slots need a commit first. Give everything back and leave that to a worker.
        if taken.iter().any(is_busy) {
            for (planned, taken) in planned.iter().zip(taken) {
                if let Taken::Slots(reservation, slots) = taken {
                    give_back(inner, planned.shard, &planned.key, reservation, &slots);
                }
            }
            return Err(planned);
        }
        end_if_refused(ended, &planned, &taken);
        let buffers = Vec::new();
        let prepared = PutBatch::new(inner, reservation, options, planned, taken, buffers);
        Ok(PutBatch::seal_all(prepared))
    }

    /// A batch whose requests are built and not sealed.
    fn new<'a>(
        inner: &Arc<Inner>,
        reservation: LogReservation,
        options: PutOptions,
        planned: Vec<PlannedPut<'a>>,
        taken: Vec<Taken>,
        buffers: Vec<Buffer>,
    ) -> Prepared<'a> {
        assert_eq!(
            planned.len(),
            taken.len(),
            "each put has an outcome of step 2"
        );
        debug_assert!(
            planned.is_sorted_by_key(|put| put.shard),
            "puts of one shard stand together, so that each lock is taken once"
        );
        let mut buffers = buffers.into_iter();
        let mut batch = PutBatch {
            inner: Arc::clone(inner),
            writings: Vec::with_capacity(planned.len()),
            requests: Vec::with_capacity(planned.len()),
            publisher: Publisher::new(inner, reservation, options),
        };
        let mut sources = Vec::with_capacity(planned.len());
        for (planned, taken) in planned.into_iter().zip(taken) {
            // Advance for refused puts, too: each buffer was sized for one particular value.
            let buffer = planned.needs_buffer().then(|| buffers.next()).flatten();
            match taken {
                Taken::Slots(reservation, slots) => {
                    let mut writing = PendingPut {
                        at: planned.at,
                        hash: planned.hash,
                        shard: planned.shard,
                        key: planned.key.into(),
                        metadata: planned.metadata.into(),
                        expiry: planned.expiry,
                        generation: Generation(reservation.generation()),
                        reservation: Some(reservation),
                        more: slots[1..].iter().map(|slot| slot.0).collect(),
                        slots,
                        payload_len: 0,
                        payload_checksum: 0,
                        placement: planned.placement,
                        loan: None,
                        written: None,
                    };
                    let buffer = planned.buffer.or(buffer);
                    let (request, source) =
                        writing.request(inner, planned.payload, planned.direct, buffer);
                    batch.requests.push(request);
                    batch.writings.push(writing);
                    sources.push(source);
                }
                Taken::Exists(ticket) => {
                    let outcome = Ok(PutOutcome::Existed);
                    batch.publisher.answer(planned.at, outcome, ticket);
                }
                Taken::NotAdmitted => batch.publisher.refused(planned),
                Taken::Failed(error) => batch.publisher.answer(planned.at, Err(error), 0),
            }
        }
        assert!(
            buffers.next().is_none(),
            "each buffer was taken for one of these puts"
        );
        (batch, sources)
    }

    /// Step 3 for the put at position `tag`.
    pub(crate) fn seal(&mut self, tag: usize, source: Source<'_>, request: &mut Request) {
        self.writings[tag].seal(&self.inner, source, request);
    }

    /// Step 3 for all puts, before any write starts.
    pub(crate) fn seal_all((mut batch, sources): Prepared<'_>) -> PutBatch {
        let writings = batch.writings.iter_mut();
        for ((writing, source), request) in writings.zip(sources).zip(&mut batch.requests) {
            writing.seal(&batch.inner, source, request);
        }
        batch
    }

    /// Copies the values whose memory the device refused, for another round. Returns whether there is
    /// one: then nothing is published yet, because the log space is for one hold of each shard's lock.
    /// It does not wait for buffers, because the batch holds log space.
    fn copy_refused(&mut self, writings: &mut [PendingPut]) -> bool {
        // The round's requests are of the first puts, so that their tags are positions.
        writings.sort_by_key(|writing| writing.loan.is_none());
        let refused = writings.partition_point(|writing| writing.loan.is_some());
        let refused = &mut writings[..refused];
        for writing in refused {
            // As many as there are buffers for; the others follow in another round.
            let bytes = [writing.buffer_bytes()];
            let taken = self.inner.take_buffers(&bytes, &mut Patience::none());
            let Some(buffer) = taken.ok().and_then(|mut buffers| buffers.pop()) else {
                break;
            };
            let loan = writing.loan.take().expect("kept for the copy");
            writing.written = None;
            let (inner, payload) = (&self.inner, Payload::Loan(loan));
            let (mut request, source) = writing.request(inner, payload, false, Some(buffer));
            writing.seal(inner, source, &mut request);
            self.requests.push(request);
        }
        !self.requests.is_empty()
    }
}

impl Batch for PutBatch {
    type Answers = PutAnswers;
    const LOOKS_EARLY: bool = false;

    /// Buffers were already taken: in `prepare`, before the slots, or for copies of refused memory.
    fn requests(&mut self, _: &mut Patience) -> Vec<Request> {
        if !self.requests.is_empty() {
            let open = self.writings.iter().filter(|put| put.written.is_none());
            assert_eq!(
                self.requests.len(),
                open.count(),
                "a put without a request would be published unwritten"
            );
            self.inner.switch(SwitchPoint::Sending);
        } else if self.publisher.open().next().is_some() {
            assert!(
                self.writings.is_empty(),
                "written puts and refused ones end together"
            );
            self.publisher.end(Vec::new(), &mut || {});
        }
        std::mem::take(&mut self.requests)
    }

    fn arrived(&mut self, answer: Completion) {
        let writing = &mut self.writings[answer.tag as usize];
        debug_assert!(writing.written.is_none(), "a request completes once");
        match (&answer.result, answer.loan) {
            (Ok(()), Some(loan)) => self.inner.counters.add_direct(loan.len()),
            (Err(error), Some(loan)) if error.is_memory_refused() => {
                self.inner.direct.refused(loan.arena().id(), error);
                writing.loan = Some(loan);
            }
            _ => {}
        }
        writing.written = Some(answer.result.map_err(Error::from));
    }

    /// Step 4.
    fn complete(&mut self, before_observer: &mut dyn FnMut()) {
        let inner = Arc::clone(&self.inner);
        inner.switch(SwitchPoint::Arrived);
        let writer = inner.writer.as_ref().expect("puts have a writer");
        let mut writings = std::mem::take(&mut self.writings);
        if writings.iter().any(|writing| writing.loan.is_some()) {
            if !writer.log.is_stopped() && self.copy_refused(&mut writings) {
                self.writings = writings;
                return;
            }
            writings.iter_mut().for_each(|writing| writing.loan = None);
        }
        self.publisher.end(writings, before_observer);
    }

    /// Releases the keys and slots of the puts. In a round of copies the other puts of the batch have
    /// ended, and are published.
    fn refused(&mut self, error: &Error) {
        let inner = Arc::clone(&self.inner);
        let writings = std::mem::take(&mut self.writings).into_iter();
        let (ended, open): (Vec<_>, Vec<_>) = writings.partition(|put| put.written.is_some());
        for writing in open {
            let reservation = writing.reservation;
            let reservation = reservation.expect("a put in flight holds its reservation");
            give_back(
                &inner,
                writing.shard,
                &writing.key,
                reservation,
                &writing.slots,
            );
            self.publisher.answer(writing.at, Err(error.clone()), 0);
        }
        self.publisher.end(ended, &mut || {});
    }

    fn answers(&mut self, late: Option<&Error>) -> PutAnswers {
        let mut done = std::mem::take(&mut self.publisher.done);
        let written = self.writings.iter().map(|put| put.at);
        for at in written.chain(self.publisher.open()) {
            let late = late.expect("a batch whose rounds are over has answered every put");
            done.answers.push((at, Err(late.clone())));
        }
        self.publisher.forget_refused();
        done
    }
}

/// Ends the batch, over all its parts, at the first put that was refused.
fn end_if_refused(ended: &Ended, planned: &[PlannedPut<'_>], taken: &[Taken]) {
    let refused = planned
        .iter()
        .zip(taken)
        .filter(|(_, taken)| matches!(taken, Taken::NotAdmitted));
    if let Some(first) = refused.map(|(put, _)| put.at).min() {
        ended.set(first);
    }
}

/// Log space for the records of these puts.
fn need(planned: &[PlannedPut<'_>]) -> LogSpace {
    let mut need = LogSpace::default();
    for put in planned {
        need.add(&put.key, &put.metadata, put.slots);
    }
    need
}

/// Releases the key and the slots of a put whose write was never submitted.
fn give_back(inner: &Inner, shard: usize, key: &[u8], reservation: Reservation, slots: &[SlotId]) {
    let mut shard = inner.index.lock(shard, LockPurpose::Operation);
    shard.cancel(reservation, key);
    drop(shard);
    inner.index.give_back(slots);
}
