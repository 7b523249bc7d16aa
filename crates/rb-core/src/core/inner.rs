//! What every operation of an open store shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rb_format::{Geometry, Identity, Superblock};
use rb_index::{Index, SlotId};
use rb_io::{Arena, Buffer, Patience, PlacementId};

use crate::core::gate::{Gate, Pass};
use crate::core::poison::Poison;
use crate::core::writer::Writer;
use crate::counters::Counters;
use crate::error::{Error, error_chain};
use crate::events::{Event, shielded};
use crate::io::hold::Hold;
use crate::io::lanes::Lanes;
use crate::log::delta::{LogReservation, LogSpace};
use crate::options::{Background, Durability, Lifetime, PutOptions, StoreOptions};
use crate::report::RecoveryReport;

/// Keys from which on a batch is worth preparing.
const WARM_MIN: usize = 4;

pub(crate) struct Inner {
    pub(crate) path: PathBuf,
    pub(crate) device: Hold,
    pub(crate) rejected: Vec<rb_io::Rejected>,
    pub(crate) superblock: Superblock,
    pub(crate) identity: Identity,
    pub(crate) geometry: Geometry,
    pub(crate) options: StoreOptions,
    pub(crate) index: Index,
    pub(crate) arena: Arena,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) poison: Poison,
    /// Held during a flush.
    pub(crate) flushing: Mutex<()>,
    pub(crate) counters: Counters,
    pub(crate) recovery: RecoveryReport,
    /// Write-side state; `None` if the store is read-only.
    pub(crate) writer: Option<Writer>,
}

impl Inner {
    /// Where the index has a key; see [`Index::hash`].
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.index.hash(key)
    }

    /// # Errors
    /// `Forked`: this process is a fork of the one that opened the store.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        self.gate.check_process()
    }

    /// A reading operation may go on unless the store is closed.
    pub(crate) fn enter(&self) -> Result<Pass, Error> {
        self.gate.enter()
    }

    /// A writing operation may go on unless the store is closed, read-only or poisoned.
    pub(crate) fn enter_writing(&self) -> Result<(Pass, &Writer), Error> {
        let pass = self.gate.enter()?;
        Ok((pass, self.writer()?))
    }

    /// The writer, unless the store is read-only or poisoned.
    pub(crate) fn writer(&self) -> Result<&Writer, Error> {
        let writer = self.writer.as_ref().ok_or(Error::ReadOnly)?;
        self.poison.check()?;
        Ok(writer)
    }

    /// Before the index is asked for many keys: a batch waits for memory together.
    pub(crate) fn prefetch(&self, hashes: &[u64]) {
        if hashes.len() >= WARM_MIN {
            self.index.prefetch(hashes, rb_io::prefetch);
        }
    }

    /// Takes the buffers of a batch, all or none.
    pub(crate) fn take_buffers(
        &self,
        strides: &[usize],
        patience: &mut Patience,
    ) -> Result<Vec<Buffer>, Error> {
        let (needed, limit) = (strides.iter().sum(), self.arena.bytes());
        if needed > limit {
            return Err(Error::BatchTooLarge { needed, limit });
        }
        let taken = self.arena.take_many(strides, patience);
        taken.map_err(|_| Error::Busy {
            what: "buffer memory",
            waited: patience.limit(),
        })
    }

    /// Where a slot begins on the device.
    ///
    /// # Panics
    /// The slot is none of the store's: entries with such slots are not loaded, and no others are made.
    pub(crate) fn slot_offset(&self, slot: SlotId) -> u64 {
        let offset = self.geometry.slot_offset(slot.0);
        offset.expect("an entry's slot lies within the layout")
    }

    pub(crate) fn check_key(&self, key: &[u8]) -> Result<(), Error> {
        let max = self.superblock.key_len_max as usize;
        if key.is_empty() || key.len() > max {
            return Err(Error::KeyLength {
                len: key.len(),
                max,
            });
        }
        Ok(())
    }

    /// The placement id of values of a lifetime class; none if this store's values have none.
    pub(crate) fn placement_of(&self, lifetime: Lifetime) -> Option<PlacementId> {
        let lifetimes = &self.options.placement.lifetimes;
        lifetimes.get(usize::from(lifetime.0)).copied()
    }

    /// When a put with these options is acknowledged.
    pub(crate) fn durability(&self, options: PutOptions) -> Durability {
        options.durability.unwrap_or(self.options.durability)
    }

    pub(crate) fn is_manual(&self) -> bool {
        self.options.background == Background::Manual
    }

    /// How long to wait for something that only another thread can give. A simulator has none.
    pub(crate) fn busy_wait(&self) -> Duration {
        if self.is_manual() {
            Duration::ZERO
        } else {
            self.options.busy_wait
        }
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        if let Some(events) = &self.options.events {
            shielded(|| events.event(event));
        }
    }

    /// Tells everyone who waits for writing that it has stopped, if it has. The caller holds no lock.
    pub(crate) fn notify_poisoned(&self) {
        let Some(reason) = self.poison.to_tell() else {
            return;
        };
        if let Some(writer) = &self.writer {
            writer.log.stop(|| Error::Poisoned {
                reason: reason.to_owned(),
            });
        }
        self.emit(&Event::Poisoned { reason });
    }

    /// Room in the log for a batch. Where too much is queued already, this commits it first, in the
    /// calling thread, rather than wait for another to do so.
    pub(crate) fn admit(
        &self,
        writer: &Writer,
        need: LogSpace,
        patience: &mut Patience,
    ) -> Result<LogReservation, Error> {
        let shards = self.index.shards();
        writer.log.check_space()?;
        if writer.log.needs_commit_for(need, shards) {
            writer.committing(patience, || self.commit(writer))?;
        }
        writer
            .log
            .admit(need, shards, patience)
            .map_err(|error| self.stopped(error))
    }

    /// The error of an operation that found the log stopped: poisoned, or closed.
    pub(crate) fn stopped(&self, error: Error) -> Error {
        match (error, self.poison.check()) {
            (Error::Closed, Err(poisoned)) => poisoned,
            (error, _) => error,
        }
    }

    /// Stops writing if the device has become smaller than the store: what is acknowledged from now on might be gone.
    pub(crate) fn check_size(&self) -> Result<(), Error> {
        let needed = self.superblock.device_bytes;
        let wrong = match self.device.engine()?.capacity_now() {
            Ok(bytes) if bytes >= needed => return Ok(()),
            Ok(bytes) => format!(
                "{} has shrunk to {bytes} bytes while it was open, the store needs {needed}",
                self.path.display()
            ),
            Err(error) => format!("its size cannot be read: {}", error_chain(&error)),
        };
        self.poison.set(wrong);
        self.poison.check()
    }
}
