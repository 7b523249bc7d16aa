//! Two eviction policies that are plugged in, and what they keep of a trace next to the default.
//!
//! `cargo run --release -p rb-index --example policies -- TRACE [--whole]`: TRACE has one JSON object a line with
//! `hash_ids`, the chain of a request's blocks. The last of a chain is often a partial block and is left out unless `--whole`.

mod queue;
mod s3_fifo;
mod sieve;

use std::collections::HashSet;
use std::error::Error;
use std::io::Write;

use rb_index::{Index, IndexOptions, LockPurpose, NewEntry, PolicyFactory, PutMode, Reserve};

use crate::s3_fifo::S3FifoFactory;
use crate::sieve::SieveFactory;

/// Capacities, in percent of the distinct blocks.
const CAPACITIES: [usize; 5] = [2, 5, 10, 25, 50];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .ok_or("name a trace: JSON lines with hash_ids")?;
    let whole = arguments.any(|argument| argument == "--whole");
    let mut chains: Vec<Vec<u64>> = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let request: serde_json::Value = serde_json::from_str(line)?;
        let ids = request["hash_ids"]
            .as_array()
            .ok_or("a line has no hash_ids")?;
        let mut chain: Vec<u64> = ids.iter().filter_map(serde_json::Value::as_u64).collect();
        if !whole {
            chain.pop();
        }
        chains.push(chain);
    }
    let distinct = chains.iter().flatten().collect::<HashSet<_>>().len();
    let mut out = std::io::stdout().lock();
    writeln!(out, "prefix hits at {CAPACITIES:?} % of {distinct} blocks")?;
    let policies: [(&str, Option<&dyn PolicyFactory>); 3] = [
        ("lru", None),
        ("sieve", Some(&SieveFactory)),
        ("s3-fifo", Some(&S3FifoFactory)),
    ];
    for (name, policy) in policies {
        let mut line = format!("{name:8}");
        for percent in CAPACITIES {
            let slots = (distinct * percent / 100).max(1);
            line += &format!(" {:.3}", replay(&chains, u32::try_from(slots)?, policy)?);
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Looks up each chain and puts the missing blocks. Returns the share of blocks that were present with all before them.
fn replay(
    chains: &[Vec<u64>],
    slots: u32,
    policy: Option<&dyn PolicyFactory>,
) -> Result<f64, Box<dyn Error>> {
    let mut index = Index::new(IndexOptions {
        shards: 1,
        classes: vec![vec![0..slots]],
        secret: [7; 16],
    })?;
    if let Some(policy) = policy {
        index.use_policy(policy);
    }
    let (mut hits, mut blocks, mut generation) = (0_usize, 0, 0);
    for chain in chains {
        blocks += chain.len();
        let mut found = vec![false; chain.len()];
        let batch = index.begin_batch(chain.len());
        // The first of a chain is used last: without it the others are worth nothing.
        for (at, block) in chain.iter().enumerate().rev() {
            let key = block.to_le_bytes();
            let mut shard = index.lock(0, LockPurpose::Operation);
            if let Some(lease) = shard.lease(index.hash(&key), &key, batch.at(at)) {
                shard.release(lease);
                found[at] = true;
            }
        }
        hits += found.iter().take_while(|found| **found).count();
        let missing = (0..chain.len()).rev().filter(|&at| !found[at]);
        let batch = index.begin_batch(chain.len());
        for at in missing {
            generation += 1;
            put(&index, &chain[at].to_le_bytes(), generation, batch.at(at))?;
        }
    }
    index.audit()?;
    Ok(hits as f64 / blocks.max(1) as f64)
}

fn put(
    index: &Index,
    key: &[u8],
    generation: u64,
    place: rb_index::Place,
) -> Result<(), Box<dyn Error>> {
    let hash = index.hash(key);
    let (mut free, mut evicted) = (Vec::new(), Vec::new());
    if index.take_free(0, 1, &mut free) == 0 {
        index.evict_least(0, 1, &mut evicted);
    }
    let slot = free
        .first()
        .copied()
        .or(evicted.first().map(|one| one.slot));
    let slot = slot.ok_or("there is nothing to evict")?;
    let mut shard = index.lock(0, LockPurpose::Operation);
    let reserved = shard.reserve(hash, key, &[slot], generation, PutMode::Replace, place);
    let Reserve::Reserved(reservation) = reserved else {
        return Err("replacing always reserves".into());
    };
    let entry = NewEntry {
        slot,
        more: &[],
        payload_len: 1,
        payload_checksum: 0,
        placement: 0,
        expiry: 0,
        metadata: &[],
        verified: true,
    };
    shard.publish(reservation, key, entry);
    Ok(())
}
