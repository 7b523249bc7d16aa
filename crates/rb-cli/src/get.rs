//! `rb get`: reads one value and writes it to its target.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rb_core::{EngineKind, Error, FormatError, StoreOptions, Value};
use rb_io::Device;
use serde::Serialize;

use crate::args::GetArgs;
use crate::failure::Failure;
use crate::key::{check_key, parse_valid_key, show_key};
use crate::open::{buffers_for, close, open, open_reading, writing};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::size::counted;

/// Names of files that this process has open. They are written to directly.
const OPEN_FILES: [&str; 4] = ["/dev/fd/", "/dev/stdout", "/dev/stderr", "/proc/self/fd/"];

#[derive(Serialize)]
struct GetLine {
    key: String,
    found: bool,
    value_bytes: Option<usize>,
    generation: Option<u64>,
    metadata: Option<String>,
}

pub(crate) fn get(
    args: &GetArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    if output.is_json() && args.output.is_none() {
        return Err(Failure::usage(
            "--json and the value cannot both go to standard output: give -o FILE",
        ));
    }
    let key = parse_valid_key(&args.key)?;
    let target = match &args.output {
        Some(path) => Some(OutputTarget::find(path, args)?),
        None => None,
    };
    let mut store = open_reading(&args.path, engine, output)?;
    check_key(&key, store.superblock())?;
    let mut found = store.get(&key);
    if let Err(Error::BatchTooLarge { needed, .. }) = found {
        let options = StoreOptions {
            read_only: true,
            buffer_bytes: buffers_for(store.geometry(), needed),
            ..writing(engine)
        };
        close(&store)?;
        store = open(&args.path, options, output)?;
        found = store.get(&key);
    }
    let value = found.map_err(|source| Failure::Key {
        what: "getting",
        key: key.clone(),
        source,
    })?;
    let outcome = match (&value, &target) {
        (None, _) => Outcome::Miss,
        (Some(value), None) => output.bytes(value).map(|()| Outcome::Done)?,
        (Some(value), Some(target)) => target.write(value, output).map(|()| Outcome::Done)?,
    };
    if output.is_json() {
        output.json(&GetLine {
            key: show_key(&key),
            found: value.is_some(),
            value_bytes: value.as_ref().map(|value| value.len()),
            generation: value.as_ref().map(Value::generation),
            metadata: value.as_ref().map(|value| show_key(value.metadata())),
        })?;
    }
    close(&store)?;
    Ok(outcome)
}

/// The place that a value is written to.
enum OutputTarget<'a> {
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
    fn find<'a>(path: &'a Path, args: &GetArgs) -> Result<OutputTarget<'a>, Failure> {
        let store = &args.path;
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
            return OutputTarget::device(path, args);
        }
        if is_open || found.is_some_and(|found| !found.is_file()) {
            return Ok(OutputTarget::Direct(path));
        }
        let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        Ok(OutputTarget::File { given: path, real })
    }

    /// Examines a block device as a format does: locks it first, so that its content cannot change.
    fn device<'a>(path: &'a Path, args: &GetArgs) -> Result<OutputTarget<'a>, Failure> {
        let held = rb_core::claim_device(path, args.yes, args.force && args.yes);
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

    fn write(&self, value: &[u8], output: &mut Output) -> Result<(), Failure> {
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
fn same(a: &Metadata, b: &Metadata) -> bool {
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
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut new = File::options();
    new.write(true).create_new(true).mode(0o600);
    // An error of `tempfile_in` and of the writer that it returns names the temporary file, not that of the user.
    let file = tempfile::Builder::new()
        .prefix(".rb-")
        .make_in(folder, |path| new.open(path))?;
    file.as_file().write_all(value)?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}
