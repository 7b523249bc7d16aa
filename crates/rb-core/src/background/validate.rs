//! The validator: reads the headers of unproven entries, at full queue depth, and proves or drops
//! each entry.

use rb_format::FORMAT_BLOCK;

use crate::core::inner::Inner;
use crate::core::proof::header_proves;
use crate::core::walk::{Met, Walk};
use crate::error::Error;
use crate::events::DropReason;
use crate::io::meta_io::{MetaIo, ReadAt};
use crate::simulator::{HeldLock, SwitchPoint};
use crate::stats::add;

/// How far the validator has come.
pub(crate) struct Validator {
    /// None once all is validated, or if nothing is to be.
    pub(crate) place: Option<Walk>,
    pub(crate) io: Option<MetaIo>,
}

impl Inner {
    /// Validates up to `count` entries. Answers whether there may be more.
    ///
    /// # Errors
    /// The device or its queue stopped answering. One unreadable header is not an error: the entry
    /// stays unproven and its next read decides.
    pub(crate) fn validate_some(&self, count: usize) -> Result<bool, Error> {
        let mut validator = self.lock_over_io(&self.validator, HeldLock::Validator);
        let Some(walk) = &mut validator.place else {
            return Ok(false);
        };
        let mut batch = Vec::new();
        let mut more = true;
        while more && batch.len() < count {
            more = walk.step(&self.index, count - batch.len(), &mut |entry| {
                if !entry.located.proven {
                    batch.push(Met::new(&self.index, &entry));
                }
            });
        }
        if !more {
            validator.place = None;
        }
        self.switch(SwitchPoint::ValidateCopied);
        let mut dropped = Vec::new();
        let outcome = match &mut validator.io {
            Some(io) if !batch.is_empty() => self.validate_batch(io, &batch, &mut dropped),
            _ => Ok(()),
        };
        if !more {
            validator.io = None;
        }
        // An observer may call the store.
        drop(validator);
        for at in dropped {
            batch[at].tell_dropped(self, DropReason::FailedValidation);
        }
        outcome?;
        // Whoever sees the count has been told what was dropped.
        add(&self.counters.validated, batch.len());
        Ok(more)
    }

    /// Adds the positions of what was dropped to `dropped`.
    fn validate_batch(
        &self,
        io: &mut MetaIo,
        batch: &[Met],
        dropped: &mut Vec<usize>,
    ) -> Result<(), Error> {
        let reads = batch.iter().enumerate().filter_map(|(tag, entry)| {
            let offset = self.geometry.slot_offset(entry.located.slot.0)?;
            Some(ReadAt {
                tag,
                offset,
                len: FORMAT_BLOCK,
            })
        });
        io.read_each(reads, |tag, header| {
            let entry = &batch[tag];
            match header {
                Err(_) => add(&self.counters.read_errors, 1),
                Ok(bytes) => {
                    let header = &bytes[..FORMAT_BLOCK];
                    if header_proves(&self.identity, header, &entry.key, &entry.located) {
                        entry.prove(&self.index);
                    } else if entry.forget(self) {
                        dropped.push(tag);
                    }
                }
            }
        })
    }
}
