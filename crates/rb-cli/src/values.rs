//! `rb put` and `rb get`: one value.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rb_core::{EngineKind, Payload, Put, PutMode, PutOptions, Store, Stored, Value};
use serde::Serialize;

use crate::args::{GetArgs, PutArgs};
use crate::failure::Failure;
use crate::key::{parse_key, show_key};
use crate::open::{close, open_reading, open_writing};
use crate::output::Output;
use crate::run::Outcome;

#[derive(Serialize)]
struct PutLine {
    key: String,
    len: usize,
    stored: bool,
    existed: bool,
}

#[derive(Serialize)]
struct GetLine<'a> {
    key: String,
    found: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<std::borrow::Cow<'a, str>>,
}

pub(crate) fn put(
    args: &PutArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let key = parse_key(&args.key)?;
    let store = open_writing(&args.path, engine)?;
    let value = read_value(&args.file, store.geometry().largest_value())?;
    let stored = put_one(&store, &key, &value, args)?;
    let existed = stored == Stored::Existed;
    store.sync().map_err(|source| Failure::Store {
        what: "making the value durable",
        source,
    })?;
    close(&store)?;
    if output.is_json() {
        let (key, len) = (show_key(&key), value.len());
        output.json(&PutLine {
            key,
            len,
            stored: !existed,
            existed,
        })?;
    } else if existed {
        output.line(format!("kept what was there for {}", show_key(&key)))?;
    } else {
        output.line(format!("ok: {} bytes for {}", value.len(), show_key(&key)))?;
    }
    Ok(Outcome::Done)
}

fn put_one(store: &Store, key: &[u8], value: &[u8], args: &PutArgs) -> Result<Stored, Failure> {
    let mode = if args.keep {
        PutMode::KeepExisting
    } else {
        PutMode::Replace
    };
    let options = PutOptions {
        mode,
        ..PutOptions::default()
    };
    let put = Put {
        key,
        payload: Payload::Bytes(value),
        metadata: args.metadata.as_bytes(),
    };
    let answer = store.put_many(vec![put], options).pop();
    answer
        .unwrap_or(Err(rb_core::Error::Closed))
        .map_err(|source| Failure::Key {
            what: "putting",
            key: key.to_vec(),
            source,
        })
}

/// Reads a value. One byte beyond the largest value is read so that the store can say that it is too
/// long, but not gigabytes of a wrong file.
fn read_value(path: &Path, largest: u64) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::File {
        what: "reading",
        path: path.to_path_buf(),
        source,
    };
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(largest + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        return Ok(bytes);
    }
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    if len > largest {
        return Err(Failure::usage(format!(
            "{} has {len} bytes: values of this store have 1 to {largest} bytes",
            path.display()
        )));
    }
    file.take(largest + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

pub(crate) fn get(
    args: &GetArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    if output.is_json() && args.output.is_none() {
        return Err(Failure::usage(
            "--json and the value cannot both go to standard output: say -o FILE",
        ));
    }
    let key = parse_key(&args.key)?;
    let store = open_reading(&args.path, engine)?;
    let value = store.get(&key).map_err(|source| Failure::Key {
        what: "getting",
        key: key.clone(),
        source,
    })?;
    let outcome = match &value {
        Some(value) => hand_out(value, args.output.as_deref(), output).map(|()| Outcome::Done)?,
        None => Outcome::Miss,
    };
    if output.is_json() {
        output.json(&GetLine {
            key: show_key(&key),
            found: value.is_some(),
            len: value.as_ref().map(|value| value.len()),
            generation: value.as_ref().map(Value::generation),
            metadata: value
                .as_ref()
                .map(|value| String::from_utf8_lossy(value.metadata())),
        })?;
    }
    close(&store)?;
    Ok(outcome)
}

fn hand_out(value: &[u8], to: Option<&Path>, output: &mut Output) -> Result<(), Failure> {
    match to {
        None => output.bytes(value),
        Some(path) => std::fs::write(path, value).map_err(|source| Failure::File {
            what: "writing",
            path: path.to_path_buf(),
            source,
        }),
    }
}
