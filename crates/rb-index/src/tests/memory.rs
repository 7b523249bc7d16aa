//! The memory goal: at most 72 bytes for an entry without its key and metadata bytes.

use crate::entry::Entry;
use crate::tests::Random;
use crate::{Index, IndexOptions, LoadEntry, NewEntry, Note, Place, SlotId};

/// Bytes of a slab entry; checked at compile time in its module.
const SLAB: f64 = size_of::<Entry>() as f64;
/// Two 4-byte links in the LRU list.
const LINKS: f64 = 8.0;
/// The number of its entry and the placement id in the key cell.
const CELL_HEAD: f64 = 4.0 + 2.0;
/// A table line of 64 bytes for 12 places, 84 of 100 in use, or a quarter fewer after the table has
/// grown.
const TABLE_WORST: f64 = 64.0 / 12.0 / 0.84 * 1.25;
/// A state byte and a bit of the free set. A live entry's slot is not in the free queue.
const SLOT: f64 = 1.0 + 1.0 / 8.0;
/// Chunk lists: a 24-byte vector for 256 slab entries and for 256 links, 16 bytes for a key chunk.
const CHUNK_LISTS: f64 = 48.0 / 256.0 + 16.0 / 256.0;

#[test]
fn an_entry_costs_at_most_72_bytes() {
    let worst = SLAB + LINKS + CELL_HEAD + TABLE_WORST + SLOT + CHUNK_LISTS;
    assert!(worst <= 72.0, "{worst} bytes for an entry");
    assert!(
        worst > 71.0,
        "{worst} bytes for an entry: good news, update the documentation"
    );
}

/// 500,000 entries with 32-byte keys from sections sorted by hash, one thread. Not measured in a
/// debug build. `cargo test -p rb-index --release load_speed -- --nocapture --ignored`
#[test]
#[ignore = "a measurement; the machine decides"]
fn load_speed() {
    const ENTRIES: u32 = 500_000;
    let mut random = Random::new(1);
    let mut hashes: Vec<u64> = (0..ENTRIES).map(|_| random.next()).collect();
    hashes.sort_unstable();
    let keys: Vec<[u8; 32]> = hashes
        .iter()
        .map(|hash| std::array::from_fn(|at| (hash >> (at % 8 * 8)) as u8))
        .collect();
    let mut slots: Vec<u32> = (0..ENTRIES).collect();
    for at in (1..slots.len()).rev() {
        slots.swap(at, random.below(at as u64 + 1) as usize);
    }
    let claims: Vec<LoadEntry<'_>> = (0..ENTRIES as usize)
        .map(|at| LoadEntry {
            hash: hashes[at],
            key: &keys[at],
            entry: NewEntry {
                slot: SlotId(slots[at]),
                more: &[],
                payload_len: 65536,
                payload_checksum: 1,
                placement: 0,
                expiry: 0,
                metadata: &[],
                verified: false,
            },
            generation: 1 + random.below(1 << 30),
            recency: random.below(1 << 20) as u32,
            note: Note::default(),
        })
        .collect();
    for round in 0..5 {
        let options = IndexOptions {
            shards: 64,
            classes: vec![vec![0..ENTRIES + 1000]],
            secret: [0; 16],
        };
        let index = Index::new(options).unwrap();
        let start = std::time::Instant::now();
        let loader = index.loader().unwrap();
        for batch in claims.chunks(1024) {
            loader.load_batch(batch);
        }
        let loaded = start.elapsed();
        let report = loader.finish(1 << 20, 1);
        let finished = start.elapsed();
        let lease = lease_each(&index, &hashes, &keys);
        println!("lease and release of a random key: {lease:?}");
        println!("round {round}: loaded {loaded:?}, finished {finished:?}, {report:?}");
        assert_eq!(report.entries, u64::from(ENTRIES));
    }
}

/// Returns the mean time to lease and release an entry, in an order that misses the processor's
/// caches.
fn lease_each(index: &Index, hashes: &[u64], keys: &[[u8; 32]]) -> std::time::Duration {
    let start = std::time::Instant::now();
    for at in 0..hashes.len() {
        let at = at.wrapping_mul(48_271) % hashes.len();
        let mut guard = index.lock(index.shard_of(hashes[at]), crate::LockPurpose::Operation);
        let lease = guard
            .lease(hashes[at], &keys[at], Place::default())
            .expect("every key was loaded");
        guard.release(lease);
    }
    start.elapsed() / hashes.len() as u32
}

/// The size of every large allocation is known in advance, so that it can be refused with a
/// message: a sparse file can claim 2^32 slots of the smallest size.
#[test]
fn the_need_of_the_most_slots_is_known_before() {
    let most = IndexOptions {
        shards: 1024,
        classes: vec![vec![0..u32::MAX]],
        secret: [0; 16],
    };
    let bytes = most.bytes();
    // The states and the set take 1 1/8 bytes per slot, the tables 6.4.
    let debug = if cfg!(debug_assertions) { 8.0 } else { 0.0 };
    let each = bytes as f64 / f64::from(u32::MAX) - debug;
    assert!((7.4..7.6).contains(&each), "{bytes} for 2^32 slots");
    assert_eq!(most.loader_bytes(), u64::from(u32::MAX) * 8);
}
