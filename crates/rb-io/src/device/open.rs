//! Opening: exclusive where it writes, direct where that works.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};

use super::{Access, Device, DeviceKind, discover, holders, passthrough, siblings};
use crate::arena::Arena;
use crate::engine::Feature;
use crate::error::OpenError;
use crate::limits::Limits;

pub(super) fn open(path: &Path, access: Access) -> Result<Device, OpenError> {
    let metadata = std::fs::metadata(path).map_err(|source| failed(path, "stat", source))?;
    #[cfg(feature = "libblkio")]
    if metadata.file_type().is_socket() {
        return super::socket::open(path, access);
    }
    let kind = kind_of(path, &metadata)?;
    if kind == DeviceKind::Char {
        return passthrough::open(path, access, metadata.rdev());
    }
    let flags = match (kind, access) {
        (DeviceKind::Block, Access::ReadWrite | Access::ReadLocked) => libc::O_EXCL,
        _ => 0,
    };
    let (file, direct) = patiently(|| open_direct(path, access, flags))
        .map_err(|source| explain_open(path, metadata.rdev(), source))?;
    let opened = file
        .metadata()
        .map_err(|source| failed(path, "stat", source))?;
    if kind_of(path, &opened)? != kind {
        // The path was exchanged between the two calls.
        let source = io::Error::from_raw_os_error(libc::ESTALE);
        return Err(failed(path, "open", source));
    }
    if kind == DeviceKind::File && access != Access::ReadOnly {
        lock(path, &file, access)?;
        refuse_loop_backing(path, &opened)?;
    }
    let backing = match kind {
        DeviceKind::Block if access != Access::ReadOnly => {
            lock_loop_backing(path, &opened, access)?
        }
        _ => None,
    };
    let mut device = finish(path, file, kind, access, direct)?;
    device.backing = backing;
    device.check_size()?;
    Ok(device)
}

/// The rest, once the file is open and exclusive. It may be empty.
pub(super) fn finish(
    path: &Path,
    mut file: File,
    kind: DeviceKind,
    access: Access,
    direct: Result<(), io::Error>,
) -> Result<Device, OpenError> {
    // The end as lseek sees it is right for files and for block devices.
    let bytes = file
        .seek(SeekFrom::End(0))
        .map_err(|source| failed(path, "lseek to the end", source))?;
    let mut report = Vec::new();
    let direct = settle_direct(path, &file, bytes, direct, &mut report)?;
    let limits = limits(path, &file, kind, direct)?;
    let capacity_bytes = bytes - bytes % u64::from(limits.block.value);
    let path = path.to_path_buf();
    Ok(Device {
        file,
        path,
        kind,
        access,
        capacity_bytes,
        direct,
        limits,
        report,
        backing: None,
        block_node: None,
        namespace: None,
        #[cfg(feature = "libblkio")]
        server: None,
    })
}

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

/// A file behind a loop device has two ways in, and only the block device knows of mounts.
pub(super) fn refuse_loop_backing(path: &Path, file: &Metadata) -> Result<(), OpenError> {
    match holders::loop_device_over(file.dev(), file.ino()) {
        None => Ok(()),
        Some(name) => Err(OpenError::InUse {
            path: path.into(),
            reason: format!("it is behind /dev/{name}: use that, or detach it (losetup -d)"),
        }),
    }
}

/// The file may have been opened before the loop device was set up, and several of those may be over it.
fn lock_loop_backing(
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
        Err(error) if is_busy(&error) => Err(OpenError::InUse {
            path: path.into(),
            reason: "another opener holds its lock (flock)".into(),
        }),
        Err(error) => Err(failed(path, "lock", error)),
    }
}

pub(super) fn failed(path: &Path, step: &'static str, source: io::Error) -> OpenError {
    OpenError::Path {
        path: path.into(),
        step,
        source,
    }
}

fn kind_of(path: &Path, metadata: &Metadata) -> Result<DeviceKind, OpenError> {
    let file_type = metadata.file_type();
    let found = if file_type.is_file() {
        return Ok(DeviceKind::File);
    } else if file_type.is_block_device() {
        return Ok(DeviceKind::Block);
    } else if file_type.is_char_device() && siblings::is_namespace(metadata.rdev()) {
        return Ok(DeviceKind::Char);
    } else if file_type.is_char_device() {
        "character node, but not of an NVMe namespace (/dev/ngXnY)"
    } else if file_type.is_dir() {
        "directory"
    } else if file_type.is_fifo() {
        "pipe"
    } else if file_type.is_socket() {
        "socket, which only engine libblkio can use and this build has not"
    } else {
        "special file"
    };
    Err(OpenError::WrongType {
        path: path.into(),
        found,
    })
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

/// Opens with O_DIRECT, or without it where the file system refuses it at once.
fn open_direct(
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

fn explain_open(path: &Path, device_number: u64, source: io::Error) -> OpenError {
    if source.raw_os_error() == Some(libc::EBUSY) {
        return OpenError::InUse {
            path: path.into(),
            reason: holders::describe(device_number),
        };
    }
    failed(path, "open", source)
}
