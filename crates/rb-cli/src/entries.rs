//! `rb ls` and `rb rm`: lists and removes keys.

use rb_core::{EngineKind, Store, StoreOptions};
use serde::Serialize;

use crate::args::{LsArgs, RmArgs};
use crate::failure::Failure;
use crate::key::{check_key, parse_bytes, parse_valid_key, show_key};
use crate::open::{Agreed, close, close_after, look_before_writing, open, open_reading, writing};
use crate::outcome::Outcome;
use crate::output::Output;

#[derive(Serialize)]
struct Listing {
    entries: usize,
    listing: Vec<ListedEntry>,
}

#[derive(Serialize)]
struct ListedEntry {
    key: String,
    value_bytes: u32,
    slot: u32,
    value_slots: usize,
    slot_bytes: u64,
    generation: u64,
}

#[derive(Serialize)]
struct RemovedKeys {
    keys: usize,
    removed: usize,
}

pub(crate) fn list(
    args: &LsArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let prefix = parse_bytes("--prefix", &args.prefix)?;
    let store = open_reading(&args.path, engine, output)?;
    let mut entries = Vec::new();
    store.for_each(|entry| {
        if entry.key.starts_with(&prefix) {
            entries.push(entry);
        }
        true
    });
    // The index has no order; the output has the same order each time.
    entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    if output.is_json() {
        let listing: Vec<ListedEntry> = entries
            .iter()
            .map(|entry| ListedEntry {
                key: show_key(&entry.key),
                value_bytes: entry.len,
                slot: entry.slot,
                value_slots: 1 + entry.more_slots.len(),
                slot_bytes: store.geometry().class_capacity(entry.class),
                generation: entry.generation,
            })
            .collect();
        output.json(&Listing {
            entries: listing.len(),
            listing,
        })?;
    } else {
        for entry in &entries {
            output.line(format!(
                "{}\t{}\t{}",
                show_key(&entry.key),
                entry.len,
                entry.slot
            ))?;
        }
    }
    close(&store)?;
    Ok(Outcome::Done)
}

pub(crate) fn remove(
    args: &RmArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let keys = args
        .keys
        .iter()
        .map(|key| parse_valid_key(key))
        .collect::<Result<Vec<_>, _>>()?;
    let agreed = Agreed {
        accept_lost_metadata: args.accept_lost_metadata,
        force: args.force,
    };
    let superblock = look_before_writing(&args.path, engine, agreed, output)?;
    keys.iter()
        .try_for_each(|key| check_key(key, &superblock))?;
    let options = StoreOptions {
        force: args.force,
        ..writing(engine)
    };
    let store = open(&args.path, options, output)?;
    let removed = close_after(&store, remove_all(&store, &keys))?;
    let keys = keys.len();
    if output.is_json() {
        output.json(&RemovedKeys { keys, removed })?;
    } else {
        output.line(format!("removed {removed} of {keys}"))?;
    }
    Ok(Outcome::Done)
}

/// Removes the keys and makes that durable. Returns the number of keys that were in the store.
fn remove_all(store: &Store, keys: &[Vec<u8>]) -> Result<usize, Failure> {
    let borrowed: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut removed = 0;
    let mut failure = None;
    for (result, key) in store.remove_many(&borrowed).into_iter().zip(keys) {
        match result {
            Ok(was_there) => removed += usize::from(was_there.is_some()),
            Err(source) => {
                failure.get_or_insert(Failure::Key {
                    what: "removing",
                    key: key.clone(),
                    source,
                });
            }
        }
    }
    store.sync().map_err(|source| Failure::Store {
        what: "making the removals durable",
        source,
    })?;
    failure.map_or(Ok(removed), Err)
}
