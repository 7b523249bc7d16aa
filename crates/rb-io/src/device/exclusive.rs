//! Locks on a file and on what is behind a loop device, and how long one that is busy is waited for.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::access::Access;
use super::holders;
use crate::error::{OpenError, failed};

/// A file behind a loop device has two ways in, and only the block device knows of mounts.
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

/// The file may have been opened before the loop device was set up, and several of those may be over it.
pub(super) fn lock_loop_backing(
    path: &Path,
    device: &Metadata,
    access: Access,
) -> Result<Option<File>, OpenError> {
    let backing = holders::file_behind_loop(device.rdev());
    let backing = backing.filter(|path| std::fs::metadata(path).is_ok_and(|meta| meta.is_file()));
    // One that is gone, or out of reach, has no other way in that we know of.
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

/// The kernel takes the ring of a process that has gone apart a moment later, and until then the
/// process's claims stay: a lock on a file, the exclusive opening of a block device. So what is busy
/// is asked again for a short while, at most a second.
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
