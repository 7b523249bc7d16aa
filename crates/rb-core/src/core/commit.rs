//! Group commit: writes log blocks to both rings, flushes once, then acknowledges.
//!
//! The single flush covers the log blocks and every data write that completed before them: a record
//! is queued only after its data write completed. If a crash cuts the flush short, a durable record
//! may lack its data; the entry then fails verification and is a miss.
//!
//! The requests to both rings are in flight together, so a commit waits for the slower of two
//! writes, not for their sum. Failures:
//!
//! * One ring did not take a block: the other has it, and the commit goes on.
//! * Neither ring took a block: writing is poisoned. Exception: if both failed only for lack of
//!   space, nothing of this commit is flushed or acknowledged, its callers get that error, and the
//!   next commit starts with the same blocks.
//! * The flush failed, with any error: writing is poisoned, because the kernel has dropped the
//!   dirty data.
//!
//! A caller that needs durability runs the commit itself, so `sync` has no thread hop. Callers that
//! arrive while a commit runs are covered by the next one.
//!
//! Two checks protect the commit. The incarnation blocks are read before the first write, unless
//! they were read recently enough, and again before the acknowledgement: a foreign number or nonce
//! means that another host opened the device for writing, and nothing more may be written (C8).
//! After the flush the device size is checked: a file truncated in the meantime may have lost any
//! of its blocks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rb_format::{BAD_SLOTS_MAX, Record};
use rb_io::Patience;

use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::counters::add;
use crate::error::Error;
use crate::error::error_chain;
use crate::events::Event;
use crate::io::meta_io::MetaIo;
use crate::io::unwritable::FailedWrite;
use crate::log::committer::Committer;
use crate::log::delta::{LogReservation, LogSpace, Waiter};
use crate::simulator::{HeldLock, SwitchPoint};

/// Delay of the commit that is scheduled for slots which may start to wait for a discard.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Delay after a commit that failed for lack of space until the background retries it; checkpoints
/// use the same delay.
pub(crate) const RETRY: Duration = Duration::from_millis(250);

/// The number of bad slots above which writing is poisoned: as many as a base can record, and at
/// most an eighth of a small store.
fn bad_slots_limit(slots: u32) -> usize {
    BAD_SLOTS_MAX.min((slots as usize / 8).max(16))
}

impl Inner {
    /// Commits until everything queued up to `ticket` is durable.
    pub(crate) fn make_durable(&self, writer: &Writer, ticket: u64) -> Result<(), Error> {
        // One commit may not be enough: it may only write what an earlier one found no space for.
        while !writer.log.is_durable(ticket) {
            self.poison.check()?;
            self.commit(writer)?;
        }
        Ok(())
    }

    /// Calls `then` once everything queued up to `ticket` is durable, or with an error if it never
    /// will be. With manual background work, commits in the calling thread.
    pub(crate) fn when_durable(
        self: &Arc<Self>,
        writer: &Writer,
        ticket: u64,
        then: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        // Weak, because the log holds the waiter and the store holds the log.
        let store = Arc::downgrade(self);
        let waiter = move |outcome: Result<(), Error>| {
            then(outcome.map_err(|error| match store.upgrade() {
                Some(inner) => inner.stopped(error),
                None => Error::Closed,
            }));
        };
        writer.log.when_durable(ticket, Box::new(waiter));
        if self.is_manual() && !writer.log.is_durable(ticket) {
            // The waiter gets the error of a failed commit.
            drop(self.commit(writer));
        }
    }

    /// Reserves log space for a batch. If too much is queued, commits in the calling thread first
    /// rather than wait for another thread to do it.
    pub(crate) fn admit(
        &self,
        writer: &Writer,
        need: LogSpace,
        patience: &mut Patience,
    ) -> Result<LogReservation, Error> {
        let shards = self.index.shards();
        writer.log.check_space()?;
        let waits = &self.counters.waits.log_space;
        waits.during(patience, |patience| {
            if writer.log.needs_commit_for(need, shards) {
                writer.committing(patience, || self.commit(writer))?;
            }
            let admitted = writer.log.admit(need, shards, patience);
            admitted.map_err(|error| self.stopped(error))
        })
    }

    /// Flushes the device; a failure poisons writing with the reason `why`.
    ///
    /// Flushes are serialized, and none starts after a failed one: it might succeed, and would say
    /// nothing about the writes that the failed one was meant to cover.
    pub(crate) fn flush(
        &self,
        io: &mut MetaIo,
        why: impl FnOnce(&Error) -> String,
    ) -> Result<(), Error> {
        let _alone = self.lock_over_io(&self.flushing, HeldLock::Flush);
        // Again under the lock: the flush before this one may have failed.
        self.poison.check()?;
        io.flush().inspect_err(|error| self.poison.set(why(error)))
    }

    /// Makes everything acknowledged so far durable, and ends the quarantine of slots whose writes
    /// failed before.
    pub(crate) fn sync(&self, writer: &Writer) -> Result<(), Error> {
        let ticket = writer.log.ticket();
        let was_durable = writer.log.is_durable(ticket);
        self.make_durable(writer, ticket)?;
        // Otherwise the commit has checked for other writers.
        if was_durable {
            self.check_alone(writer)?;
        }
        // A file may have been truncated after its contents became durable.
        self.check_size().inspect_err(|_| self.notify_poisoned())?;
        let quarantined = writer.quarantine.lock().waiting(self.options.clock.now());
        if quarantined.is_some() {
            self.commit(writer)
        } else {
            Ok(())
        }
    }

    /// Poisons writing if another session has taken over the device. That session may overwrite
    /// what was durable before, so a sync must not succeed even if it has nothing to commit.
    fn check_alone(&self, writer: &Writer) -> Result<(), Error> {
        // In a block: the lock must be released before observers are notified.
        let checked = {
            let mut committer = self.lock_over_io(&writer.committer, HeldLock::Committer);
            self.poison.check()?;
            self.look_for_others(writer, &mut committer)
        };
        checked.inspect_err(|_| self.notify_poisoned())
    }

    fn look_for_others(&self, writer: &Writer, committer: &mut Committer) -> Result<(), Error> {
        committer
            .check_writer(self.options.clock.as_ref(), &writer.incarnation)
            .or_else(|error| {
                self.poison.set(error_chain(&error));
                self.poison.check()
            })
    }

    /// Commits everything queued. If an earlier commit failed for lack of space, its blocks are
    /// committed first. Does nothing if all records are durable and no slot waits for a flush.
    ///
    /// # Errors
    /// Every failure except a lack of log space poisons writing, because it is unknown how much of
    /// the commit reached the device.
    pub(crate) fn commit(&self, writer: &Writer) -> Result<(), Error> {
        if writer.log.has_unwritten() {
            self.commit_taken(writer)?;
        }
        self.commit_taken(writer)
    }

    fn commit_taken(&self, writer: &Writer) -> Result<(), Error> {
        let trace = &self.counters.trace;
        let span = trace.commit();
        let committed = self.commit_without_notifying(writer);
        span.end_commit(
            &committed
                .as_ref()
                .map(|commit| commit.bytes)
                .map_err(Clone::clone),
        );
        if committed.is_err() {
            self.notify_refused(writer);
            self.notify_poisoned();
        }
        committed?.notify(self);
        trace.committed(|| writer.log.overdue_blocks());
        // Ending quarantines may have found too many bad slots and poisoned writing.
        self.notify_poisoned();
        self.poison.check()
    }

    /// Commits for a caller that holds a lock: waiters and observers are notified later, when the
    /// caller has released its lock and calls [`CommitEffects::notify`].
    ///
    /// # Errors
    /// Same as [`Inner::commit`].
    pub(crate) fn commit_without_notifying(&self, writer: &Writer) -> Result<CommitEffects, Error> {
        self.poison.check()?;
        self.switch(SwitchPoint::CommitBegins);
        let mut committer = self.lock_over_io(&writer.committer, HeldLock::Committer);
        // Again under the lock: the commit before this one may have failed.
        self.poison.check()?;
        let pending = writer.log.take();
        // Read after `take`: a slot that requests a commit from now on is either settled by this
        // one or gets its own.
        let now = self.options.clock.now();
        let quarantined = writer.quarantine.lock().waiting(now);
        if pending.is_none() && quarantined.is_none() {
            return self.commit_nothing(writer, &mut committer);
        }
        self.switch(SwitchPoint::CommitTaken);
        let timer = self.timer();
        let blocks = pending.as_ref();
        let blocks = blocks.map_or((0, 0), |pending| (pending.first_sequence, pending.last()));
        let why = |error: &Error| {
            let ((first, last), error) = (blocks, error_chain(error));
            format!("the commit of log blocks {first}..={last} failed: {error}")
        };
        let clock = self.options.clock.as_ref();
        let written = committer.write(clock, &writer.incarnation, &writer.log, pending.as_ref());
        let pending = match (&written, pending) {
            (Err(error), Some(pending)) if error.is_out_of_space() => {
                // Under the committer's lock, so that the next commit starts with these blocks.
                let retry_at = clock.now().saturating_add(RETRY);
                writer.log.put_back(pending, error, retry_at);
                drop(committer);
                self.switch(SwitchPoint::CommitDone);
                return Err(error.clone());
            }
            (_, pending) => pending,
        };
        let written = written
            .inspect(|_| self.switch(SwitchPoint::CommitWritten))
            .and_then(|failed| self.flush(&mut committer.io, why).map(|()| failed))
            .and_then(|failed| {
                // A session that took over in the meantime may have recovered without these blocks,
                // so check before acknowledging.
                committer
                    .check_writer(clock, &writer.incarnation)
                    .map(|()| failed)
            })
            .inspect(|_| self.save_spending(&mut committer.io))
            .and_then(|failed| self.check_size().map(|()| failed));
        if let Err(error) = &written {
            // Under the committer's lock: a next commit would otherwise succeed behind a gap in the
            // log.
            self.poison.set(why(error));
        }
        self.switch(SwitchPoint::CommitFlushed);
        let waiters = match (&written, &pending) {
            (Ok(_), Some(pending)) => {
                // Before waiters are notified, so that they find the slots that this commit freed.
                self.index.set_durable(pending.ticket);
                writer.log.mark_durable(pending.last(), pending.ticket)
            }
            (Ok(_), None) => writer.log.take_ready(),
            (Err(_), _) => Vec::new(),
        };
        timer.count(&self.counters.times.commit);
        drop(committer);
        self.switch(SwitchPoint::CommitDone);
        match written {
            Ok(failed) => Ok(CommitEffects {
                bytes: pending.map_or(0, |pending| pending.bytes.len()),
                waiters,
                bad_slots: self.end_commit(writer, quarantined),
                failed: self.count_failed(writer, failed),
            }),
            Err(error) => self.poison.check().and(Err(error)),
        }
    }

    /// A commit with nothing to write: returns the waiters whose records are already durable.
    fn commit_nothing(
        &self,
        writer: &Writer,
        committer: &mut Committer,
    ) -> Result<CommitEffects, Error> {
        let mut waiters = Vec::new();
        if writer.log.has_ready() {
            self.look_for_others(writer, committer)?;
            waiters = writer.log.take_ready();
        }
        self.look_for_discards(writer);
        Ok(CommitEffects {
            waiters,
            ..CommitEffects::default()
        })
    }

    /// Counts a finished commit and ends the quarantine of slots that waited for its flush. Returns
    /// the slots that are now bad.
    fn end_commit(&self, writer: &Writer, quarantined: Option<u64>) -> Vec<u32> {
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.look_for_discards(writer);
        let bad_slots = quarantined.map_or_else(Vec::new, |waited| self.settle(writer, waited));
        let rest_ends = writer.quarantine.lock().rest_ends();
        if let Some(rest_ends) = rest_ends {
            writer.log.want_commit_at(rest_ends);
        }
        bad_slots
    }

    /// Notifies all waiters of a commit that failed for lack of space. The caller holds no lock.
    pub(crate) fn notify_refused(&self, writer: &Writer) {
        let (refused, news) = writer.log.take_refused();
        if news {
            self.emit(&Event::OutOfSpace { what: "delta log" });
        }
        for (waiter, why) in refused {
            waiter(Err(why));
        }
    }

    /// Requests another commit if slots wait for a discard. If slots may start waiting without a
    /// record that triggers a commit, schedules one, which costs no request if there is nothing to
    /// write.
    pub(crate) fn look_for_discards(&self, writer: &Writer) {
        if !writer.discards_freed.load(Ordering::Relaxed) {
            return;
        }
        if self.index.has_undiscarded() {
            writer.log.want_discard();
        }
        if self.index.awaits_undiscarded() {
            let later = self.options.clock.now().saturating_add(LOOK_AGAIN);
            writer.log.want_commit_at(later);
        }
    }

    /// Counts metadata blocks that the device did not take, and returns those not reported yet.
    pub(crate) fn count_failed(
        &self,
        writer: &Writer,
        failed: Vec<FailedWrite>,
    ) -> Vec<FailedWrite> {
        if failed.is_empty() {
            return failed;
        }
        add(&self.counters.metadata_write_errors, failed.len());
        writer.unwritable.lock().unreported(failed)
    }

    /// Counts and reports metadata blocks that the device did not take. The caller holds no lock.
    pub(crate) fn notify_failed(&self, writer: &Writer, failed: Vec<FailedWrite>) {
        CommitEffects::of_failed(self.count_failed(writer, failed)).notify(self);
    }

    /// Ends quarantines after a successful flush: writes that failed before it cannot land any
    /// more. Returns the slots that are now bad.
    fn settle(&self, writer: &Writer, waited: u64) -> Vec<u32> {
        let now = self.options.clock.now();
        let (bad, all) = {
            let mut quarantine = writer.quarantine.lock();
            let bad = quarantine.settle(&self.index, waited, now);
            (bad, quarantine.bad().len())
        };
        // Many bad slots mean a failing device, and a base can list only so many.
        let limit = bad_slots_limit(self.geometry.slots());
        if !bad.is_empty() && all > limit {
            let slots = self.geometry.slots();
            self.poison.set(format!(
                "{all} of {slots} slots do not take writes, more than {limit}: it is the device, not the slots"
            ));
        }
        for &slot in &bad {
            // If there is no log space now, the next base records the slot anyway.
            if let Ok(reservation) = writer
                .log
                .admit(LogSpace::small(), 1, &mut Patience::none())
            {
                writer.log.queue(
                    &reservation,
                    [Record::BadSlot { slot }],
                    self.options.clock.now(),
                );
            }
        }
        bad
    }
}

/// Notifications that a commit owes. They are sent when no lock is held, because waiters and
/// observers may call the store.
#[derive(Default)]
#[must_use]
pub(crate) struct CommitEffects {
    /// Bytes of log blocks that were written to each ring.
    bytes: usize,
    waiters: Vec<Waiter>,
    bad_slots: Vec<u32>,
    failed: Vec<FailedWrite>,
}

impl CommitEffects {
    /// Effects that only report metadata blocks the device did not take.
    pub(crate) fn of_failed(failed: Vec<FailedWrite>) -> CommitEffects {
        CommitEffects {
            failed,
            ..CommitEffects::default()
        }
    }

    pub(crate) fn notify(self, inner: &Inner) {
        for failed in self.failed {
            inner.emit(&failed.event());
        }
        for slot in self.bad_slots {
            inner.emit(&Event::BadSlot { slot });
        }
        self.waiters.into_iter().for_each(|waiter| waiter(Ok(())));
    }
}
