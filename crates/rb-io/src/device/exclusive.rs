//! Locks a file, and the file behind a loop device; retries briefly if it is busy.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::access::Access;
use super::holders;
use crate::error::{OpenError, failed};

/// Refuses a file that backs a loop device: only the block device knows about mounts.
pub(super) fn refuse_loop_backing(path: &Path, file: &Metadata) -> Result<(), OpenError> {
    match holders::loop_device_over(file.dev(), file.ino()) {
        None => Ok(()),
        Some(name) => Err(OpenError::InUse {
            path: path.into(),
            ended: false,
            reason: format!("it is behind /dev/{name}: use that, or detach it (losetup -d)"),
        }),
    }
}

/// Locks the file behind a loop device. It may have been opened before the loop device was set up,
/// and several loop devices may share it.
pub(super) fn lock_loop_backing(
    path: &Path,
    device: &Metadata,
    access: Access,
) -> Result<Option<File>, OpenError> {
    let backing = holders::file_behind_loop(device.rdev());
    let backing = backing.filter(|path| std::fs::metadata(path).is_ok_and(|meta| meta.is_file()));
    // A backing file that is gone or out of reach cannot be opened by another known path.
    let Some(file) = backing.and_then(|backing| File::open(backing).ok()) else {
        return Ok(None);
    };
    lock(path, &file, access)?;
    Ok(Some(file))
}

pub(super) fn lock(path: &Path, file: &File, access: Access) -> Result<(), OpenError> {
    let operation = match access {
        Access::ReadLocked => FlockOperation::NonBlockingLockShared,
        _ => FlockOperation::NonBlockingLockExclusive,
    };
    let lock = || Ok(rustix::fs::flock(file, operation)?);
    match patiently(lock) {
        Ok(()) => Ok(()),
        Err(error) if is_busy(&error) => {
            let metadata = file.metadata().ok();
            let process = metadata.and_then(|file| holders::process_with_lock(&file));
            let ended = process.is_some_and(holders::has_ended);
            let reason = match process {
                Some(pid) if ended => format!(
                    "process {pid} took its lock (flock) and has ended; the kernel, or a process that inherited it, has yet to close the file"
                ),
                Some(pid) => format!("process {pid} holds its lock (flock)"),
                None => "another opener holds its lock (flock)".into(),
            };
            let path = path.into();
            Err(OpenError::InUse {
                path,
                reason,
                ended,
            })
        }
        Err(error) => Err(failed(path, "lock", error)),
    }
}

/// Retries while busy, for at most a second. After a process exits, the kernel tears down its
/// io_uring asynchronously, and until then the claims of that process (a file lock, the exclusive
/// opening of a block device) remain.
pub(super) fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(10);
    let mut tries = 0;
    loop {
        match attempt() {
            Err(busy) if is_busy(&busy) && tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

pub(super) fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EWOULDBLOCK))
}
