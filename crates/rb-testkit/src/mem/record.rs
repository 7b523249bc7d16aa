//! The recording of a device, and the part of it that a crash keeps.

use std::io;
use std::sync::Arc;

use rb_io::Part;

use super::pages::{Pages, SECTOR};
use crate::values::next_number;

/// A write as the device received it.
#[derive(Clone, Debug)]
pub struct MemWrite {
    /// First byte on the device.
    pub offset: u64,
    pub(super) bytes: Arc<[u8]>,
}

impl MemWrite {
    /// Returns its bytes.
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

/// The part of one write that a crash keeps, in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// Everything.
    All,
    /// This many sectors from the start.
    First(usize),
    /// This many sectors from the end.
    Last(usize),
    /// The sectors chosen by a seed.
    Some(u64),
}

/// A step of a recorded run that affects the state after a crash.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// A write reached the device's cache.
    Write(MemWrite),
    /// Everything written before is on the medium, except the last `uncovered` writes: they came
    /// after the flush was sent.
    Flush {
        /// Number of pending writes that it does not cover.
        uncovered: usize,
    },
    /// Bytes changed on the medium spontaneously, or by a test.
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

/// Applies the choice of a seed: of each write nothing, all, or single sectors.
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
