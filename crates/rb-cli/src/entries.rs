//! `rb ls` and `rb rm`: lists and removes keys.

use std::cmp::Reverse;

use rb_core::{EngineKind, EntryInfo, Store, StoreOptions};
use serde::Serialize;

use crate::args::{LsArgs, LsOrder, RmArgs};
use crate::failure::Failure;
use crate::key::{check_key, parse_bytes, parse_valid_key, show_key};
use crate::open::{Agreed, close, close_after, look_before_writing, open, open_reading, writing};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::size::show_size;

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
    /// 1 for the entry that was put first.
    age_rank: usize,
    /// 1 for the least recently used entry of its class.
    use_rank: usize,
    uses_since: u64,
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
    // All of them: a rank counts those that are not listed, too.
    store.for_each(|entry| {
        entries.push(entry);
        true
    });
    let mut listing: Vec<ListedEntry> = ranked(entries)
        .into_iter()
        .filter(|(entry, ..)| entry.key.starts_with(&prefix))
        .map(|(entry, age_rank, use_rank)| ListedEntry {
            key: show_key(&entry.key),
            value_bytes: entry.len,
            slot: entry.slot,
            value_slots: 1 + entry.more_slots.len(),
            slot_bytes: store.geometry().class_capacity(entry.class),
            generation: entry.generation,
            age_rank,
            use_rank,
            uses_since: entry.uses_since,
        })
        .collect();
    close(&store)?;
    match args.order {
        // The order of the keys' bytes.
        LsOrder::Key => {}
        LsOrder::Age => listing.sort_by_key(|entry| entry.age_rank),
        LsOrder::Use => listing.sort_by_key(|entry| (entry.slot_bytes, entry.use_rank)),
    }
    if output.is_json() {
        output.json(&Listing {
            entries: listing.len(),
            listing,
        })?;
        return Ok(Outcome::Done);
    }
    if args.long {
        output.line("key\tbytes\tslot\tslots of\tage rank\tuses since\tuse rank")?;
    }
    for entry in &listing {
        let mut line = format!("{}\t{}\t{}", entry.key, entry.value_bytes, entry.slot);
        if args.long {
            line += &format!(
                "\t{} x {}\t{}\t{}\t{}",
                entry.value_slots,
                show_size(entry.slot_bytes),
                entry.age_rank,
                entry.uses_since,
                entry.use_rank
            );
        }
        output.line(line)?;
    }
    Ok(Outcome::Done)
}

/// Returns the entries in the order of their keys, each with its rank by age, and its rank by last use in its class.
fn ranked(mut entries: Vec<EntryInfo>) -> Vec<(EntryInfo, usize, usize)> {
    entries.sort_unstable_by_key(|entry| entry.generation);
    let mut ranked: Vec<_> = (1..)
        .zip(entries)
        .map(|(age, entry)| (entry, age, 0))
        .collect();
    ranked.sort_by_key(|(entry, age, _)| (entry.class, Reverse(entry.uses_since), *age));
    let (mut last, mut place, mut rank) = (None, 0, 0);
    for (entry, _, use_rank) in &mut ranked {
        let same_class = last.is_some_and(|(class, _)| class == entry.class);
        place = if same_class { place + 1 } else { 1 };
        // Of several with the same number any may go first, so they share a rank.
        if last != Some((entry.class, entry.uses_since)) {
            rank = place;
        }
        *use_rank = rank;
        last = Some((entry.class, entry.uses_since));
    }
    ranked.sort_unstable_by(|(a, ..), (b, ..)| a.key.cmp(&b.key));
    ranked
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
