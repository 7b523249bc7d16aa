//! Errors of arenas.

use std::time::Duration;

use super::page::PAGE_BYTES;

/// The error returned when an arena cannot be created, or a buffer cannot be taken from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// A size of 0 was requested.
    #[error("an arena or a buffer of 0 bytes was asked for")]
    Empty,
    /// The kernel returned no memory.
    #[error("mapping {bytes} bytes of memory failed")]
    Map {
        /// Requested bytes, rounded up to whole pages.
        bytes: usize,
        /// The error from the kernel.
        #[source]
        source: std::io::Error,
    },
    /// Adopted memory, or a range requested by offset, is not page-aligned.
    #[error("{what} is {value:#x}, which is not a multiple of {PAGE_BYTES}")]
    Misaligned {
        /// The name of the misaligned value.
        what: &'static str,
        /// The value.
        value: usize,
    },
    /// More than the whole arena was requested; waiting would not help.
    #[error("{wanted} bytes were asked of an arena of {arena} bytes")]
    TooLarge {
        /// Requested bytes, each buffer rounded up to whole pages.
        wanted: usize,
        /// Size of the arena in bytes.
        arena: usize,
    },
    /// Not enough buffers came back in time.
    #[error(
        "{wanted} bytes were not free within {waited:?}; {available} of {arena} bytes are free"
    )]
    TimedOut {
        /// Requested bytes, each buffer rounded up to whole pages.
        wanted: usize,
        /// Bytes free when the wait ended; they may lie in pieces that are too small.
        available: usize,
        /// Size of the arena in bytes.
        arena: usize,
        /// Time that the call waited.
        waited: Duration,
    },
    /// A range requested by offset lies outside the arena.
    #[error("the range of {len} bytes at {offset} lies outside an arena of {arena} bytes")]
    OutOfRange {
        /// First byte of the range.
        offset: usize,
        /// Length of the range in bytes.
        len: usize,
        /// Size of the arena in bytes.
        arena: usize,
    },
    /// A range requested by offset overlaps a buffer in use.
    #[error(
        "the range of {len} bytes at {offset} overlaps a buffer of {other_len} bytes at {other_offset} that is in use"
    )]
    Overlap {
        /// First byte of the range.
        offset: usize,
        /// Length of the range in bytes.
        len: usize,
        /// First byte of the buffer in use.
        other_offset: usize,
        /// Length of the buffer in use, in bytes.
        other_len: usize,
    },
}
