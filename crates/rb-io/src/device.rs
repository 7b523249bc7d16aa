//! Open files and block devices: kind, size, exclusive access, limits.

pub(crate) mod access;
#[cfg(feature = "libblkio")]
mod by_lane;
mod cache;
mod claim;
mod direct;
mod discover;
mod exclusive;
mod grow;
mod handle;
mod holders;
mod kind;
mod open;
mod passthrough;
mod read;
mod reserve;
mod siblings;
mod size_limit;
#[cfg(feature = "libblkio")]
mod socket;
mod space;
#[cfg(test)]
mod tests;

pub use access::Access;
pub use claim::Claim;
pub use handle::Device;
pub use kind::DeviceKind;
pub use reserve::Reservation;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{OpenError, failed};

impl Device {
    /// Opens an existing file, block device, or character node of an NVMe namespace (`/dev/ngXnY`),
    /// or connects to a vhost-user-blk server (feature `libblkio`) if there is a socket at the
    /// path.
    ///
    /// [`Access::ReadWrite`] is exclusive. A block device that is mounted, used as swap, or held by
    /// device mapper, md or another opener is refused (`O_EXCL`). A file, including one behind a
    /// loop device, is locked (`flock`, without waiting) until the device and every engine over it
    /// are gone. A character node is claimed through the block node of the same namespace, and is
    /// refused under the same conditions as that. [`Access::ReadOnly`] takes no lock and never
    /// writes. [`Access::ReadLocked`] never writes either, but claims the device as a writer would,
    /// except that several readers may hold a file this way at the same time. A socket cannot be
    /// claimed, which [`report`](Self::report) mentions.
    ///
    /// I/O bypasses the page cache (`O_DIRECT`) if the file system supports it, which is verified
    /// by reading a block; otherwise I/O is buffered, and [`report`](Self::report) gives the
    /// reason.
    ///
    /// # Errors
    /// [`OpenError::Path`], [`OpenError::InUse`], [`OpenError::WrongType`], [`OpenError::Socket`],
    /// [`OpenError::TooSmall`], [`OpenError::Limits`].
    ///
    /// ```
    /// use rb_io::{Access, Device, DeviceKind};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("device");
    /// let device = Device::create_file(&path, 1 << 20, false)?;
    /// assert_eq!((device.kind(), device.capacity_bytes()), (DeviceKind::File, 1 << 20));
    ///
    /// // Opening for writing is exclusive.
    /// let second = Device::open(&path, Access::ReadWrite).err().expect("the device is in use");
    /// assert!(second.is_in_use());
    /// drop(device);
    /// assert!(Device::open(&path, Access::ReadWrite).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        open::open(path, access)
    }

    /// Creates a regular file of `bytes` (mode 0600), or grows an existing one to that size, and
    /// opens it for writing. A larger file keeps its size: files are never truncated.
    ///
    /// With `allocate`, space for the first `bytes` is reserved (`fallocate`); if the file system
    /// cannot do that, the file stays sparse.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); also if the path exists and is not a regular file, if there
    /// is no space, or if another process holds the file, which is then left unchanged.
    pub fn create_file(path: &Path, bytes: u64, allocate: bool) -> Result<Self, OpenError> {
        let mut claim = Claim::take(path)?;
        if claim
            .device()
            .is_some_and(|device| device.kind() != DeviceKind::File)
        {
            return Err(OpenError::WrongType {
                path: path.into(),
                found: "node that is not a file",
            });
        }
        claim.grow(bytes)?;
        if let (Some(device), true) = (claim.device(), allocate) {
            // Allocate before `keep`, so that a failed allocation leaves no file behind.
            device.allocate(std::slice::from_ref(&(0..bytes)))?;
        }
        let device = claim.keep().and_then(Arc::into_inner);
        let device = device.ok_or_else(|| failed(path, "create", io::ErrorKind::Other.into()))?;
        device.check_size()?;
        Ok(device)
    }
}
