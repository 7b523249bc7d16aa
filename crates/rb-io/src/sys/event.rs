// UNSAFETY: eventfd counters are read and written through libc, whose calls are unsafe.
#![expect(unsafe_code, reason = "eventfd_read and eventfd_write")]
//! The eventfd under a waker.

use std::io;
#[cfg(feature = "io-uring")]
use std::os::fd::RawFd;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::EventfdFlags;

/// A kernel counter that a ring can wait for.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(rustix::event::eventfd(0, flags)?))
    }

    /// Makes it readable. A full counter is readable already, so a failure changes nothing.
    pub(crate) fn raise(&self) {
        // SAFETY: the descriptor is open as long as `self` lives.
        unsafe { libc::eventfd_write(self.0.as_raw_fd(), 1) };
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        let mut count = 0;
        // SAFETY: the descriptor is open as long as `self` lives, and `count` outlives the call.
        unsafe { libc::eventfd_read(self.0.as_raw_fd(), &raw mut count) };
    }

    #[cfg(feature = "io-uring")]
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
