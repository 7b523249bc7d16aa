//! The superblock: what the store is and where its parts lie.
//!
//! Two copies, A at byte 0 and B at 1 MiB. Written only by format and start-empty, in the order
//! B, flush, A, flush, so at every moment one of the two is whole; the higher sequence wins. A
//! copy that differs is repaired before any other write.

mod bytes;
mod validate;

#[cfg(test)]
mod tests;

pub(crate) use bytes::{RunBytes, SuperblockBytes};
pub(crate) use validate::LOG_BLOCKS_MIN;

use crate::{Corruption, FORMAT_BLOCK, Identity, StoreUuid};

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

/// A range of device bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first device byte.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
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
    /// The delta log ring.
    pub log: Region,
    /// The slots: 1 to [`RUNS_MAX`](crate::RUNS_MAX) runs, in the order of slot numbers.
    pub runs: Vec<Run>,
}

impl Superblock {
    /// The block as both copies are written.
    ///
    /// # Panics
    /// If there are more than [`RUNS_MAX`](crate::RUNS_MAX) runs, which neither
    /// [`plan`](crate::plan) nor [`Superblock::decode`] ever gives.
    pub fn encode(&self) -> Box<[u8; FORMAT_BLOCK]> {
        bytes::encode(self)
    }

    /// Reads the first format block of `bytes` and checks that everything in it fits together:
    /// whole blocks, all areas inside `device_bytes` and disjoint, classes numbered densely from
    /// 0 in increasing capacity, slot numbers within 32 bits.
    ///
    /// # Errors
    /// Any [`Corruption`].
    pub fn decode(bytes: &[u8]) -> Result<Superblock, Corruption> {
        let superblock = bytes::decode(bytes)?;
        validate::validate(&superblock)?;
        Ok(superblock)
    }
}
