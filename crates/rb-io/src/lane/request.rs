//! Requests of any size, and the state that a lane keeps for each.

use std::ops::Range;

use crate::arena::PAGE_BYTES;
use crate::buffer::{Buffer, IoBuf, Loan};
use crate::error::IoError;
use crate::lane::part::{PartState, given_up};
use crate::lane::stats::Counted;
use crate::limits::Limits;
use crate::request::{Memory, OpKind, Part, PlacementId};
use crate::split::{Span, Spans, split, split_discard};

/// An operation of any size; the [`Lane`](crate::Lane) cuts it into parts.
#[derive(Debug)]
pub struct Request {
    /// The operation.
    pub op: OpKind,
    /// First byte on the device, a multiple of the logical block.
    pub offset: u64,
    /// Length in bytes, a multiple of the logical block; 0 moves nothing and succeeds.
    pub len: u64,
    /// The memory of a read or write; comes back in the [`Completion`].
    pub buf: Option<Buffer>,
    /// Offset in `buf` at which to begin, in bytes; a multiple of the memory alignment.
    pub buf_offset: usize,
    /// Placement of a write on the device; a hint.
    pub placement: Option<PlacementId>,
    /// Further ranges of the device and of `buf`, which belong to the same read or write: it
    /// completes once all of them have, and fails if one of them does. Empty for most requests.
    pub more: Vec<Segment>,
    /// Memory of the caller, for the ranges of `more` that are [`Memory::Loan`]; comes back in the
    /// [`Completion`]. A read needs an exclusive loan.
    pub loan: Option<Loan>,
    /// The bytes of its memory, of the loan if it has one and else of the buffer, that a read
    /// checksums: each part when it arrives, while the device works on the others. See
    /// [`Completion::sums`].
    pub checksummed: Option<Range<usize>>,
}

/// A further range of a [`Request`], with the rules of its first one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// First byte on the device, a multiple of the logical block.
    pub offset: u64,
    /// Length in bytes, a multiple of the logical block.
    pub len: u64,
    /// Offset in its memory, in bytes. Its address must be a multiple of the memory alignment.
    pub buf_offset: usize,
    /// Where it is read to or written from.
    pub memory: Memory,
}

impl Request {
    /// Reads `len` bytes at `offset` of the device into `buf` at `buf_offset`.
    #[must_use]
    pub fn read(offset: u64, buf: Buffer, buf_offset: usize, len: usize) -> Self {
        Self::transfer(OpKind::Read, offset, buf, buf_offset, len)
    }

    /// Writes `len` bytes of `buf` at `buf_offset` to `offset` of the device.
    #[must_use]
    pub fn write(offset: u64, buf: Buffer, buf_offset: usize, len: usize) -> Self {
        Self::transfer(OpKind::Write, offset, buf, buf_offset, len)
    }

    /// Makes every completed write durable. It is not ordered with requests that are in flight
    /// concurrently.
    #[must_use]
    pub fn flush() -> Self {
        Self {
            op: OpKind::Flush,
            offset: 0,
            len: 0,
            buf: None,
            buf_offset: 0,
            placement: None,
            more: Vec::new(),
            loan: None,
            checksummed: None,
        }
    }

    /// Notifies the device that `len` bytes at `offset` are no longer needed.
    #[must_use]
    pub fn discard(offset: u64, len: u64) -> Self {
        Self {
            op: OpKind::Discard,
            offset,
            len,
            buf: None,
            buf_offset: 0,
            placement: None,
            more: Vec::new(),
            loan: None,
            checksummed: None,
        }
    }

    fn transfer(op: OpKind, offset: u64, buf: Buffer, buf_offset: usize, len: usize) -> Self {
        Self {
            op,
            offset,
            len: len as u64,
            buf: Some(buf),
            buf_offset,
            placement: None,
            more: Vec::new(),
            loan: None,
            checksummed: None,
        }
    }

    /// Returns the bytes that all of its ranges transfer.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments().map(|segment| segment.len).sum()
    }

    /// Returns all ranges, the first one included.
    fn segments(&self) -> impl Iterator<Item = Segment> {
        let first = Segment {
            offset: self.offset,
            len: self.len,
            buf_offset: self.buf_offset,
            memory: Memory::Buffer,
        };
        std::iter::once(first).chain(self.more.iter().copied())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes() == 0 && self.op != OpKind::Flush
    }

    /// Performs all checks that are possible before anything is sent.
    pub(super) fn check(&self, limits: &Limits, capacity: u64) -> Result<(), IoError> {
        if self.op == OpKind::Flush {
            return Ok(());
        }
        self.segments()
            .try_for_each(|segment| self.check_segment(segment, limits, capacity))
    }

    fn check_segment(
        &self,
        segment: Segment,
        limits: &Limits,
        capacity: u64,
    ) -> Result<(), IoError> {
        let op = self.op;
        let Segment { offset, len, .. } = segment;
        if op == OpKind::Discard && limits.discard.is_none() {
            return Err(IoError::Unsupported { op });
        }
        for (what, value) in [("offset", offset), ("length", len)] {
            let align = limits.block.value;
            if !value.is_multiple_of(align.into()) {
                let source_of_align = limits.block.source;
                return Err(IoError::Misaligned {
                    op,
                    what,
                    value,
                    align,
                    source_of_align,
                });
            }
        }
        if offset.checked_add(len).is_none_or(|end| end > capacity) {
            return Err(IoError::OutOfRange {
                op,
                offset,
                len,
                capacity,
            });
        }
        if op == OpKind::Discard {
            Ok(())
        } else {
            self.check_memory(segment, limits)
        }
    }

    fn check_memory(&self, segment: Segment, limits: &Limits) -> Result<(), IoError> {
        let op = self.op;
        let Segment {
            len,
            buf_offset,
            memory,
            ..
        } = segment;
        if len == 0 {
            return Ok(());
        }
        // Buffers begin on a page; loans need not.
        let (buf_len, address) = match (memory, &self.buf, &self.loan) {
            (Memory::Buffer, Some(buf), _) => (buf.len(), buf_offset),
            (Memory::Loan, _, Some(loan)) if op == OpKind::Write || loan.is_exclusive() => {
                (loan.len(), loan.arena_offset().saturating_add(buf_offset))
            }
            _ => (0, buf_offset),
        };
        let end = (buf_offset as u64).checked_add(len);
        if end.is_none_or(|end| end > buf_len as u64) {
            return Err(IoError::BufferTooSmall {
                op,
                len,
                buf_offset,
                buf_len,
            });
        }
        let align = limits.memory_align.value;
        if !(address as u64).is_multiple_of(align.into()) {
            let (what, value) = ("buffer offset", address as u64);
            let source_of_align = limits.memory_align.source;
            return Err(IoError::Misaligned {
                op,
                what,
                value,
                align,
                source_of_align,
            });
        }
        match (self.placement, limits.placements) {
            (Some(id), Some(max)) if id.0.get() > max.value => Err(IoError::Placement {
                id: id.0.get(),
                max: max.value,
            }),
            _ => Ok(()),
        }
    }
}

/// The completion of a [`Request`].
#[derive(Debug)]
pub struct Completion {
    /// The tag of the request; in [`Lane::run`](crate::Lane::run) its position.
    pub tag: u64,
    /// The request's buffer. Missing only after [`IoError::QueueFailed`] if the kernel may still
    /// use it: its range then stays out of the arena until the queue is gone.
    pub buf: Option<Buffer>,
    /// The request's loan, missing like its buffer.
    pub loan: Option<Loan>,
    /// The checksums of [`Request::checksummed`], in the order of the memory. After an error some may
    /// be missing.
    pub sums: Vec<PartSum>,
    /// `Ok` if the whole request was done. After an error, the buffer of a read or the device range
    /// of a write may contain anything.
    pub result: Result<(), IoError>,
}

/// The checksum of bytes that one part of a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartSum {
    /// Their offset in the memory of the request.
    pub at: usize,
    /// Their number.
    pub len: usize,
    /// Their CRC-32 (IEEE 802.3).
    pub crc32: u32,
}

/// The waiter of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    Tag(u64),
    Run(usize),
}

/// A request in the lane.
#[derive(Debug)]
pub(super) struct Entry {
    owner: Owner,
    pub(super) op: OpKind,
    buf: Option<IoBuf>,
    loan: Option<IoBuf>,
    placement: Option<PlacementId>,
    /// The memory of the range that is cut now, and the bytes between the start of a page and it.
    memory: Memory,
    before: usize,
    /// The spans of the range that is cut now.
    spans: Spans,
    /// The ranges after it.
    more: std::vec::IntoIter<Segment>,
    /// The single part of a flush, which has no bytes.
    flush: Option<Span>,
    cut: bool,
    /// True if nothing more of it is started.
    given_up: bool,
    open_parts: u32,
    checksummed: Option<Range<usize>>,
    sums: Vec<PartSum>,
    bytes: u64,
    /// `None` if the lane counts no requests.
    pub(super) counted: Option<Counted>,
    pub(super) error: Option<IoError>,
}

impl Entry {
    pub(super) fn new(owner: Owner, request: Request, limits: &Limits) -> Self {
        let bytes = request.bytes();
        let Request {
            op,
            offset,
            len,
            buf,
            buf_offset,
            placement,
            more,
            loan,
            checksummed,
        } = request;
        let spans = match op {
            OpKind::Discard => split_discard(offset, len, limits),
            // Buffers begin on a page.
            _ => split(offset, len, limits, buf_offset),
        };
        Self {
            owner,
            op,
            buf: buf.map(Buffer::into_io),
            loan: loan.map(Loan::into_io),
            memory: Memory::Buffer,
            before: 0,
            // A hint is not sent to a device that cannot use it.
            placement: placement.filter(|_| limits.placements.is_some()),
            spans,
            more: more.into_iter(),
            flush: (op == OpKind::Flush).then_some(Span {
                offset: 0,
                len: 0,
                buf_offset: 0,
            }),
            cut: false,
            given_up: false,
            open_parts: 0,
            checksummed: checksummed.filter(|_| op == OpKind::Read),
            sums: Vec::new(),
            bytes,
            counted: None,
            error: None,
        }
    }

    /// Returns the next part to start; `None` after an error, because the request has failed
    /// already.
    pub(super) fn next_span(&mut self, limits: &Limits) -> Option<(Span, Memory)> {
        let span = match self.error {
            Some(_) => None,
            None => {
                self.skip_empty(limits);
                self.flush.take().or_else(|| self.spans.next())
            }
        };
        let (memory, before) = (self.memory, self.before);
        let span = span.map(|mut span| {
            span.buf_offset -= before;
            (span, memory)
        });
        self.skip_empty(limits);
        self.open_parts += u32::from(span.is_some());
        self.cut = span.is_none() || self.spans.is_empty();
        span
    }

    /// Goes on to the next range that has spans, if the current one has none left.
    fn skip_empty(&mut self, limits: &Limits) {
        while self.spans.is_empty()
            && let Some(next) = self.more.next()
        {
            self.memory = next.memory;
            // A loan may begin inside a page, which the rule for segments needs to know.
            let before = match (next.memory, &self.loan) {
                (Memory::Loan, Some(loan)) => loan.arena_offset() % PAGE_BYTES,
                _ => 0,
            };
            self.spans = split(next.offset, next.len, limits, next.buf_offset + before);
            self.before = before;
        }
    }

    /// Starts no more of its parts. If there are some, the request fails.
    pub(super) fn give_up(&mut self, limits: &Limits, engine: &'static str) {
        self.given_up = true;
        if !self.cut
            && let Some((span, _)) = self.next_span(limits)
        {
            self.end_part(Some(given_up(span, self.op, engine)));
        }
        self.cut = true;
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// The tag of a request of `start`.
    pub(super) fn tag(&self) -> Option<u64> {
        match self.owner {
            Owner::Tag(tag) => Some(tag),
            Owner::Run(_) => None,
        }
    }

    /// Returns whether there are no more parts to start.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(super) fn part(&self, state: &PartState, token: u64) -> Part {
        let memory = match state.memory {
            Memory::Buffer => &self.buf,
            Memory::Loan => &self.loan,
        };
        let Span {
            offset,
            len,
            buf_offset,
        } = state.rest;
        Part {
            token,
            op: self.op,
            offset,
            // The splitter keeps parts below 2 GiB.
            len: len as u32,
            buf: memory.clone(),
            buf_offset,
            placement: self.placement,
        }
    }

    pub(super) fn end_part(&mut self, error: Option<IoError>) {
        self.open_parts -= 1;
        // What failed may still land, which counts for more than what was not sent.
        let is_known = |known: &IoError| !known.is_given_up();
        if error.is_some() && !self.error.as_ref().is_some_and(is_known) {
            self.error = error;
        }
    }

    /// Returns whether its parts are checksummed as they arrive.
    pub(super) fn is_checksummed(&self) -> bool {
        self.checksummed.is_some()
    }

    /// Checksums the bytes that a part of a read brought, all of it.
    pub(super) fn checksum(&mut self, part: &PartState) {
        let main = match self.loan {
            Some(_) => Memory::Loan,
            None => Memory::Buffer,
        };
        let memory = self.loan.as_ref().or(self.buf.as_ref());
        if let (Some(wanted), Some(memory)) = (&self.checksummed, memory)
            && part.memory == main
        {
            let brought = part.memory_range();
            let at = brought.start.max(wanted.start);
            let len = brought.end.min(wanted.end).saturating_sub(at);
            if len > 0 {
                let crc32 = memory.crc32(at, len);
                self.sums.push(PartSum { at, len, crc32 });
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.open_parts == 0 && (self.cut || self.error.is_some())
    }

    /// The bytes of the request if it has succeeded.
    pub(super) fn bytes_done(&self) -> Option<u64> {
        self.error.is_none().then_some(self.bytes)
    }

    pub(super) fn finish(mut self) -> (Owner, Completion) {
        self.sums.sort_unstable_by_key(|sum| sum.at);
        let buf = self.buf.and_then(|buf| buf.into_buffer().ok());
        let loan = self.loan.and_then(IoBuf::into_loan);
        let result = self.error.map_or(Ok(()), Err);
        (
            self.owner,
            Completion {
                tag: 0,
                buf,
                loan,
                sums: self.sums,
                result,
            },
        )
    }
}
