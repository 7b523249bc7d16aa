//! The byte layout of a log block.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::block::{Block, CHECKSUM_OFFSET};

/// The name of this structure in error messages.
pub(super) const WHAT: &str = "log block";

/// Bytes for records in one log block.
pub const LOG_BLOCK_PAYLOAD: usize = 4016;

/// The bytes of a log block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct LogBlockBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) incarnation: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: U64,
    pub(crate) sequence: U64,
    pub(crate) predecessor: U64,
    pub(crate) durable: U64,
    pub(crate) record_bytes: U16,
    pub(crate) record_count: U16,
    pub(crate) reserved: [u8; 4],
    /// Consecutive records, then zeros.
    pub(crate) records: [u8; LOG_BLOCK_PAYLOAD],
    pub(crate) checksum: U64,
}

const _: () = {
    assert!(size_of::<LogBlockBytes>() == size_of::<Block>());
    assert!(offset_of!(LogBlockBytes, sequence) == 40);
    assert!(offset_of!(LogBlockBytes, records) == 72);
    assert!(offset_of!(LogBlockBytes, checksum) == CHECKSUM_OFFSET);
};
