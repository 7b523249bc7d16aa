//! Shared code of the benchmarks: an index full of keys, and records about them.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use rb_format::{BaseEntry, Generation, Identity, MoreSlots, StoreUuid, key_hash};
use rb_index::{Index, IndexOptions, NewEntry, SlotId};

/// An error of any kind.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Runs a program with its arguments, and shows its error.
pub fn program<A: Parser>(run: impl FnOnce(A) -> Result<(), Failure>) -> ExitCode {
    let ran = A::try_parse().map_err(Failure::from).and_then(run);
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Identity in all records of the benchmarks.
pub const IDENTITY: Identity = Identity {
    uuid: StoreUuid([7; 16]),
    epoch: 1,
};

/// Returns a 32-byte key that looks random, as content hashes do.
#[must_use]
pub fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    let mut state = number;
    for word in key.chunks_exact_mut(8) {
        state = (state ^ (state >> 29))
            .wrapping_mul(0xBF58_476D_1CE4_E5B9)
            .wrapping_add(number);
        word.copy_from_slice(&state.to_le_bytes());
    }
    key
}

/// Creates an empty index of one class.
///
/// # Panics
/// If `shards` is not a power of two of at most 1024.
#[must_use]
pub fn empty_index(slots: u32, shards: u32) -> Index {
    let options = IndexOptions {
        shards,
        classes: vec![vec![0..slots]],
        secret: [0; 16],
    };
    let mut index = Index::new(options).unwrap_or_else(|why| panic!("{why}"));
    index.use_prefetch(rb_io::prefetch);
    index
}

/// Loads entries 0 to `entries` into an empty index.
///
/// # Panics
/// If the index is not empty.
pub fn fill_index(index: &Index, entries: u32) {
    let loader = index.loader().unwrap_or_else(|why| panic!("{why}"));
    for number in 0..entries {
        let key = key(u64::from(number));
        let hash = index.hash(&key);
        loader.load(hash, &key, entry(number), 1 + u64::from(number), number);
    }
    loader.finish(entries, 1);
}

/// Creates a full index of `entries` entries in one class.
///
/// # Panics
/// If `shards` is not a power of two of at most 1024.
#[must_use]
pub fn full_index(entries: u32, shards: u32) -> Index {
    let index = empty_index(entries, shards);
    fill_index(&index, entries);
    index
}

/// Pseudorandom numbers from a seed: `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
#[derive(Debug)]
pub struct Draws(u64);

impl Draws {
    /// Starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    /// Returns a number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % limit
    }
}

/// Returns the median of `figures`; NaN if there are none.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn entry(number: u32) -> NewEntry<'static> {
    NewEntry {
        slot: SlotId(number),
        more: &[],
        payload_len: 65_536,
        payload_checksum: u64::from(number.wrapping_mul(0x9E37_79B1)),
        placement: 0,
        expiry: 0,
        metadata: &[],
        verified: true,
    }
}

/// Returns a base entry as a checkpoint would write it.
#[must_use]
pub fn base_entry(number: u32, key: &[u8]) -> BaseEntry<'_> {
    BaseEntry {
        key,
        metadata: &[],
        key_hash: key_hash(&IDENTITY.uuid, key),
        slot: number,
        more: MoreSlots::NONE,
        generation: Generation(1 << 42 | u64::from(number)),
        payload_len: 65_536,
        payload_checksum: u64::from(number.wrapping_mul(0x9E37_79B1)),
        placement: 0,
        policy: 0,
        expiry: 0,
        recency: number / 16,
    }
}
