//! Eviction: within a shard, and over all shards in the order of use.
//!
//! Shards evict in the order of use within themselves, but keys spread unevenly, and the shards'
//! oldest entries differ in age. If each put evicted in its own shard, the blocks of one prefix would
//! vanish at different times, first the ones that happen to live in crowded shards (measured on a
//! production trace with 64 shards: a tenth of a point of block hits, but one and a half of prefix
//! hits). So each shard shows the stamp of what it would evict next, outside its lock, and
//! [`Index::evict_oldest`] goes to the oldest.

use crate::guard::ShardGuard;
use crate::index::Index;
use crate::policy::Policy;
use crate::put::{Evicted, KeptEviction};
use crate::shard::{Shard, ShardCell};
use crate::slots::{SlotId, State};
use crate::stats::Visit;

impl Index {
    /// Evicts up to `n` entries of a class, those used longest ago over all shards, never a leased
    /// one. Visits one shard at a time and counts that as [`Visit::Eviction`]; the caller holds no
    /// guard. Their slots become reserved and are the caller's. Appends to `out` and returns how
    /// many; fewer than `n` means that nothing more could be found.
    ///
    /// The order is exact to the coarseness of stamps (16 uses), and while other threads use and
    /// evict, to what they do meanwhile.
    pub fn evict_oldest(&self, class: u8, n: usize, out: &mut Vec<Evicted>) -> usize {
        let mut evicted = 0;
        // A shard may have lost its oldest entry to a lease before it is visited. Each such visit
        // corrects what the shard shows, so a few rounds of all shards are enough to be sure.
        let mut vain = 0;
        while evicted < n && vain <= 2 * self.shards.len() {
            let Some((shard, next_age)) = self.oldest_shard(class) else {
                break;
            };
            let mut guard = self.lock(shard, Visit::Eviction);
            let before = evicted;
            while evicted < n
                && guard
                    .age(class)
                    .is_some_and(|age| age >= next_age || evicted == before)
            {
                evicted += guard.evict(class, 1, out);
            }
            vain = if evicted == before { vain + 1 } else { 0 };
        }
        evicted
    }

    /// The shard with the oldest entry to evict, and the age of the next shard's.
    fn oldest_shard(&self, class: u8) -> Option<(usize, u32)> {
        let now = self.recency_now();
        let (mut oldest, mut next_age) = (None, 0);
        for (number, cell) in self.shards.iter().enumerate() {
            let shown = cell
                .oldest
                .get(usize::from(class))
                .map_or(0, |hint| hint.get());
            if shown == 0 {
                continue;
            }
            let age = now.wrapping_sub((shown - 1) as u32);
            match oldest {
                Some((_, most)) if age <= most => next_age = next_age.max(age),
                _ => {
                    next_age = oldest.map_or(0, |(_, most)| most);
                    oldest = Some((number, age));
                }
            }
        }
        oldest.map(|(shard, _)| (shard, next_age))
    }
}

impl ShardGuard<'_> {
    /// Evicts up to `n` entries of a class in this shard, least valuable first, never a leased one.
    /// Their slots become reserved and are the caller's. Appends to `out` and returns how many.
    pub fn evict(&mut self, class: u8, n: usize, out: &mut Vec<Evicted>) -> usize {
        let shard = &mut *self.shard;
        let mut evicted = 0;
        while evicted < n
            && let Some(at) = shard.policy.victim(class)
        {
            let entry = *shard.store.entry(at);
            let key: Box<[u8]> = shard.store.key(at).into();
            if self.index.keeps_evicted {
                shard.evicted.push(KeptEviction {
                    hash: entry.hash,
                    key: key.clone(),
                    metadata: shard.store.key_and_metadata(at).1.into(),
                    located: shard.store.located(at),
                    recency: entry.recency(self.index.recency_now()),
                });
            }
            shard.policy.remove(class, at);
            shard.store.unlist(at);
            shard.store.discard(at);
            if self
                .index
                .slots
                .change(entry.slot, State::Live, State::Reserved)
            {
                let (slot, generation) = (SlotId(entry.slot), entry.generation);
                out.push(Evicted {
                    slot,
                    class,
                    hash: entry.hash,
                    key,
                    generation,
                });
                evicted += 1;
            }
        }
        self.index.shards[self.number as usize]
            .evictions
            .add(evicted as u64);
        evicted
    }

    /// An observer has been notified of the eviction of this entry: snapshots no longer show it.
    pub fn delivered(&mut self, key: &[u8], generation: u64) {
        let evicted = &mut self.shard.evicted;
        evicted.retain(|kept| kept.located.generation != generation || *kept.key != *key);
    }

    /// How long ago what would be evicted next was used.
    fn age(&self, class: u8) -> Option<u32> {
        let now = self.index.recency_now();
        let at = self.shard.policy.victim(class)?;
        Some(now.wrapping_sub(self.shard.store.entry(at).recency(now)))
    }
}

impl ShardCell {
    /// Shows what this shard, which the caller has locked, would evict next. The few entries looked
    /// at here (one per shard and class) stay in the cache, and what is shown is written only when it
    /// changes.
    pub(crate) fn show_oldest(&self, shard: &Shard, now: u32) {
        for (class, hint) in (0..=u8::MAX).zip(&self.oldest) {
            let next = shard.policy.victim(class);
            let shown = next.map_or(0, |at| u64::from(shard.store.entry(at).recency(now)) + 1);
            if hint.get() != shown {
                hint.set(shown);
            }
        }
    }
}

impl Drop for ShardGuard<'_> {
    fn drop(&mut self) {
        self.record_unrecorded();
        let cell = &self.index.shards[self.number as usize];
        cell.show_oldest(&self.shard, self.index.recency_now());
    }
}

#[cfg(all(test, not(rb_loom)))]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::tests::repeated;
    use crate::{IndexOptions, NewEntry, PutMode, Reserve};

    /// With stamps far enough apart, eviction over 8 shards is exactly that of one list: whatever
    /// was used longest ago goes first, and leased entries stay.
    #[test]
    fn eviction_over_many_shards_is_in_the_order_of_use() {
        for seed in 1..=repeated(50) {
            let classes = vec![vec![0..64]];
            let index = Index::new(IndexOptions {
                shards: 8,
                classes,
                secret: [0; 16],
            })
            .unwrap();
            let mut state = seed;
            let mut random = |below: u64| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(seed);
                (state >> 33) % below
            };
            let mut order: VecDeque<u64> = VecDeque::new();
            let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut generation = 0;
            for step in 0..600 {
                index.begin_batch(16);
                let key = random(100);
                let mut guard = index.lock(index.shard_of(hash(key)), Visit::Operation);
                if guard.touch(hash(key), &key.to_le_bytes()) {
                    order.retain(|known| *known != key);
                    order.push_back(key);
                    continue;
                }
                let name = key.to_le_bytes();
                drop(guard);
                let mut slots = Vec::new();
                if index.take_free(0, 1, &mut slots) == 0 {
                    // Lease the oldest now and then: the next one must go instead.
                    let oldest = order[0];
                    let lease = (random(4) == 0).then(|| {
                        let mut guard = index.lock(index.shard_of(hash(oldest)), Visit::Operation);
                        guard.lease(hash(oldest), &oldest.to_le_bytes()).unwrap()
                    });
                    let mut evicted = Vec::new();
                    assert_eq!(index.evict_oldest(0, 1, &mut evicted), 1);
                    let expected = order[usize::from(lease.is_some())];
                    let found = u64::from_le_bytes(evicted[0].key[..].try_into().unwrap());
                    assert_eq!(found, expected, "seed {seed}, step {step}");
                    order.retain(|known| *known != expected);
                    slots.push(evicted[0].slot);
                    index.begin_batch(16);
                    if let Some(lease) = lease {
                        index.lock(lease.shard(), Visit::Operation).release(lease);
                        order.retain(|known| *known != oldest);
                        order.push_back(oldest);
                    }
                }
                generation += 1;
                let mut guard = index.lock(index.shard_of(hash(key)), Visit::Operation);
                let Reserve::Reserved(reservation) =
                    guard.reserve(hash(key), &name, slots[0], generation, PutMode::Replace)
                else {
                    panic!("seed {seed}: a replacing put is always reserved")
                };
                drop(guard);
                let entry = NewEntry {
                    slot: slots[0],
                    payload_len: 1,
                    payload_checksum: 0,
                    placement: 0,
                    metadata: &[],
                    proven: true,
                };
                index.begin_batch(16);
                let mut guard = index.lock(index.shard_of(hash(key)), Visit::Operation);
                guard.publish(reservation, &name, entry);
                order.push_back(key);
            }
            index.audit().unwrap();
        }
    }

    #[test]
    fn nothing_to_evict_is_said_and_not_waited_for() {
        let index = Index::new(IndexOptions {
            shards: 4,
            classes: vec![vec![0..4]],
            secret: [0; 16],
        })
        .unwrap();
        assert_eq!(index.evict_oldest(0, 1, &mut Vec::new()), 0);
        assert_eq!(index.evict_oldest(9, 1, &mut Vec::new()), 0);
    }
}
