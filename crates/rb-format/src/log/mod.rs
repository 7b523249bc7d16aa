//! The delta log: what happened since the checkpoint base.
//!
//! A ring of format blocks. Block `sequence` lives at block `sequence % blocks` of the ring;
//! sequence numbers start at 1 and never restart within an epoch. A block is written once, when
//! it is full or a commit wants it durable, and never extended in place: a torn write can only
//! hit a block that nobody was told about.
//!
//! Each block names its predecessor's checksum, which makes the log a chain that a stale block
//! of an earlier round cannot slip into, and the highest sequence known durable when it was
//! sealed. The latter tells damage from an end: where a block is missing that a later one calls
//! durable, the device lost it.

mod block;
mod bytes;
mod encoder;
mod record;

#[cfg(test)]
mod tests;

pub use block::{LogBlock, Records};
pub use encoder::{LogEncoder, SealedBlocks};
pub use record::{RECORD_LEN_MAX, Record};

pub use bytes::LOG_BLOCK_PAYLOAD;
pub(crate) use bytes::LogBlockBytes;
pub(crate) use record::PUT_HEAD_LEN;
pub(crate) use record::{BadSlotBytes, CloseBytes, PutBytes, RemoveBytes, record_structure};

use crate::{BLOCK, Region};

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
pub fn log_blocks(log: &Region) -> u64 {
    log.bytes / BLOCK
}

/// The device byte of block `sequence`.
///
/// A region shorter than one block, which no superblock has, counts as one block.
pub fn log_block_offset(log: &Region, sequence: u64) -> u64 {
    log.offset + sequence % log_blocks(log).max(1) * BLOCK
}
