//! An entry of a section, and the length limits of its parts.

use crate::{Generation, MoreSlots};
#[cfg(doc)]
use crate::{KEY_LEN_MAX, METADATA_LEN_MAX};

/// An index entry in a checkpoint base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseEntry<'a> {
    /// The key, 1 to [`KEY_LEN_MAX`] bytes.
    pub key: &'a [u8],
    /// Opaque bytes, at most [`METADATA_LEN_MAX`].
    pub metadata: &'a [u8],
    /// [`key_hash`](crate::key_hash) of the key. Not stored: the decoder computes it to check the
    /// section's hash range.
    pub key_hash: u64,
    /// The slot, or the first of several.
    pub slot: u32,
    /// The further slots, none for most values.
    pub more: MoreSlots<'a>,
    /// The generation of the put.
    pub generation: Generation,
    /// Payload length in bytes, at least 1.
    pub payload_len: u32,
    /// [`payload_checksum`](crate::payload_checksum); below 2^32 in version 1.
    pub payload_checksum: u64,
    /// Placement id of the write, 0 for none.
    pub placement: u16,
    /// For the eviction policy; 0 until one uses it.
    pub policy: u16,
    /// Expiry time in seconds since format, 0 for never.
    pub expiry: u32,
    /// Time of the last use, on the scale of [`BaseHeader::recency_now`](crate::BaseHeader).
    pub recency: u32,
}

/// The longest key and metadata that a store accepts, from its superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// The longest key in bytes.
    pub key_len_max: u32,
    /// The longest metadata in bytes.
    pub metadata_len_max: u32,
}
