//! Cuts a request into parts that respect every limit. Pure arithmetic: no I/O, no allocation.

use crate::limits::{Limits, SEGMENT_BYTES};

/// One piece of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// First byte on the device.
    pub offset: u64,
    /// Length in bytes, never 0.
    pub len: u64,
    /// Offset in memory, relative to the same start as the `buf_offset` passed to [`split`].
    pub buf_offset: usize,
}

/// The spans of one request, in order; see [`split`].
#[derive(Clone, Debug)]
pub struct Spans {
    next: Span,
    rules: Rules,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    block: u64,
    len_max: u64,
    boundary: u64,
    segments_max: u64,
}

/// Cuts `len` bytes at device `offset`, whose memory begins at `buf_offset`, so that each span
/// * is at most `limits.transfer_max` long and has at most `limits.segments_max` pages,
/// * does not cross `limits.boundary` on the device,
/// * begins and ends on a block, if `offset` and `len` do.
///
/// The spans cover the range exactly, in order and without overlap. A `len` of 0 yields none.
/// `buf_offset` is relative to the start of a page.
#[must_use]
pub fn split(offset: u64, len: u64, limits: &Limits, buf_offset: usize) -> Spans {
    Spans {
        next: Span {
            offset,
            len,
            buf_offset,
        },
        rules: Rules::transfer(limits),
    }
}

/// Cuts a discard, which has no memory.
pub(crate) fn split_discard(offset: u64, len: u64, limits: &Limits) -> Spans {
    let block = u64::from(limits.block.value);
    let max = limits
        .discard
        .map_or(block, |discard| discard.bytes_max.value);
    // The length of a part is a u32.
    let len_max = (max.min(1 << 31) / block).max(1) * block;
    let rules = Rules {
        block,
        len_max,
        boundary: u64::MAX,
        segments_max: u64::MAX,
    };
    Spans {
        next: Span {
            offset,
            len,
            buf_offset: 0,
        },
        rules,
    }
}

impl Rules {
    fn transfer(limits: &Limits) -> Self {
        let block = u64::from(limits.block.value);
        Self {
            block,
            // The length of a part is a u32, and read(2) moves at most 0x7fff_f000 bytes.
            len_max: limits.transfer_max.value.min(1 << 30).max(block),
            boundary: limits.boundary.map_or(u64::MAX, |limit| limit.value),
            segments_max: limits
                .segments_max
                .map_or(u64::MAX, |limit| limit.value.into()),
        }
    }

    /// Returns the bytes that `segments_max` pages allow from here: a start inside a page wastes
    /// the part of the page before it.
    fn segment_room(&self, buf_offset: u64) -> u64 {
        self.segments_max.saturating_mul(SEGMENT_BYTES) - (buf_offset % SEGMENT_BYTES)
    }

    fn len_at(&self, span: &Span) -> u64 {
        let memory = span.buf_offset as u64;
        let room = self
            .len_max
            .min(self.boundary - span.offset % self.boundary)
            .min(self.segment_room(memory));
        // Whole blocks, and at least one so that the iteration always advances.
        (room / self.block)
            .max(1)
            .saturating_mul(self.block)
            .min(span.len)
    }
}

impl Spans {
    /// Returns whether there are no more spans.
    pub(crate) fn is_empty(&self) -> bool {
        self.next.len == 0
    }
}

impl Iterator for Spans {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        if self.next.len == 0 {
            return None;
        }
        let len = self.rules.len_at(&self.next);
        let span = Span { len, ..self.next };
        self.next.offset += len;
        self.next.len -= len;
        self.next.buf_offset += len as usize;
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::Limit;

    fn limits(transfer: u64, segments: Option<u32>, boundary: Option<u64>) -> Limits {
        Limits {
            segments_max: segments.map(|value| Limit::new(value, "test")),
            boundary: boundary.map(|value| Limit::new(value, "test")),
            ..Limits::simple(512, transfer, "test")
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The spans cover the range in order, and each respects every limit.
        #[test]
        fn spans_cover_and_keep_the_limits(
            first in 0..1_u64 << 32,
            blocks in 0..5000_u64,
            memory in 0..1_usize << 20,
            transfer in 1..2000_u64,
            segments in prop::option::of(2..300_u32),
            boundary in prop::option::of(1..500_u64),
        ) {
            let limits = limits(transfer * 512, segments, boundary.map(|blocks| blocks * 512));
            prop_assert_eq!(limits.validate(), Ok(()));
            let (offset, len, memory) = (first * 512, blocks * 512, memory * 512);
            let (mut at, mut buf) = (offset, memory);
            for span in split(offset, len, &limits, memory) {
                prop_assert_eq!((span.offset, span.buf_offset), (at, buf));
                prop_assert!(span.len > 0 && span.len % 512 == 0);
                prop_assert!(span.len <= transfer * 512);
                let end = (buf + span.len as usize - 1) as u64;
                if let Some(segments) = segments {
                    let pages = end / 4096 - buf as u64 / 4096 + 1;
                    prop_assert!(pages <= segments.into(), "{} pages in {:?}", pages, span);
                }
                if let Some(boundary) = boundary {
                    let boundary = boundary * 512;
                    prop_assert_eq!(at / boundary, (at + span.len - 1) / boundary);
                }
                at += span.len;
                buf += span.len as usize;
            }
            prop_assert_eq!(at, offset + len);
        }

        /// No cut is made unless a limit requires it.
        #[test]
        fn no_more_spans_than_needed(blocks in 1..5000_u64, transfer in 1..2000_u64) {
            let limits = limits(transfer * 512, None, None);
            let count = split(0, blocks * 512, &limits, 0).count() as u64;
            prop_assert_eq!(count, blocks.div_ceil(transfer));
        }
    }

    #[test]
    fn the_end_of_the_address_space_is_no_trap() {
        let limits = limits(1 << 20, Some(17), Some(1 << 19));
        let offset = u64::MAX - 511;
        let spans: Vec<_> = split(offset, 0, &limits, 0).collect();
        assert_eq!(spans, []);
        let last = split(u64::MAX - 1023, 512, &limits, usize::MAX - 1023).count();
        assert_eq!(last, 1);
    }
}
