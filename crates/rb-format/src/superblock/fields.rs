//! The fields of a superblock, and values derived from them alone.

use std::ops::Range;

use super::region::Region;
use crate::log::position::{log_block_offset, log_blocks};
use crate::{
    BLOCK, Features, INCARNATION_B_OFFSET, Identity, METADATA_START, SUPERBLOCK_B_OFFSET,
    StoreUuid, UNUSED_END,
};

/// Bytes of a store's label.
pub const LABEL_LEN: usize = 256;

/// Consecutive slots of one class: `count` slots of `stride` bytes from device offset `first_byte`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The class of all its slots.
    pub class: u8,
    /// Device offset of its first slot.
    pub first_byte: u64,
    /// Bytes from slot to slot: payload capacity plus one format block.
    pub stride: u64,
    /// Number of slots.
    pub count: u64,
}

/// The superblock: identity of the store, and the positions of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Counts the writes of the superblock; the higher of two copies is newer.
    pub sequence: u64,
    /// The store and epoch.
    pub identity: Identity,
    /// The set of devices that the store is spread over; the store's own UUID for a single device.
    pub set_uuid: StoreUuid,
    /// Number of this device in its set, from 0.
    pub member_index: u32,
    /// Number of devices in the set, at least 1.
    pub member_count: u32,
    /// The longest key in bytes, 1 to [`KEY_LEN_MAX`](crate::KEY_LEN_MAX).
    pub key_len_max: u32,
    /// The longest metadata in bytes, up to [`METADATA_LEN_MAX`](crate::METADATA_LEN_MAX).
    pub metadata_len_max: u32,
    /// Size of the layout in bytes; the device may be larger.
    pub device_bytes: u64,
    /// Checkpoint base A.
    pub base_a: Region,
    /// Checkpoint base B.
    pub base_b: Region,
    /// The region for the state of an eviction policy.
    pub policy: Region,
    /// Ring 1 of the delta log.
    pub log: Region,
    /// Ring 2, of the same length: every block is written to the same position of both.
    pub log_2: Region,
    /// Time of format, in seconds since the Unix epoch; expiry times are relative to it.
    pub formatted_at: u64,
    /// Features that not every program knows.
    pub features: Features,
    /// Opaque bytes for the owner of the store; the format does not interpret them.
    pub label: [u8; LABEL_LEN],
    /// The slots: 1 to [`RUNS_MAX`](crate::RUNS_MAX) runs, in the order of slot numbers.
    pub runs: Vec<Run>,
}

impl Superblock {
    /// Returns the label without the zeros behind it; empty for no label.
    #[must_use]
    pub fn label(&self) -> &[u8] {
        let end = self.label.iter().rposition(|byte| *byte != 0);
        &self.label[..end.map_or(0, |last| last + 1)]
    }

    /// Sets the label; the rest of its room is zero. Returns false, and changes nothing, if `label` is longer than
    /// [`LABEL_LEN`] or ends with a zero, which would not be read back.
    #[must_use]
    pub fn set_label(&mut self, label: &[u8]) -> bool {
        if label.len() > LABEL_LEN || label.last() == Some(&0) {
            return false;
        }
        self.label = [0; LABEL_LEN];
        self.label[..label.len()].copy_from_slice(label);
        true
    }

    /// Returns base regions A and B.
    #[must_use]
    pub fn bases(&self) -> [&Region; 2] {
        [&self.base_a, &self.base_b]
    }

    /// Returns both rings of the delta log.
    #[must_use]
    pub fn log_rings(&self) -> [&Region; 2] {
        [&self.log, &self.log_2]
    }

    /// Returns the number of blocks of either ring.
    #[must_use]
    pub fn log_blocks(&self) -> u64 {
        log_blocks(&self.log)
    }

    /// Returns the device offsets of log block `sequence`: in ring 1 and in ring 2.
    #[must_use]
    pub fn log_block_offsets(&self, sequence: u64) -> [u64; 2] {
        self.log_rings()
            .map(|ring| log_block_offset(ring, sequence))
    }

    /// Returns the ranges of device bytes that format zeroes and that this store never writes: from
    /// the incarnation blocks to superblock B, from there to the metadata, and the end of the
    /// layout. Any other contents belong to another program.
    #[must_use]
    pub fn unused_areas(&self) -> [Range<u64>; 3] {
        [
            INCARNATION_B_OFFSET + BLOCK..SUPERBLOCK_B_OFFSET,
            SUPERBLOCK_B_OFFSET + BLOCK..METADATA_START,
            self.device_bytes.saturating_sub(UNUSED_END)..self.device_bytes,
        ]
    }
}
