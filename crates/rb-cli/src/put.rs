//! `rb put`: stores one value.
//!
//! Key and value are checked, and standard input is read, before the store is opened for writing: a
//! slow standard input does not lock other processes out.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use rb_core::{
    EngineKind, Error, Geometry, Put, PutMode, PutOptions, PutOutcome, Store, StoreOptions,
    Superblock,
};
use serde::Serialize;

use crate::args::PutArgs;
use crate::failure::Failure;
use crate::key::{check_key, parse_valid_key, show_key};
use crate::open::{Agreed, buffers_for, close_after, look_before_writing, open, writing};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::size::counted;

#[derive(Serialize)]
struct PutLine {
    key: String,
    /// Length of the value that the key has now: the given one, or the one that was kept.
    value_bytes: Option<u64>,
    stored: bool,
}

pub(crate) fn put(
    args: &PutArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let key = parse_valid_key(&args.key)?;
    let input = ValueInput::open(&args.file)?;
    let agreed = Agreed {
        accept_lost_metadata: args.accept_lost_metadata,
        force: args.force,
    };
    let superblock = look_before_writing(&args.path, engine, agreed, output)?;
    check_key(&key, &superblock)?;
    let refused = |source| failed(&key, source);
    check_metadata(args.metadata.as_bytes(), &superblock).map_err(refused)?;
    let geometry = Geometry::new(&superblock);
    let value = input.read(&geometry)?;

    let options = StoreOptions {
        placement: args.placement.placement(),
        force: args.force,
        buffer_bytes: buffers_for(&geometry, value.len()),
        ..writing(engine)
    };
    let store = open(&args.path, options, output)?;
    let done = put_one(&store, &key, &value, args).map(|stored| match stored {
        PutOutcome::Existed => (true, length_of(&store, &key)),
        _ => (false, Some(value.len() as u64)),
    });
    let (existed, value_bytes) = close_after(&store, done)?;
    if output.is_json() {
        output.json(&PutLine {
            key: show_key(&key),
            value_bytes,
            stored: !existed,
        })?;
    } else if existed {
        output.line(format!("kept the value of {}", show_key(&key)))?;
    } else {
        let len = counted(value.len() as u64, "byte");
        output.line(format!("ok: {len} for {}", show_key(&key)))?;
    }
    Ok(Outcome::Done)
}

/// Refuses metadata that the store would refuse, before it is opened for writing.
fn check_metadata(metadata: &[u8], superblock: &Superblock) -> Result<(), Error> {
    let (len, max) = (metadata.len(), superblock.metadata_len_max as usize);
    if len > max {
        return Err(Error::MetadataLength { len, max });
    }
    Ok(())
}

/// Returns the length of the value that a key has.
fn length_of(store: &Store, key: &[u8]) -> Option<u64> {
    let pin = store.lookup_and_pin(&[key]).pop().flatten();
    pin.map(|pin| pin.len() as u64)
}

/// Puts the value and makes it durable.
fn put_one(store: &Store, key: &[u8], value: &[u8], args: &PutArgs) -> Result<PutOutcome, Failure> {
    let mode = if args.keep {
        PutMode::KeepExisting
    } else {
        PutMode::Replace
    };
    let options = PutOptions {
        mode,
        ..PutOptions::default()
    };
    let put = Put::new(key, value).with_metadata(args.metadata.as_bytes());
    let result = store.put_many(vec![put], options).pop();
    let stored = result
        .unwrap_or(Err(Error::Closed))
        .map_err(|source| failed(key, source))?;
    store.sync().map_err(|source| Failure::Store {
        what: "making the value durable",
        source,
    })?;
    Ok(stored)
}

fn failed(key: &[u8], source: Error) -> Failure {
    Failure::Key {
        what: "putting",
        key: key.to_vec(),
        source,
    }
}

/// The source of a value. At least one byte can be read from it.
struct ValueInput<'a> {
    path: &'a Path,
    reader: Box<dyn BufRead>,
    /// Length in bytes, if it is a file.
    len: Option<u64>,
}

impl ValueInput<'_> {
    fn open(path: &Path) -> Result<ValueInput<'_>, Failure> {
        let failed = |source| reading(path, source);
        let mut input = if path == Path::new("-") {
            ValueInput {
                path,
                reader: Box::new(io::stdin().lock()),
                len: None,
            }
        } else {
            let file = File::open(path).map_err(failed)?;
            let meta = file.metadata().map_err(failed)?;
            ValueInput {
                path,
                reader: Box::new(BufReader::new(file)),
                len: meta.is_file().then_some(meta.len()),
            }
        };
        if input.reader.fill_buf().map_err(failed)?.is_empty() {
            return Err(Failure::usage(format!(
                "{} holds a value of 0 bytes: values have at least 1 byte",
                shown(path).display()
            )));
        }
        Ok(input)
    }

    /// Reads the value. Stops one byte after the largest possible value, so that a wrong file of some
    /// gigabytes is not read into memory.
    fn read(self, geometry: &Geometry) -> Result<Vec<u8>, Failure> {
        let largest = geometry.value_len_max();
        if let Some(len) = self.len.filter(|len| *len > largest) {
            return Err(too_long(self.path, &format!("{len} bytes"), geometry));
        }
        let (path, mut bytes) = (self.path, Vec::new());
        let mut reader = self.reader.take(largest + 1);
        reader
            .read_to_end(&mut bytes)
            .map_err(|source| reading(path, source))?;
        match bytes.len() as u64 > largest {
            false => Ok(bytes),
            true => Err(too_long(
                path,
                &format!("more than {largest} bytes"),
                geometry,
            )),
        }
    }
}

/// The error for a value that the store cannot hold, with the slots that set the limit.
fn too_long(path: &Path, len: &str, geometry: &Geometry) -> Failure {
    let (largest, slot) = (geometry.value_len_max(), geometry.largest_value());
    Failure::usage(format!(
        "{} has {len}: values of this store have 1 to {largest} bytes, the {} of {slot} bytes that one value may take",
        shown(path).display(),
        counted(largest / slot.max(1), "slot"),
    ))
}

fn reading(path: &Path, source: io::Error) -> Failure {
    Failure::File {
        what: "reading",
        path: shown(path).to_path_buf(),
        source,
    }
}

/// Names standard input, whose path is `-`.
fn shown(path: &Path) -> &Path {
    match path == Path::new("-") {
        true => Path::new("standard input"),
        false => path,
    }
}
