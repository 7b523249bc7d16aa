//! The loader against a naive model: any order of claims, removes and threads gives the same index.

use std::cell::Cell;
use std::collections::HashMap;

use super::*;
use crate::index::IndexOptions;
use crate::slots::Fate;
use crate::stats::LockPurpose;
use crate::tests::{Random, repeated};

const SLOTS: u32 = 24;
const KEYS: u64 = 20;

fn index(slots: u32, shards: u32) -> Index {
    let halves = vec![0..slots / 3, slots / 3..slots];
    Index::new(IndexOptions {
        shards,
        classes: vec![halves],
        secret: [0; 16],
    })
    .unwrap()
}

fn new_entry(slot: u32) -> NewEntry<'static> {
    NewEntry {
        slot: SlotId(slot),
        more: &[],
        payload_len: 4096 ^ slot,
        payload_checksum: 7,
        placement: 3,
        expiry: 0,
        metadata: b"m",
        verified: false,
    }
}

fn hash_of(key: u64) -> u64 {
    key.wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

#[derive(Clone, Copy, Debug)]
enum Claim {
    Put {
        key: u64,
        slot: u32,
        generation: u64,
    },
    Remove {
        key: u64,
        generation: u64,
    },
}

/// Returns the expected live entries, by the two rules applied literally.
fn expected(claims: &[Claim], bad: u32) -> HashMap<u64, (u32, u64)> {
    let mut keys: HashMap<u64, (u64, Option<u32>)> = HashMap::new();
    let mut slots: HashMap<u32, u64> = HashMap::new();
    for claim in claims {
        let (key, generation, slot) = match *claim {
            Claim::Put {
                key,
                slot,
                generation,
            } => (key, generation, Some(slot)),
            Claim::Remove { key, generation } => (key, generation, None),
        };
        let newest = keys.entry(key).or_insert((generation, slot));
        if generation > newest.0 {
            *newest = (generation, slot);
        }
        if let Some(slot) = slot {
            let owner = slots.entry(slot).or_insert(generation);
            *owner = generation.max(*owner);
        }
    }
    let kept = keys.into_iter().filter_map(|(key, (generation, slot))| {
        let slot = slot.filter(|slot| slots[slot] == generation && *slot != bad)?;
        Some((key, (slot, generation)))
    });
    kept.collect()
}

fn random_claims(random: &mut Random) -> Vec<Claim> {
    let mut claims: Vec<Claim> = (1..=60)
        .map(|generation| {
            let key = random.below(KEYS);
            match random.below(5) {
                0 => Claim::Remove { key, generation },
                _ => Claim::Put {
                    key,
                    slot: random.below(u64::from(SLOTS)) as u32,
                    generation,
                },
            }
        })
        .collect();
    let repeated: Vec<Claim> = claims.iter().step_by(3).copied().collect();
    claims.extend(repeated);
    for at in (1..claims.len()).rev() {
        claims.swap(at, random.below(at as u64 + 1) as usize);
    }
    claims
}

/// Loads puts one by one or several together.
fn apply(loader: &Loader<'_>, claims: &[Claim]) {
    let keys: Vec<[u8; 8]> = (0..KEYS).map(u64::to_le_bytes).collect();
    let mut together = Vec::new();
    for claim in claims {
        match *claim {
            Claim::Put {
                key,
                slot,
                generation,
            } => {
                together.push(LoadEntry {
                    hash: hash_of(key),
                    key: &keys[key as usize],
                    entry: new_entry(slot),
                    generation,
                    recency: generation as u32,
                    note: Note::default(),
                });
                if generation % 3 == 0 {
                    load_all(loader, &mut together);
                }
            }
            Claim::Remove { key, generation } => {
                load_all(loader, &mut together);
                loader.remove(hash_of(key), &key.to_le_bytes(), generation);
            }
        }
    }
    load_all(loader, &mut together);
}

fn load_all(loader: &Loader<'_>, claims: &mut Vec<LoadEntry<'_>>) {
    if let [claim] = claims[..] {
        loader.prefetch(&[claim.hash]);
        loader.load(
            claim.hash,
            claim.key,
            claim.entry,
            claim.generation,
            claim.recency,
        );
    } else {
        loader.load_batch(claims);
    }
    claims.clear();
}

#[test]
fn any_order_and_any_threads_give_what_the_rules_say() {
    for seed in 1..=repeated(300) {
        let mut random = Random::new(seed);
        let index = index(SLOTS, 1 << random.below(3));
        let claims = random_claims(&mut random);
        let bad = random.below(u64::from(SLOTS)) as u32;
        let loader = index.loader().unwrap();
        let (first, second) = claims.split_at(claims.len() / 2);
        std::thread::scope(|scope| {
            scope.spawn(|| apply(&loader, first));
            apply(&loader, second);
            assert!(loader.bad_slot(SlotId(bad), u64::MAX));
        });
        let report = loader.finish(1000, 2);
        let expected = expected(&claims, bad);
        assert_eq!(report.entries as usize, expected.len(), "seed {seed}");
        assert_eq!(
            (report.refused, report.duplicate_slots_left),
            (0, 0),
            "seed {seed}"
        );
        for (key, &(slot, generation)) in &expected {
            let guard = index.lock(index.shard_of(hash_of(*key)), LockPurpose::Background);
            let found = guard.get(hash_of(*key), &key.to_le_bytes());
            let found = found.unwrap_or_else(|| panic!("seed {seed}: key {key} is missing"));
            assert_eq!(
                (found.slot.0, found.generation),
                (slot, generation),
                "seed {seed}"
            );
        }
        index
            .audit()
            .unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

/// Prefetches the same memory as a lookup (a line, both ends of an entry and of its key), and the
/// claim of the slot that the key leaves.
#[test]
fn what_a_later_put_of_a_key_touches_is_fetched() {
    thread_local! {
        static FETCHED: Cell<u32> = const { Cell::new(0) };
    }
    let mut index = index(SLOTS, 1);
    index.use_prefetch(|_| FETCHED.set(FETCHED.get() + 1));
    let loader = index.loader().unwrap();
    loader.load(7, b"k", new_entry(0), 1, 0);
    loader.prefetch(&[7, 9 << 40]);
    assert_eq!(FETCHED.take(), (1 + 2 + 2 + 1) + 1);
    // Claims of a base are for new keys: only their lines.
    let claims: Vec<LoadEntry<'_>> = (100..300)
        .map(|hash| LoadEntry {
            hash,
            key: b"k",
            entry: new_entry(1),
            generation: hash,
            recency: 0,
            note: Note::default(),
        })
        .collect();
    loader.load_batch(&claims);
    assert_eq!(FETCHED.get(), 200);
    assert_eq!(loader.finish(0, 1).displaced, 199);
}

#[test]
fn a_removed_generation_does_not_come_back_after_its_remove() {
    let index = index(SLOTS, 1);
    let loader = index.loader().unwrap();
    assert!(!loader.remove(1, b"k", 5));
    assert_eq!(loader.load(1, b"k", new_entry(0), 4, 0), Loaded::Older);
    assert_eq!(loader.load(1, b"k", new_entry(1), 6, 0), Loaded::Inserted);
    assert!(loader.remove(1, b"k", 7));
    assert_eq!(loader.finish(0, 1).entries, 0);
    index.audit().unwrap();
}

#[test]
fn order_follows_the_stamps_over_the_wrap_and_free_slots_are_in_order() {
    let index = index(SLOTS, 1);
    let loader = index.loader().unwrap();
    // The clock is 2: stamps just below the wrap are old; 5 is a little ahead and counts as now.
    let stamps = [
        (1, 2_u32),
        (2, u32::MAX - 1),
        (3, 0),
        (4, u32::MAX - 9),
        (5, 5),
    ];
    let claims: Vec<LoadEntry<'_>> = stamps
        .iter()
        .map(|&(hash, recency)| LoadEntry {
            hash,
            key: b"key",
            entry: new_entry(hash as u32),
            generation: hash,
            recency,
            note: Note::default(),
        })
        .collect();
    loader.load_batch(&claims);
    assert_eq!(loader.finish(2, 1).entries, 5);
    assert_eq!(index.recency_now(), 2);
    let mut evicted = Vec::new();
    assert_eq!(
        index
            .lock(0, LockPurpose::Operation)
            .evict(0, 9, &mut evicted),
        5
    );
    let order: Vec<u64> = evicted.iter().map(|gone| gone.generation).collect();
    assert_eq!(order, [4, 2, 3, 1, 5]);
    let mut free = Vec::new();
    index.take_free(0, 4, &mut free);
    assert_eq!(free, [0, 6, 7, 8].map(SlotId));
}

#[test]
fn impossible_claims_are_refused_and_counted() {
    let index = index(SLOTS, 2);
    let loader = index.loader().unwrap();
    let long = [0; crate::MAX_KEY_BYTES + 1];
    assert_eq!(loader.load(1, b"k", new_entry(SLOTS), 1, 0), Loaded::Older);
    assert_eq!(
        loader.load(1, b"k", new_entry(u32::MAX), 1, 0),
        Loaded::Older
    );
    assert_eq!(loader.load(1, &long, new_entry(0), 1, 0), Loaded::Older);
    assert!(!loader.remove(1, &long, 9));
    assert!(!loader.bad_slot(SlotId(SLOTS), 0));
    // The same generation on one slot for two keys: the record is damaged, and one of the two is
    // dropped.
    assert_eq!(loader.load(2, b"a", new_entry(3), 4, 0), Loaded::Inserted);
    assert_eq!(loader.load(3, b"b", new_entry(3), 4, 0), Loaded::Inserted);
    let report = loader.finish(0, 1);
    assert_eq!(
        (report.refused, report.duplicate_slots_left, report.entries),
        (3, 1, 1)
    );
    index.audit().unwrap();
}

#[test]
fn only_an_empty_index_can_be_loaded() {
    let index = index(SLOTS, 1);
    let mut taken = Vec::new();
    index.take_free(0, 2, &mut taken);
    assert_eq!(
        index.loader().unwrap_err(),
        IndexError::NotEmpty { in_use: 2 }
    );
    index.quarantine(taken[0]);
    index.settle_quarantined(taken[0], Fate::Bad);
    index.give_back(&taken[1..]);
    drop(index.loader().unwrap());
    index.audit().unwrap();
}

/// A slot that was bad, was found good again, and was used: only the put records it.
#[test]
fn a_later_put_in_a_bad_slot_says_that_it_is_good_again() {
    for (last, stays_bad) in [(9, false), (10, true)] {
        let index = index(SLOTS, 1);
        let loader = index.loader().unwrap();
        assert!(loader.bad_slot(SlotId(3), last));
        loader.load(hash_of(1), &1_u64.to_le_bytes(), new_entry(3), 10, 0);
        // An older header also records it as bad.
        assert!(loader.bad_slot(SlotId(3), 2));
        let report = loader.finish(0, 1);
        assert_eq!(
            (report.entries, index.is_bad(SlotId(3))),
            (u64::from(!stays_bad), stays_bad)
        );
        index.audit().unwrap();
    }
}
