// UNSAFETY: ioctls pass the kernel the addresses of a command and of the memory that it fills.
#![expect(unsafe_code, reason = "ioctl takes raw addresses")]
//! Sends single NVMe commands through ioctls of a character node, for opening a device.
//!
//! The numbers are those of `linux/nvme_ioctl.h`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::nvme::command::{COMMAND_BYTES, Command};
use crate::nvme::status::Status;

/// `_IO('N', 0x40)`.
const NVME_IOCTL_ID: libc::Ioctl = 0x4e40;
/// `_IOWR('N', 0x41, struct nvme_admin_cmd)`.
const NVME_IOCTL_ADMIN_CMD: libc::Ioctl = exchange(0x41);
/// `_IOWR('N', 0x43, struct nvme_passthru_cmd)`.
const NVME_IOCTL_IO_CMD: libc::Ioctl = exchange(0x43);

/// `_IOWR('N', number, a command)`: direction in bits 31:30, size in 29:16, type in 15:8.
const fn exchange(number: libc::Ioctl) -> libc::Ioctl {
    // The size is 72, far below its 14 bits.
    (3 << 30) | ((COMMAND_BYTES as libc::Ioctl) << 16) | (0x4e << 8) | number
}

/// The controller queue that a command is sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum To {
    Admin,
    Io,
}

/// Returns the namespace identifier of a character node.
pub(crate) fn namespace_id(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: this request takes no address.
    let id = unsafe { libc::ioctl(fd.as_raw_fd(), NVME_IOCTL_ID) };
    u32::try_from(id).map_err(|_| io::Error::last_os_error())
}

/// Sends a command that fills `data`, and waits for its completion.
///
/// # Errors
/// The error from the kernel, or the status that the controller returned.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    to: To,
    command: Command,
    data: &mut [u8],
) -> io::Result<()> {
    let len = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut command = command.with_data(data.as_mut_ptr(), len);
    let request = match to {
        To::Admin => NVME_IOCTL_ADMIN_CMD,
        To::Io => NVME_IOCTL_IO_CMD,
    };
    // SAFETY: the command outlives the call, and it names exactly the memory of `data`, which is
    // borrowed until the call returns and which the command's opcodes (identify, receive, read)
    // only fill.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut command) };
    match answer {
        0 => Ok(()),
        // At most seventeen bits: the status field without its phase.
        1.. => Err(Status::new(answer as u16).into()),
        _ => Err(io::Error::last_os_error()),
    }
}
