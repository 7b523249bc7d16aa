//! The write side of an open store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rb_format::{Generation, LogEncoder, LogPosition, Region, Superblock};
use rb_io::Patience;

use crate::error::Error;
use crate::io::unwritable::Unwritable;
use crate::log::committer::Committer;
use crate::log::delta::{DeltaLog, Retained};
use crate::log::incarnations::Opened;
use crate::log::quarantine::Quarantine;

/// Write-side state; read-only stores have none.
pub(crate) struct Writer {
    pub(crate) incarnation: Opened,
    /// Counter of the next generation.
    pub(crate) counter: AtomicU64,
    pub(crate) log: Arc<DeltaLog>,
    /// Metadata blocks that the device could not write.
    pub(crate) unwritable: Mutex<Unwritable>,
    pub(crate) committer: Mutex<Committer>,
    /// Nanoseconds the process was stopped while the committer waited; deadlines do not count them.
    pub(crate) lost: Arc<AtomicU64>,
    pub(crate) quarantine: Mutex<Quarantine>,
    /// Per class, the right to evict. A put of one slot shares it. A put of several slots holds it alone until it
    /// has all of them: two that evicted together could each get half.
    pub(crate) evicting: Box<[RwLock<()>]>,
    /// True if freed slots are discarded before reuse.
    pub(crate) discards_freed: AtomicBool,
}

impl Writer {
    /// Creates the write side after a takeover. The log continues at `end`, and the ring keeps
    /// `retained`.
    pub(crate) fn new(
        superblock: &Superblock,
        incarnation: Opened,
        committer: Committer,
        end: LogPosition,
        retained: Retained,
        unwritable: Unwritable,
        quarantine: Quarantine,
    ) -> Writer {
        let encoder = LogEncoder::new(superblock.identity, incarnation.number(), end);
        let rings = superblock.log_rings().map(Region::clone);
        Writer {
            incarnation,
            counter: AtomicU64::new(0),
            log: Arc::new(DeltaLog::new(rings, encoder, retained)),
            unwritable: Mutex::new(unwritable),
            lost: committer.io.lost(),
            committer: Mutex::new(committer),
            quarantine: Mutex::new(quarantine),
            evicting: {
                let classes = superblock.runs.iter().map(|run| usize::from(run.class) + 1);
                (0..classes.max().unwrap_or(0))
                    .map(|_| RwLock::default())
                    .collect()
            },
            discards_freed: AtomicBool::new(false),
        }
    }

    /// Runs `work`, which may commit in the calling thread. Time during which the process was
    /// stopped is not charged to `patience`.
    pub(crate) fn committing<T>(&self, patience: &mut Patience, work: impl FnOnce() -> T) -> T {
        let lost = || self.lost.load(Ordering::Relaxed);
        let before = lost();
        let outcome = work();
        patience.lose(Duration::from_nanos(lost() - before));
        outcome
    }

    /// Returns a generation that was never used before. Called under the key's shard lock, so that
    /// the generations of a key ascend in the order of its changes.
    pub(crate) fn next_generation(&self) -> Result<Generation, Error> {
        // Relaxed: draws for one key are ordered by its shard lock, and other keys need no order.
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        Generation::new(self.incarnation.number(), counter).ok_or(Error::GenerationsExhausted {
            limit: Generation::COUNTER_MAX,
        })
    }

    /// The highest generation drawn so far.
    pub(crate) fn generation_floor(&self) -> Generation {
        let counter = self.counter.load(Ordering::Relaxed).saturating_sub(1);
        Generation::new(
            self.incarnation.number(),
            counter.min(Generation::COUNTER_MAX),
        )
        .unwrap_or(Generation(0))
    }
}
