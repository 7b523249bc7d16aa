// UNSAFETY: the connections of libblkio are found by their descriptor numbers, which any code may
// close.
#![expect(unsafe_code, reason = "descriptors are raw numbers")]
//! Raw interfaces of libblkio: descriptors, memory, error numbers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::net::UnixStream;

use blkio::{Blkio, MemoryRegion};

use crate::arena::Arena;

/// Converts a libblkio error, with the error number as the raw OS error.
pub(crate) fn from_blkio(error: &blkio::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno().raw_os_error())
}

/// Passes a copy of `device` to libblkio, which owns the copy from then on, and connects.
pub(crate) fn connect_to(blkio: &mut Blkio, device: BorrowedFd<'_>) -> blkio::Result<()> {
    let io_error = |why| blkio::Error::from_io_error(why, blkio::Errno::IO);
    let copy = device.try_clone_to_owned().map_err(io_error)?;
    blkio.set_i32("fd", copy.as_raw_fd())?;
    // From here on libblkio owns the descriptor: it wraps it in a file as its first step.
    let _its_own = copy.into_raw_fd();
    blkio.connect()
}

/// Returns the libblkio region of an arena; `None` if the arena has no file.
pub(crate) fn region_of(arena: &Arena) -> Option<MemoryRegion> {
    Some(MemoryRegion {
        addr: arena.as_ptr().addr(),
        iova: 0,
        len: arena.bytes(),
        fd: arena.shared_file()?.as_raw_fd(),
        fd_offset: 0,
        flags: 0,
    })
}

/// Returns the stream sockets of this process that are connected to a server's path, with their
/// inode numbers. libblkio does not expose its socket, so it is identified as the one that exists
/// after connecting and did not before.
pub(crate) fn connections() -> impl Iterator<Item = (u64, UnixStream)> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(connection)
}

fn connection(number: i32) -> Option<(u64, UnixStream)> {
    // SAFETY: the descriptor is only duplicated, which is harmless for any number: the kernel
    // refuses a number that was closed in the meantime, and a duplicate of another file is detected
    // below and closed.
    let copied = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned();
    let socket = UnixStream::from(copied.ok()?);
    let peer = socket.peer_addr().ok()?;
    peer.as_pathname()?;
    let stat = rustix::fs::fstat(&socket).ok()?;
    Some((stat.st_ino, socket))
}
