//! The status of a failed command, as a message and as the error number that block I/O would
//! return.
//!
//! Base specification section 4.2.3 (status code types and their codes), command set specification
//! section 3.1.2.2 for those of the NVM command set.

use std::fmt;
use std::io;

/// The status field of a completion as passthrough returns it: code in bits 7:0, type in 10:8,
/// "more" in 13, "do not retry" in 14.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status(u16);

const DO_NOT_RETRY: u16 = 1 << 14;

impl Status {
    /// Creates a status from a positive return value of the kernel.
    pub(crate) fn new(answer: u16) -> Self {
        Self(answer)
    }

    /// Returns type and code.
    fn code(self) -> u16 {
        self.0 & 0x7ff
    }

    /// Returns the error number that a caller of block I/O would see. Two differ from the kernel's
    /// choice: a medium error is EIO as read(2) documents it, not ENODATA, and a removed namespace
    /// is ENODEV.
    ///
    /// A command that may succeed when sent again, according to the controller or a path, is
    /// EAGAIN. The kernel does not retry passthrough commands itself; the lane does.
    pub(crate) fn errno(self) -> i32 {
        let again = self.0 & DO_NOT_RETRY == 0;
        match self.code() {
            0x007 | 0x008 | 0x021 | 0x022 | 0x082 | 0x300..=0x371 if again => libc::EAGAIN,
            0x001 | 0x002 | 0x180 => libc::EOPNOTSUPP,
            0x00b => libc::ENODEV,
            0x020 | 0x182 => libc::EROFS,
            0x081 => libc::ENOSPC,
            0x083 => libc::EBADE,
            _ => libc::EIO,
        }
    }

    fn words(self) -> &'static str {
        match self.code() {
            0x001 => "invalid command opcode",
            0x002 => "invalid field in command",
            0x004 => "data transfer error",
            0x005 => "aborted: power loss is near",
            0x006 => "internal error of the controller",
            0x007 => "aborted as asked",
            0x008 => "aborted: its submission queue was deleted",
            0x00b => "invalid namespace or format",
            0x00f => "memory of another length than the data",
            0x013 => "invalid address of memory",
            0x015 => "operation denied",
            0x020 => "the namespace is write protected",
            0x021 => "interrupted by the controller",
            0x022 => "transient error of the transport",
            0x029 => "data placement (FDP) is disabled",
            0x02a => "invalid placement handle",
            0x080 => "blocks beyond the end of the namespace",
            0x081 => "capacity exceeded",
            0x082 => "the namespace is not ready",
            0x083 => "conflict with a reservation",
            0x084 => "a format is in progress",
            0x180 => "conflicting attributes",
            0x182 => "write to a read-only range",
            0x183 => "the command is larger than the controller's limit",
            0x280 => "write fault",
            0x281 => "unrecovered read error",
            0x282 => "guard check of protection information failed",
            0x283 => "application tag check of protection information failed",
            0x284 => "reference tag check of protection information failed",
            0x286 => "access denied",
            0x287 => "the block is deallocated or was never written",
            0x300 => "internal error of a path",
            0x301 => "the path is lost permanently (ANA persistent loss)",
            0x302 => "the path is inaccessible (ANA)",
            0x303 => "the path is changing (ANA transition)",
            0x360 => "path error of the controller",
            0x370 => "path error of the host",
            0x371 => "aborted by the host",
            _ => match self.code() >> 8 {
                0 => "generic error",
                1 => "error of this command",
                2 => "error of the medium or of data integrity",
                3 => "error of a path",
                7 => "error that only the vendor explains",
                _ => "error of an unknown type",
            },
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, code) = (self.code() >> 8, self.code() & 0xff);
        write!(
            f,
            "{} (NVMe status: type {kind}, code {code:#04x}",
            self.words()
        )?;
        f.write_str(if self.0 & DO_NOT_RETRY == 0 {
            ")"
        } else {
            ", do not retry)"
        })
    }
}

impl std::error::Error for Status {}

impl From<Status> for io::Error {
    fn from(status: Status) -> Self {
        let kind = Self::from_raw_os_error(status.errno()).kind();
        Self::new(kind, status)
    }
}

/// Returns the error number of `error`, also if it carries a status instead.
pub(crate) fn error_number(error: &io::Error) -> Option<i32> {
    let status = || error.get_ref()?.downcast_ref::<Status>();
    error
        .raw_os_error()
        .or_else(|| status().map(|status| status.errno()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_transient;

    fn error(answer: u16) -> io::Error {
        Status::new(answer).into()
    }

    #[test]
    fn words_and_numbers_of_a_failed_medium() {
        let bad = error(0x281);
        assert_eq!(error_number(&bad), Some(libc::EIO));
        assert!(!is_transient(&bad));
        assert_eq!(
            bad.to_string(),
            "unrecovered read error (NVMe status: type 2, code 0x81)"
        );
        let vendor = error(0x4000 | 0x7c1).to_string();
        assert!(
            vendor.contains("vendor") && vendor.contains("do not retry"),
            "{vendor}"
        );
    }

    #[test]
    fn only_what_may_work_later_is_tried_again() {
        for again in [0x007, 0x021, 0x082, 0x303, 0x371] {
            assert!(is_transient(&error(again)), "{again:#x}");
            assert!(!is_transient(&error(again | DO_NOT_RETRY)), "{again:#x}");
        }
        for never in [0x001, 0x006, 0x080, 0x280, 0x2ff, 0x7ff] {
            assert!(!is_transient(&error(never)), "{never:#x}");
        }
        assert_eq!(error_number(&error(0x00b)), Some(libc::ENODEV));
        assert_eq!(error(0x081).kind(), io::ErrorKind::StorageFull);
    }

    /// Every status that a device can return has a message.
    #[test]
    fn every_status_has_words() {
        for answer in 1..u16::MAX {
            assert!(!Status::new(answer).to_string().is_empty());
        }
    }
}
