//! Tests of the keys that have left without a record, and may return from a base.

use std::collections::HashSet;

use super::rules::new_entry;
use super::{Random, repeated};
use crate::*;

const SLOTS: u32 = 64;
const KEYS: u64 = 200;

/// An index with the bases that its device would have, and what they and the log since them would restore.
struct World {
    index: Index,
    generation: u64,
    /// The newest base is the last.
    complete: [HashSet<u64>; 2],
    begun: Option<HashSet<u64>>,
}

impl World {
    fn new() -> World {
        let options = IndexOptions {
            shards: 2,
            classes: vec![vec![0..SLOTS]],
            secret: [5; 16],
        };
        let mut index = Index::new(options).unwrap();
        index.keep_evicted();
        index.track_unrecorded().unwrap();
        World {
            index,
            generation: 0,
            // What an earlier session has left.
            complete: [(); 2].map(|()| (0..KEYS).collect()),
            begun: None,
        }
    }

    fn with<T>(&self, key: u64, act: impl FnOnce(&mut ShardGuard<'_>, u64, &[u8]) -> T) -> T {
        let name = key.to_le_bytes();
        let hash = self.index.hash(&name);
        let shard = self.index.shard_of(hash);
        let mut guard = self.index.lock(shard, LockPurpose::Operation);
        act(&mut guard, hash, &name)
    }

    /// A change with a record, which is in the log behind every base.
    fn recorded(&mut self, key: u64, lives: bool) {
        for base in self.complete.iter_mut().chain(&mut self.begun) {
            match lives {
                true => base.insert(key),
                false => base.remove(&key),
            };
        }
    }

    fn put(&mut self, key: u64) {
        let (mut slots, mut evicted) = (Vec::new(), Vec::new());
        if self.index.take_free(0, 1, &mut slots) == 0 {
            self.index.evict_least(0, 1, &mut evicted);
            slots.extend(evicted.iter().map(|gone| gone.slot));
        }
        self.generation += 1;
        let generation = self.generation;
        let entry = NewEntry {
            expiry: 1 + (key % 2) as u32,
            ..new_entry(slots[0])
        };
        self.with(key, |guard, hash, name| {
            let (mode, place) = (PutMode::Replace, Place::default());
            let Reserve::Reserved(put) = guard.reserve(hash, name, &slots, generation, mode, place)
            else {
                panic!("Replace always reserves");
            };
            guard.publish(put, name, entry);
        });
        self.recorded(key, true);
    }

    fn remove(&mut self, key: u64) {
        self.generation += 1;
        let generation = self.generation;
        self.with(key, |guard, hash, name| {
            guard.remove(hash, name, generation)
        });
        self.recorded(key, false);
    }

    /// Notes that the observer knows of all evictions of a key.
    fn deliver(&self, key: u64) {
        self.with(key, |guard, _, name| {
            (0..=self.generation).for_each(|any| guard.delivered(name, any));
        });
    }

    /// Takes the snapshot of a base.
    fn begin(&mut self) {
        self.index.base_begins();
        let mut base = HashSet::new();
        for shard in 0..self.index.shards() {
            let mut guard = self.index.lock(shard, LockPurpose::Background);
            let mut each = |entry: SnapshotEntry<'_>| {
                base.insert(u64::from_le_bytes(entry.key.try_into().unwrap()));
            };
            guard.snapshot(&mut Cursor::default(), usize::MAX, &mut each);
            guard.snapshot_evicted(&mut each);
        }
        self.begun = Some(base);
    }

    fn complete(&mut self) {
        if let Some(base) = self.begun.take() {
            self.complete.rotate_left(1);
            self.complete[1] = base;
            self.index.base_completed();
        }
    }

    /// Checks every key. Returns the number of absent keys that may return although no base has them.
    fn check(&self) -> usize {
        let mut others = 0;
        for key in 0..KEYS {
            let restored = self.complete.iter().any(|base| base.contains(&key));
            let absent = self.with(key, |guard, hash, name| guard.get(hash, name).is_none());
            let may_return = self.with(key, |guard, hash, _| guard.may_return(hash));
            assert!(!absent || !restored || may_return, "key {key}");
            others += usize::from(absent && !restored && may_return);
        }
        others
    }
}

/// Keys leave in each way that leaves no record, while bases begin, end, and are given up.
#[test]
fn what_a_base_has_may_return() {
    for seed in 0..repeated(200) {
        let (mut world, mut random) = (World::new(), Random::new(seed));
        for _ in 0..600 {
            let key = random.below(KEYS);
            match random.below(16) {
                0..8 => world.put(key),
                8 => world.remove(key),
                9 => drop(world.with(key, |guard, hash, name| guard.expire(hash, name, 1))),
                10 => world.with(key, |guard, hash, name| {
                    let lease = guard.lease(hash, name, Place::default());
                    if let Some(lease) = lease {
                        guard.invalidate(&lease);
                        guard.release(lease);
                    }
                }),
                11 => world.with(key, |guard, hash, name| {
                    if let Some(found) = guard.get(hash, name) {
                        guard.invalidate_generation(hash, name, found.generation);
                    }
                }),
                12 => world.deliver(key),
                13 => world.begin(),
                _ => world.complete(),
            }
            world.check();
        }
        (0..KEYS).for_each(|key| world.deliver(key));
        for _ in 0..2 {
            world.begin();
            world.complete();
        }
        assert_eq!(
            world.check(),
            0,
            "seed {seed}: nothing has left since two bases"
        );
    }
}
