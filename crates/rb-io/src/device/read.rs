//! Reads a device without an engine: a few places, and signatures of foreign data.

use std::io;
use std::os::unix::fs::FileExt;

#[cfg(feature = "libblkio")]
use super::by_lane;
use super::handle::Device;
use super::kind::DeviceKind;
use crate::arena::Arena;
use crate::error::OpenError;
use crate::nvme::command::Command;
use crate::signature::{Signature, find_signatures};
use crate::sys::nvme::{To, receive};

const SIGNATURE_READ_BYTES: usize = 1 << 20;
/// Few enough pages for the segment limit of any queue.
const PASSTHROUGH_READ_BYTES: u64 = 64 << 10;

impl Device {
    /// Returns the first signature of foreign data: a file system, a partition table, a volume
    /// manager.
    ///
    /// # Errors
    /// The device could not be read.
    ///
    /// ```
    /// use rb_io::{Access, Device};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("device");
    /// let mut encrypted = vec![0; 1 << 20];
    /// encrypted[..6].copy_from_slice(b"LUKS\xba\xbe");
    /// std::fs::write(&path, encrypted)?;
    /// let found = Device::open(&path, Access::ReadOnly)?.signature()?;
    /// assert_eq!(found.map(|found| (found.name, found.offset)), Some(("LUKS", 0)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn signature(&self) -> Result<Option<Signature>, OpenError> {
        Ok(self.signatures()?.into_iter().next())
    }

    /// Returns all signatures of foreign data at both ends of the device, by offset.
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

    /// Fills `out` with the bytes at `offset`, without an engine; bytes beyond the end read as
    /// zero. For reading a few places before the contents of the device are known.
    ///
    /// # Errors
    /// The device could not be read there.
    pub fn peek(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with_reader(|read| read(offset, out))
    }

    fn find_signatures(&self) -> io::Result<Vec<Signature>> {
        self.with_reader(|read| find_signatures(self.capacity_bytes, read))
    }

    /// Calls `work` with a function that reads any bytes.
    fn with_reader<T>(
        &self,
        work: impl FnOnce(&mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>) -> io::Result<T>,
    ) -> io::Result<T> {
        // The end of a file may be less than a block, which requests cannot address.
        let size = match self.kind {
            DeviceKind::File => self.file.metadata()?.len(),
            _ => self.capacity_bytes,
        };
        #[cfg(feature = "libblkio")]
        if let Some(server) = &self.server {
            let mut lane = server.lane().map_err(io::Error::other)?;
            return work(&mut |offset, out| by_lane::read(&mut lane, size, offset, out));
        }
        // A second descriptor without `O_DIRECT` would see stale pages, so this uses the device's
        // own descriptor with an aligned buffer.
        let arena = Arena::allocate(SIGNATURE_READ_BYTES).map_err(io::Error::other)?;
        let mut buffer = arena
            .take(SIGNATURE_READ_BYTES)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        work(&mut |offset, out| read_through(self, &mut buffer, offset, out, size))
    }

    /// Issues one read, which may be short.
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

/// Reads any bytes through an aligned buffer; bytes beyond `size` are zero.
fn read_through(
    device: &Device,
    buffer: &mut [u8],
    offset: u64,
    out: &mut [u8],
    size: u64,
) -> io::Result<()> {
    let grain = u64::from(device.limits.block.value).max(4096);
    let mut done = 0;
    while done < out.len() {
        let at = offset + done as u64;
        let start = at / grain * grain;
        let skip = (at - start) as usize;
        let want = (out.len() - done).min(buffer.len() - skip);
        let span = (skip + want)
            .next_multiple_of(grain as usize)
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
            // Only the end of a file is not sector-aligned; continuing would be misaligned.
            break;
        }
    }
    Ok(filled)
}
