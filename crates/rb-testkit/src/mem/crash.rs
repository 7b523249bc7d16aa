//! What a crash can leave: at every point of a recorded run, any choice among the sectors that were
//! written and not yet flushed.
//!
//! A write that was flushed is there. Of the others the device may have kept any sectors, in any
//! order: for a sector that was written several times since the flush, any of its versions.

use std::ops::Range;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::device::MemDevice;
use super::pages::{PAGE, Pages, SECTOR};
use crate::values::next_number;

/// A write as a device was given it.
#[derive(Clone, Debug)]
pub struct MemWrite {
    /// First byte on the device.
    pub offset: u64,
    pub(super) bytes: Arc<[u8]>,
}

impl MemWrite {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn keep(&self, kept: Kept, mut write: impl FnMut(u64, &[u8])) {
        let count = self.bytes.len().div_ceil(SECTOR);
        let mut random = match kept {
            Kept::Some(seed) => seed,
            _ => 0,
        };
        let (mut word, mut bits) = (0, 0);
        for (number, sector) in self.bytes.chunks(SECTOR).enumerate() {
            if bits == 0 {
                (word, bits) = (next_number(&mut random), 64);
            }
            let is_kept = match kept {
                Kept::Nothing => false,
                Kept::All => true,
                Kept::First(sectors) => number < sectors,
                Kept::Last(sectors) => number + sectors >= count,
                Kept::Some(_) => word & 1 == 1,
            };
            (word, bits) = (word >> 1, bits - 1);
            if is_kept {
                write(self.offset + (number * SECTOR) as u64, sector);
            }
        }
    }
}

/// What a crash leaves of one write, in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// Everything.
    All,
    /// The first so many sectors.
    First(usize),
    /// The last so many sectors.
    Last(usize),
    /// Those that a seed chooses.
    Some(u64),
}

/// A step of a recorded run that changes what a crash leaves.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// A write reached the device's cache.
    Write(MemWrite),
    /// Everything written before is on the medium, but for the last `uncovered` writes: they came after the flush was
    /// sent.
    Flush {
        /// Pending writes that it does not cover.
        uncovered: usize,
    },
    /// Bytes changed on the medium by themselves, or by a test.
    Change(MemWrite),
}

/// A walk over a recorded run, from one crash point to the next.
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
    /// How many steps of the run lie before this point.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Every step of the run.
    #[must_use]
    pub fn steps(&self) -> &[Recorded] {
        &self.steps
    }

    /// What was written and not flushed before this point, in order.
    #[must_use]
    pub fn pending(&self) -> &[MemWrite] {
        &self.pending
    }

    /// Takes over what its device has recorded since, and goes to the end of it.
    pub fn catch_up(&mut self) {
        self.steps
            .extend(self.device.recorded_since(self.steps.len()));
        while self.advance() {}
    }

    /// Equal for equal durable contents and equal pending writes, and hardly ever for others. In which order writes
    /// to different places are pending does not matter.
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

    /// What is left if nothing of what is pending is kept but these bytes, each with its first byte on the device: whole
    /// sectors.
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

    /// Goes past the next step; false at the end of the run.
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

    /// What is left if of each pending write that is kept which `kept` says; writes beyond its end are
    /// lost.
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

/// What one crash left.
#[derive(Clone, Debug)]
pub struct CrashImage {
    like: Arc<MemDevice>,
    pages: Pages,
    hash: u64,
}

impl CrashImage {
    /// Equal for equal contents, and hardly ever for others.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The hash of all that is not in a range of whole sectors.
    #[must_use]
    pub fn hash_without(&self, range: Range<u64>) -> u64 {
        let sector = SECTOR as u64;
        self.hash
            ^ self
                .pages
                .hash_of(range.start / sector..range.end.div_ceil(sector))
    }

    /// Reads bytes of it.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        self.pages.read(offset, out);
    }

    /// A device with this content, as [`device`](Self::device), and a walk over what it will record.
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

    /// A device with this content and the limits of the one that crashed, which records from now on.
    #[must_use]
    pub fn device(&self) -> Arc<MemDevice> {
        let device = self.like.with_pages(self.pages.clone());
        device.record();
        device
    }
}

/// Applies what a seed chooses: of each write nothing, all, or single sectors.
pub(super) fn keep_some(pending: &[MemWrite], pages: &mut Pages, seed: u64) {
    let mut random = seed;
    for write in pending {
        let kept = match next_number(&mut random) % 3 {
            0 => Kept::Nothing,
            1 => Kept::All,
            _ => Kept::Some(next_number(&mut random)),
        };
        write.keep(kept, |offset, sector| pages.write(offset, sector));
    }
}
