//! The guarantees for a policy, and the effects of a wrong one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::Random;
use super::rules::new_entry;
use crate::*;

/// LRU that checks the protocol of [`Policy`] and records each call's kind.
#[derive(Debug)]
struct Checking {
    lru: Lru,
    there: BTreeMap<u32, Resident>,
    calls: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

#[derive(Debug, Default)]
struct CheckingFactory {
    calls: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl PolicyFactory for CheckingFactory {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        Ok(Policies::alone(room, || Checking {
            lru: Lru::new(room.slots.len()),
            there: BTreeMap::new(),
            calls: Arc::clone(&self.calls),
        }))
    }
}

impl Checking {
    fn count(&self, what: &'static str) {
        *self.calls.lock().unwrap().entry(what).or_default() += 1;
    }

    /// Checks that the entry is the one inserted under this number, except for its pin.
    #[track_caller]
    fn known(&mut self, entry: &Resident) -> &mut Resident {
        let known = self.there.get_mut(&entry.entry).expect("it was inserted");
        let same = Resident {
            pinned: known.pinned,
            ..*entry
        };
        assert_eq!(*known, same);
        known
    }
}

impl Policy for Checking {
    fn insert(&mut self, new: &Resident, origin: Origin) {
        self.count(match origin {
            Origin::Put(_) => "put",
            Origin::Saved { .. } => "recovered",
        });
        assert!(!new.pinned);
        // Dense: no number is far above the highest number of concurrent entries.
        assert!(u64::from(new.entry) < 64);
        assert_eq!(self.there.insert(new.entry, *new), None);
        self.lru.insert(new, origin);
    }

    fn lookup(&mut self, lookup: &Lookup) -> Note {
        self.count(if lookup.found.is_some() {
            "hit"
        } else {
            "miss"
        });
        if let Some(found) = lookup.found {
            assert_eq!(found.hash, lookup.hash);
            assert_eq!(self.known(&found).pinned, found.pinned);
        }
        self.lru.lookup(lookup)
    }

    fn pin(&mut self, entry: &Resident) {
        self.count("pin");
        let known = self.known(entry);
        assert!(entry.pinned && !known.pinned);
        known.pinned = true;
        self.lru.pin(entry);
    }

    fn unpin(&mut self, entry: &Resident) {
        self.count("unpin");
        let known = self.known(entry);
        assert!(!entry.pinned && known.pinned);
        known.pinned = false;
        self.lru.unpin(entry);
    }

    fn remove(&mut self, gone: &Resident, why: Gone) {
        self.count(match why {
            Gone::Evicted => "evicted",
            Gone::Replaced => "replaced",
            Gone::Removed => "removed",
        });
        self.known(gone);
        self.there.remove(&gone.entry);
        self.lru.remove(gone, why);
    }

    fn victim(&mut self, class: u8, entries: &Entries<'_>) -> Option<u32> {
        self.lru.victim(class, entries)
    }

    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64> {
        self.lru.worth(class, entries)
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        self.lru.evictable(class, each);
    }
}

fn index(shards: u32, policy: &dyn PolicyFactory) -> Index {
    let mut index = Index::new(IndexOptions {
        shards,
        classes: vec![vec![0..6], vec![6..12]],
        secret: [3; 16],
    })
    .unwrap();
    index.use_policy(policy, &[]).unwrap();
    index
}

fn put(index: &Index, key: u64, slot: SlotId, generation: u64) {
    let name = key.to_le_bytes();
    let hash = index.hash(&name);
    let place = index.begin_batch(1).at(0);
    let mut guard = index.lock(index.shard_of(hash), LockPurpose::Operation);
    let reserved = guard.reserve(hash, &name, &[slot], generation, PutMode::Replace, place);
    let Reserve::Reserved(reservation) = reserved else {
        panic!("Replace always reserves")
    };
    guard.publish(reservation, &name, new_entry(slot));
    guard.recorded(generation, true);
    drop(guard);
    index.set_durable(generation);
}

/// Takes a slot of the class, by eviction if none is free.
fn slot(index: &Index, class: u8) -> Option<SlotId> {
    let (mut free, mut evicted) = (Vec::new(), Vec::new());
    index.take_free(class, 1, &mut free);
    if free.is_empty() {
        index.evict_least(class, 1, &mut evicted);
    }
    free.pop().or(evicted.pop().map(|one| one.slot))
}

/// Calls arrive as [`Policy`] documents, for the right entries, in any order of operations.
#[test]
fn a_policy_is_notified_of_everything_in_order() {
    let factory = CheckingFactory::default();
    for seed in 0..super::repeated(40) {
        let shards = 1 << (seed % 3);
        let index = index(shards, &factory);
        let mut random = Random::new(seed);
        let mut leases: Vec<Lease> = Vec::new();
        for generation in 1..400 {
            let key = random.below(20);
            let name = key.to_le_bytes();
            let hash = index.hash(&name);
            let place = index.begin_batch(1).at(0);
            let lock = || index.lock(index.shard_of(hash), LockPurpose::Operation);
            match random.below(8) {
                0..=1 => leases.extend(lock().lease(hash, &name, place)),
                2 => _ = lock().touch(hash, &name, place),
                3 => {
                    let mut guard = lock();
                    guard.remove(hash, &name, generation);
                    guard.recorded(generation, true);
                    drop(guard);
                    index.set_durable(generation);
                }
                4..=5 if !leases.is_empty() => {
                    let lease = leases.swap_remove(random.below(leases.len() as u64) as usize);
                    index
                        .lock(lease.shard(), LockPurpose::Operation)
                        .release(lease);
                }
                _ => {
                    if let Some(slot) = slot(&index, (generation % 2) as u8) {
                        put(&index, key, slot, generation);
                    }
                }
            }
            index.audit().unwrap();
        }
        for lease in leases {
            index
                .lock(lease.shard(), LockPurpose::Operation)
                .release(lease);
        }
        index.audit().unwrap();
    }
    let calls = factory.calls.lock().unwrap();
    for what in [
        "put", "hit", "miss", "pin", "unpin", "evicted", "replaced", "removed",
    ] {
        assert!(
            calls.get(what).is_some_and(|&count| count > 20),
            "{what}: {calls:?}"
        );
    }
}

/// A policy whose victims are wrong, each in a different way.
#[derive(Debug)]
struct Wrong {
    lru: Lru,
    victim: u32,
}

#[derive(Debug)]
struct WrongFactory(u32);

impl PolicyFactory for WrongFactory {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        Ok(Policies::alone(room, || Wrong {
            lru: Lru::new(room.slots.len()),
            victim: self.0,
        }))
    }
}

impl Policy for Wrong {
    fn insert(&mut self, new: &Resident, origin: Origin) {
        self.lru.insert(new, origin);
    }

    fn lookup(&mut self, lookup: &Lookup) -> Note {
        self.lru.lookup(lookup)
    }

    fn pin(&mut self, entry: &Resident) {
        self.lru.pin(entry);
    }

    fn unpin(&mut self, entry: &Resident) {
        self.lru.unpin(entry);
    }

    fn remove(&mut self, gone: &Resident, why: Gone) {
        self.lru.remove(gone, why);
    }

    fn victim(&mut self, _: u8, _: &Entries<'_>) -> Option<u32> {
        Some(self.victim)
    }

    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64> {
        self.lru.worth(class, entries)
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        self.lru.evictable(class, each);
    }
}

/// A victim that is leased, of the other class, removed or never existed is refused and counted,
/// and nothing is evicted.
#[test]
fn a_wrong_victim_is_refused() {
    // Entries 0 to 5 are of class 0 and 6 to 11 of class 1; 2 is leased, 3 removed.
    for victim in [2, 3, 6, 11, 12, u32::MAX] {
        let index = index(1, &WrongFactory(victim));
        for key in 0..12 {
            let slot = slot(&index, u8::from(key >= 6)).unwrap();
            put(&index, key, slot, key + 1);
        }
        let name = |key: u64| key.to_le_bytes();
        let mut guard = index.lock(0, LockPurpose::Operation);
        let lease = guard.lease(index.hash(&name(2)), &name(2), Place::default());
        guard.remove(index.hash(&name(3)), &name(3), 100);
        drop(guard);
        index.audit().unwrap();
        let mut evicted = Vec::new();
        assert_eq!(index.evict_least(0, 1, &mut evicted), 0, "victim {victim}");
        assert!(evicted.is_empty() && index.stats().refused_victims > 0);
        let why = index.audit().unwrap_err().clone();
        assert!(why.contains("victim"), "{why}");
        assert_eq!(index.stats().entries, 11);
        index
            .lock(0, LockPurpose::Operation)
            .release(lease.unwrap());
    }
}
