//! An open file or block device: what it is, how big, who else may have it, what it accepts.

#[cfg(feature = "libblkio")]
mod by_lane;
mod claim;
mod discover;
mod holders;
mod open;
mod passthrough;
mod reserve;
mod siblings;
#[cfg(feature = "libblkio")]
mod socket;
#[cfg(test)]
mod tests;

pub use claim::Claim;
pub use reserve::Reservation;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "libblkio")]
use crate::blkio::server::Server;
use crate::engine::Feature;
use crate::error::OpenError;
use crate::limits::Limits;
use crate::nvme::Namespace;
use crate::nvme::command::Command;
use crate::signature::{Signature, find_signatures};
use crate::sys::nvme::{To, receive};

/// What a device may be opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Takes no lock and never writes.
    ReadOnly,
    /// Never writes, and is refused as long as someone has the device open for writing; meanwhile
    /// nobody else can open it for writing. For looking at what must not move.
    ReadLocked,
    /// Exclusive: a second opener for writing is refused, in this process too.
    ReadWrite,
}

/// What kind of node a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A regular file.
    File,
    /// A block device: drive, partition, loop device, network disk.
    Block,
    /// A character node (NVMe passthrough).
    Char,
    /// A Unix socket behind which a vhost-user-blk server has a disk.
    Socket,
}

/// An open file, block device or NVMe namespace. What is said here was read once, when it was opened.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
    kind: DeviceKind,
    access: Access,
    capacity_bytes: u64,
    direct: bool,
    limits: Limits,
    report: Vec<Feature>,
    /// The file behind a loop device, locked as the device is: its other way in.
    backing: Option<File>,
    /// The block node of a namespace that is open by its character node, held exclusively.
    block_node: Option<File>,
    /// What commands need, for a character node.
    namespace: Option<Namespace>,
    /// The connection, if it is a socket; `file` then only names the node.
    #[cfg(feature = "libblkio")]
    server: Option<Server>,
}

impl Device {
    /// Opens an existing file, block device, or character node of an NVMe namespace (`/dev/ngXnY`), or connects to
    /// a vhost-user-blk server (feature `libblkio`) if there is a socket at the path.
    ///
    /// [`Access::ReadWrite`] is exclusive. A block device that is mounted, used as swap, or held by
    /// device mapper, md or another opener is refused (`O_EXCL`); a file, also one behind a loop device, is
    /// locked (`flock`, without waiting) until the device and every engine over it are gone. A character node
    /// is claimed through the block node of the same namespace, which is then as refused as if it were that.
    /// [`Access::ReadOnly`] takes no lock and never writes. [`Access::ReadLocked`] never writes
    /// either, but claims the device as a writer would, except that a file may be read so by
    /// several at once. Nothing can claim a socket, which [`report`](Self::report) says.
    ///
    /// Data bypasses the page cache (`O_DIRECT`) where the file system takes it, which is verified
    /// by reading a block; where it does not, I/O is buffered and [`report`](Self::report) says so.
    ///
    /// # Errors
    /// [`OpenError::Path`], [`OpenError::InUse`], [`OpenError::WrongType`], [`OpenError::Socket`],
    /// [`OpenError::TooSmall`], [`OpenError::Limits`].
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        open::open(path, access)
    }

    /// Creates a regular file of `bytes` (mode 0600), or grows an existing one to it, and opens it
    /// for writing. A larger file keeps its size: nothing is ever cut off.
    ///
    /// With `allocate`, space for the first `bytes` is reserved (`fallocate`); where the file
    /// system cannot, the file stays sparse and [`report`](Self::report) says so.
    ///
    /// # Errors
    /// As [`open`](Self::open); also when the path exists and is no regular file, when there is no
    /// space, and when someone else holds the file (which is then left as it was).
    pub fn create_file(path: &Path, bytes: u64, allocate: bool) -> Result<Self, OpenError> {
        let mut claim = Claim::take(path)?;
        if claim
            .device()
            .is_some_and(|device| device.kind != DeviceKind::File)
        {
            return Err(OpenError::WrongType {
                path: path.into(),
                found: "node that is not a file",
            });
        }
        claim.grow(bytes, allocate)?;
        let device = claim.keep().and_then(Arc::into_inner);
        let device =
            device.ok_or_else(|| open::failed(path, "create", io::ErrorKind::Other.into()))?;
        device.check_size()?;
        Ok(device)
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// File, block device, character node or socket.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// What it was opened for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Size in bytes, rounded down to whole logical blocks.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Whether I/O bypasses the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// What it accepts in one transfer.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is in use and what is not, with the reason.
    #[must_use]
    pub fn report(&self) -> &[Feature] {
        &self.report
    }

    /// The first sign of someone else's data: a file system, a partition table, a volume manager.
    ///
    /// # Errors
    /// The device could not be read.
    pub fn signature(&self) -> Result<Option<Signature>, OpenError> {
        Ok(self.signatures()?.into_iter().next())
    }

    /// All signs of someone else's data at both ends of the device, by offset.
    ///
    /// # Errors
    /// The device could not be read.
    pub fn signatures(&self) -> Result<Vec<Signature>, OpenError> {
        self.find_signatures().map_err(|source| OpenError::Path {
            path: self.path.clone(),
            step: "read of both ends",
            source,
        })
    }

    /// Fills `out` with the bytes at `offset`, without an engine; what lies beyond the end is zero. For a look at a few
    /// places before it is known what the device is.
    ///
    /// # Errors
    /// The device could not be read there.
    pub fn peek(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with_reader(|read| read(offset, out))
    }

    fn find_signatures(&self) -> io::Result<Vec<Signature>> {
        self.with_reader(|read| find_signatures(self.capacity_bytes, read))
    }

    /// Gives `work` a function that reads any bytes.
    fn with_reader<T>(
        &self,
        work: impl FnOnce(&mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>) -> io::Result<T>,
    ) -> io::Result<T> {
        let size = self.capacity_bytes;
        #[cfg(feature = "libblkio")]
        if let Some(server) = &self.server {
            let mut lane = server.lane().map_err(io::Error::other)?;
            return work(&mut |offset, out| by_lane::read(&mut lane, size, offset, out));
        }
        // A second descriptor without O_DIRECT would see stale pages, so this reads through an
        // aligned buffer with the device's own descriptor.
        let arena = crate::Arena::allocate(SIGNATURE_READ_BYTES).map_err(io::Error::other)?;
        let mut buffer = arena
            .take(SIGNATURE_READ_BYTES)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        work(&mut |offset, out| read_through(self, &mut buffer, offset, out, size))
    }

    /// Its size now, rounded down as [`capacity_bytes`](Self::capacity_bytes), which stays what it was when it was
    /// opened. A character node or a socket is not asked again.
    ///
    /// # Errors
    /// The system call failed.
    pub fn capacity_now(&self) -> io::Result<u64> {
        match self.kind {
            DeviceKind::File | DeviceKind::Block => {
                // The end as lseek sees it is right for files and for block devices; no request uses the position.
                let bytes = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::End(0))?;
                Ok(bytes - bytes % u64::from(self.limits.block.value))
            }
            DeviceKind::Char | DeviceKind::Socket => Ok(self.capacity_bytes),
        }
    }

    /// Grows a file to `bytes`, with space reserved for what is there from `from` on, where the file system can. What this
    /// device says of its size stays as it is; open it again.
    ///
    /// # Errors
    /// There is no space, or a system call failed.
    pub fn extend(&self, bytes: u64, from: u64) -> Result<(), OpenError> {
        let failed = |source| open::failed(&self.path, "grow", source);
        // Space first: a file that was grown without is taken for a whole one.
        claim::reserve(&self.path, &self.file, from, bytes.saturating_sub(from))?;
        self.file.set_len(bytes).map_err(failed)
    }

    /// Grows a file to `bytes`, and measures it again.
    fn grow(&mut self, bytes: u64) -> Result<(), OpenError> {
        let path = self.path.clone();
        let step = |step| {
            let path = &path;
            move |source| open::failed(path, step, source)
        };
        let meta = self.file.metadata().map_err(step("stat"))?;
        if meta.len() < bytes {
            self.file.set_len(bytes).map_err(step("grow"))?;
        }
        if self.direct && meta.len() < bytes {
            // A file that was too short could not prove it.
            self.direct =
                open::settle_direct(&self.path, &self.file, bytes, Ok(()), &mut self.report)?;
            self.limits = open::limits(&self.path, &self.file, self.kind, self.direct)?;
        }
        let bytes = bytes.max(meta.len());
        self.capacity_bytes = bytes - bytes % u64::from(self.limits.block.value);
        Ok(())
    }

    /// Refuses one that holds not a single block.
    fn check_size(&self) -> Result<(), OpenError> {
        if self.capacity_bytes > 0 {
            return Ok(());
        }
        // The kernel gives a namespace no capacity whose metadata it cannot handle.
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

    /// The number of its node (`st_rdev`); 0 of a file.
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

    /// What commands need to know, if this is a character node.
    #[cfg(feature = "io-uring")]
    pub(crate) fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// Whether the namespace has left the machine: an open node outlives it.
    #[cfg(feature = "io-uring")]
    pub(crate) fn namespace_is_gone(&self) -> bool {
        let number = self.file.metadata().map(|meta| meta.rdev());
        !number.is_ok_and(siblings::is_namespace)
    }

    /// Whether a hole can be made in it (`FALLOC_FL_PUNCH_HOLE`): a file system may refuse all the same, and a block
    /// device has to know a command that writes zeroes.
    #[cfg(feature = "io-uring")]
    pub(crate) fn punches_holes(&self) -> bool {
        let number = |meta: std::fs::Metadata| {
            discover::QueueDirectory::of(meta.rdev()).number("write_zeroes_max_bytes")
        };
        self.kind != DeviceKind::Block
            || self
                .file
                .metadata()
                .ok()
                .and_then(number)
                .is_some_and(|bytes| bytes > 0)
    }

    /// The node through which another kind of engine reaches the same namespace, if there is one.
    pub(crate) fn sibling(&self) -> Option<PathBuf> {
        let number = self.file.metadata().ok()?.rdev();
        let node = match self.kind {
            DeviceKind::File | DeviceKind::Socket => None,
            DeviceKind::Block => siblings::char_node(number),
            DeviceKind::Char => siblings::block_node(number),
        };
        Some(node?.path())
    }

    /// One read at a place, which may be short.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(namespace) = &self.namespace else {
            return self.file.read_at(buffer, offset);
        };
        let len = self
            .capacity_bytes
            .saturating_sub(offset)
            .min(self.limits.transfer_max.value)
            .min(PASSTHROUGH_READ_BYTES)
            .min(buffer.len() as u64) as usize;
        Command::check_transfer(namespace, offset, len as u32)?;
        let read = Command::read(namespace, offset, len as u32);
        receive(self.fd(), To::Io, read, &mut buffer[..len])?;
        Ok(len)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.kind != DeviceKind::Block && self.access != Access::ReadOnly {
            // Closing would do, if nothing else held the open file; a ring that is being taken
            // apart by the kernel does, for a moment. Without a lock this changes nothing.
            let _ = rustix::fs::flock(&self.file, rustix::fs::FlockOperation::Unlock);
        }
        if let Some(backing) = &self.backing {
            let _ = rustix::fs::flock(backing, rustix::fs::FlockOperation::Unlock);
        }
    }
}

const SIGNATURE_READ_BYTES: usize = 1 << 20;
/// Few enough pages for any queue's segments.
const PASSTHROUGH_READ_BYTES: u64 = 64 << 10;

/// Reads any bytes through an aligned buffer; what lies beyond `size` is zero.
fn read_through(
    device: &Device,
    buffer: &mut [u8],
    offset: u64,
    out: &mut [u8],
    size: u64,
) -> io::Result<()> {
    const GRAIN: u64 = 4096;
    let mut done = 0;
    while done < out.len() {
        let at = offset + done as u64;
        let start = at / GRAIN * GRAIN;
        let skip = (at - start) as usize;
        let want = (out.len() - done).min(buffer.len() - skip);
        let span = (skip + want)
            .next_multiple_of(GRAIN as usize)
            .min(buffer.len());
        let filled = read_some(device, &mut buffer[..span], start, size)?;
        buffer[filled..span].fill(0);
        out[done..done + want].copy_from_slice(&buffer[skip..skip + want]);
        done += want;
    }
    Ok(())
}

fn read_some(device: &Device, buffer: &mut [u8], start: u64, size: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() && start + (filled as u64) < size {
        match device.read_at(&mut buffer[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(moved) => filled += moved,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !filled.is_multiple_of(512) {
            // Only the end of a file is not on a sector; reading on would be misaligned.
            break;
        }
    }
    Ok(filled)
}
