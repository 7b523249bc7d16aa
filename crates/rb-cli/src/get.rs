//! `rb get`: reads one value and writes it to its target.

use rb_core::{EngineKind, Error, StoreOptions, Value};
use serde::Serialize;

use crate::args::GetArgs;
use crate::failure::Failure;
use crate::key::{check_key, parse_valid_key, show_key};
use crate::open::{buffers_for, close, open, open_reading, writing};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::target::{Agreed, OutputTarget};

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
        Some(path) => {
            let agreed = Agreed {
                yes: args.yes,
                force: args.force,
            };
            Some(OutputTarget::find(path, &args.path, agreed)?)
        }
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
