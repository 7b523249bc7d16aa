//! An open device: its properties as read when it was opened, and its descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::access::Access;
#[cfg(feature = "io-uring")]
use super::discover::QueueDirectory;
use super::kind::DeviceKind;
use super::siblings;
#[cfg(feature = "libblkio")]
use crate::blkio::server::Server;
use crate::engine::Feature;
use crate::error::OpenError;
use crate::limits::Limits;
use crate::nvme::Namespace;
use crate::process::Process;

/// An open file, block device or NVMe namespace. Its properties are read once, when it is opened.
#[derive(Debug)]
pub struct Device {
    pub(super) process: Process,
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) kind: DeviceKind,
    pub(super) access: Access,
    pub(super) capacity_bytes: u64,
    pub(super) direct: bool,
    pub(super) limits: Limits,
    pub(super) report: Vec<Feature>,
    /// The file behind a loop device, locked like the device because it is a second way to the same
    /// data.
    pub(super) backing: Option<File>,
    /// The block node of a namespace opened by its character node, held exclusively.
    pub(super) block_node: Option<File>,
    /// Namespace properties that commands need; only for a character node.
    pub(super) namespace: Option<Namespace>,
    /// The server connection, for a socket; `file` then only refers to the node.
    #[cfg(feature = "libblkio")]
    pub(super) server: Option<Server>,
}

impl Device {
    /// Returns the path it was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the kind: file, block device, character node or socket.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// Returns whether this process opened it; false in a forked child.
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_current()
    }

    /// Returns the access mode it was opened with.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns the size in bytes, rounded down to whole logical blocks.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Returns whether I/O bypasses the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// Returns the limits on a single transfer.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the features in use and those not in use, with the reason.
    #[must_use]
    pub fn report(&self) -> &[Feature] {
        &self.report
    }

    /// Returns the current size in bytes, rounded down like
    /// [`capacity_bytes`](Self::capacity_bytes), which keeps the value from opening. For a
    /// character node or a socket the size is not queried again.
    ///
    /// # Errors
    /// The system call failed.
    pub fn capacity_now(&self) -> io::Result<u64> {
        match self.kind {
            DeviceKind::File | DeviceKind::Block => {
                // `lseek` to the end works for files and block devices; no request uses the file
                // position.
                let bytes = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::End(0))?;
                Ok(bytes - bytes % u64::from(self.limits.block.value))
            }
            DeviceKind::Char | DeviceKind::Socket => Ok(self.capacity_bytes),
        }
    }

    /// Refuses a device smaller than one block.
    pub(super) fn check_size(&self) -> Result<(), OpenError> {
        if self.capacity_bytes > 0 {
            return Ok(());
        }
        // The kernel reports 0 bytes for a namespace with metadata that it cannot handle.
        if self.kind == DeviceKind::Block {
            return Err(OpenError::Unfit {
                path: self.path.clone(),
                reason: "the kernel gives it 0 bytes, as it does to an NVMe namespace with metadata in each block that it \
                         does not know; a format without metadata is needed (nvme format)"
                    .into(),
            });
        }
        let found = self.file.metadata();
        Err(OpenError::TooSmall {
            path: self.path.clone(),
            bytes: found.map_or(0, |found| found.len()),
            block_bytes: self.limits.block.value,
        })
    }

    /// Returns the device number of the node (`st_rdev`); 0 for a file.
    ///
    /// # Errors
    /// The system call failed.
    pub fn device_number(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.rdev())
    }

    #[cfg(feature = "libblkio")]
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Returns the namespace properties that commands need, for a character node.
    #[cfg(feature = "io-uring")]
    pub(crate) fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// Returns whether the namespace has been removed; an open node outlives it.
    #[cfg(feature = "io-uring")]
    pub(crate) fn namespace_is_gone(&self) -> bool {
        let number = self.file.metadata().map(|meta| meta.rdev());
        !number.is_ok_and(siblings::is_namespace)
    }

    /// Returns whether a hole can be punched (`FALLOC_FL_PUNCH_HOLE`). A file system may still
    /// refuse; a block device must support a command that writes zeroes.
    #[cfg(feature = "io-uring")]
    pub(crate) fn punches_holes(&self) -> bool {
        let number = |meta: std::fs::Metadata| {
            QueueDirectory::of(meta.rdev()).number("write_zeroes_max_bytes")
        };
        self.kind != DeviceKind::Block
            || self
                .file
                .metadata()
                .ok()
                .and_then(number)
                .is_some_and(|bytes| bytes > 0)
    }

    /// Returns the other node (block or character) of the same namespace, if there is one.
    pub(crate) fn sibling(&self) -> Option<PathBuf> {
        let number = self.file.metadata().ok()?.rdev();
        let node = match self.kind {
            DeviceKind::File | DeviceKind::Socket => None,
            DeviceKind::Block => siblings::char_node(number),
            DeviceKind::Char => siblings::block_node(number),
        };
        Some(node?.path())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if !self.is_here() {
            // A forked child shares the lock with its parent.
            return;
        }
        if self.kind != DeviceKind::Block && self.access != Access::ReadOnly {
            // Closing would release the lock unless something else holds the open file, as a ring
            // does for a moment while the kernel tears it down. Without a lock this has no effect.
            let _ = rustix::fs::flock(&self.file, rustix::fs::FlockOperation::Unlock);
        }
        if let Some(backing) = &self.backing {
            let _ = rustix::fs::flock(backing, rustix::fs::FlockOperation::Unlock);
        }
    }
}
