//! The on-device format of raw-block: encodes structs to bytes and decodes them.
//!
//! This crate defines the position of every structure on the device and the meaning of every byte:
//! the superblock pair, the incarnation pair, slot headers, the two checkpoint bases and the delta
//! log. It plans layouts and does slot arithmetic. The byte tables are in `docs/format.md`; a test
//! compares them with this code.
//!
//! It is **not** an I/O library and not a store: nothing here opens a file, starts a thread or
//! decides which of two valid records wins. Encoders return bytes, decoders take bytes, and the
//! caller does the I/O. It contains no unsafe code.
//!
//! Rules for every structure:
//!
//! * The unit is the **format block** of 4096 bytes ([`FORMAT_BLOCK`]), independent of the device's
//!   logical block size. All integers are little-endian.
//! * A decoder trusts nothing: checksum, version, store UUID, epoch, every length and every
//!   reserved byte are checked, and every allocation is bounded by a limit checked before it.
//! * Checksums include the identity of a record, so a valid record in the wrong place is rejected.
//!
//! # Example
//!
//! ```
//! use rb_format::{
//!     ClassRequest, Geometry, Identity, LayoutRequest, Share, StoreUuid, Superblock, plan,
//! };
//!
//! let identity = Identity { uuid: StoreUuid([7; 16]), epoch: 1 };
//! let request = LayoutRequest {
//!     device_bytes: 1 << 30,
//!     classes: vec![ClassRequest { slot_bytes: 64 << 10, share: Share::Rest }],
//!     key_len_max: 512,
//!     metadata_len_max: 0,
//!     log_bytes: None,
//! };
//! let superblock = plan(&request, identity)?;
//!
//! // What format writes at offset 0 is what open reads back.
//! let bytes = superblock.encode();
//! assert_eq!(Superblock::decode(&bytes[..])?, superblock);
//!
//! // One damaged byte is noticed.
//! let mut damaged = bytes.clone();
//! damaged[100] ^= 1;
//! assert!(Superblock::decode(&damaged[..]).is_err());
//!
//! // Slot arithmetic needs no I/O.
//! let geometry = Geometry::new(&superblock);
//! let class = geometry.class_for(50_000).expect("50,000 bytes fit a slot of 64 KiB");
//! assert_eq!(geometry.class_capacity(class), 64 << 10);
//! assert_eq!(geometry.payload_offset(0), geometry.slot_offset(0).map(|header| header + 4096));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "raw-block needs a target with 64-bit addresses: offsets on a device are cast to usize"
);

mod base;
mod block;
mod continuation;
mod corruption;
mod describe;
mod features;
mod generation;
mod geometry;
mod identity;
mod incarnation;
mod layout;
mod live;
mod log;
pub mod magic;
mod more_slots;
mod payload;
mod policy_state;
mod slot_header;
mod superblock;
mod torn;

#[cfg(test)]
mod tests;

pub use base::{
    BAD_BLOCKS_MAX, BAD_SLOTS_MAX, BaseEntry, BaseHeader, Compression, DirectoryEntry,
    EncodedDirectory, KeyLimits, LifetimeCounters, SECTION_ENTRIES_MAX, SECTION_RANGES,
    SECTION_RAW_MAX, SECTION_RAW_MIN, SectionBuilder, SectionScratch, base_header_offsets,
    base_region_bytes, decode_directory, decode_section, decode_section_with, encode_directory,
    section_hashes, section_range,
};
pub use continuation::{AnyHeader, Continuation};
pub use corruption::Corruption;
pub use describe::{FieldText, Structure, describe};
pub use features::{Features, UnknownFeatures};
pub use generation::Generation;
pub use geometry::{Geometry, padded_len};
pub use identity::{Identity, StoreUuid, key_hash};
pub use incarnation::Incarnation;
pub use layout::{
    ClassRequest, LayoutError, LayoutRequest, Share, device_bytes_for, plan, policy_region_bytes,
};
pub use live::{LiveSlots, LiveValue};
pub use log::{
    LOG_BLOCK_PAYLOAD, LogBlock, LogEncoder, LogPosition, RECORD_LEN_MAX, Record, Records,
    SealedBlocks, log_block_offset, log_blocks,
};
pub use more_slots::{MoreSlots, VALUE_SLOTS_MAX};
pub use payload::{PayloadChecksum, PieceChecksum, payload_checksum};
pub use policy_state::PolicyState;
pub use slot_header::{SlotHeader, SlotHeaderRef};
pub use superblock::{LABEL_LEN, Region, Run, Superblock};

/// The format version that this crate writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of a format block, the unit of everything on the device.
pub const FORMAT_BLOCK: usize = 4096;
/// The longest key in bytes that a store can be formatted for.
pub const KEY_LEN_MAX: usize = 1024;
/// The longest metadata in bytes that a store can be formatted for.
pub const METADATA_LEN_MAX: usize = 256;
/// Largest number of slot runs in a superblock.
pub const RUNS_MAX: usize = 64;
/// Largest number of slot classes of a store; each has at least one run.
pub const CLASSES_MAX: usize = 64;
/// The highest sequence of a superblock, base or log block, and the highest epoch, that a decoder
/// accepts. No store counts that far, and the successor of an accepted number is always
/// representable.
pub const SEQUENCE_MAX: u64 = i64::MAX as u64;
/// Device offset of superblock A.
pub const SUPERBLOCK_A_OFFSET: u64 = 0;
/// Device offset of superblock B: far from A, so that one stray partitioning tool does not destroy
/// both, and fixed, so that it is found without knowing the geometry.
pub const SUPERBLOCK_B_OFFSET: u64 = 1 << 20;
/// Device offset of the incarnation block for even numbers.
pub const INCARNATION_A_OFFSET: u64 = 4096;
/// Device offset of the incarnation block for odd numbers.
pub const INCARNATION_B_OFFSET: u64 = 8192;
/// Device offset of base A.
pub const METADATA_START: u64 = 2 << 20;
/// Bytes at the end of the layout that are zero and never written, so that data left there by other
/// programs is detected.
pub const UNUSED_END: u64 = 1 << 20;
/// The largest slot capacity in bytes that the format allows.
pub const SLOT_BYTES_MAX: u64 = 1 << 30;
/// The largest value in bytes that the format allows, in any number of slots: a payload length, and
/// its padded length, fit 32 bits.
pub const VALUE_LEN_MAX: u64 = u32::MAX as u64 + 1 - BLOCK;

/// The format block as a 64-bit number, for device arithmetic.
pub(crate) const BLOCK: u64 = FORMAT_BLOCK as u64;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
