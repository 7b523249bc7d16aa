//! The header of a section, and how much a section holds.

use std::mem::size_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::columns::PLANES;
use crate::more_slots::MORE_SLOTS_LEN_MAX;
use crate::{KEY_LEN_MAX, METADATA_LEN_MAX};

/// How error messages call this structure.
pub(crate) const WHAT: &str = "base section";

/// Entries that a section holds at most.
pub const SECTION_ENTRIES_MAX: usize = 16384;
/// Bytes that the entries of a section have at most before compression.
pub const SECTION_RAW_MAX: usize = 4 << 20;
/// Bytes before compression from which on a writer may finish a section although more entries of
/// its range follow, to bound its memory. What the region of a base is sized for reckons with it:
/// of each range at most one section is smaller.
pub const SECTION_RAW_MIN: usize = 256 << 10;

/// Bytes that one entry has at most before compression.
const ENTRY_LEN_MAX: usize = PLANES + KEY_LEN_MAX + METADATA_LEN_MAX + MORE_SLOTS_LEN_MAX;

/// The bytes of a section header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SectionBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) section: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: U64,
    pub(crate) base_sequence: U64,
    pub(crate) raw_len: U64,
    pub(crate) entries: U32,
    pub(crate) codec: U32,
}

const _: () = {
    assert!(size_of::<SectionBytes>() == 64);
    // Even entries of the greatest length fill a section with many.
    assert!(ENTRY_LEN_MAX * 1024 < SECTION_RAW_MAX);
    // A section that takes no more entries is not smaller than one may be.
    assert!((PLANES + 1) * SECTION_ENTRIES_MAX >= SECTION_RAW_MIN);
    assert!(SECTION_RAW_MAX - ENTRY_LEN_MAX >= SECTION_RAW_MIN);
};
