//! Errors of opening ([`OpenError`]) and of I/O ([`IoError`]).

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::descriptors;
use crate::kind::EngineKind;
use crate::nvme::status::error_number;
use crate::request::OpKind;

/// The error returned when a device, an engine or a queue cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A system call on the path failed.
    #[error("{}: {step} failed{}", shown(path), descriptors::hint(source))]
    Path {
        /// The file or node.
        path: PathBuf,
        /// The step that failed, such as `"open"` or `"lock"`.
        step: &'static str,
        /// The error from the kernel.
        #[source]
        source: io::Error,
    },
    /// Another process or kernel subsystem holds the device.
    #[error("{} is in use: {reason}", path.display())]
    InUse {
        /// The file or node.
        path: PathBuf,
        /// The holder, as far as the kernel exposes it.
        reason: String,
        /// True if the process that took the lock is known to have exited: the kernel, or a process
        /// that inherited the file, has not closed it yet.
        ended: bool,
    },
    /// No working vhost-user-blk server behind a socket.
    #[error("{} is a socket, and libblkio's {step} failed: {reason}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The libblkio step that failed.
        step: &'static str,
        /// The message of libblkio.
        reason: String,
    },
    /// Neither a regular file nor a device.
    #[error("{} is a {found}; a regular file, a block device or an NVMe namespace is needed", path.display())]
    WrongType {
        /// The path.
        path: PathBuf,
        /// The kind of node found there.
        found: &'static str,
    },
    /// A kind of device that cannot hold a store.
    #[error("{} cannot hold a store: {reason}", path.display())]
    Unfit {
        /// The node.
        path: PathBuf,
        /// The kind of device, and the kernel's name for it.
        reason: String,
    },
    /// The device cannot be reserved for this host.
    #[error("{} cannot be reserved: {reason}", path.display())]
    Reserve {
        /// The node.
        path: PathBuf,
        /// The holder of the reservation, or the missing feature of the device.
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
        /// Its current or requested size in bytes.
        bytes: u64,
        /// Number of bytes that the process may write.
        limit: u64,
    },
    /// Too small to hold a single block.
    #[error("{} has {bytes} bytes, less than one block of {block_bytes}", path.display())]
    TooSmall {
        /// The file or node.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// Its logical block size in bytes.
        block_bytes: u32,
    },
    /// The device reports limits that contradict each other.
    #[error("{}: unusable limits: {reason}", path.display())]
    Limits {
        /// The file or node.
        path: PathBuf,
        /// The limit, its value and its source.
        reason: String,
    },
    /// The engine cannot run here.
    #[error("engine {kind}: {step}: {reason}")]
    Engine {
        /// The requested engine.
        kind: EngineKind,
        /// The step that failed.
        step: &'static str,
        /// Reason why it failed.
        reason: String,
        /// The error from the kernel, if a system call failed.
        #[source]
        source: Option<io::Error>,
    },
    /// The engine is not compiled in.
    #[error("engine {kind} is not part of this build")]
    NotInBuild {
        /// The requested engine.
        kind: EngineKind,
    },
    /// A queue depth outside its range.
    #[error("a queue depth of {depth} was asked for; 1 to {max} is possible")]
    Depth {
        /// The requested depth.
        depth: u32,
        /// The largest allowed depth.
        max: u32,
    },
}

impl OpenError {
    /// Returns whether another holder has the device, so that trying again later may work.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

/// Reason why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// The operation failed.
    #[error("{engine}: {op:?} of {len} bytes at {offset} failed")]
    Os {
        /// Engine that ran it.
        engine: &'static str,
        /// The operation.
        op: OpKind,
        /// First byte of the failing part on the device.
        offset: u64,
        /// Length of the failing part in bytes.
        len: u64,
        /// The error from the kernel.
        source: io::Error,
    },
    /// The request was given up ([`Lane::give_up`](crate::Lane::give_up)) before all of it was sent. Nothing of it lands any more.
    #[error("{engine}: {op:?} of {len} bytes at {offset} was given up before it was sent")]
    GivenUp {
        /// Engine that would have run it.
        engine: &'static str,
        /// The operation.
        op: OpKind,
        /// First byte that was not sent.
        offset: u64,
        /// Length of the part that begins there, in bytes.
        len: u64,
    },
    /// The device moved fewer bytes than requested and then made no more progress.
    #[error("{engine}: {op:?} at {offset} moved {moved} of {wanted} bytes and then no more")]
    Short {
        /// Engine that ran it.
        engine: &'static str,
        /// The operation.
        op: OpKind,
        /// First byte of the part on the device.
        offset: u64,
        /// Bytes moved in total.
        moved: u64,
        /// Bytes requested.
        wanted: u64,
    },
    /// Beyond the end of the device. Never sent.
    #[error("{op:?} of {len} bytes at {offset} passes the end of the device, {capacity} bytes")]
    OutOfRange {
        /// The operation.
        op: OpKind,
        /// First byte on the device.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Size of the device in bytes.
        capacity: u64,
    },
    /// Not a multiple of the required alignment. Never sent.
    #[error("{op:?}: {what} is {value}, not a multiple of {align} ({source_of_align})")]
    Misaligned {
        /// The operation.
        op: OpKind,
        /// The misaligned number: `"offset"`, `"length"` or `"buffer offset"`.
        what: &'static str,
        /// Its value in bytes.
        value: u64,
        /// The required alignment in bytes.
        align: u32,
        /// The source of the requirement.
        source_of_align: &'static str,
    },
    /// The buffer is missing or too small. Never sent.
    #[error(
        "{op:?} of {len} bytes at buffer offset {buf_offset} does not fit a buffer of {buf_len} bytes"
    )]
    BufferTooSmall {
        /// The operation.
        op: OpKind,
        /// Bytes requested.
        len: u64,
        /// Offset in the buffer at which the transfer begins.
        buf_offset: usize,
        /// Length of the buffer in bytes; 0 if there was none.
        buf_len: usize,
    },
    /// The device does not support the operation. Never sent.
    #[error("{op:?} is not supported by this device")]
    Unsupported {
        /// The operation.
        op: OpKind,
    },
    /// A placement id that the device does not have. Never sent.
    #[error("placement id {id} does not exist; the device has 1 to {max}")]
    Placement {
        /// The requested id.
        id: u16,
        /// The largest valid id.
        max: u16,
    },
    /// The queue itself failed, so the outcome of the request is unknown. Its buffer stays with the
    /// queue if the kernel may still use it.
    #[error("{engine}: the queue failed")]
    QueueFailed {
        /// Engine of the queue.
        engine: &'static str,
        /// The error from the kernel, shared by all requests that failed with the queue.
        source: Arc<io::Error>,
    },
}

impl IoError {
    /// Returns the first byte on the device of the transfer that failed; `None` if the error is not
    /// about one place.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Os { offset, .. } | Self::Short { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// Returns whether the request was given up before all of it was sent.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        matches!(self, Self::GivenUp { .. })
    }

    /// Returns whether the same request may succeed if tried again (it was already retried a
    /// bounded number of times).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Os { source, .. } => is_transient(source),
            _ => false,
        }
    }

    /// Returns whether a write failed for lack of space: the file system under a sparse file is
    /// full, its quota or the pool of a thin device is used up, or the process may not write such a
    /// large file. Does not mean that the written range is bad.
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

    /// Returns whether the kernel or the device refused the memory of a transfer (EFAULT,
    /// EOPNOTSUPP), as it does with some memory of accelerators: a copy would have worked.
    #[must_use]
    pub fn is_memory_refused(&self) -> bool {
        let Self::Os { source, .. } = self else {
            return false;
        };
        matches!(error_number(source), Some(libc::EFAULT | libc::EOPNOTSUPP))
    }

    /// Returns whether the device is gone or reserved for another host (EBADE), so that nothing
    /// will work until it is reopened.
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

/// Returns whether an error means "not now" rather than "no". The kernel returns ECANCELED when a
/// signal or an exiting thread interfered with a request that it had queued for a worker; reads,
/// writes, flushes and discards may all be repeated.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(
        error_number(error),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM | libc::ECANCELED)
    )
}

/// Shows a path, also an empty one.
fn shown(path: &Path) -> Cow<'_, str> {
    match path.as_os_str().is_empty() {
        true => "the empty path \"\"".into(),
        false => path.to_string_lossy(),
    }
}

/// Creates the error for a refused system call on a path.
pub(crate) fn failed(path: &Path, step: &'static str, source: io::Error) -> OpenError {
    OpenError::Path {
        path: path.into(),
        step,
        source,
    }
}
