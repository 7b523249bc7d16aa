//! An open file or block device: what it is, how big, who else may have it, what it accepts.

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

    /// Creates a regular file of `bytes` (mode 0600), or grows an existing one to it, and opens it
    /// for writing. A larger file keeps its size: nothing is ever cut off.
    ///
    /// With `allocate`, space for the first `bytes` is reserved (`fallocate`); where the file
    /// system cannot, the file stays sparse.
    ///
    /// # Errors
    /// As [`open`](Self::open); also when the path exists and is no regular file, when there is no
    /// space, and when someone else holds the file (which is then left as it was).
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
            // Before it is kept: what finds no space leaves no file.
            device.allocate(std::slice::from_ref(&(0..bytes)))?;
        }
        let device = claim.keep().and_then(Arc::into_inner);
        let device = device.ok_or_else(|| failed(path, "create", io::ErrorKind::Other.into()))?;
        device.check_size()?;
        Ok(device)
    }
}
