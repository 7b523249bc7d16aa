//! [`Bell`]: an eventfd that a Python thread polls.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

/// An eventfd. Native threads ring it, and never need the interpreter for that.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> std::io::Result<Bell> {
        Ok(Bell(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    pub(crate) fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Makes the descriptor readable.
    pub(crate) fn ring(&self) {
        // The only error is a counter that is full, and then the descriptor is readable. All targets are little-endian.
        _ = write(&self.0, &1_u64.to_le_bytes());
    }

    /// Makes the descriptor unreadable, before its user looks at what it rings for.
    pub(crate) fn silence(&self) {
        // The only error is that it was silent.
        _ = read(&self.0, &mut [0; 8]);
    }
}
