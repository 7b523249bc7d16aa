// UNSAFETY: a file is mapped, queried and unmapped; the mapping is never read or written.
#![expect(unsafe_code, reason = "mmap, mincore and munmap")]
//! Queries which pages of a file are in the page cache.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags};

/// Returns the byte ranges of a file, from `offset` (a multiple of the page), that are in the page
/// cache.
///
/// Uses `mincore` rather than `cachestat`: on a stacked file system (overlayfs) the latter examines
/// the upper file, which has no cache, the former the file below, which is the one that reads come
/// from.
pub(crate) fn resident(
    fd: BorrowedFd<'_>,
    offset: u64,
    bytes: usize,
) -> io::Result<Vec<Range<u64>>> {
    let page = rustix::param::page_size();
    let mut states = vec![0_u8; bytes.div_ceil(page)];
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let start = unsafe {
        rustix::mm::mmap(
            ptr::null_mut(),
            bytes,
            ProtFlags::READ,
            MapFlags::PRIVATE,
            fd,
            offset,
        )
    }?;
    // SAFETY: the range is the mapping's, and `states` has a byte for each of its pages.
    let asked = match unsafe { libc::mincore(start, bytes, states.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: it was mapped above, and nothing refers to it.
    let unmapped = unsafe { rustix::mm::munmap(start, bytes) };
    asked?;
    unmapped?;
    let end = offset + bytes as u64;
    let mut found: Vec<Range<u64>> = Vec::new();
    for (number, _) in states
        .iter()
        .enumerate()
        .filter(|(_, state)| *state & 1 != 0)
    {
        let at = offset + (number * page) as u64;
        let until = (at + page as u64).min(end);
        match found.last_mut().filter(|last| last.end == at) {
            Some(last) => last.end = until,
            None => found.push(at..until),
        }
    }
    Ok(found)
}

/// A mapping of the first bytes of a file with its pages present: the kernel does not drop them
/// from its cache.
#[cfg(test)]
pub(crate) struct Mapped(*mut core::ffi::c_void, usize);

#[cfg(test)]
impl Mapped {
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<Mapped> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, ProtFlags::READ, flags, fd, 0) }?;
        Ok(Mapped(start, bytes))
    }
}

#[cfg(test)]
impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new`, and nothing refers to it.
        let _ = unsafe { rustix::mm::munmap(self.0, self.1) };
    }
}
