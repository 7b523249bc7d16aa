//! The fields of a superblock and what follows from them alone.

use std::ops::Range;

use super::region::Region;
use crate::log::position::{log_block_offset, log_blocks};
use crate::{
    BLOCK, Features, INCARNATION_B_OFFSET, Identity, METADATA_START, SUPERBLOCK_B_OFFSET,
    StoreUuid, UNUSED_END,
};

/// Bytes of a store's label.
pub const LABEL_LEN: usize = 256;

/// Slots of one class in a row: `count` slots of `stride` bytes from device byte `first_byte`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The class of all its slots.
    pub class: u8,
    /// Device byte of its first slot.
    pub first_byte: u64,
    /// Bytes from slot to slot: payload capacity plus one format block.
    pub stride: u64,
    /// Number of slots.
    pub count: u64,
}

/// What the store is and where its parts lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Counts the writings of the superblock; the higher of two copies is the newer.
    pub sequence: u64,
    /// The store and epoch.
    pub identity: Identity,
    /// The set of devices that the store is spread over; the store's own UUID if it is alone.
    pub set_uuid: StoreUuid,
    /// Number of this device in its set, from 0.
    pub member_index: u32,
    /// Devices in the set, at least 1.
    pub member_count: u32,
    /// The longest key in bytes, 1 to [`KEY_LEN_MAX`](crate::KEY_LEN_MAX).
    pub key_len_max: u32,
    /// The longest metadata in bytes, up to [`METADATA_LEN_MAX`](crate::METADATA_LEN_MAX).
    pub metadata_len_max: u32,
    /// Bytes that the layout needs; the device may be larger.
    pub device_bytes: u64,
    /// Checkpoint base A.
    pub base_a: Region,
    /// Checkpoint base B.
    pub base_b: Region,
    /// The region for the state of an eviction policy.
    pub policy: Region,
    /// Ring 1 of the delta log.
    pub log: Region,
    /// Ring 2, of the same length: every block is written to the same place of both.
    pub log_2: Region,
    /// When the store was formatted, in seconds since the Unix epoch: expiries count from it.
    pub formatted_at: u64,
    /// What the store uses that not every program knows.
    pub features: Features,
    /// Whatever the store's owner wants to find again; the format gives it no meaning.
    pub label: [u8; LABEL_LEN],
    /// The slots: 1 to [`RUNS_MAX`](crate::RUNS_MAX) runs, in the order of slot numbers.
    pub runs: Vec<Run>,
}

impl Superblock {
    /// Base regions A and B.
    #[must_use]
    pub fn bases(&self) -> [&Region; 2] {
        [&self.base_a, &self.base_b]
    }

    /// Both rings of the delta log.
    #[must_use]
    pub fn log_rings(&self) -> [&Region; 2] {
        [&self.log, &self.log_2]
    }

    /// Number of blocks of either ring.
    #[must_use]
    pub fn log_blocks(&self) -> u64 {
        log_blocks(&self.log)
    }

    /// The device bytes of log block `sequence`: its place in ring 1 and that in ring 2.
    #[must_use]
    pub fn log_block_offsets(&self, sequence: u64) -> [u64; 2] {
        self.log_rings()
            .map(|ring| log_block_offset(ring, sequence))
    }

    /// The ranges of device bytes that format zeroes and nothing of this store ever writes: from
    /// the incarnations to superblock B, from there to the metadata, and the end of the layout.
    /// What is found there is another program's.
    #[must_use]
    pub fn unused_areas(&self) -> [Range<u64>; 3] {
        [
            INCARNATION_B_OFFSET + BLOCK..SUPERBLOCK_B_OFFSET,
            SUPERBLOCK_B_OFFSET + BLOCK..METADATA_START,
            self.device_bytes.saturating_sub(UNUSED_END)..self.device_bytes,
        ]
    }
}
