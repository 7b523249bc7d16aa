// UNSAFETY: NVMe commands carry addresses, see `sys/encode.rs`.
#![expect(unsafe_code, reason = "the implementation of an unsafe trait")]
//! Encodes NVMe commands in 128-byte submission entries: `IORING_OP_URING_CMD` on a character node.
//!
//! A value is one contiguous piece of memory, header and payload together, so the vectored form of
//! the command (`NVME_URING_CMD_IO_VEC`) would save nothing and is not used; it does not accept
//! registered buffers either.

use std::io;
use std::sync::Arc;

use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};

use crate::arena::{Arena, PAGE_BYTES};
use crate::buffer::Buffer;
use crate::device::{Access, Device};
use crate::nvme::Namespace;
use crate::nvme::command::{Command, RANGE_BYTES, range};
use crate::nvme::status::Status;
use crate::request::{OpKind, Part};
use crate::sys::encode::{DEVICE, Encoder, Target, address, moved};
use crate::sys::nvme::namespace_id;

/// `_IOWR('N', 0x80, struct nvme_uring_cmd)` of `linux/nvme_ioctl.h`.
const NVME_URING_CMD_IO: u32 = 0xc048_4e80;

/// Encodes commands for one namespace.
pub(crate) struct NvmeEncoder {
    device: Arc<Device>,
    namespace: Namespace,
    /// One range per discard in flight. Allocated by the first discard.
    ranges: Option<Arena>,
    depth: u32,
    refuses_registered: Option<Arc<str>>,
}

impl NvmeEncoder {
    /// Creates an encoder for `namespace`, which is that of `device`, with at most `depth` commands
    /// in flight.
    pub(crate) fn new(
        device: Arc<Device>,
        namespace: Namespace,
        depth: u32,
        refuses_registered: Option<Arc<str>>,
    ) -> Self {
        Self {
            device,
            namespace,
            ranges: None,
            depth,
            refuses_registered,
        }
    }

    /// Maps EINVAL to the real error. With native multipathing a namespace without a usable path
    /// returns EINVAL, which also means an invalid command; a removed drive was reported as that
    /// and not as gone.
    fn explain(&self, refused: io::Error) -> io::Error {
        if refused.raw_os_error() != Some(libc::EINVAL) {
            return refused;
        }
        if self.device.namespace_is_gone() {
            return io::Error::from_raw_os_error(libc::ENODEV);
        }
        match namespace_id(self.device.fd()) {
            // The controller is being reset, or the last path is going away: transient.
            Err(why) if why.raw_os_error() == Some(libc::EAGAIN) => why,
            _ => refused,
        }
    }

    /// Returns memory for the range of one discard. As the part's buffer it belongs to the
    /// in-flight table, like any memory that the kernel uses.
    fn range_buffer(&mut self) -> io::Result<Buffer> {
        let ranges = match &mut self.ranges {
            Some(ranges) => ranges,
            none => {
                let bytes = self.depth as usize * PAGE_BYTES;
                none.insert(Arena::allocate(bytes).map_err(io::Error::other)?)
            }
        };
        ranges
            .take(RANGE_BYTES)
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

// SAFETY: `address` is that of the part's memory and `len` its length, and the controller moves no
// more than `len` because `check_transfer` has passed; the buffer of a discard, made in `prepare`,
// has at least `RANGE_BYTES`; a flush has no memory.
unsafe impl Encoder for NvmeEncoder {
    type Submission = squeue::Entry128;
    type Completion = cqueue::Entry32;
    const NAME: &'static str = "uring_cmd";
    const NEEDED: &'static [(u8, &'static str)] =
        &[(opcode::UringCmd80::CODE, "IORING_OP_URING_CMD (Linux 5.19)")];

    fn prepare(&mut self, part: &mut Part) -> io::Result<()> {
        match part.op {
            OpKind::Read | OpKind::Write => {
                Command::check_transfer(&self.namespace, part.offset, part.len)?;
            }
            OpKind::Discard => Command::check(&self.namespace, part.offset, part.len)?,
            OpKind::Flush => {}
        }
        if matches!(part.op, OpKind::Write | OpKind::Discard)
            && self.device.access() != Access::ReadWrite
        {
            // The kernel checks how a node was opened only for commands of unprivileged processes.
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if part.op == OpKind::Discard {
            let mut buffer = self.range_buffer()?;
            let range = range(&self.namespace, part.offset, part.len.into());
            buffer[..RANGE_BYTES].copy_from_slice(&range);
            part.buf = Some(buffer.into_io());
            part.buf_offset = 0;
        }
        Ok(())
    }

    fn entry(&self, part: &Part, piece: Option<u16>, target: Target) -> squeue::Entry128 {
        let (namespace, memory) = (&self.namespace, address(part));
        let command = match part.op {
            OpKind::Read => {
                Command::read(namespace, part.offset, part.len).with_data(memory, part.len)
            }
            OpKind::Write => Command::write(namespace, part.offset, part.len, part.placement)
                .with_data(memory, part.len),
            OpKind::Flush => Command::flush(namespace),
            OpKind::Discard => Command::deallocate(namespace).with_data(memory, RANGE_BYTES as u32),
        };
        let entry = match target {
            Target::Registered => opcode::UringCmd80::new(DEVICE, NVME_URING_CMD_IO),
            Target::Descriptor(fd) => opcode::UringCmd80::new(Fd(fd), NVME_URING_CMD_IO),
        };
        entry.cmd(command.to_entry()).buf_index(piece).build()
    }

    /// A negative result is a refusal by the kernel, a positive one an error of the controller.
    fn finish(&mut self, part: &mut Part, result: i32) -> io::Result<u32> {
        if part.op == OpKind::Discard {
            part.buf = None;
        }
        match moved(result).map_err(|refused| self.explain(refused))? {
            0 if part.op == OpKind::Flush => Ok(0),
            0 => Ok(part.len),
            status => Err(Status::new(status as u16).into()),
        }
    }

    fn refuses_registered(&self) -> Option<&str> {
        self.refuses_registered.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 4096;

    /// Returns an encoder over a file: nothing is sent.
    fn encoder(access: Access) -> NvmeEncoder {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let device = Arc::new(Device::open(file.path(), access).unwrap());
        let namespace = Namespace {
            id: 1,
            block_shift: 12,
            placements: Vec::new(),
        };
        NvmeEncoder::new(device, namespace, 2, None)
    }

    fn part(op: OpKind, len: u32) -> Part {
        Part {
            token: 0,
            op,
            offset: 8192,
            len,
            buf: None,
            buf_offset: 0,
            placement: None,
        }
    }

    #[test]
    fn a_reader_sends_nothing_that_changes_the_device() {
        for access in [Access::ReadOnly, Access::ReadLocked] {
            let mut encoder = encoder(access);
            for op in [OpKind::Write, OpKind::Discard] {
                let refused = encoder.prepare(&mut part(op, BLOCK)).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EBADF), "{op:?}");
            }
            encoder.prepare(&mut part(OpKind::Read, BLOCK)).unwrap();
        }
    }

    /// The range is the part's buffer while the command is in flight, and is released afterwards.
    #[test]
    fn a_discard_carries_its_range() {
        let mut encoder = encoder(Access::ReadWrite);
        for _ in 0..8 {
            let mut discards = [0, 1].map(|_| part(OpKind::Discard, 3 * BLOCK));
            for discard in &mut discards {
                encoder.prepare(discard).unwrap();
            }
            for mut discard in discards {
                assert_eq!(encoder.finish(&mut discard, 0).unwrap(), 3 * BLOCK);
                assert!(discard.buf.is_none());
            }
        }
        let mut discard = part(OpKind::Discard, 3 * BLOCK);
        encoder.prepare(&mut discard).unwrap();
        let range = discard.buf.unwrap().into_buffer().unwrap();
        assert_eq!(range[..9], [0, 0, 0, 0, 3, 0, 0, 0, 2]);
    }

    #[test]
    fn both_kinds_of_failure_are_distinguished() {
        let mut encoder = encoder(Access::ReadWrite);
        let mut read = part(OpKind::Read, BLOCK);
        assert_eq!(encoder.finish(&mut read, 0).unwrap(), BLOCK);
        let refused = encoder.finish(&mut read, -libc::EPERM).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        // The node of this test is not a namespace, like that of a removed drive.
        let gone = encoder.finish(&mut read, -libc::EINVAL).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENODEV));
        let failed = encoder.finish(&mut read, 0x4281).unwrap_err();
        assert!(
            failed.to_string().starts_with("unrecovered read error"),
            "{failed}"
        );
        assert!(encoder.prepare(&mut part(OpKind::Read, 512)).is_err());
        assert_eq!(encoder.finish(&mut part(OpKind::Flush, 0), 0).unwrap(), 0);
    }
}
