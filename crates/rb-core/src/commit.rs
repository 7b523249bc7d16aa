//! Group commit: log blocks are written, then one flush covers them and every data write before
//! them, then the commit is acknowledged.
//!
//! Whoever needs durability runs the commit itself, so a `sync` has no thread hop; callers that
//! come while one runs find their records covered by the next. A record is queued after its data
//! write completed, so the flush after the log write covers both. A durable record whose data is
//! missing (a crash before that flush ended) fails its proof and is a miss.
//!
//! Before anything is written the incarnation blocks are read again: a number or nonce that is not ours
//! means that somebody else opened the device for writing, and then nothing more may be written (C8).

use std::sync::atomic::Ordering;

use rb_format::{
    Corruption, FORMAT_BLOCK, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, Incarnation, Record,
};
use rb_io::Request;

use crate::error::Error;
use crate::events::Event;
use crate::inner::{Inner, Writer};
use crate::log::{DeltaLog, Need, Pending, Waiter};
use crate::meta_io::MetaIo;
use crate::simulator::{HeldLock, SwitchPoint};

pub(crate) struct Committer {
    pub(crate) io: MetaIo,
}

/// Most bytes of log written in one piece.
const PIECE: usize = 1 << 20;

impl Inner {
    /// Returns once everything queued up to `ticket` is durable.
    pub(crate) fn make_durable(&self, writer: &Writer, ticket: u64) -> Result<(), Error> {
        while !writer.log.is_durable(ticket) {
            self.poison.check()?;
            self.commit(writer)?;
        }
        Ok(())
    }

    /// Makes everything acknowledged so far durable, and ends the quarantine of slots whose write
    /// failed before.
    pub(crate) fn sync(&self, writer: &Writer) -> Result<(), Error> {
        self.make_durable(writer, writer.log.ticket())?;
        let quarantined = writer.quarantine.lock().waiting();
        if quarantined.is_some() {
            self.commit(writer)
        } else {
            Ok(())
        }
    }

    /// One commit of everything queued. Does nothing if all is durable and no slot waits for a flush.
    ///
    /// # Errors
    /// Any failure poisons writing: nobody knows what of it is on the device.
    pub(crate) fn commit(&self, writer: &Writer) -> Result<(), Error> {
        let committed = self.commit_untold(writer);
        if committed.is_err() {
            self.tell_poisoned();
        }
        committed?.tell(self);
        Ok(())
    }

    /// A commit by a caller who holds a lock: it tells who waited, or that writing stopped, when it has let go
    /// of it.
    ///
    /// # Errors
    /// As [`Inner::commit`].
    pub(crate) fn commit_untold(&self, writer: &Writer) -> Result<Aftermath, Error> {
        self.poison.check()?;
        self.switch(SwitchPoint::CommitBegins);
        let mut committer = self.lock_over_io(&writer.committer, HeldLock::Committer);
        self.poison.check()?;
        let pending = writer.log.take();
        // After that: a slot that asks for a commit from now on is either settled by this one or gets its own.
        let quarantined = writer.quarantine.lock().waiting();
        if pending.is_none() && quarantined.is_none() {
            self.look_for_discards(writer);
            return Ok(Aftermath::default());
        }
        self.switch(SwitchPoint::CommitTaken);
        let blocks = pending.as_ref();
        let blocks = blocks.map_or((0, 0), |pending| (pending.first_sequence, pending.last()));
        let why = |error: &Error| {
            let ((first, last), error) = (blocks, words(error));
            format!("the commit of log blocks {first}..={last} failed: {error}")
        };
        let written = committer
            .write(writer, pending.as_ref())
            .inspect(|()| self.switch(SwitchPoint::CommitWritten))
            .and_then(|()| self.flush(&mut committer.io, why));
        if let Err(error) = &written {
            // Before the next commit may begin, which would otherwise succeed behind a gap in the log.
            self.poison.set(why(error));
        }
        self.switch(SwitchPoint::CommitFlushed);
        let waiters = match (&written, &pending) {
            (Ok(()), Some(pending)) => {
                // Before anyone who waits for it goes on: what it freed is free for them.
                self.index.set_durable(pending.ticket);
                writer.log.mark_durable(pending.last(), pending.ticket)
            }
            _ => Vec::new(),
        };
        drop(committer);
        self.switch(SwitchPoint::CommitDone);
        match written {
            Ok(()) => {
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                self.look_for_discards(writer);
                let bad_slots =
                    quarantined.map_or_else(Vec::new, |waited| self.settle(writer, waited));
                Ok(Aftermath { waiters, bad_slots })
            }
            Err(error) => self.poison.check().and(Err(error)),
        }
    }

    /// A flush ended well, so writes that failed before it cannot land any more. Answers the slots that
    /// are out of use from now on.
    fn settle(&self, writer: &Writer, waited: u64) -> Vec<u32> {
        let bad = writer.quarantine.lock().settle(&self.index, waited);
        for &slot in &bad {
            // Remembered by the next base as well, should there be no room for the record now.
            if let Ok(permit) = writer
                .log
                .admit(Need::small(), 1, std::time::Duration::ZERO)
            {
                writer.log.queue(
                    &permit,
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
pub(crate) struct Aftermath {
    waiters: Vec<Waiter>,
    bad_slots: Vec<u32>,
}

impl Aftermath {
    pub(crate) fn tell(self, inner: &Inner) {
        for slot in self.bad_slots {
            inner.emit(&Event::BadSlot { slot });
        }
        self.waiters.into_iter().for_each(|waiter| waiter(Ok(())));
    }
}

impl Committer {
    fn write(&mut self, writer: &Writer, pending: Option<&Pending>) -> Result<(), Error> {
        check_writer(&mut self.io, &writer.incarnation)?;
        let mut requests = Vec::new();
        if let Some(pending) = pending {
            let mut sequence = pending.first_sequence;
            let mut rest = &pending.bytes[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(piece_len(&writer.log, sequence, rest.len()));
                let mut buf = self.io.buffer(piece.len())?;
                buf[..piece.len()].copy_from_slice(piece);
                let offset = writer.log.block_offset(sequence);
                requests.push(Request::write(offset, buf, 0, piece.len()));
                sequence += (piece.len() / FORMAT_BLOCK) as u64;
                rest = after;
            }
        }
        for completion in self.io.run(requests)? {
            completion.result?;
        }
        Ok(())
    }
}

/// Bytes that lie in one piece on the device: up to the ring's end.
fn piece_len(log: &DeltaLog, sequence: u64, wanted: usize) -> usize {
    let to_end = (log.ring_blocks() - sequence % log.ring_blocks()) as usize;
    wanted.min(PIECE).min(to_end.saturating_mul(FORMAT_BLOCK))
}

/// Fails unless the newest incarnation on the device is ours: before every commit and checkpoint.
pub(crate) fn check_writer(io: &mut MetaIo, ours: &Incarnation) -> Result<(), Error> {
    let mut newest: Option<Incarnation> = None;
    for answer in io.read_many(&[
        (INCARNATION_A_OFFSET, FORMAT_BLOCK),
        (INCARNATION_B_OFFSET, FORMAT_BLOCK),
    ])? {
        match Incarnation::decode(&answer?[..FORMAT_BLOCK], &ours.identity) {
            Ok(found)
                if newest
                    .as_ref()
                    .is_none_or(|newest| newest.number < found.number) =>
            {
                newest = Some(found);
            }
            Err(Corruption::WrongStore { found, .. }) => {
                return Err(foreign(format!("it was formatted as store {found}")));
            }
            Err(Corruption::WrongEpoch { found, .. }) if found > ours.identity.epoch => {
                return Err(foreign(format!("it was emptied, and is in epoch {found}")));
            }
            Ok(_) | Err(_) => {}
        }
    }
    match newest {
        Some(found) if found == *ours => Ok(()),
        Some(found) => Err(foreign(format!(
            "it was opened as number {}, this opening is number {}",
            found.number, ours.number
        ))),
        None => Err(foreign("its incarnation blocks are gone".into())),
    }
}

fn foreign(found: String) -> Error {
    Error::Poisoned {
        reason: format!("another writer has the device: {found}"),
    }
}

/// An error with all its sources, on one line.
pub(crate) fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
