//! I/O past the page cache: the flag, the proof that it works, and the limits that follow.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::access::Access;
use super::discover;
use super::kind::DeviceKind;
use crate::arena::Arena;
use crate::engine::Feature;
use crate::error::{OpenError, failed};
use crate::limits::Limits;

/// Decides whether I/O is direct, and says so in the report.
pub(super) fn settle_direct(
    path: &Path,
    file: &File,
    bytes: u64,
    direct: io::Result<()>,
    report: &mut Vec<Feature>,
) -> Result<bool, OpenError> {
    const NAME: &str = "direct I/O";
    report.retain(|feature| feature.name != NAME);
    match direct.and_then(|()| prove_direct(file, bytes)) {
        Ok(()) => {
            report.push(Feature::on(NAME, "O_DIRECT"));
            Ok(true)
        }
        Err(error) => {
            clear_direct(file).map_err(|source| failed(path, "clear O_DIRECT", source))?;
            let why = format!("O_DIRECT refused, I/O goes through the page cache: {error}");
            report.push(Feature::off(NAME, why));
            Ok(false)
        }
    }
}

pub(super) fn limits(
    path: &Path,
    file: &File,
    kind: DeviceKind,
    direct: bool,
) -> Result<Limits, OpenError> {
    let limits = discover::limits(file, kind, direct)
        .map_err(|source| failed(path, "reading the limits", source))?;
    limits.validate().map_err(|reason| OpenError::Limits {
        path: path.into(),
        reason,
    })?;
    Ok(limits)
}

/// Opens with O_DIRECT, or without it where the file system refuses it at once.
pub(super) fn open_direct(
    path: &Path,
    access: Access,
    flags: i32,
) -> io::Result<(File, Result<(), io::Error>)> {
    let open = |flags| {
        OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            .custom_flags(flags)
            .open(path)
    };
    match open(flags | libc::O_DIRECT) {
        Ok(file) => Ok((file, Ok(()))),
        Err(refused) if refused.raw_os_error() == Some(libc::EINVAL) => {
            Ok((open(flags)?, Err(refused)))
        }
        Err(error) => Err(error),
    }
}

/// Some file systems take the flag and then refuse the I/O, so only a read proves it.
fn prove_direct(file: &File, bytes: u64) -> io::Result<()> {
    const PROBE_BYTES: usize = 4096;
    if bytes < PROBE_BYTES as u64 {
        return Ok(());
    }
    let arena = Arena::allocate(PROBE_BYTES).map_err(io::Error::other)?;
    let mut buffer = arena.take(PROBE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
    match file.read_at(&mut buffer, 0) {
        // A bad first block says nothing about O_DIRECT.
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

fn clear_direct(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?)
}
