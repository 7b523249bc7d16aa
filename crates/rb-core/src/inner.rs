//! What every operation of an open store shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rb_format::{Generation, Geometry, Identity, Superblock, key_hash};
use rb_index::Index;
use rb_io::{Arena, Engine, PlacementId};

use crate::checkpoint::Checkpointer;
use crate::commit::Committer;
use crate::discard::Discards;
use crate::driver::Driver;
use crate::error::Error;
use crate::events::{Event, shielded};
use crate::gate::{Gate, Pass};
use crate::incarnations::Opened;
use crate::lanes::Lanes;
use crate::log::{DeltaLog, Need, Permit};
use crate::meta_io::MetaIo;
use crate::options::{Background, Durability, Lifetime, PutOptions, StoreOptions};
use crate::poison::Poison;
use crate::quarantine::Quarantine;
use crate::recover::RecoveryReport;
use crate::scrub::Scrubber;
use crate::simulator::HeldLock;
use crate::stats::Counters;
use crate::unwritable::Unwritable;
use crate::validate::Validator;

/// Keys from which on a batch is worth preparing.
const WARM_MIN: usize = 4;

pub(crate) struct Inner {
    pub(crate) path: PathBuf,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) rejected: Vec<rb_io::Rejected>,
    #[expect(dead_code, reason = "it is held, that is what it is for")]
    pub(crate) reservation: Option<rb_io::Reservation>,
    pub(crate) superblock: Superblock,
    pub(crate) identity: Identity,
    pub(crate) geometry: Geometry,
    pub(crate) options: StoreOptions,
    pub(crate) index: Index,
    pub(crate) arena: Arena,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) driver: Driver,
    pub(crate) gate: Arc<Gate>,
    pub(crate) poison: Poison,
    /// Held during a flush.
    pub(crate) flushing: Mutex<()>,
    pub(crate) counters: Counters,
    pub(crate) validator: Mutex<Validator>,
    /// None if the store is not scrubbed.
    pub(crate) scrubber: Option<Mutex<Scrubber>>,
    pub(crate) recovery: RecoveryReport,
    /// What a store opened for writing has besides.
    pub(crate) writer: Option<Writer>,
}

pub(crate) struct Writer {
    pub(crate) incarnation: Opened,
    /// Counter of the next generation.
    pub(crate) counter: AtomicU64,
    pub(crate) log: Arc<DeltaLog>,
    /// Blocks of the metadata that the device could not write.
    pub(crate) unwritable: Mutex<Unwritable>,
    pub(crate) committer: Mutex<Committer>,
    pub(crate) checkpointer: Mutex<Checkpointer>,
    pub(crate) quarantine: Mutex<Quarantine>,
    /// None if freed slots are not to be discarded.
    pub(crate) discards: Option<Discards>,
}

impl Inner {
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        key_hash(&self.identity.uuid, key)
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
    pub(crate) fn warm(&self, hashes: &[u64]) {
        if hashes.len() >= WARM_MIN {
            self.index.warm(hashes, rb_io::prefetch);
        }
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
    pub(crate) fn busy_wait(&self) -> std::time::Duration {
        if self.is_manual() {
            std::time::Duration::ZERO
        } else {
            self.options.busy_wait
        }
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        if let Some(events) = &self.options.events {
            shielded(|| events.event(event));
        }
    }

    /// Flushes the device; `why` is the reason for which a failure stops writing. No flush begins beside
    /// another nor after one that failed: it could succeed, and would say nothing about what the failed one
    /// was to cover.
    pub(crate) fn flush(
        &self,
        io: &mut MetaIo,
        why: impl FnOnce(&Error) -> String,
    ) -> Result<(), Error> {
        let _alone = self.lock_over_io(&self.flushing, HeldLock::Flush);
        self.poison.check()?;
        io.flush().inspect_err(|error| self.poison.set(why(error)))
    }

    /// Tells everyone who waits for writing that it has stopped, if it has. The caller holds no lock.
    pub(crate) fn tell_poisoned(&self) {
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
    pub(crate) fn admit(&self, writer: &Writer, need: Need) -> Result<Permit, Error> {
        let shards = self.index.shards();
        if writer.log.needs_commit_for(need, shards) {
            self.commit(writer)?;
        }
        writer
            .log
            .admit(need, shards, self.busy_wait())
            .map_err(|error| self.stopped(error))
    }

    /// The error of an operation that found the log stopped: poisoned, or closed.
    pub(crate) fn stopped(&self, error: Error) -> Error {
        match (error, self.poison.check()) {
            (Error::Closed, Err(poisoned)) => poisoned,
            (error, _) => error,
        }
    }
}

impl Writer {
    /// A generation that nobody had before. Called under the key's shard lock, so that the order of
    /// generations of one key is the order of its changes.
    pub(crate) fn next_generation(&self) -> Result<Generation, Error> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        Generation::new(self.incarnation.number(), counter).ok_or(Error::GenerationsExhausted {
            limit: Generation::COUNTER_MAX,
        })
    }

    /// The highest generation given out so far.
    pub(crate) fn generation_floor(&self) -> Generation {
        let counter = self.counter.load(Ordering::Relaxed).saturating_sub(1);
        Generation::new(
            self.incarnation.number(),
            counter.min(Generation::COUNTER_MAX),
        )
        .unwrap_or(Generation(0))
    }
}
