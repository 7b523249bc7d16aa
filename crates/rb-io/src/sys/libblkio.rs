// UNSAFETY: the connections of libblkio are found by their numbers, which anyone may close.
#![expect(unsafe_code, reason = "descriptors are raw numbers")]
//! What libblkio takes and gives in raw form: descriptors, memory, error numbers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::net::UnixStream;

use blkio::{Blkio, MemoryRegion};

use crate::arena::Arena;

/// What libblkio says, with the error number where people look for it.
pub(crate) fn from_blkio(error: &blkio::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno().raw_os_error())
}

/// Hands `device` to libblkio, which owns the copy from then on, and connects.
pub(crate) fn connect_to(blkio: &mut Blkio, device: BorrowedFd<'_>) -> blkio::Result<()> {
    let io_error = |why| blkio::Error::from_io_error(why, blkio::Errno::IO);
    let copy = device.try_clone_to_owned().map_err(io_error)?;
    blkio.set_i32("fd", copy.as_raw_fd())?;
    // From here on the number is libblkio's: it makes a file of it first of all.
    let _its_own = copy.into_raw_fd();
    blkio.connect()
}

/// How libblkio is told of an arena; `None` if it has no file.
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

/// The stream sockets of this process that are connected to a server's path, by inode. libblkio does not show
/// its own, so it is found as the one that is there after connecting and was not before.
pub(crate) fn connections() -> impl Iterator<Item = (u64, UnixStream)> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(connection)
}

fn connection(number: i32) -> Option<(u64, UnixStream)> {
    // SAFETY: only to copy it, which is harmless whatever the number is: the kernel refuses one that was
    // closed meanwhile, and a copy of another file is found out below and closed.
    let copied = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned();
    let socket = UnixStream::from(copied.ok()?);
    let peer = socket.peer_addr().ok()?;
    peer.as_pathname()?;
    let stat = rustix::fs::fstat(&socket).ok()?;
    Some((stat.st_ino, socket))
}
