//! Group commit: log blocks are written to both rings, then one flush covers them and every data write
//! before them, then the commit is acknowledged.
//!
//! All requests of both rings are in flight together: a commit waits for the slower of two writes, not for both
//! in turn. A block that one ring did not take is in the other; a block that neither took ends writing, unless both lack space
//! only: then nothing of the commit is flushed or acknowledged, its callers get that error, and the next commit begins with
//! the same blocks. A flush that fails ends writing whatever its error is: the kernel has dropped what it was to write.
//!
//! A caller that needs durability runs the commit itself, so a `sync` has no thread hop; callers that
//! come while one runs find their records covered by the next. A record is queued after its data
//! write completed, so the flush after the log write covers both. A durable record whose data is
//! missing (a crash before that flush ended) fails its proof and is a miss.
//!
//! Before anything is written, if the last reading is not young enough to serve, and before it is acknowledged, the
//! incarnation blocks are read: a number or nonce that
//! is not ours means that another host opened the device for writing, and then nothing more may be written (C8). After
//! the flush the size of the device is asked for too: a file that was cut meanwhile may have lost any of it.

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
use crate::log::delta::{LogSpace, Waiter};
use crate::simulator::{HeldLock, SwitchPoint};

/// How long a slot may wait for a commit that nothing else asks for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long after a commit that found no space the next one comes that no caller asks for; a checkpoint, too.
pub(crate) const RETRY: Duration = Duration::from_millis(250);

/// Bad slots with which writing goes on: as many as a base remembers, and not more than an eighth of a small store.
fn bad_slots_limit(slots: u32) -> usize {
    BAD_SLOTS_MAX.min((slots as usize / 8).max(16))
}

impl Inner {
    /// Returns once everything queued up to `ticket` is durable.
    pub(crate) fn make_durable(&self, writer: &Writer, ticket: u64) -> Result<(), Error> {
        while !writer.log.is_durable(ticket) {
            self.poison.check()?;
            self.commit(writer)?;
        }
        Ok(())
    }

    /// Calls `then` once everything queued up to `ticket` is durable, or when it never will be. A simulator's store commits
    /// here and now.
    pub(crate) fn when_durable(
        self: &Arc<Self>,
        writer: &Writer,
        ticket: u64,
        then: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        let store = Arc::downgrade(self);
        let waiter = move |outcome: Result<(), Error>| {
            then(outcome.map_err(|error| match store.upgrade() {
                Some(inner) => inner.stopped(error),
                None => Error::Closed,
            }));
        };
        writer.log.when_durable(ticket, Box::new(waiter));
        if self.is_manual() && !writer.log.is_durable(ticket) {
            drop(self.commit(writer));
        }
    }

    /// Flushes the device; `why` is the reason for which a failure stops writing. No flush begins while another runs, nor
    /// after one that failed: it could succeed, and would prove nothing about the writes that the failed one was to cover.
    pub(crate) fn flush(
        &self,
        io: &mut MetaIo,
        why: impl FnOnce(&Error) -> String,
    ) -> Result<(), Error> {
        let _alone = self.lock_over_io(&self.flushing, HeldLock::Flush);
        self.poison.check()?;
        io.flush().inspect_err(|error| self.poison.set(why(error)))
    }

    /// Makes everything acknowledged so far durable, and ends the quarantine of slots whose write
    /// failed before.
    pub(crate) fn sync(&self, writer: &Writer) -> Result<(), Error> {
        let ticket = writer.log.ticket();
        let was_durable = writer.log.is_durable(ticket);
        self.make_durable(writer, ticket)?;
        if was_durable {
            self.check_alone(writer)?;
        }
        // What was durable before may be cut off since.
        self.check_size().inspect_err(|_| self.notify_poisoned())?;
        let quarantined = writer.quarantine.lock().waiting(self.options.clock.now());
        if quarantined.is_some() {
            self.commit(writer)
        } else {
            Ok(())
        }
    }

    /// Stops writing if another opening has the device: what was durable before may be gone by its hand, so a sync that
    /// finds nothing to commit does not promise it.
    fn check_alone(&self, writer: &Writer) -> Result<(), Error> {
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

    /// One commit of everything queued, after one of what was queued when there was no space. Does nothing if all is durable and no slot waits for a flush.
    ///
    /// # Errors
    /// Any failure but a lack of space for the log poisons writing: what of it is on the device is unknown.
    pub(crate) fn commit(&self, writer: &Writer) -> Result<(), Error> {
        if writer.log.has_unwritten() {
            self.commit_taken(writer)?;
        }
        self.commit_taken(writer)
    }

    fn commit_taken(&self, writer: &Writer) -> Result<(), Error> {
        let committed = self.commit_untold(writer);
        if committed.is_err() {
            self.notify_refused(writer);
            self.notify_poisoned();
        }
        committed?.notify(self);
        self.notify_poisoned();
        self.poison.check()
    }

    /// A commit by a caller who holds a lock: it answers those who waited, or reports that there was no space or that writing stopped, once
    /// the lock is given back.
    ///
    /// # Errors
    /// As [`Inner::commit`].
    pub(crate) fn commit_untold(&self, writer: &Writer) -> Result<CommitEffects, Error> {
        self.poison.check()?;
        self.switch(SwitchPoint::CommitBegins);
        let mut committer = self.lock_over_io(&writer.committer, HeldLock::Committer);
        self.poison.check()?;
        let pending = writer.log.take();
        // After that: a slot that asks for a commit from now on is either settled by this one or gets its own.
        let now = self.options.clock.now();
        let quarantined = writer.quarantine.lock().waiting(now);
        if pending.is_none() && quarantined.is_none() {
            return self.commit_nothing(writer, &mut committer);
        }
        self.switch(SwitchPoint::CommitTaken);
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
                // Before the next commit may begin.
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
                // Before anything is acknowledged: what another opening may not have found is not promised.
                committer
                    .check_writer(clock, &writer.incarnation)
                    .map(|()| failed)
            })
            .and_then(|failed| self.check_size().map(|()| failed));
        if let Err(error) = &written {
            // Before the next commit may begin, which would otherwise succeed behind a gap in the log.
            self.poison.set(why(error));
        }
        self.switch(SwitchPoint::CommitFlushed);
        let waiters = match (&written, &pending) {
            (Ok(_), Some(pending)) => {
                // Before anyone who waits for it goes on: what it freed is free for them.
                self.index.set_durable(pending.ticket);
                writer.log.mark_durable(pending.last(), pending.ticket)
            }
            (Ok(_), None) => writer.log.take_ready(),
            (Err(_), _) => Vec::new(),
        };
        drop(committer);
        self.switch(SwitchPoint::CommitDone);
        match written {
            Ok(failed) => Ok(CommitEffects {
                waiters,
                bad_slots: self.end_commit(writer, quarantined),
                failed: self.count_failed(writer, failed),
            }),
            Err(error) => self.poison.check().and(Err(error)),
        }
    }

    /// A commit without anything to write: those who wait for records that are durable already are answered.
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

    /// Counts a commit that is done, and ends the quarantine of slots that waited for its flush. Answers the slots
    /// that are out of use from now on.
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

    /// Answers all who waited for a commit that found no space. The caller holds no lock.
    pub(crate) fn notify_refused(&self, writer: &Writer) {
        let (refused, news) = writer.log.take_refused();
        if news {
            self.emit(&Event::OutOfSpace { what: "delta log" });
        }
        for (waiter, why) in refused {
            waiter(Err(why));
        }
    }

    /// After a commit: slots may wait for their discard now. If more may come to do so without a record that brings a
    /// commit, has another one follow, which costs no request if there is nothing to write.
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

    /// Counts blocks of metadata that the device did not take, and answers those to be reported.
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

    /// Counts and reports blocks of metadata that the device did not take. The caller holds no lock.
    pub(crate) fn notify_failed(&self, writer: &Writer, failed: Vec<FailedWrite>) {
        CommitEffects::of_failed(self.count_failed(writer, failed)).notify(self);
    }

    /// A flush ended well, so writes that failed before it cannot land any more. Answers the slots that
    /// are out of use from now on.
    fn settle(&self, writer: &Writer, waited: u64) -> Vec<u32> {
        let now = self.options.clock.now();
        let (bad, all) = {
            let mut quarantine = writer.quarantine.lock();
            let bad = quarantine.settle(&self.index, waited, now);
            (bad, quarantine.bad().len())
        };
        let limit = bad_slots_limit(self.geometry.slots());
        if !bad.is_empty() && all > limit {
            let slots = self.geometry.slots();
            self.poison.set(format!(
                "{all} of {slots} slots do not take writes, more than {limit}: it is the device, not the slots"
            ));
        }
        for &slot in &bad {
            // Remembered by the next base as well, should there be no room for the record now.
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

/// Whom a commit concerns, to be told when no lock is held: they may call the store.
#[derive(Default)]
#[must_use]
pub(crate) struct CommitEffects {
    waiters: Vec<Waiter>,
    bad_slots: Vec<u32>,
    failed: Vec<FailedWrite>,
}

impl CommitEffects {
    /// Of blocks that the device did not take.
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
