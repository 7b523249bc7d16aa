//! The checkpoint base: a copy of the index in compressed sections.
//!
//! ```text
//! region: | header | section 0 | section 1 | … | directory | … | header |   (each on whole format blocks)
//! ```
//!
//! Write order: sections and directory, flush, both headers, flush. Until a header is durable the
//! region holds no base; it is never the region that the store was loaded from. The header is in
//! the first and in the last block of the region, so a drive that loses a page of many blocks, or a
//! stray write to some blocks, destroys only one of them.
//!
//! A base is fuzzy: sections are taken one after another while operations run, so a slot may be
//! claimed twice. Each section names the log position read under its shard's lock; replaying the
//! log from the header's position resolves every conflict: the highest generation wins.

mod codec;
pub(crate) mod columns;
mod directory;
mod header;
mod ranges;
mod section;
mod size;

#[cfg(test)]
mod tests;

pub use codec::{Compression, SectionScratch};
pub(crate) use directory::EntryBytes;
pub use directory::{DirectoryEntry, EncodedDirectory, decode_directory, encode_directory};
pub(crate) use header::BaseHeaderBytes;
pub use header::{
    BAD_BLOCKS_MAX, BAD_SLOTS_MAX, BaseHeader, LifetimeCounters, base_header_offsets,
};
pub use ranges::{SECTION_RANGES, section_hashes, section_range};
pub(crate) use section::SectionBytes;
pub use section::{
    BaseEntry, KeyLimits, SECTION_ENTRIES_MAX, SECTION_RAW_MAX, SECTION_RAW_MIN, SectionBuilder,
    decode_section, decode_section_with,
};
pub use size::base_region_bytes;
