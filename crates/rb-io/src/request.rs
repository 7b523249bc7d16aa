//! Types shared by engines and their users: operations, parts and their completions.

use std::io;
use std::num::NonZeroU16;

use crate::buffer::IoBuf;

/// An operation on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum OpKind {
    /// Device to memory.
    Read,
    /// Memory to device. Completion means accepted by the device, not durable: that takes a flush.
    Write,
    /// Makes every write *completed before this flush was pushed* durable. It orders nothing: a
    /// write in flight concurrently may or may not be covered.
    Flush,
    /// Notifies the device that a range is no longer needed. The result of a later read of it is
    /// undefined.
    Discard,
}

impl OpKind {
    /// All operations.
    pub const ALL: [OpKind; 4] = [OpKind::Read, OpKind::Write, OpKind::Flush, OpKind::Discard];
}

/// Identifies one of the device's placement handles (NVMe FDP handle, write stream); 1 is the
/// first.
///
/// It is a hint: it is not sent if the device or the engine does not support placement (see
/// [`Limits::placements`](crate::Limits::placements)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PlacementId(pub NonZeroU16);

/// The memory of a [`Segment`](crate::Segment).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// The request's buffer.
    Buffer,
    /// The request's loan.
    Loan,
}

/// One operation as an engine executes it, already within the engine's [`Limits`](crate::Limits).
///
/// From `push` to completion it belongs to the in-flight table of the queue.
#[derive(Debug)]
pub struct Part {
    /// Comes back unchanged in [`PartDone`]; engines do not interpret it.
    pub token: u64,
    /// The operation.
    pub op: OpKind,
    /// First byte on the device; a multiple of the logical block. Ignored for a flush.
    pub offset: u64,
    /// Length in bytes; a multiple of the logical block. Zero for a flush.
    pub len: u32,
    /// The memory to read into or write from; `None` for flush and discard.
    pub buf: Option<IoBuf>,
    /// Offset in `buf` at which the part begins, in bytes.
    pub buf_offset: usize,
    /// Placement of a write on the device.
    pub placement: Option<PlacementId>,
}

impl Part {
    /// Checks that a transfer has memory and stays inside it. Every engine calls this before it
    /// passes an address on, because a `Part` can be constructed by any caller.
    ///
    /// # Errors
    /// `InvalidInput` that names the conflicting numbers.
    pub fn check(&self) -> io::Result<()> {
        let transfers = matches!(self.op, OpKind::Read | OpKind::Write);
        let words = match &self.buf {
            None if transfers => format!("{:?} of {} bytes has no buffer", self.op, self.len),
            Some(buf) if transfers => {
                let end = self.buf_offset.checked_add(self.len as usize);
                if end.is_some_and(|end| end <= buf.len()) {
                    return Ok(());
                }
                format!(
                    "{:?} of {} bytes at buffer offset {} does not fit a buffer of {} bytes",
                    self.op,
                    self.len,
                    self.buf_offset,
                    buf.len()
                )
            }
            _ => return Ok(()),
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, words))
    }
}

/// The completion of a [`Part`]. The buffer comes back on every path.
#[derive(Debug)]
pub struct PartDone {
    /// The part's token.
    pub token: u64,
    /// The part's buffer.
    pub buf: Option<IoBuf>,
    /// Bytes moved (the full length for a discard, 0 for a flush); may be fewer than requested.
    pub result: io::Result<u32>,
}
