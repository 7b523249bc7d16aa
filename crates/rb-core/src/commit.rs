//! Group commit: log blocks are written to both rings, then one flush covers them and every data write
//! before them, then the commit is acknowledged.
//!
//! All requests of both rings are in flight together: a commit waits for the slower of two writes, not for both
//! in turn. A block that one ring did not take is in the other; a block that neither took ends writing.
//!
//! Whoever needs durability runs the commit itself, so a `sync` has no thread hop; callers that
//! come while one runs find their records covered by the next. A record is queued after its data
//! write completed, so the flush after the log write covers both. A durable record whose data is
//! missing (a crash before that flush ended) fails its proof and is a miss.
//!
//! Before anything is written, and before it is acknowledged, the incarnation blocks are read: a number or nonce that
//! is not ours means that another host opened the device for writing, and then nothing more may be written (C8). After
//! the flush the size of the device is asked for too: a file that was cut meanwhile may have lost any of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rb_format::{BAD_SLOTS_MAX, FORMAT_BLOCK, Record};
use rb_io::Request;

use crate::error::Error;
use crate::events::Event;
use crate::incarnations::check_writer;
use crate::inner::{Inner, Writer};
use crate::log::{DeltaLog, Need, Pending, Waiter};
use crate::meta_io::MetaIo;
use crate::simulator::{HeldLock, SwitchPoint};
use crate::stats::add;
use crate::unwritable::FailedWrite;

pub(crate) struct Committer {
    io: MetaIo,
    /// When the store was taken over.
    taken_over_at: Duration,
    /// When the last reading of the incarnation blocks began that showed no other writer.
    alone_at: Option<Duration>,
}

/// How old a reading of the incarnation blocks may be for a commit to write after it. Commits that follow one another
/// read once each: what one reads before it acknowledges serves the next one before it writes. An opening writes its first log
/// block no sooner after its nonce was durable, so it overwrites what a former writer wrote after such a reading.
const READING_SERVES: Duration = Duration::from_micros(250);

/// Most bytes of log written in one piece.
const PIECE: usize = 1 << 20;

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
        self.check_size().inspect_err(|_| self.tell_poisoned())?;
        let quarantined = writer.quarantine.lock().waiting();
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
        checked.inspect_err(|_| self.tell_poisoned())
    }

    fn look_for_others(&self, writer: &Writer, committer: &mut Committer) -> Result<(), Error> {
        committer.check_writer(self, writer).or_else(|error| {
            self.poison.set(words(&error));
            self.poison.check()
        })
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
        self.tell_poisoned();
        self.poison.check()
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
            let mut waiters = Vec::new();
            if writer.log.has_ready() {
                self.look_for_others(writer, &mut committer)?;
                waiters = writer.log.take_ready();
            }
            self.look_for_discards(writer);
            return Ok(Aftermath {
                waiters,
                ..Aftermath::default()
            });
        }
        self.switch(SwitchPoint::CommitTaken);
        let blocks = pending.as_ref();
        let blocks = blocks.map_or((0, 0), |pending| (pending.first_sequence, pending.last()));
        let why = |error: &Error| {
            let ((first, last), error) = (blocks, words(error));
            format!("the commit of log blocks {first}..={last} failed: {error}")
        };
        let written = committer
            .write(self, writer, pending.as_ref())
            .inspect(|_| self.switch(SwitchPoint::CommitWritten))
            .and_then(|failed| self.flush(&mut committer.io, why).map(|()| failed))
            .and_then(|failed| {
                // Before anything is acknowledged: what another opening may not have found is not promised.
                committer.check_writer(self, writer).map(|()| failed)
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
            Ok(failed) => {
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                self.look_for_discards(writer);
                let bad_slots =
                    quarantined.map_or_else(Vec::new, |waited| self.settle(writer, waited));
                let failed = self.count_failed(writer, failed);
                Ok(Aftermath {
                    waiters,
                    bad_slots,
                    failed,
                })
            }
            Err(error) => self.poison.check().and(Err(error)),
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

    /// A flush ended well, so writes that failed before it cannot land any more. Answers the slots that
    /// are out of use from now on.
    fn settle(&self, writer: &Writer, waited: u64) -> Vec<u32> {
        let (bad, all) = {
            let mut quarantine = writer.quarantine.lock();
            let bad = quarantine.settle(&self.index, waited);
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
            if let Ok(permit) = writer.log.admit(Need::small(), 1, Duration::ZERO) {
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
    failed: Vec<FailedWrite>,
}

impl Aftermath {
    /// Of blocks that the device did not take.
    pub(crate) fn of_failed(failed: Vec<FailedWrite>) -> Aftermath {
        Aftermath {
            failed,
            ..Aftermath::default()
        }
    }

    pub(crate) fn tell(self, inner: &Inner) {
        for failed in self.failed {
            inner.emit(&failed.event());
        }
        for slot in self.bad_slots {
            inner.emit(&Event::BadSlot { slot });
        }
        self.waiters.into_iter().for_each(|waiter| waiter(Ok(())));
    }
}

impl Committer {
    /// Of a store that was taken over before `now`.
    pub(crate) fn new(io: MetaIo, now: Duration) -> Committer {
        Committer {
            io,
            taken_over_at: now,
            alone_at: None,
        }
    }

    /// Reads the incarnation blocks; fails if another opening has written one.
    fn check_writer(&mut self, inner: &Inner, writer: &Writer) -> Result<(), Error> {
        let began = inner.options.clock.now();
        check_writer(&mut self.io, &writer.incarnation)?;
        self.alone_at = Some(began);
        Ok(())
    }

    /// Writes each block to both rings. Answers the blocks that one of them did not take.
    fn write(
        &mut self,
        inner: &Inner,
        writer: &Writer,
        pending: Option<&Pending>,
    ) -> Result<Vec<FailedWrite>, Error> {
        let clock = &inner.options.clock;
        let age = |at: Duration| clock.now().saturating_sub(at);
        if self.alone_at.is_none() {
            clock.sleep(READING_SERVES.saturating_sub(age(self.taken_over_at)));
        }
        if self.alone_at.is_none_or(|at| age(at) >= READING_SERVES) {
            self.check_writer(inner, writer)?;
        }
        let Some(pending) = pending else {
            return Ok(Vec::new());
        };
        let pieces = pieces(&writer.log, pending);
        let mut requests = Vec::with_capacity(2 * pieces.len());
        for ring in [0, 1] {
            for &(sequence, piece) in &pieces {
                let mut buf = self.io.buffer(piece.len())?;
                buf[..piece.len()].copy_from_slice(piece);
                let offset = writer.log.block_offsets(sequence)[ring];
                requests.push(Request::write(offset, buf, 0, piece.len()));
            }
        }
        let failed = self.io.run_each(requests)?;
        match failed.is_empty() {
            true => Ok(Vec::new()),
            false => self.write_singly(&writer.log, &pieces, failed),
        }
    }

    /// Writes the pieces that failed block by block: one bad block must not cost its neighbours their copy.
    /// `failed` counts the pieces of ring 1, then those of ring 2.
    fn write_singly(
        &mut self,
        log: &DeltaLog,
        pieces: &[(u64, &[u8])],
        failed: Vec<(usize, Error)>,
    ) -> Result<Vec<FailedWrite>, Error> {
        let mut refused: [Vec<u64>; 2] = Default::default();
        let mut writes = Vec::new();
        let mut last = None;
        for (number, error) in failed {
            let ring = number / pieces.len();
            let (sequence, piece) = pieces[number % pieces.len()];
            if piece.len() == FORMAT_BLOCK {
                refused[ring].push(sequence);
            } else {
                let blocks = (sequence..).zip(piece.chunks_exact(FORMAT_BLOCK));
                writes.extend(blocks.map(|(sequence, block)| (ring, sequence, block)));
            }
            last = Some(error);
        }
        let offset = |ring: usize, sequence: u64| log.block_offsets(sequence)[ring];
        let singly: Vec<_> = writes
            .iter()
            .map(|&(ring, sequence, block)| (offset(ring, sequence), block))
            .collect();
        for (number, error) in self.io.write_each(&singly)? {
            let (ring, sequence, _) = writes[number];
            refused[ring].push(sequence);
            last = Some(error);
        }
        let lost = refused[0]
            .iter()
            .any(|sequence| refused[1].contains(sequence));
        if let (true, Some(error)) = (lost, last) {
            return Err(error);
        }
        let words = ["log block in ring 1", "log block in ring 2"];
        let failed = refused.iter().enumerate().flat_map(|(ring, sequences)| {
            sequences.iter().map(move |&sequence| FailedWrite {
                what: words[ring],
                offset: offset(ring, sequence),
            })
        });
        Ok(failed.collect())
    }
}

/// The blocks of a commit in pieces that lie in one piece on the device, each with the sequence of its first.
fn pieces<'a>(log: &DeltaLog, pending: &'a Pending) -> Vec<(u64, &'a [u8])> {
    let mut pieces = Vec::new();
    let mut sequence = pending.first_sequence;
    let mut rest = &pending.bytes[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_len(log, sequence, rest.len()));
        pieces.push((sequence, piece));
        sequence += (piece.len() / FORMAT_BLOCK) as u64;
        rest = after;
    }
    pieces
}

/// Bytes that lie in one piece on the device: up to the ring's end.
fn piece_len(log: &DeltaLog, sequence: u64, wanted: usize) -> usize {
    let to_end = (log.ring_blocks() - sequence % log.ring_blocks()) as usize;
    wanted.min(PIECE).min(to_end.saturating_mul(FORMAT_BLOCK))
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
