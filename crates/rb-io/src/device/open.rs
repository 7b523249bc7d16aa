//! Opens devices: exclusively for writing, with direct I/O if that works.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::access::Access;
use super::direct::{limits, open_direct, settle_direct};
use super::discover::QueueDirectory;
use super::exclusive::{lock, lock_loop_backing, patiently, refuse_loop_backing};
use super::handle::Device;
use super::kind::DeviceKind;
use super::size_limit::check_size_limit;
use super::{holders, passthrough, siblings};
use crate::error::{OpenError, failed};
use crate::process::Process;

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
        // The path was replaced between the two calls.
        let source = io::Error::from_raw_os_error(libc::ESTALE);
        return Err(failed(path, "open", source));
    }
    if kind == DeviceKind::Block
        && let Some(reason) = QueueDirectory::of(opened.rdev()).unfit()
    {
        let path = path.into();
        return Err(OpenError::Unfit { path, reason });
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
    if kind == DeviceKind::File && access != Access::ReadOnly {
        check_size_limit(path, device.capacity_bytes)?;
    }
    device.backing = backing;
    device.check_size()?;
    Ok(device)
}

/// Builds the device once the file is open and exclusive. The file may be empty.
pub(super) fn finish(
    path: &Path,
    mut file: File,
    kind: DeviceKind,
    access: Access,
    direct: Result<(), io::Error>,
) -> Result<Device, OpenError> {
    // `lseek` to the end works for files and block devices.
    let bytes = file
        .seek(SeekFrom::End(0))
        .map_err(|source| failed(path, "lseek to the end", source))?;
    let mut report = Vec::new();
    let direct = settle_direct(path, &file, kind, bytes, direct, &mut report)?;
    let limits = limits(path, &file, kind, direct)?;
    let capacity_bytes = bytes - bytes % u64::from(limits.block.value);
    let path = path.to_path_buf();
    Ok(Device {
        process: Process::current(),
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

fn explain_open(path: &Path, device_number: u64, source: io::Error) -> OpenError {
    if source.raw_os_error() == Some(libc::EBUSY) {
        return OpenError::InUse {
            path: path.into(),
            ended: false,
            reason: holders::describe(device_number),
        };
    }
    failed(path, "open", source)
}
