//! What can go wrong: opening ([`OpenError`]) and I/O ([`IoError`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::descriptors;
use crate::kind::EngineKind;
use crate::nvme::status::error_number;
use crate::request::OpKind;

/// Why a device, an engine or a queue could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A system call on the path failed.
    #[error("{}: {step} failed{}", path.display(), descriptors::hint(source))]
    Path {
        /// The file or node.
        path: PathBuf,
        /// What was being done, such as `"open"` or `"lock"`.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Someone else holds it.
    #[error("{} is in use: {reason}", path.display())]
    InUse {
        /// The file or node.
        path: PathBuf,
        /// By whom, as far as the system tells.
        reason: String,
        /// Whether the process that took its lock is known to have ended: the kernel, or a process that inherited the file, has
        /// yet to close it.
        ended: bool,
    },
    /// No server of a disk behind a socket.
    #[error("{} is a socket, and libblkio's {step} failed: {reason}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What libblkio said.
        reason: String,
    },
    /// Neither a regular file nor a device.
    #[error("{} is a {found}; a regular file, a block device or an NVMe namespace is needed", path.display())]
    WrongType {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A kind of device that no store can be on.
    #[error("{} cannot hold a store: {reason}", path.display())]
    Unfit {
        /// The node.
        path: PathBuf,
        /// What it is, and what the system calls it.
        reason: String,
    },
    /// It cannot be reserved for this host.
    #[error("{} cannot be reserved: {reason}", path.display())]
    Reserve {
        /// The node.
        path: PathBuf,
        /// Who holds the reservation, or what the device lacks.
        reason: String,
    },
    /// The process may not write files of this size.
    #[error(
        "{} has {bytes} bytes, and this process may write only the first {limit} of a file (`ulimit -f`, RLIMIT_FSIZE)",
        path.display()
    )]
    FileSizeLimit {
        /// The file.
        path: PathBuf,
        /// Its size, or the one that is wanted.
        bytes: u64,
        /// How far the process may write.
        limit: u64,
    },
    /// Too small to hold a single block.
    #[error("{} has {bytes} bytes, less than one block of {block_bytes}", path.display())]
    TooSmall {
        /// The file or node.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Its logical block.
        block_bytes: u32,
    },
    /// The device claims limits that contradict themselves.
    #[error("{}: unusable limits: {reason}", path.display())]
    Limits {
        /// The file or node.
        path: PathBuf,
        /// Which limit, its value and its source.
        reason: String,
    },
    /// The engine cannot run here.
    #[error("engine {kind}: {step}: {reason}")]
    Engine {
        /// The engine that was asked for.
        kind: EngineKind,
        /// What was being done.
        step: &'static str,
        /// Why it did not work.
        reason: String,
        /// What the system said, if it was asked.
        #[source]
        source: Option<io::Error>,
    },
    /// The engine is not compiled in.
    #[error("engine {kind} is not part of this build")]
    NotInBuild {
        /// The engine that was asked for.
        kind: EngineKind,
    },
    /// A queue depth outside its range.
    #[error("a queue depth of {depth} was asked for; 1 to {max} is possible")]
    Depth {
        /// What was asked for.
        depth: u32,
        /// The largest possible.
        max: u32,
    },
}

impl OpenError {
    /// Whether someone else holds the device, so that trying again later may work.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// The operation failed.
    #[error("{engine}: {op:?} of {len} bytes at {offset} failed")]
    Os {
        /// Engine that ran it.
        engine: &'static str,
        /// What was being done.
        op: OpKind,
        /// First byte of the failing part on the device.
        offset: u64,
        /// Bytes of the failing part.
        len: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The device moved fewer bytes than asked for and then no more.
    #[error("{engine}: {op:?} at {offset} moved {moved} of {wanted} bytes and then no more")]
    Short {
        /// Engine that ran it.
        engine: &'static str,
        /// What was being done.
        op: OpKind,
        /// First byte of the part on the device.
        offset: u64,
        /// Bytes moved in all.
        moved: u64,
        /// Bytes asked for.
        wanted: u64,
    },
    /// Beyond the end of the device. Never sent.
    #[error("{op:?} of {len} bytes at {offset} passes the end of the device, {capacity} bytes")]
    OutOfRange {
        /// What was asked for.
        op: OpKind,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Size of the device in bytes.
        capacity: u64,
    },
    /// Not on a multiple of what the device needs. Never sent.
    #[error("{op:?}: {what} is {value}, not a multiple of {align} ({source_of_align})")]
    Misaligned {
        /// What was asked for.
        op: OpKind,
        /// Which number: `"offset"`, `"length"` or `"buffer offset"`.
        what: &'static str,
        /// Its value in bytes.
        value: u64,
        /// What it has to be a multiple of, in bytes.
        align: u32,
        /// Who says so.
        source_of_align: &'static str,
    },
    /// The buffer is missing or too small. Never sent.
    #[error(
        "{op:?} of {len} bytes at buffer offset {buf_offset} does not fit a buffer of {buf_len} bytes"
    )]
    BufferTooSmall {
        /// What was asked for.
        op: OpKind,
        /// Bytes asked for.
        len: u64,
        /// Where in the buffer it was to begin.
        buf_offset: usize,
        /// Bytes of the buffer; 0 where there was none.
        buf_len: usize,
    },
    /// The device has no such operation. Never sent.
    #[error("{op:?} is not supported by this device")]
    Unsupported {
        /// What was asked for.
        op: OpKind,
    },
    /// A placement id that the device does not have. Never sent.
    #[error("placement id {id} does not exist; the device has 1 to {max}")]
    Placement {
        /// What was asked for.
        id: u16,
        /// The largest there is.
        max: u16,
    },
    /// The queue itself failed, so the request's fate is unknown; its buffer stays with the queue
    /// if the kernel may still use it.
    #[error("{engine}: the queue failed")]
    QueueFailed {
        /// Engine of the queue.
        engine: &'static str,
        /// What the system said; shared by all requests it answered.
        source: Arc<io::Error>,
    },
}

impl IoError {
    /// Whether the same request may work when tried again (it was already retried with a bound).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Os { source, .. } => is_transient(source),
            _ => false,
        }
    }

    /// Whether there was no space for a write: the file system under a sparse file is full, its quota is used up, or
    /// so is the pool of a thin device, or the process may not write so large a file. It says nothing about the place that was to be written.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        let Self::Os { source, .. } = self else {
            return false;
        };
        matches!(
            error_number(source),
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
        )
    }

    /// Whether the device has gone away, or is reserved for another host (EBADE), so that nothing will work until it is
    /// opened again.
    #[must_use]
    pub fn is_device_gone(&self) -> bool {
        let gone = |source: &io::Error| {
            matches!(
                error_number(source),
                Some(libc::ENODEV | libc::ENXIO | libc::ESHUTDOWN | libc::ENOTCONN | libc::EBADE)
            )
        };
        match self {
            Self::Os { source, .. } => gone(source),
            Self::QueueFailed { source, .. } => gone(source),
            _ => false,
        }
    }
}

/// Errors that say "not now" rather than "no". ECANCELED is what the kernel answers when a signal
/// or an exiting thread interfered with a request that it had queued for a worker; reads, writes,
/// flushes and discards may all be done twice.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(
        error_number(error),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM | libc::ECANCELED)
    )
}

/// A step on a path that the system refused.
pub(crate) fn failed(path: &Path, step: &'static str, source: io::Error) -> OpenError {
    OpenError::Path {
        path: path.into(),
        step,
        source,
    }
}
