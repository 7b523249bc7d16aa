//! The states that a crash can leave: at every point of a recorded run, any choice among the
//! sectors that were written and not yet flushed.
//!
//! Flushed writes are present. Of the others, the device may have kept any sectors, in any order:
//! for a sector written several times since the flush, any of its versions.

use std::ops::Range;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::pages::{PAGE, Pages, SECTOR};
use super::record::{Kept, MemWrite, Recorded, keep_some};
use super::state::MemDevice;

impl MemDevice {
    /// Returns the worst state after a crash now: flushed bytes only.
    #[must_use]
    pub fn crash_image(&self) -> Vec<u8> {
        self.image(&self.state.lock().durable)
    }

    /// Returns a possible state after a crash now: of each unflushed write nothing, all, or single
    /// sectors, as `seed` decides.
    #[must_use]
    pub fn crash_image_seeded(&self, seed: u64) -> Vec<u8> {
        let state = self.state.lock();
        let mut pages = state.durable.clone();
        keep_some(&state.pending, &mut pages, seed);
        self.image(&pages)
    }

    /// Returns the crash points of the recording, from the first on; `None` without a recording.
    #[must_use]
    pub fn crash_points(self: &Arc<Self>) -> Option<CrashPoints> {
        let (durable, steps) = self.state.lock().recording.clone()?;
        Some(CrashPoints {
            device: Arc::clone(self),
            hash: durable.hash(),
            durable,
            pending: Vec::new(),
            steps,
            at: 0,
        })
    }

    /// Returns a new device with the flushed contents and the limits of this one, without its
    /// faults. Sparse, so it suits devices too large for an image.
    #[must_use]
    pub fn crash(&self) -> Arc<Self> {
        self.with_pages(self.state.lock().durable.clone())
    }
}

/// Iterates over a recorded run, from one crash point to the next.
#[derive(Debug)]
pub struct CrashPoints {
    pub(super) device: Arc<MemDevice>,
    pub(super) durable: Pages,
    pub(super) hash: u64,
    pub(super) pending: Vec<MemWrite>,
    pub(super) steps: Vec<Recorded>,
    pub(super) at: usize,
}

impl CrashPoints {
    /// Returns the number of steps before this point.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Returns every step of the run.
    #[must_use]
    pub fn steps(&self) -> &[Recorded] {
        &self.steps
    }

    /// Returns the writes not flushed before this point, in order.
    #[must_use]
    pub fn pending(&self) -> &[MemWrite] {
        &self.pending
    }

    /// Adds the steps that the device has recorded since, and advances to the end of them.
    pub fn catch_up(&mut self) {
        self.steps
            .extend(self.device.recorded_since(self.steps.len()));
        while self.advance() {}
    }

    /// Returns a hash of the durable contents and the pending writes: equal for equal states, and
    /// hardly ever for different ones. The order of pending writes to different places does not
    /// matter.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let pages = |write: &MemWrite| {
            let first = write.offset / PAGE as u64;
            first..(write.offset + write.bytes.len() as u64).div_ceil(PAGE as u64)
        };
        let mut hash = self.hash;
        for (at, write) in self.pending.iter().enumerate() {
            let touches = |other: &&MemWrite| {
                let (one, other) = (pages(write), pages(other));
                one.start < other.end && other.start < one.end
            };
            let before = self.pending[..at].iter().filter(touches).count() as u64;
            let place = xxh3_64_with_seed(&write.offset.to_le_bytes(), before);
            hash ^= xxh3_64_with_seed(&write.bytes, place);
        }
        hash
    }

    /// Reads durable bytes.
    pub fn read_durable(&self, offset: u64, out: &mut [u8]) {
        self.durable.read(offset, out);
    }

    /// Returns the state in which only the given bytes of the pending writes are kept, each with
    /// its offset on the device: whole sectors.
    #[must_use]
    pub fn image_with<'a>(&self, kept: impl IntoIterator<Item = (u64, &'a [u8])>) -> CrashImage {
        let (mut pages, mut hash) = (self.durable.clone(), self.hash);
        for (offset, bytes) in kept {
            hash ^= pages.write_hashed(offset, bytes);
        }
        CrashImage {
            like: Arc::clone(&self.device),
            pages,
            hash,
        }
    }

    /// Advances past the next step; returns false at the end of the run.
    pub fn advance(&mut self) -> bool {
        let Some(step) = self.steps.get(self.at) else {
            return false;
        };
        self.at += 1;
        match step {
            Recorded::Write(write) => self.pending.push(write.clone()),
            Recorded::Flush { uncovered } => {
                let covered = self.pending.len().saturating_sub(*uncovered);
                for write in self.pending.drain(..covered) {
                    self.hash ^= self.durable.write_hashed(write.offset, &write.bytes);
                }
            }
            Recorded::Change(change) => {
                self.hash ^= self.durable.write_hashed(change.offset, &change.bytes);
            }
        }
        true
    }

    /// Returns the state in which `kept` selects what is kept of each pending write; writes beyond
    /// its end are lost.
    #[must_use]
    pub fn image(&self, kept: &[Kept]) -> CrashImage {
        let (mut pages, mut hash) = (self.durable.clone(), self.hash);
        for (write, kept) in self.pending.iter().zip(kept) {
            write.keep(*kept, |offset, sector| {
                hash ^= pages.write_hashed(offset, sector);
            });
        }
        CrashImage {
            like: Arc::clone(&self.device),
            pages,
            hash,
        }
    }
}

/// The state after one crash.
#[derive(Clone, Debug)]
pub struct CrashImage {
    like: Arc<MemDevice>,
    pages: Pages,
    hash: u64,
}

impl CrashImage {
    /// Returns a hash of the contents: equal for equal contents, and hardly ever for different
    /// ones.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the hash of everything outside a range of whole sectors.
    #[must_use]
    pub fn hash_without(&self, range: Range<u64>) -> u64 {
        let sector = SECTOR as u64;
        self.hash
            ^ self
                .pages
                .hash_of(range.start / sector..range.end.div_ceil(sector))
    }

    /// Reads bytes of the image.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        self.pages.read(offset, out);
    }

    /// Returns a device with this content, as [`device`](Self::device), and an iterator over the
    /// steps that it will record.
    #[must_use]
    pub fn recording(&self) -> (Arc<MemDevice>, CrashPoints) {
        let device = self.device();
        let points = CrashPoints {
            device: Arc::clone(&device),
            durable: self.pages.clone(),
            hash: self.hash,
            pending: Vec::new(),
            steps: Vec::new(),
            at: 0,
        };
        (device, points)
    }

    /// Returns a device with this content and the limits of the crashed one; it records from now
    /// on.
    #[must_use]
    pub fn device(&self) -> Arc<MemDevice> {
        let device = self.like.with_pages(self.pages.clone());
        device.record();
        device
    }
}
