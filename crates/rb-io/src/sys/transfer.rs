// UNSAFETY: the kernel gets addresses of buffers; the safe wrappers take slices, which must not
// exist while an `IoBuf` does.
#![expect(
    unsafe_code,
    reason = "pread, pwrite and the discard ioctl take raw addresses"
)]
//! Blocking transfers between a descriptor and a part's memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::request::Part;

/// `BLKDISCARD` of `linux/fs.h`: `_IO(0x12, 119)`.
const BLKDISCARD: libc::Ioctl = 0x1277;

fn moved(result: isize) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn device_offset(offset: u64) -> io::Result<libc::off_t> {
    let too_far = |_| io::Error::from_raw_os_error(libc::EINVAL);
    libc::off_t::try_from(offset).map_err(too_far)
}

/// Calls `pread` once, which may be short.
pub(crate) fn read(fd: BorrowedFd<'_>, part: &Part) -> io::Result<u32> {
    part.check()?;
    let Some(buf) = &part.buf else { return Ok(0) };
    let to = buf.as_ptr().wrapping_add(part.buf_offset);
    let offset = device_offset(part.offset)?;
    // SAFETY: `check` keeps the transfer inside the range, which `part.buf` keeps mapped and taken
    // until the call returns.
    moved(unsafe { libc::pread(fd.as_raw_fd(), to.cast(), part.len as usize, offset) })
}

/// Calls `pwrite` once, which may be short.
pub(crate) fn write(fd: BorrowedFd<'_>, part: &Part) -> io::Result<u32> {
    part.check()?;
    let Some(buf) = &part.buf else { return Ok(0) };
    let from = buf.as_ptr().wrapping_add(part.buf_offset);
    let offset = device_offset(part.offset)?;
    // SAFETY: as in `read`.
    moved(unsafe { libc::pwrite(fd.as_raw_fd(), from.cast(), part.len as usize, offset) })
}

/// Calls `ioctl(BLKDISCARD)` on a block device.
pub(crate) fn discard_blocks(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: BLKDISCARD reads two u64 from the address, which outlive the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), BLKDISCARD, range.as_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
