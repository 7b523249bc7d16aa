//! Sections of a checkpoint base: the entries of one hash range.
//!
//! ```text
//! stored: | section header 64 | body: plain or compressed columns | zeros to a whole block |
//! ```
//!
//! The header names store, epoch, base and section, and the checksum in the directory covers it, so
//! a section of another base, or another section of this one, is rejected.

mod builder;
pub(super) mod bytes;
mod decode;
mod entry;

pub use builder::SectionBuilder;
pub(crate) use bytes::SectionBytes;
pub use bytes::{SECTION_ENTRIES_MAX, SECTION_RAW_MAX, SECTION_RAW_MIN};
pub use decode::{decode_section, decode_section_with};
pub use entry::{BaseEntry, KeyLimits};
