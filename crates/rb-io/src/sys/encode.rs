// UNSAFETY: a ring passes the addresses in an encoder's entries to the kernel, so an encoder must
// guarantee that they are valid.
#![expect(unsafe_code, reason = "an unsafe trait and its implementation")]
//! Encodes parts as submission entries: the only difference between the ring-based engines.

use std::io;
use std::os::fd::RawFd;

use io_uring::types::{Fd, Fixed, FsyncFlags};
use io_uring::{cqueue, opcode, squeue};

use crate::request::{OpKind, Part};

/// The only entry of the registered file table.
pub(super) const DEVICE: Fixed = Fixed(0);

/// The way an entry names the device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The first entry of the registered file table.
    Registered,
    Descriptor(RawFd),
}

/// Converts parts to submission entries, and completions to results.
///
/// # Safety
/// An entry must name no memory other than that of its part's `buf`, in the range that
/// [`Part::check`] has checked: the ring keeps this memory until the completion, and no other.
pub(crate) unsafe trait Encoder: Send {
    type Submission: squeue::EntryMarker;
    type Completion: cqueue::EntryMarker;
    /// Name of the engine, for errors and reports.
    const NAME: &'static str;
    /// The operations that the engine requires.
    const NEEDED: &'static [(u8, &'static str)];

    /// Prepares a checked part. A part refused here completes with the error and is not sent.
    fn prepare(&mut self, part: &mut Part) -> io::Result<()>;

    /// Returns the entry of a prepared part; `piece` is the registered buffer that contains its
    /// memory.
    fn entry(&self, part: &Part, piece: Option<u16>, target: Target) -> Self::Submission;

    /// Converts the result of a completion; undoes the change that `prepare` made to the part.
    fn finish(&mut self, part: &mut Part, result: i32) -> io::Result<u32>;

    /// Returns why registered buffers do not work here, if they do not.
    fn refuses_registered(&self) -> Option<&str> {
        None
    }
}

/// Returns the number of bytes moved, or the error of a negative result.
pub(super) fn moved(result: i32) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()))
}

/// Returns the address at which the part's memory begins.
pub(super) fn address(part: &Part) -> *mut u8 {
    let start = part
        .buf
        .as_ref()
        .map_or(std::ptr::null_mut(), super::super::buffer::IoBuf::as_ptr);
    start.wrapping_add(part.buf_offset)
}

/// Encodes reads and writes of a file or a block device.
pub(crate) struct BlockEncoder;

// SAFETY: `address` is that of the part's memory and `len` its length; other operations have no
// memory.
unsafe impl Encoder for BlockEncoder {
    type Submission = squeue::Entry;
    type Completion = cqueue::Entry;
    const NAME: &'static str = "io_uring";
    const NEEDED: &'static [(u8, &'static str)] = &[
        (opcode::Read::CODE, "IORING_OP_READ"),
        (opcode::Write::CODE, "IORING_OP_WRITE"),
        (opcode::ReadFixed::CODE, "IORING_OP_READ_FIXED"),
        (opcode::WriteFixed::CODE, "IORING_OP_WRITE_FIXED"),
        (opcode::Fsync::CODE, "IORING_OP_FSYNC"),
        (opcode::Fallocate::CODE, "IORING_OP_FALLOCATE"),
    ];

    fn prepare(&mut self, _part: &mut Part) -> io::Result<()> {
        Ok(())
    }

    fn entry(&self, part: &Part, piece: Option<u16>, target: Target) -> squeue::Entry {
        /// The opcode builders take a registered or a plain file, by type.
        macro_rules! on_device {
            (|$target:ident| $entry:expr) => {
                match target {
                    Target::Registered => {
                        let $target = DEVICE;
                        $entry.build()
                    }
                    Target::Descriptor(fd) => {
                        let $target = Fd(fd);
                        $entry.build()
                    }
                }
            };
        }
        let (offset, len) = (part.offset, part.len);
        // The entry has one byte for the stream; the limits exclude larger ids.
        let stream = part
            .placement
            .map_or(0, |id| u8::try_from(id.0.get()).unwrap_or(0));
        match (part.op, piece) {
            (OpKind::Read, Some(piece)) => on_device!(|device| {
                opcode::ReadFixed::new(device, address(part), len, piece).offset(offset)
            }),
            (OpKind::Read, None) => on_device!(|device| {
                opcode::Read::new(device, address(part), len).offset(offset)
            }),
            (OpKind::Write, Some(piece)) => on_device!(|device| {
                let write = opcode::WriteFixed::new(device, address(part), len, piece);
                write.offset(offset).write_stream(stream)
            }),
            (OpKind::Write, None) => on_device!(|device| {
                let write = opcode::Write::new(device, address(part), len);
                write.offset(offset).write_stream(stream)
            }),
            (OpKind::Flush, _) => {
                on_device!(|device| { opcode::Fsync::new(device).flags(FsyncFlags::DATASYNC) })
            }
            (OpKind::Discard, _) => on_device!(|device| {
                let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                opcode::Fallocate::new(device, len.into())
                    .offset(offset)
                    .mode(hole)
            }),
        }
    }

    fn finish(&mut self, part: &mut Part, result: i32) -> io::Result<u32> {
        moved(result).map(|moved| match part.op {
            OpKind::Discard => part.len,
            _ => moved,
        })
    }
}
