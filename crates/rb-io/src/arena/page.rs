//! The granularity of arenas.

/// The granularity of arenas in bytes: sizes and ranges are multiples of it.
pub const PAGE_BYTES: usize = 4096;

pub(super) fn round_up(len: usize) -> Option<usize> {
    len.checked_next_multiple_of(PAGE_BYTES)
}
