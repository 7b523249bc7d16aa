// UNSAFETY: maps a page that the kernel clears in a forked child, and reads it through a reference.
#![expect(unsafe_code, reason = "mmap and madvise of one page")]
//! A number that a forked child does not inherit.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The kernel rounds this up to a page.
const MARK_BYTES: usize = size_of::<AtomicU64>();

/// Returns a number that is 0 in a process that has not set it, even in a child of a process that
/// has. `None` if the kernel has no such memory (`MADV_WIPEONFORK`, Linux 4.14).
pub(crate) fn mark() -> Option<&'static AtomicU64> {
    static MARK: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    *MARK.get_or_init(|| {
        // Miri does not support this advice.
        if cfg!(miri) {
            return None;
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no existing
        // memory.
        let page = unsafe {
            let anywhere = std::ptr::null_mut();
            rustix::mm::mmap_anonymous(anywhere, MARK_BYTES, access, MapFlags::PRIVATE)
        };
        let page = page.ok()?;
        // SAFETY: the range is the mapping created above, which no other code knows.
        let wiped = unsafe { rustix::mm::madvise(page, MARK_BYTES, Advice::LinuxWipeOnFork) };
        if wiped.is_err() {
            // SAFETY: as above; the address has not been passed on.
            let _ = unsafe { rustix::mm::munmap(page, MARK_BYTES) };
            return None;
        }
        // SAFETY: the mapping begins on a page, is readable, writable and zeroed, which is a valid
        // number, and is never unmapped. The kernel clears it in a child before the child runs.
        Some(unsafe { &*page.cast::<AtomicU64>() })
    })
}
