//! The header of a section, and the capacity of a section.

use std::mem::size_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::columns::PLANES;
use crate::more_slots::MORE_SLOTS_LEN_MAX;
use crate::{KEY_LEN_MAX, METADATA_LEN_MAX};

/// The name of this structure in error messages.
pub(crate) const WHAT: &str = "base section";

/// Largest number of entries in a section.
pub const SECTION_ENTRIES_MAX: usize = 16384;
/// Largest size of a section's entries in bytes, before compression.
pub const SECTION_RAW_MAX: usize = 4 << 20;
/// Size in bytes before compression above which a writer may finish a section although more entries
/// of its range follow, to bound its memory. The size of a base region depends on it: at most one
/// section of each range is smaller.
pub const SECTION_RAW_MIN: usize = 256 << 10;

/// Largest size of one entry in bytes, before compression.
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
    // A section has room for many entries even of the greatest length.
    assert!(ENTRY_LEN_MAX * 1024 < SECTION_RAW_MAX);
    // A full section is never smaller than the minimum.
    assert!((PLANES + 1) * SECTION_ENTRIES_MAX >= SECTION_RAW_MIN);
    assert!(SECTION_RAW_MAX - ENTRY_LEN_MAX >= SECTION_RAW_MIN);
};
