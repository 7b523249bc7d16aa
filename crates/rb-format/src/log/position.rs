//! Places in the log and where they lie in its ring.

use crate::BLOCK;
use crate::superblock::region::Region;

/// A place in the log: the next block to be written or read, and what must come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Sequence of the block, at least 1.
    pub sequence: u64,
    /// Checksum of block `sequence - 1`; 0 for the first block of an epoch.
    pub anchor: u64,
}

impl LogPosition {
    /// Where the log of an epoch starts.
    pub const FIRST: LogPosition = LogPosition {
        sequence: 1,
        anchor: 0,
    };
}

/// Number of blocks of the ring.
#[must_use]
pub fn log_blocks(log: &Region) -> u64 {
    log.bytes / BLOCK
}

/// The device byte of block `sequence`.
///
/// A region shorter than one block, which no superblock has, counts as one block.
#[must_use]
pub fn log_block_offset(log: &Region, sequence: u64) -> u64 {
    log.offset + sequence % log_blocks(log).max(1) * BLOCK
}
