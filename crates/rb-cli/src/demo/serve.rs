//! One turn of the chat service against a store.

use std::time::{Duration, Instant};

use rb_core::{Payload, Put, PutOptions, Store};

use super::sizes::VALUE_BYTES;
use super::workload::Turn;
use crate::failure::Failure;
use crate::payload::{fill, is_payload};

/// What was served.
#[derive(Default)]
pub(super) struct Served {
    pub(super) turns: u64,
    /// Blocks of history asked for.
    pub(super) asked: u64,
    /// Blocks of history that the store had.
    pub(super) hits: u64,
    pub(super) bytes_put: u64,
    pub(super) bytes_got: u64,
    pub(super) wrong: u64,
    pub(super) put_time: Duration,
    pub(super) get_time: Duration,
}

/// Finds how much of the history the store has, gets that, checks every byte, puts the rest (which
/// the model would have computed), and makes all of it recently used.
pub(super) fn turn(store: &Store, turn: &Turn, served: &mut Served) -> Result<(), Failure> {
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

/// Answers how many of the first blocks were there without a gap.
fn get(
    store: &Store,
    blocks: &[u64],
    keys: &[&[u8]],
    served: &mut Served,
) -> Result<usize, Failure> {
    let start = Instant::now();
    let answers = store.get_many(keys);
    served.get_time += start.elapsed();
    let mut hits = 0;
    for ((block, key), answer) in blocks.iter().zip(keys).zip(answers) {
        let value = answer.map_err(|source| Failure::Key {
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

fn put(store: &Store, blocks: &[u64], keys: &[&[u8]], served: &mut Served) -> Result<(), Failure> {
    let mut puts = Vec::with_capacity(blocks.len());
    for (block, key) in blocks.iter().zip(keys) {
        let mut buffer = store.buffer(VALUE_BYTES).map_err(|source| Failure::Store {
            what: "taking a buffer",
            source,
        })?;
        fill(*block, &mut buffer);
        puts.push(Put {
            key,
            payload: Payload::Buffer(buffer),
            metadata: &[],
        });
    }
    let start = Instant::now();
    let answers = store.put_many(puts, PutOptions::default());
    served.put_time += start.elapsed();
    for (key, answer) in keys.iter().zip(answers) {
        answer.map_err(|source| Failure::Key {
            what: "putting",
            key: key.to_vec(),
            source,
        })?;
        served.bytes_put += VALUE_BYTES as u64;
    }
    Ok(())
}
