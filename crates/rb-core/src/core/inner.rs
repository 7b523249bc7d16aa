//! The state of an open store that all operations share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rb_format::{Geometry, Identity, Superblock};
use rb_index::{Index, LIFETIMES};
use rb_io::{Arena, Buffer, Patience};

use crate::core::direct::Direct;
use crate::core::gate::{Gate, Pass};
use crate::core::keeping::Keeping;
use crate::core::poison::Poison;
use crate::core::writer::Writer;
use crate::counters::Counters;
use crate::error::{Error, error_chain};
use crate::events::Event;
use crate::io::hold::Hold;
use crate::io::lanes::Lanes;
use crate::options::{Background, Durability, Lifetime, PutOptions, StoreOptions};
use crate::report::RecoveryReport;

/// Smallest batch for which prefetching pays off.
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
    /// Serializes flushes.
    pub(crate) flushing: Mutex<()>,
    /// Shared with the waiters of the log, which must not hold the store.
    pub(crate) counters: Arc<Counters>,
    pub(crate) direct: Direct,
    pub(crate) recovery: RecoveryReport,
    /// The write budget, and the state of policy and budget on the device.
    pub(crate) keeping: Keeping,
    /// Write-side state; `None` if the store is read-only.
    pub(crate) writer: Option<Writer>,
}

impl Inner {
    /// Hashes a key for the index; see [`Index::hash`].
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.index.hash(key)
    }

    /// Fails in a forked child; see [`Gate::check_process`].
    ///
    /// # Errors
    /// `Forked`: this process is a fork of the one that opened the store.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        self.gate.check_process()
    }

    /// Admits a reading operation unless the store is closed.
    pub(crate) fn enter(&self) -> Result<Pass, Error> {
        self.gate.enter()
    }

    /// Admits a writing operation unless the store is closed, read-only or poisoned.
    pub(crate) fn enter_writing(&self) -> Result<(Pass, &Writer), Error> {
        let pass = self.gate.enter()?;
        Ok((pass, self.writer()?))
    }

    /// Returns the writer unless the store is read-only or poisoned.
    pub(crate) fn writer(&self) -> Result<&Writer, Error> {
        let writer = self.writer.as_ref().ok_or(Error::ReadOnly)?;
        self.poison.check()?;
        Ok(writer)
    }

    /// Prefetches the index entries of a batch, so that their cache misses overlap.
    pub(crate) fn prefetch(&self, hashes: &[u64]) {
        if hashes.len() >= WARM_MIN {
            self.index.prefetch(hashes);
        }
    }

    /// Takes one buffer per stride, all or none.
    pub(crate) fn take_buffers(
        &self,
        strides: &[usize],
        patience: &mut Patience,
    ) -> Result<Vec<Buffer>, Error> {
        let (needed, limit) = (strides.iter().sum(), self.arena.bytes());
        if needed > limit {
            return Err(Error::BatchTooLarge { needed, limit });
        }
        let waits = &self.counters.waits.buffers;
        let taken = waits.during(patience, |patience| self.arena.take_many(strides, patience));
        taken.map_err(|_| Error::Busy {
            what: "buffer memory",
            waited: patience.limit(),
        })
    }

    /// Returns the class and the number of slots for a value of this length.
    ///
    /// # Errors
    /// `ValueLength`: it is empty, or longer than any value of this store.
    pub(crate) fn slots_for(&self, len: usize) -> Result<(u8, usize), Error> {
        let max = self.geometry.value_len_max() as usize;
        let slots = self.geometry.slots_for(len as u64);
        slots
            .filter(|_| len <= max)
            .ok_or(Error::ValueLength { len, max })
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

    /// The number of the placement id of a value; 0 if values are written without one. Without a lifetime class of its
    /// own, the value has that which the policy expects of its key.
    pub(crate) fn placement_of(&self, lifetime: Option<Lifetime>, class: u8, hash: u64) -> u16 {
        let ids = &self.options.placement.lifetimes;
        if ids.is_empty() {
            return 0;
        }
        let at = lifetime.map_or_else(
            || {
                let used = ids.len().min(LIFETIMES.into());
                usize::from(self.index.lifetime(class, hash)) * used / usize::from(LIFETIMES)
            },
            |lifetime| usize::from(lifetime.0),
        );
        ids.get(at).map_or(0, |id| id.0.get())
    }

    /// The durability of a put with these options: its own, or the store's default.
    pub(crate) fn durability(&self, options: PutOptions) -> Durability {
        options.durability.unwrap_or(self.options.durability)
    }

    pub(crate) fn is_manual(&self) -> bool {
        self.options.background == Background::Manual
    }

    /// Longest wait for a resource that another thread must release. Zero with manual background
    /// work, where no other thread runs.
    pub(crate) fn busy_wait(&self) -> Duration {
        if self.is_manual() {
            Duration::ZERO
        } else {
            self.options.busy_wait
        }
    }

    /// Notifies all waiters and the observer, once, that writing is poisoned, if it is. The caller
    /// holds no lock.
    pub(crate) fn notify_poisoned(&self) {
        let Some(reason) = self.poison.first_report() else {
            return;
        };
        if let Some(writer) = &self.writer {
            writer.log.stop(|| Error::Poisoned {
                reason: reason.to_owned(),
            });
        }
        self.emit(&Event::Poisoned { reason });
    }

    /// The error of an operation that found the log stopped: `Poisoned` if writing is poisoned,
    /// else `error`.
    pub(crate) fn stopped(&self, error: Error) -> Error {
        match (error, self.poison.check()) {
            (Error::Closed, Err(poisoned)) => poisoned,
            (error, _) => error,
        }
    }

    /// Poisons writing if the device is now smaller than the store: an acknowledged write might be
    /// lost.
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
