//! Positions in the log, and their offsets in the ring.

use crate::BLOCK;
use crate::superblock::region::Region;

/// A position in the log: the next block to be written or read, and the checksum of its
/// predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Sequence of the block, at least 1.
    pub sequence: u64,
    /// Checksum of block `sequence - 1`; 0 for the first block of an epoch.
    pub anchor: u64,
}

impl LogPosition {
    /// Start of the log of an epoch.
    pub const FIRST: LogPosition = LogPosition {
        sequence: 1,
        anchor: 0,
    };
}

/// Returns the number of blocks of the ring.
#[must_use]
pub fn log_blocks(log: &Region) -> u64 {
    log.bytes / BLOCK
}

/// Returns the device offset of block `sequence`.
///
/// A region shorter than one block, which no superblock has, counts as one block.
#[must_use]
pub fn log_block_offset(log: &Region, sequence: u64) -> u64 {
    log.offset + sequence % log_blocks(log).max(1) * BLOCK
}
