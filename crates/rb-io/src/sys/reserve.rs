// UNSAFETY: ioctls pass the kernel the address of their argument.
#![expect(unsafe_code, reason = "ioctl takes raw addresses")]
//! Persistent reservations of a block device through the kernel's ioctls, for SCSI and NVMe.
//!
//! The numbers and structures are those of `linux/pr.h`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct pr_registration`.
#[repr(C)]
struct Registration {
    old_key: u64,
    new_key: u64,
    flags: u32,
    pad: u32,
}

/// `struct pr_reservation`.
#[repr(C)]
struct Held {
    key: u64,
    kind: u32,
    flags: u32,
}

/// `PR_WRITE_EXCLUSIVE`: every host may read, the holder may write.
const WRITE_EXCLUSIVE: u32 = 1;
/// `PR_FL_IGNORE_KEY`: the previous key of this host does not matter.
const IGNORE_KEY: u32 = 1;

const REGISTER: libc::Ioctl = write_request(200, size_of::<Registration>());
const RESERVE: libc::Ioctl = write_request(201, size_of::<Held>());
const RELEASE: libc::Ioctl = write_request(202, size_of::<Held>());

/// `_IOW('p', number, an argument of this size)`: direction in bits 31:30, size in 29:16, type in
/// 15:8.
const fn write_request(number: libc::Ioctl, size: usize) -> libc::Ioctl {
    (1 << 30) | ((size as libc::Ioctl) << 16) | (0x70 << 8) | number
}

/// Registers `key` for this host, replacing any previous key; 0 unregisters.
pub(crate) fn register(fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
    let argument = Registration {
        old_key: 0,
        new_key: key,
        flags: IGNORE_KEY,
        pad: 0,
    };
    // SAFETY: the argument has the layout that this request reads, and outlives the call.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), REGISTER, &raw const argument) })
}

/// Reserves the device for writing by the host that registered `key`.
pub(crate) fn reserve(fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
    held(fd, RESERVE, key)
}

/// Releases the reservation.
pub(crate) fn release(fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
    held(fd, RELEASE, key)
}

fn held(fd: BorrowedFd<'_>, request: libc::Ioctl, key: u64) -> io::Result<()> {
    let argument = Held {
        key,
        kind: WRITE_EXCLUSIVE,
        flags: 0,
    };
    // SAFETY: the argument has the layout that these two requests read, and outlives the call.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw const argument) })
}

/// Converts a return value: zero, -1 with an error number, or the device's own status; the block
/// layer returns EBADE for a reservation conflict.
fn answer(answer: libc::c_int) -> io::Result<()> {
    match answer {
        0 => Ok(()),
        ..0 => Err(io::Error::last_os_error()),
        _ => Err(io::Error::from_raw_os_error(libc::EBADE)),
    }
}
