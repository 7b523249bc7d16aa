//! What an arena may answer.

use std::time::Duration;

use super::page::PAGE_BYTES;

/// Why an arena could not be made, or could not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// A size of 0.
    #[error("an arena or a buffer of 0 bytes was asked for")]
    Empty,
    /// The system gave no memory.
    #[error("mapping {bytes} bytes of memory failed")]
    Map {
        /// Bytes asked for, rounded up to pages.
        bytes: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Adopted memory, or a named range, does not lie on pages.
    #[error("{what} is {value:#x}, which is not a multiple of {PAGE_BYTES}")]
    Misaligned {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: usize,
    },
    /// More than the whole arena holds; waiting would not help.
    #[error("{wanted} bytes were asked of an arena of {arena} bytes")]
    TooLarge {
        /// Bytes asked for, each buffer rounded up to pages.
        wanted: usize,
        /// Bytes of the arena.
        arena: usize,
    },
    /// Nothing came back in time.
    #[error(
        "{wanted} bytes were not free within {waited:?}; {available} of {arena} bytes are free"
    )]
    TimedOut {
        /// Bytes asked for, each buffer rounded up to pages.
        wanted: usize,
        /// Bytes free at the end (perhaps in pieces that are too small).
        available: usize,
        /// Bytes of the arena.
        arena: usize,
        /// How long the call waited.
        waited: Duration,
    },
    /// A named range lies outside the arena.
    #[error("the range of {len} bytes at {offset} lies outside an arena of {arena} bytes")]
    OutOfRange {
        /// First byte of the range.
        offset: usize,
        /// Bytes of the range.
        len: usize,
        /// Bytes of the arena.
        arena: usize,
    },
    /// A named range overlaps one that is out.
    #[error(
        "the range of {len} bytes at {offset} overlaps a buffer of {other_len} bytes at {other_offset} that is in use"
    )]
    Overlap {
        /// First byte of the range.
        offset: usize,
        /// Bytes of the range.
        len: usize,
        /// First byte of the buffer in use.
        other_offset: usize,
        /// Bytes of the buffer in use.
        other_len: usize,
    },
}
