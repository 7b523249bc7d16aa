//! What reached a device since its recording began, and what of it a crash keeps.

use std::io;
use std::sync::Arc;

use rb_io::Part;

use super::pages::{Pages, SECTOR};
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

    pub(super) fn keep(&self, kept: Kept, mut write: impl FnMut(u64, &[u8])) {
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

impl MemWrite {
    pub(super) fn of(part: &Part) -> io::Result<Self> {
        let mut bytes = vec![0; part.len as usize];
        if let Some(buf) = &part.buf {
            buf.copy_to(part.buf_offset, &mut bytes)?;
        }
        Ok(Self {
            offset: part.offset,
            bytes: bytes.into(),
        })
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
