//! The policy in an index, on made-up conversations.

use std::collections::HashMap;

use crate::tests::Random;
use crate::tests::rules::new_entry;
use crate::*;

/// A cache that is used as a store is.
struct Cache {
    index: Index,
    generation: u64,
}

/// Prefix hits and written blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    references: u64,
    hits: u64,
    writes: u64,
}

impl Cache {
    fn new(slots: u32, shards: u32, factory: Option<&dyn PolicyFactory>) -> Cache {
        let mut index = Index::new(IndexOptions {
            shards,
            classes: vec![vec![0..slots]],
            secret: [5; 16],
        })
        .unwrap();
        if let Some(factory) = factory {
            index.use_policy(factory, &[]).unwrap();
        }
        let generation = 0;
        Cache { index, generation }
    }

    /// Looks up a chain, stores what is missing, and ends the leases.
    fn request(&mut self, chain: &[u64], hints: Hints, counts: &mut Counts) {
        let hashes: Vec<u64> = chain
            .iter()
            .map(|key| self.index.hash(&key.to_le_bytes()))
            .collect();
        let batch = self.index.begin_batch(chain.len()).with_hints(hints);
        let mut judged = Vec::new();
        let mut leases = Vec::new();
        for (at, (key, &hash)) in chain.iter().zip(&hashes).enumerate() {
            let mut shard = self
                .index
                .lock(self.index.shard_of(hash), LockPurpose::Operation);
            let lease = shard.lease(hash, &key.to_le_bytes(), batch.at(at));
            judged.push(Judged {
                hash,
                found: lease.is_some(),
                note: lease.as_ref().map_or(Note::default(), Lease::note),
            });
            leases.push(lease);
        }
        self.index.judge(batch, Purpose::Lease, &mut judged);
        counts.references += chain.len() as u64;
        counts.hits += judged.iter().take_while(|key| key.found).count() as u64;
        let missed = (0..chain.len()).filter(|&at| !judged[at].found);
        let missed: Vec<usize> = missed.collect();
        let missed_hashes: Vec<u64> = missed.iter().map(|&at| hashes[at]).collect();
        let (mut slots, mut evicted) = (Vec::new(), Vec::new());
        let free = self.index.take_free(0, missed.len(), &mut slots);
        let wanted = missed_hashes[free..].iter().copied().map(Some);
        self.index
            .evict_for(0, &wanted.collect::<Vec<_>>(), &mut evicted);
        slots.extend(evicted.iter().map(|one| one.slot));
        for (&at, &slot) in missed.iter().zip(&slots).rev() {
            self.put(chain[at], slot, batch.at(at));
            counts.writes += 1;
        }
        for (lease, key) in leases.into_iter().zip(judged).rev() {
            if let Some(mut lease) = lease {
                lease.set_note(key.note);
                self.index
                    .lock(lease.shard(), LockPurpose::Operation)
                    .release(lease);
            }
        }
    }

    fn put(&mut self, key: u64, slot: SlotId, place: Place) {
        let key = key.to_le_bytes();
        let hash = self.index.hash(&key);
        self.generation += 1;
        let mut shard = self
            .index
            .lock(self.index.shard_of(hash), LockPurpose::Operation);
        let reserved = shard.reserve(
            hash,
            &key,
            &[slot],
            self.generation,
            PutMode::Replace,
            place,
        );
        let Reserve::Reserved(reservation) = reserved else {
            unreachable!("replacing always reserves");
        };
        let entry = new_entry(slot);
        shard.publish(reservation, &key, entry);
    }
}

/// Conversations that grow by a few blocks with each turn, most of which end after their first one, and scans that are
/// never read again.
fn conversations(seed: u64, requests: usize) -> Vec<Vec<u64>> {
    let mut random = Random::new(seed);
    let mut live: Vec<Vec<u64>> = Vec::new();
    let mut next = 1_000;
    let mut chains = Vec::new();
    for _ in 0..requests {
        let mut fresh = |count: u64| -> Vec<u64> {
            next += count;
            (next - count..next).collect()
        };
        if !live.is_empty() && random.below(3) == 0 {
            let at = random.below(live.len() as u64) as usize;
            let more = fresh(2);
            live[at].extend(more);
            chains.push(live[at].clone());
            if random.below(6) == 0 {
                live.swap_remove(at);
            }
        } else {
            let system = random.below(4) * 4;
            let mut chain: Vec<u64> = (system..system + 4).collect();
            chain.extend(fresh(8));
            if random.below(5) == 0 {
                live.push(chain.clone());
            }
            chains.push(chain);
        }
    }
    chains
}

fn run(chains: &[Vec<u64>], cache: &mut Cache) -> Counts {
    let mut counts = Counts::default();
    for chain in chains {
        cache.request(chain, Hints::new(), &mut counts);
    }
    cache.index.audit().unwrap();
    assert_eq!(cache.index.stats().refused_victims, 0);
    counts
}

/// It keeps conversations and lets scans go, with fewer writes than LRU; with one shard or several.
#[test]
fn it_learns_what_is_read_again() {
    let chains = conversations(1, 12_000);
    for shards in [1, 8] {
        let lru = run(&chains, &mut Cache::new(1_000, shards, None));
        let learned = run(
            &chains,
            &mut Cache::new(1_000, shards, Some(&Learned::default())),
        );
        println!("{shards} shards: {lru:?} {learned:?}");
        assert!(learned.hits > lru.hits, "{lru:?} {learned:?}");
        assert!(learned.writes * 2 < lru.writes, "{lru:?} {learned:?}");
    }
}

/// The same requests have the same results.
#[test]
fn it_is_deterministic() {
    let chains = conversations(2, 2_000);
    let all = || run(&chains, &mut Cache::new(300, 4, Some(&Learned::alone())));
    assert_eq!(all(), all());
}

/// Small stores, long chains, keys of a batch that repeat: every request is answered, and the index adds up.
#[test]
fn odd_sizes_work() {
    for slots in [1, 2, 7, 33] {
        let mut cache = Cache::new(slots, 1, Some(&Learned::default()));
        let mut counts = Counts::default();
        let mut random = Random::new(u64::from(slots));
        for _ in 0..500 {
            let length = random.below(20);
            let chain: Vec<u64> = (0..length).map(|_| random.below(30)).collect();
            let hints = match random.below(2) {
                0 => Hints::new(),
                _ => Hints::new().chain_ended(),
            };
            cache.request(&chain, hints, &mut counts);
            cache.index.audit().unwrap();
        }
        assert!(counts.writes >= u64::from(slots.min(30)));
    }
}

/// Class and count of an entry come back with it, so that a restart forgets only what the tables have learned.
#[test]
fn what_is_saved_of_an_entry_comes_back() {
    let mut cache = Cache::new(64, 1, Some(&Learned::alone()));
    let mut counts = Counts::default();
    for _ in 0..5 {
        cache.request(&[1, 2, 3], Hints::new(), &mut counts);
    }
    let notes = |index: &Index| -> HashMap<u64, Note> {
        let shard = index.lock(0, LockPurpose::Operation);
        let saved = (1..4).map(|key: u64| {
            let bytes = key.to_le_bytes();
            let at = shard.find(index.hash(&bytes), &bytes).unwrap();
            (key, shard.shard.policy.saved(at))
        });
        saved.collect()
    };
    let before = notes(&cache.index);
    assert!(before.values().all(|note| *note != Note::default()));
    // A policy that takes over gets them, as a loader of a later session does.
    cache.index.use_policy(&Learned::alone(), &[]).unwrap();
    assert_eq!(notes(&cache.index), before);
    cache.index.audit().unwrap();
}

/// A program that looks up, and touches the same keys a moment later, as `rb replay` does, is judged as one that looks up.
#[test]
fn a_touch_right_after_a_lookup_is_no_further_use() {
    let mut cache = Cache::new(512, 4, Some(&Learned::default()));
    let mut other = Cache::new(512, 4, Some(&Learned::default()));
    let (mut counts, mut touched) = (Counts::default(), Counts::default());
    for chain in conversations(3, 3000) {
        cache.request(&chain, Hints::new(), &mut counts);
        other.request(&chain, Hints::new(), &mut touched);
        let batch = other.index.begin_batch(chain.len());
        let mut judged = Vec::new();
        for (at, key) in chain.iter().enumerate() {
            let name = key.to_le_bytes();
            let hash = other.index.hash(&name);
            let shard = other.index.shard_of(hash);
            let mut shard = other.index.lock(shard, LockPurpose::Operation);
            let note = shard.touch(hash, &name, batch.at(at));
            judged.push(Judged {
                hash,
                found: note.is_some(),
                note: note.unwrap_or_default(),
            });
        }
        other.index.judge(batch, Purpose::Touch, &mut judged);
    }
    assert_eq!((counts.hits, counts.writes), (touched.hits, touched.writes));
    assert!(counts.hits > 0);
}
