//! Fills a store with entries that are derived from their numbers.

use std::time::Instant;

use rb_core::{EngineKind, Payload, Put, PutOptions, Store};

use super::thin;
use crate::args::FillArgs;
use crate::failure::Failure;
use crate::open::{close, warn, writing};
use crate::output::Output;
use crate::payload::fill as fill_payload;
use crate::progress;

/// Bytes of values in one batch: less than half of the store's default buffers.
const BATCH_BYTES: u64 = 16 << 20;
/// Largest number of entries in one batch.
const BATCH_ENTRIES: u64 = 1024;

pub(super) struct Filled {
    pub(super) engine: String,
    pub(super) seconds: f64,
    pub(super) close_seconds: f64,
}

/// Puts all entries and closes the store.
pub(super) fn fill(
    args: &FillArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Filled, Failure> {
    let store = thin::open(args, writing(engine))?;
    warn(&store, output);
    let start = Instant::now();
    let bar = progress::bar(args.entries, "fill");
    let batch = (BATCH_BYTES / args.value_bytes).clamp(1, BATCH_ENTRIES);
    let mut next = 0;
    while next < args.entries {
        let end = (next + batch).min(args.entries);
        put(&store, args, next..end)?;
        bar.set_position(end);
        next = end;
    }
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let live = store.stats().index.entries;
    if live != args.entries {
        let what = format!(
            "{} entries were put into as many slots, the store has {live}",
            args.entries
        );
        return Err(Failure::Contract { what });
    }
    let engine = store.engine_name().to_owned();
    let start = Instant::now();
    close(&store)?;
    Ok(Filled {
        engine,
        seconds,
        close_seconds: start.elapsed().as_secs_f64(),
    })
}

/// Puts these entries in one batch, replacing existing values.
pub(super) fn put(
    store: &Store,
    args: &FillArgs,
    ids: impl IntoIterator<Item = u64>,
) -> Result<(), Failure> {
    let keyed: Vec<(u64, Vec<u8>)> = ids.into_iter().map(|id| (id, key(args, id))).collect();
    let mut puts = Vec::with_capacity(keyed.len());
    let len = usize::try_from(args.value_bytes)
        .map_err(|_| Failure::usage(format!("--value-bytes {} is too large", args.value_bytes)))?;
    for (id, key) in &keyed {
        let mut buffer = store.buffer(len).map_err(|source| Failure::Store {
            what: "taking a buffer",
            source,
        })?;
        fill_payload(*id, &mut buffer);
        puts.push(Put {
            payload: Payload::Buffer(buffer),
            ..Put::new(key, &[])
        });
    }
    for ((_, key), result) in keyed
        .iter()
        .zip(store.put_many(puts, PutOptions::default()))
    {
        result.map_err(|source| Failure::Key {
            what: "putting",
            key: key.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Returns the number of the entry with this key; an arbitrary one for a key that [`key`] did not make.
pub(super) fn id(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |id| u64::from_le_bytes(*id))
}

/// Makes the key of an entry: its number, then bytes that do not compress, as those of a hash.
pub(super) fn key(args: &FillArgs, id: u64) -> Vec<u8> {
    let mut key = vec![0; args.key_bytes as usize];
    let (number, rest) = key.split_at_mut(8);
    number.copy_from_slice(&id.to_le_bytes());
    fill_payload(!id, rest);
    key
}
