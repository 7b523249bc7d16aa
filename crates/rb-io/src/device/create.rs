//! Creating and growing the file of the embedded case.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::open::{failed, finish, lock, refuse_loop_backing};
use super::{Access, Device, DeviceKind};
use crate::engine::Feature;
use crate::error::OpenError;

pub(super) fn create(path: &Path, bytes: u64, allocate: bool) -> Result<Device, OpenError> {
    // Anything but a regular file is refused before it is opened: opening a pipe would block.
    if let Ok(metadata) = std::fs::metadata(path)
        && !metadata.is_file()
    {
        return Err(OpenError::WrongType {
            path: path.into(),
            found: "node that is not a file",
        });
    }
    let (file, direct) = open_or_create(path)?;
    // The lock comes before any change, so a file that someone else holds stays as it was.
    lock(path, &file, Access::ReadWrite)?;
    let metadata = file
        .metadata()
        .map_err(|source| failed(path, "stat", source))?;
    if !metadata.is_file() {
        return Err(OpenError::WrongType {
            path: path.into(),
            found: "node that is not a file",
        });
    }
    refuse_loop_backing(path, &metadata)?;
    if metadata.len() == 0 {
        // A new file, or an empty one that something else made with other rights.
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(|source| failed(path, "chmod", source))?;
        sync_folder(path).map_err(|source| failed(path, "flush of its folder", source))?;
    }
    if metadata.len() < bytes {
        file.set_len(bytes)
            .map_err(|source| failed(path, "grow", source))?;
    }
    let space = if allocate {
        Some(reserve(path, &file, bytes)?)
    } else {
        None
    };
    let mut device = finish(path, file, DeviceKind::File, Access::ReadWrite, direct)?;
    device.report.extend(space);
    Ok(device)
}

/// Makes the file's name durable, or a crash might leave a store without one.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn open_or_create(path: &Path) -> Result<(File, std::io::Result<()>), OpenError> {
    let open = |flags| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Cached blocks are people's prompts: nobody else may read them.
            .mode(0o600)
            .custom_flags(flags)
            .open(path)
    };
    match open(libc::O_DIRECT) {
        Ok(file) => Ok((file, Ok(()))),
        Err(refused) if refused.raw_os_error() == Some(libc::EINVAL) => open(0)
            .map(|file| (file, Err(refused)))
            .map_err(|source| failed(path, "create", source)),
        Err(source) => Err(failed(path, "create", source)),
    }
}

fn reserve(path: &Path, file: &File, bytes: u64) -> Result<Feature, OpenError> {
    const NAME: &str = "reserved space";
    if bytes == 0 {
        return Ok(Feature::off(NAME, "nothing to reserve"));
    }
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Ok(()) => return Ok(Feature::on(NAME, format!("{bytes} bytes"))),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                return Ok(Feature::off(
                    NAME,
                    "the file system has no fallocate: sparse file",
                ));
            }
            Err(error) => return Err(failed(path, "fallocate", error.into())),
        }
    }
}
