//! What the benchmarks share: an index full of keys, and records about them.

use rb_format::{BaseEntry, Generation, Identity, StoreUuid, key_hash};
use rb_index::{Index, IndexOptions, NewEntry, SlotId};

/// The identity that all records of the benchmarks name.
pub const IDENTITY: Identity = Identity {
    uuid: StoreUuid([7; 16]),
    epoch: 1,
};

/// A 32-byte key, random-looking as content hashes are.
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

/// A full index of `entries` entries in one class.
///
/// # Panics
/// If `shards` is not a power of two of at most 1024.
#[must_use]
pub fn full_index(entries: u32, shards: u32) -> Index {
    let options = IndexOptions {
        shards,
        classes: vec![vec![0..entries]],
    };
    let index = Index::new(options).unwrap_or_else(|why| panic!("{why}"));
    let loader = index.loader().unwrap_or_else(|why| panic!("{why}"));
    for number in 0..entries {
        let key = key(u64::from(number));
        let hash = key_hash(&IDENTITY.uuid, &key);
        loader.load(hash, &key, entry(number), 1 + u64::from(number), number);
    }
    loader.finish(entries);
    index
}

fn entry(number: u32) -> NewEntry<'static> {
    NewEntry {
        slot: SlotId(number),
        payload_len: 65_536,
        payload_checksum: u64::from(number.wrapping_mul(0x9E37_79B1)),
        placement: 0,
        metadata: &[],
        proven: true,
    }
}

/// A base entry as a checkpoint would write it.
#[must_use]
pub fn base_entry(number: u32, key: &[u8]) -> BaseEntry<'_> {
    BaseEntry {
        key,
        metadata: &[],
        key_hash: key_hash(&IDENTITY.uuid, key),
        slot: number,
        generation: Generation(1 << 42 | u64::from(number)),
        payload_len: 65_536,
        payload_checksum: u64::from(number.wrapping_mul(0x9E37_79B1)),
        placement: 0,
        recency: number / 16,
    }
}
