//! Serves one turn of the chat service from a store.

use std::time::{Duration, Instant};

use rb_core::{Payload, Put, PutOptions, Store};

use super::sizes::VALUE_BYTES;
use super::workload::Turn;
use crate::failure::Failure;
use crate::payload::{fill, is_payload};

/// Counts of the served turns.
#[derive(Default)]
pub(super) struct ServedTurns {
    pub(super) turns: u64,
    /// Blocks of history that turns needed.
    pub(super) asked: u64,
    /// Blocks of history that the store returned.
    pub(super) hits: u64,
    pub(super) bytes_put: u64,
    pub(super) bytes_got: u64,
    pub(super) wrong: u64,
    pub(super) put_time: Duration,
    pub(super) get_time: Duration,
}

/// Gets the prefix of the history that the store has, checks every byte, puts the rest (which the model
/// would have computed), and touches all blocks.
pub(super) fn turn(store: &Store, turn: &Turn, served: &mut ServedTurns) -> Result<(), Failure> {
    let keys: Vec<[u8; 8]> = turn
        .blocks
        .iter()
        .map(|block| block.to_le_bytes())
        .collect();
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 8]>::as_slice).collect();

    let found = store.longest_prefix(&keys[..turn.history]);
    let hits = get(store, &turn.blocks[..found], &keys[..found], served)?;
    put(store, &turn.blocks[hits..], &keys[hits..], served)?;
    store.touch_many(&keys);

    served.turns += 1;
    served.asked += turn.history as u64;
    served.hits += hits as u64;
    Ok(())
}

/// Returns the number of blocks that were there before the first gap.
fn get(
    store: &Store,
    blocks: &[u64],
    keys: &[&[u8]],
    served: &mut ServedTurns,
) -> Result<usize, Failure> {
    let start = Instant::now();
    let results = store.get_many(keys);
    served.get_time += start.elapsed();
    let mut hits = 0;
    for ((block, key), result) in blocks.iter().zip(keys).zip(results) {
        let value = result.map_err(|source| Failure::Key {
            what: "getting",
            key: key.to_vec(),
            source,
        })?;
        let Some(value) = value else { break };
        served.bytes_got += value.len() as u64;
        served.wrong += u64::from(value.len() != VALUE_BYTES || !is_payload(*block, &value));
        hits += 1;
    }
    Ok(hits)
}

fn put(
    store: &Store,
    blocks: &[u64],
    keys: &[&[u8]],
    served: &mut ServedTurns,
) -> Result<(), Failure> {
    let mut puts = Vec::with_capacity(blocks.len());
    for (block, key) in blocks.iter().zip(keys) {
        let mut buffer = store.buffer(VALUE_BYTES).map_err(|source| Failure::Store {
            what: "taking a buffer",
            source,
        })?;
        fill(*block, &mut buffer);
        puts.push(Put {
            payload: Payload::Buffer(buffer),
            ..Put::new(key, &[])
        });
    }
    let start = Instant::now();
    let results = store.put_many(puts, PutOptions::default());
    served.put_time += start.elapsed();
    for (key, result) in keys.iter().zip(results) {
        result.map_err(|source| Failure::Key {
            what: "putting",
            key: key.to_vec(),
            source,
        })?;
        served.bytes_put += VALUE_BYTES as u64;
    }
    Ok(())
}
