//! The place that `rb get -o` writes to: a file, a device, a pipe or standard output.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rb_core::FormatError;
use rb_io::Device;

use crate::failure::Failure;
use crate::output::Output;
use crate::size::counted;

/// Names of files that this process has open. They are written to directly.
const OPEN_FILES: [&str; 4] = ["/dev/fd/", "/dev/stdout", "/dev/stderr", "/proc/self/fd/"];

/// The user's consent to overwrite a device.
#[derive(Clone, Copy, Default)]
pub(crate) struct Agreed {
    pub(crate) yes: bool,
    pub(crate) force: bool,
}

/// The place that a value or a page is written to.
pub(crate) enum OutputTarget<'a> {
    /// The file of standard output: the value follows what was written there before.
    StandardOutput,
    /// A block device, locked since it was examined.
    Device { path: &'a Path, held: Box<Device> },
    /// A pipe, another node, or a file that is open already: written directly.
    Direct(&'a Path),
    /// A file: the whole value is written to a temporary file, which then takes the name.
    File {
        given: &'a Path,
        /// The name with symbolic links resolved: the links themselves stay.
        real: PathBuf,
    },
}

impl OutputTarget<'_> {
    /// Examines the place before anything is written. `store` is the store that the bytes come from.
    pub(crate) fn find<'a>(
        path: &'a Path,
        store: &Path,
        agreed: Agreed,
    ) -> Result<OutputTarget<'a>, Failure> {
        let found = std::fs::metadata(path).ok();
        let is = |other: &str| match (&found, std::fs::metadata(other)) {
            (Some(found), Ok(other)) => same(found, &other),
            _ => false,
        };
        if let (Some(found), Ok(store)) = (&found, std::fs::metadata(store))
            && same(found, &store)
        {
            let output = path.to_path_buf();
            return Err(Failure::OverStore { output });
        }
        if is("/dev/stdout") {
            return Ok(OutputTarget::StandardOutput);
        }
        // The store may have another name: an NVMe namespace has two nodes, a loop device a file behind it.
        let may_hold = |found: &Metadata| found.is_file() || found.file_type().is_block_device();
        if found.as_ref().is_some_and(may_hold) && rb_core::is_store(path) {
            let output = path.to_path_buf();
            return Err(Failure::OverStore { output });
        }
        let is_open = path
            .to_str()
            .is_some_and(|path| OPEN_FILES.iter().any(|name| path.starts_with(name)));
        let is_block = |found: &Metadata| found.file_type().is_block_device();
        if !is_open && found.as_ref().is_some_and(is_block) {
            return OutputTarget::device(path, agreed);
        }
        if is_open || found.is_some_and(|found| !found.is_file()) {
            return Ok(OutputTarget::Direct(path));
        }
        let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        Ok(OutputTarget::File { given: path, real })
    }

    /// Examines a block device as a format does: locks it first, so that its content cannot change.
    fn device(path: &Path, agreed: Agreed) -> Result<OutputTarget<'_>, Failure> {
        let held = rb_core::claim_device(path, agreed.yes, agreed.force && agreed.yes);
        let held = held.map_err(|why| match why {
            FormatError::Consent { path, found } => Failure::OverDevice { path, found },
            FormatError::Occupied { path, found } => Failure::OverForeign { path, found },
            source => Failure::Format { source },
        })?;
        Ok(OutputTarget::Device {
            path,
            held: Box::new(held),
        })
    }

    /// Checks that the folder of a file takes new files, so that a long measurement does not end in an error.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self {
            OutputTarget::File { given, real } => {
                new_file(real).map(drop).map_err(|source| Failure::File {
                    what: "writing",
                    path: given.to_path_buf(),
                    source,
                })
            }
            _ => Ok(()),
        }
    }

    /// Writes all bytes.
    pub(crate) fn write(&self, value: &[u8], output: &mut Output) -> Result<(), Failure> {
        let (path, written) = match self {
            OutputTarget::StandardOutput => return output.bytes(value),
            OutputTarget::Direct(path) => (path, write_direct(path, value)),
            OutputTarget::Device { path, held } => (path, write_device(path, held, value)),
            OutputTarget::File { given, real } => (given, write_whole(real, value)),
        };
        written.map_err(|source| Failure::File {
            what: "writing",
            path: path.to_path_buf(),
            source,
        })
    }
}

/// Returns whether two names are one file, or nodes of one device.
pub(crate) fn same(a: &Metadata, b: &Metadata) -> bool {
    let is_device = |meta: &Metadata| {
        let kind = meta.file_type();
        kind.is_block_device() || kind.is_char_device()
    };
    let same_node = (a.dev(), a.ino()) == (b.dev(), b.ino());
    let same_device =
        is_device(a) && is_device(b) && a.file_type() == b.file_type() && a.rdev() == b.rdev();
    same_node || same_device
}

fn write_direct(path: &Path, value: &[u8]) -> io::Result<()> {
    // An open file may have content, of a shell's redirection for example: append to it.
    let append = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
    let mut file = File::options().write(true).append(append).open(path)?;
    file.write_all(value)
}

/// Writes through the node, because an engine writes whole blocks only. `held` keeps the device locked.
fn write_device(path: &Path, held: &Device, value: &[u8]) -> io::Result<()> {
    if value.len() as u64 > held.capacity_bytes() {
        let why = format!(
            "the value has {}, the device {}",
            counted(value.len() as u64, "byte"),
            held.capacity_bytes()
        );
        return Err(io::Error::other(why));
    }
    let mut file = File::options().write(true).open(path)?;
    if file.metadata()?.rdev() != held.device_number()? {
        return Err(io::Error::other(
            "the device node was replaced by another one",
        ));
    }
    file.write_all(value)?;
    file.sync_data()
}

/// Writes a file that has either its old content or the whole value, also after a crash. Values may be
/// people's prompts, so the file has mode 0600, as temporary files do.
fn write_whole(path: &Path, value: &[u8]) -> io::Result<()> {
    let file = new_file(path)?;
    file.as_file().write_all(value)?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

/// Makes a temporary file in the folder of a path.
fn new_file(path: &Path) -> io::Result<tempfile::NamedTempFile<File>> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut new = File::options();
    new.write(true).create_new(true).mode(0o600);
    // An error of `tempfile_in` and of the writer that it returns names the temporary file, not that of the user.
    tempfile::Builder::new()
        .prefix(".rb-")
        .make_in(folder, |path| new.open(path))
}
