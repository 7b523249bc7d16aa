//! Group commit: log blocks are written, then one flush covers them and every data write before
//! them, then the commit is acknowledged.
//!
//! Whoever needs durability runs the commit itself, so a `sync` has no thread hop; callers that
//! come while one runs find their records covered by the next. A record is queued after its data
//! write completed, so the flush after the log write covers both. A durable record whose data is
//! missing (a crash before that flush ended) fails its proof and is a miss.
//!
//! With the log blocks the incarnation blocks are read again: a number or nonce that is not ours
//! means that somebody else opened the device for writing, and then nothing more may be written (C8).

use std::sync::atomic::Ordering;

use rb_format::{FORMAT_BLOCK, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, Incarnation, Record};
use rb_io::Request;

use crate::error::Error;
use crate::events::Event;
use crate::inner::{Inner, Writer};
use crate::log::{Need, Pending};
use crate::meta_io::MetaIo;

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

    /// One commit of everything queued. Does nothing if all is durable.
    ///
    /// # Errors
    /// Any failure poisons writing: nobody knows what of it is on the device.
    pub(crate) fn commit(&self, writer: &Writer) -> Result<(), Error> {
        self.poison.check()?;
        let mut committer = writer.committer.lock();
        self.poison.check()?;
        let quarantined = writer.quarantine.lock().waiting();
        let Some(pending) = writer.log.take() else {
            return Ok(());
        };
        let last = pending.first_sequence + (pending.bytes.len() / FORMAT_BLOCK) as u64 - 1;
        let written = committer.write(writer, &pending);
        let waiters = match &written {
            Ok(()) => writer.log.mark_durable(last, pending.ticket),
            Err(_) => Vec::new(),
        };
        drop(committer);
        match written {
            Ok(()) => {
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                self.settle(writer, quarantined);
                waiters.into_iter().for_each(|waiter| waiter(Ok(())));
                Ok(())
            }
            Err(error) => {
                self.poison(format!(
                    "the commit of log blocks {}..={last} failed: {}",
                    pending.first_sequence,
                    words(&error)
                ));
                self.poison.check()
            }
        }
    }

    /// A flush ended well, so writes that failed before it cannot land any more.
    fn settle(&self, writer: &Writer, quarantined: usize) {
        if quarantined == 0 {
            return;
        }
        let bad = writer.quarantine.lock().settle(&self.index, quarantined);
        for slot in bad {
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
            self.emit(&Event::BadSlot { slot });
        }
    }
}

impl Committer {
    fn write(&mut self, writer: &Writer, pending: &Pending) -> Result<(), Error> {
        let incarnations = [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET];
        let mut requests = Vec::new();
        for offset in incarnations {
            requests.push(Request::read(
                offset,
                self.io.buffer(FORMAT_BLOCK)?,
                0,
                FORMAT_BLOCK,
            ));
        }
        let mut sequence = pending.first_sequence;
        let mut rest = &pending.bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.piece_len(writer, sequence, rest.len()));
            let mut buf = self.io.buffer(piece.len())?;
            buf[..piece.len()].copy_from_slice(piece);
            requests.push(Request::write(
                writer.log.block_offset(sequence),
                buf,
                0,
                piece.len(),
            ));
            sequence += (piece.len() / FORMAT_BLOCK) as u64;
            rest = after;
        }
        let mut seen = Vec::new();
        for completion in self.io.run(requests)? {
            completion.result?;
            if completion.tag < incarnations.len() as u64 {
                seen.extend(completion.buf);
            }
        }
        check_incarnation(
            &writer.incarnation,
            seen.iter().map(|buf| &buf[..FORMAT_BLOCK]),
        )?;
        self.io.flush()
    }

    /// Bytes that lie in one piece on the device: up to the ring's end.
    fn piece_len(&self, writer: &Writer, sequence: u64, wanted: usize) -> usize {
        let to_end = (writer.log.ring_blocks() - sequence % writer.log.ring_blocks()) as usize;
        wanted.min(PIECE).min(to_end.saturating_mul(FORMAT_BLOCK))
    }
}

/// Fails unless the newest incarnation on the device is ours.
fn check_incarnation<'a>(
    ours: &Incarnation,
    blocks: impl Iterator<Item = &'a [u8]>,
) -> Result<(), Error> {
    let found = blocks
        .filter_map(|block| Incarnation::decode(block, &ours.identity).ok())
        .max_by_key(|found| found.number);
    match found {
        Some(found) if found == *ours => Ok(()),
        Some(found) => Err(Error::Poisoned {
            reason: format!(
                "opening {} of another writer was found on the device; this one is opening {}",
                found.number, ours.number
            ),
        }),
        None => Err(Error::Poisoned {
            reason: "the incarnation blocks are gone from the device: another writer formatted it, or they are damaged".into(),
        }),
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
