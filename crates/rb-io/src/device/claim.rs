//! Claims a path in order to create a store on it: opens and locks it before examining it, uses
//! that descriptor for every check, and restores the previous state if the claim is dropped.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::access::Access;
use super::exclusive::{lock, refuse_loop_backing};
use super::handle::Device;
use super::kind::DeviceKind;
use super::open::{self, finish};
use super::space::write_in_place;
use crate::error::{OpenError, failed};

/// Number of times a file may be replaced or removed between opening and locking it.
const TRIES: u32 = 100;

/// An exclusively held device, or a file that may have just been created. Dropping it without
/// [`keep`](Self::keep) removes a file that it created, and truncates a file that it grew.
#[derive(Debug)]
pub struct Claim {
    /// `None` once kept.
    device: Option<Arc<Device>>,
    /// The path with a dangling symbolic link resolved.
    real: PathBuf,
    /// True if this claim created the file and was the first to lock it.
    is_new: bool,
    found: u64,
}

impl Claim {
    /// Opens `path` for writing, exclusively, or creates an empty file (mode 0600) if there is
    /// nothing. Changes nothing else.
    ///
    /// # Errors
    /// Those of [`Device::open`], except [`OpenError::TooSmall`] for a file.
    pub fn take(path: &Path) -> Result<Claim, OpenError> {
        if path.as_os_str().is_empty() {
            // The folder of an empty path exists, so the loop below would try to create the file again and again.
            let source = io::Error::from_raw_os_error(libc::ENOENT);
            return Err(failed(path, "open", source));
        }
        let mut real = path.to_path_buf();
        // The file was replaced each time, unless another error comes first.
        let mut last = failed(path, "lock", io::Error::from_raw_os_error(libc::ESTALE));
        for _ in 0..TRIES {
            // Opening a pipe would block, and `flock` does not lock a device.
            if std::fs::metadata(&real).is_ok_and(|found| !found.is_file()) {
                let device = open::open(path, Access::ReadWrite)?;
                return Ok(Claim {
                    found: device.capacity_bytes(),
                    device: Some(Arc::new(device)),
                    real,
                    is_new: false,
                });
            }
            let (file, made) = match open_or_make(&real) {
                Ok(opened) => opened,
                Err(gone) if gone.kind() == ErrorKind::NotFound => {
                    if let Ok(target) = std::fs::read_link(&real) {
                        real = real.parent().unwrap_or(Path::new("")).join(target);
                        continue;
                    }
                    last = failed(path, "create", gone);
                    match folder(&real).exists() {
                        // The file was removed between two calls, or the folder takes no files, as in /proc.
                        true => continue,
                        false => return Err(last),
                    }
                }
                Err(error) => {
                    let step = match real.exists() {
                        true => "open for writing",
                        false => "create",
                    };
                    return Err(failed(path, step, error));
                }
            };
            lock(path, &file, Access::ReadWrite)?;
            let opened = file
                .metadata()
                .map_err(|source| failed(path, "stat", source))?;
            if !is_at(&real, &opened) {
                // Another claim failed and removed the file that it had created.
                continue;
            }
            refuse_loop_backing(path, &opened)?;
            let direct = set_direct(&file);
            let device = finish(path, file, DeviceKind::File, Access::ReadWrite, direct)?;
            return Ok(Claim {
                device: Some(Arc::new(device)),
                real,
                is_new: made && opened.len() == 0,
                found: opened.len(),
            });
        }
        Err(last)
    }

    /// Returns the claimed device.
    #[must_use]
    pub fn device(&self) -> Option<&Arc<Device>> {
        self.device.as_ref()
    }

    /// Returns the size in bytes when the lock was taken; 0 for a new or empty file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.found
    }

    /// Grows a file to `bytes`. A larger file keeps its size. Nothing may use the device yet. An
    /// empty file is switched to in-place writes, if its file system has to be asked for that.
    ///
    /// # Errors
    /// A system call failed.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OpenError> {
        let found = self.found;
        let Some(device) = self.device.as_mut().and_then(Arc::get_mut) else {
            let source = io::Error::from_raw_os_error(libc::EBUSY);
            return Err(failed(&self.real, "grow", source));
        };
        let path = device.path.clone();
        if found == 0 {
            // A new file, or an empty one that another program created with other permissions.
            device
                .file
                .set_permissions(Permissions::from_mode(0o600))
                .map_err(|source| failed(&path, "chmod", source))?;
            sync_folder(&self.real)
                .map_err(|source| failed(&path, "flush of its folder", source))?;
            write_in_place(&device.file);
        }
        device.grow(bytes)
    }

    /// Keeps the claimed device: dropping the claim no longer undoes anything.
    #[must_use]
    pub fn keep(mut self) -> Option<Arc<Device>> {
        self.device.take()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(device) = self.device.take() else {
            return;
        };
        let Ok(now) = device.file.metadata() else {
            return;
        };
        // Best effort: the error that led here is the one to report. The lock is still held.
        if self.is_new && is_at(&self.real, &now) {
            let _ = std::fs::remove_file(&self.real);
        } else if device.kind == DeviceKind::File && now.len() > self.found {
            let _ = device.file.set_len(self.found);
        }
    }
}

/// Returns whether the path still refers to this file.
fn is_at(path: &Path, file: &Metadata) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
}

/// Opens or creates the file; returns whether it was created.
fn open_or_make(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    // Cached blocks contain users' prompts: other users must not read them.
    let made = options.clone().create_new(true).mode(0o600).open(path);
    match made {
        Err(there) if there.kind() == ErrorKind::AlreadyExists => {
            options.open(path).map(|file| (file, false))
        }
        made => made.map(|file| (file, true)),
    }
}

/// Sets `O_DIRECT` after opening, because some file systems create the file and then refuse to open
/// it with that flag.
fn set_direct(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT)?)
}

/// Makes the file's directory entry durable; otherwise a crash could lose the file.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
