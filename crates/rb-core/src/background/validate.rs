//! The validator: reads the headers of unverified entries at full queue depth, and verifies or
//! drops each entry.

use parking_lot::Mutex;
use rb_format::FORMAT_BLOCK;

use crate::core::entry_scan::{EntryScan, LiveEntry, all_pieces};
use crate::core::inner::Inner;
use crate::core::verify::EntryCheck;
use crate::counters::add;
use crate::error::Error;
use crate::events::DropReason;
use crate::io::meta_io::{MetaIo, ReadAt};
use crate::io::pace::Pace;
use crate::simulator::{HeldLock, SwitchPoint};

/// Entries per step if all are validated at once.
const STEP: usize = 4096;

/// Validates recovered entries, one batch at a time.
pub(crate) struct Validator {
    left: Mutex<Left>,
}

/// The remaining work.
#[derive(Default)]
struct Left {
    /// `None` once everything is validated, or if validation is off.
    place: Option<EntryScan>,
    io: Option<MetaIo>,
}

impl Validator {
    /// A validator that does nothing.
    pub(crate) fn off() -> Validator {
        Validator {
            left: Mutex::default(),
        }
    }

    /// A validator of every unverified entry.
    pub(crate) fn new(io: MetaIo) -> Validator {
        Validator {
            left: Mutex::new(Left {
                place: Some(EntryScan::default()),
                io: Some(io),
            }),
        }
    }

    /// Its position: the outer `None` if a step is in progress, the inner one if nothing is left.
    #[expect(
        clippy::option_option,
        reason = "not known, and nothing left, are two things"
    )]
    pub(crate) fn place(&self) -> Option<Option<EntryScan>> {
        self.left.try_lock().map(|left| left.place.clone())
    }

    /// Closes its queue, unless it is working.
    pub(crate) fn release(&self) {
        if let Some(mut left) = self.left.try_lock() {
            left.io = None;
        }
    }

    /// Returns whether nothing is left to validate.
    pub(crate) fn is_done(&self) -> bool {
        self.left.lock().place.is_none()
    }

    /// Validates all entries.
    ///
    /// # Errors
    /// As [`Validator::step`].
    pub(crate) fn run(&self, inner: &Inner) -> Result<(), Error> {
        while self.step(inner, STEP, &mut Pace::full())? {}
        Ok(())
    }

    /// Validates up to `count` entries. Returns whether there may be more.
    ///
    /// # Errors
    /// The device or its queue stopped responding. An unreadable header is not an error: the entry
    /// stays unverified until its next read.
    pub(crate) fn step(
        &self,
        inner: &Inner,
        count: usize,
        pace: &mut Pace<'_>,
    ) -> Result<bool, Error> {
        let mut left = inner.lock_over_io(&self.left, HeldLock::Validator);
        let Some(walk) = &mut left.place else {
            return Ok(false);
        };
        let mut batch = Vec::new();
        let mut more = true;
        while more && batch.len() < count {
            more = walk.step(&inner.index, count - batch.len(), &mut |entry| {
                if !entry.located.verified {
                    batch.push(LiveEntry::new(&inner.index, &entry));
                }
            });
        }
        if !more {
            left.place = None;
        }
        inner.switch(SwitchPoint::ValidateCopied);
        let (mut dropped, mut unread) = (Vec::new(), Vec::new());
        let outcome = match &mut left.io {
            Some(io) if !batch.is_empty() => {
                validate_batch(inner, io, pace, &batch, &mut dropped, &mut unread)
            }
            _ => Ok(()),
        };
        if !more {
            // Nothing is left to read: free the queue and its buffers.
            left.io = None;
        }
        // An observer may call the store.
        drop(left);
        add(&inner.counters.dropped_by_validation, dropped.len());
        for at in dropped {
            batch[at].notify_dropped(inner, DropReason::FailedValidation);
        }
        for (at, error) in unread {
            let slot = batch[at].located.slot.0;
            inner.counters.trace.read_failed("validator", slot, &error);
        }
        if let Err(error) = &outcome {
            inner.counters.trace.task_failed("validator", error);
        }
        outcome?;
        // After the observer was notified of the drops: readers of this counter rely on that order.
        add(&inner.counters.validated, batch.len());
        Ok(more)
    }
}

/// Reads and judges the headers of a batch. Appends the positions of dropped entries to `dropped`.
fn validate_batch(
    inner: &Inner,
    io: &mut MetaIo,
    pace: &mut Pace<'_>,
    batch: &[LiveEntry],
    dropped: &mut Vec<usize>,
    unread: &mut Vec<(usize, Error)>,
) -> Result<(), Error> {
    let pieces = all_pieces(batch, &inner.geometry);
    let reads = pieces.iter().enumerate().map(|(tag, (_, piece))| ReadAt {
        tag,
        offset: piece.header_offset(&inner.geometry),
        len: FORMAT_BLOCK,
    });
    let mut checks: Vec<_> = batch
        .iter()
        .map(|entry| EntryCheck::new(entry, false))
        .collect();
    io.read_each(pace, reads, |tag, header| {
        let (at, piece) = &pieces[tag];
        let (entry, check) = (&batch[*at], &mut checks[*at]);
        let is_last = match header {
            Err(error) => {
                unread.push((*at, error.into()));
                check.unreadable()
            }
            Ok(bytes) => check.piece(&inner.identity, entry, piece, &bytes[..FORMAT_BLOCK]),
        };
        if !is_last {
            return;
        }
        match check.verdict(&inner.identity, entry) {
            None => add(&inner.counters.read_errors, 1),
            Some(true) => entry.set_verified(&inner.index),
            Some(false) => {
                if entry.invalidate(inner) {
                    dropped.push(*at);
                }
            }
        }
    })
}
