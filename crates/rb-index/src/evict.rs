//! Eviction within a shard, and over all shards in the order of the value of their next victims.
//!
//! With LRU, the least recently used entry has the lowest value. Each shard evicts in its own order
//! of use, but keys spread unevenly, so the oldest entries of the shards differ in age. If each put
//! evicted in its own shard, the blocks of one prefix would vanish at different times, those in
//! crowded shards first (measured on a production trace with 64 shards: a tenth of a percentage
//! point of block hits, but one and a half of prefix hits). So each shard publishes the value of
//! its next victim outside its lock, and [`Index::evict_least`] visits the shard with the lowest.

use crate::chosen::Chosen;
use crate::entries::Entries;
use crate::error::IndexError;
use crate::guard::ShardGuard;
use crate::index::{Index, TICKS_PER_STAMP_BITS};
use crate::policy::{Admitted, Gone, Origin, Policies, Policy, PolicyFactory, Resident, Room};
use crate::put::{Evicted, KeptEviction, Wanted};
use crate::shard::{Shard, ShardCell};
use crate::slots::{SlotId, State};
use crate::stats::LockPurpose;
use crate::sync::Tally;

impl Index {
    /// Sets the policies of `factory` for all later evictions. Existing entries are inserted into
    /// them in the order of their last use, as after a restart.
    ///
    /// `saved` is what an earlier session saved ([`Index::policy_state`]); empty if that is unknown.
    ///
    /// # Errors
    /// There is no memory for the policies, or [`IndexError::PolicyCount`].
    pub fn use_policy(
        &mut self,
        factory: &dyn PolicyFactory,
        saved: &[u8],
    ) -> Result<(), IndexError> {
        let class_stats = |class| self.slots.class_stats(class).capacity;
        let slots: Vec<u64> = (0..self.slots.classes()).map(class_stats).collect();
        let now = self.now();
        let Policies { of_shards, shared } = factory.policies(&Room {
            shards: self.shards.len(),
            slots: &slots,
            saved,
        })?;
        let (policies, shards) = (of_shards.len(), self.shards.len());
        if policies != shards {
            return Err(IndexError::PolicyCount { policies, shards });
        }
        self.shared = shared;
        for (cell, mut policy) in self.shards.iter().zip(of_shards) {
            let mut shard = cell.shard.lock();
            let entries = Entries::new(&shard.store, now);
            let live = (0..shard.store.end()).filter(|&at| shard.store.entry(at).is_live());
            let mut order: Vec<u32> = live.collect();
            order.sort_by_key(|&at| entries.last_use(at));
            for at in order {
                let known = Resident::new(at, shard.store.entry(at));
                let pinned = false;
                let origin = Origin::Saved {
                    note: shard.policy.saved(at),
                    uses_ago: (now - entries.last_use(at)) << TICKS_PER_STAMP_BITS,
                };
                policy.insert(&Resident { pinned, ..known }, origin);
                if known.pinned {
                    policy.pin(&known);
                }
            }
            shard.policy = Chosen::Other(policy);
            cell.show_worth(&shard, now);
        }
        Ok(())
    }

    /// Evicts entries of a class until they had `n` slots, those of the lowest value over all
    /// shards, never a leased one. Visits one shard at a time and counts that as
    /// [`LockPurpose::Eviction`]; the caller must not hold a guard. The evicted slots become
    /// reserved for the caller. Appends to `out` and returns the number of slots: more than `n` if
    /// the last entry had several, and fewer if nothing more could be evicted.
    ///
    /// With LRU, the order is exact up to the granularity of stamps (16 uses) and to concurrent
    /// uses and evictions.
    ///
    /// ```
    /// # use rb_index::{Index, IndexOptions, LockPurpose, NewEntry, PutMode, Reserve};
    /// #
    /// # let index = Index::new(IndexOptions { shards: 1, classes: vec![vec![0..2]], secret: [1; 16] })?;
    /// # let place = index.begin_batch(1).at(0);
    /// # let put = |key: &[u8], generation| {
    /// #     let mut slots = Vec::new();
    /// #     index.take_free(0, 1, &mut slots);
    /// #     let mut shard = index.lock(0, LockPurpose::Operation);
    /// #     let reserved = shard.reserve(index.hash(key), key, &slots, generation, PutMode::Replace, place);
    /// #     let Reserve::Reserved(reservation) = reserved else { unreachable!("Replace always reserves") };
    /// #     let entry = NewEntry {
    /// #         slot: slots[0],
    /// #         more: &[],
    /// #         payload_len: 1000,
    /// #         payload_checksum: 0,
    /// #         placement: 0,
    /// #         expiry: 0,
    /// #         metadata: b"",
    /// #         verified: true,
    /// #     };
    /// #     shard.publish(reservation, key, entry)
    /// # };
    /// put(b"old", 1);
    /// put(b"new", 2);
    /// let mut evicted = Vec::new();
    /// assert_eq!(index.evict_least(0, 1, &mut evicted), 1);
    /// assert_eq!(&*evicted[0].key, b"old");
    /// assert_eq!(index.stats().classes[0].reserved, 1);
    /// # Ok::<(), rb_index::IndexError>(())
    /// ```
    pub fn evict_least(&self, class: u8, n: usize, out: &mut Vec<Evicted>) -> usize {
        let mut evicted = 0;
        // A shard may have lost its victim to a lease before it is visited. Each such visit updates
        // the value that the shard publishes, so a few rounds over all shards are enough to be
        // sure.
        let mut vain = 0;
        while evicted < n && vain <= 2 * self.shards.len() {
            let chosen = self
                .shared
                .as_ref()
                .and_then(|shared| shared.next_shard(class));
            // Of a shard that a shared policy has chosen, one victim.
            let chosen = chosen
                .filter(|&shard| shard < self.shards.len())
                .map(|shard| (shard, 0));
            let Some((shard, next)) = chosen.or_else(|| self.least_shard(class)) else {
                // A shard publishes under its lock: one that is about to show an entry has it.
                if self.evictable(class) > 0 {
                    evicted += self.evict_anywhere(class, n - evicted, out);
                }
                break;
            };
            let mut guard = self.lock(shard, LockPurpose::Eviction);
            let before = evicted;
            while evicted < n
                && guard
                    .worth(class)
                    .is_some_and(|worth| worth <= next || evicted == before)
                && let freed @ 1.. = guard.evict(class, 1, out)
            {
                evicted += freed;
            }
            vain = if evicted == before { vain + 1 } else { 0 };
        }
        evicted
    }

    /// Returns how many puts of a batch, from the first one on, are worth what they would replace, and how
    /// many of those are worth a write. The first that is refused ends the batch: a block is worth
    /// nothing without those before it. The keys must have no entries, and the caller must hold no
    /// guard.
    ///
    /// Admits all if the policy does not judge batches ([`Index::judges`]). Takes no slots, so others
    /// may take them first.
    pub fn admits(&self, wanted: &[Wanted]) -> Admitted {
        let mut admitted = Admitted {
            worth: wanted.len(),
            written: wanted.len(),
        };
        let Some(shared) = &self.shared else {
            return admitted;
        };
        for class in 0..self.slots.classes() as u8 {
            let of_class = (0..).zip(wanted).filter(|(_, put)| put.class == class);
            let (positions, hashes): (Vec<usize>, Vec<u64>) =
                of_class.clone().map(|(at, put)| (at, put.hash)).unzip();
            if positions.is_empty() {
                continue;
            }
            let mut free = self.free(class);
            let fits = |(_, put): &(usize, &Wanted)| {
                let fits = u64::from(put.slots) <= free;
                free = free.saturating_sub(put.slots.into());
                fits
            };
            let free = of_class.take_while(fits).count();
            let of_class = shared.admits(class, &hashes, free);
            let end = |count: usize| positions.get(count).copied().unwrap_or(wanted.len());
            admitted.worth = admitted.worth.min(end(of_class.worth));
            admitted.written = admitted.written.min(end(of_class.written));
        }
        admitted
    }

    /// Sets the least worth of what is written; see
    /// [`SharedPolicy::set_floor`](crate::SharedPolicy::set_floor).
    pub fn set_write_floor(&self, floor: f64) {
        if let Some(shared) = &self.shared {
            shared.set_floor(floor);
        }
    }

    /// Evicts like [`Index::evict_least`] for the keys of a put batch, one slot for each, in their
    /// order. Ends at the first key that is worth less than what would be evicted for it: a block is
    /// worth nothing without those before it. `None` stands for a key that is admitted in any case; the
    /// others must have no entries. Returns the number of slots, and true if a key was refused.
    pub fn evict_for(
        &self,
        class: u8,
        hashes: &[Option<u64>],
        out: &mut Vec<Evicted>,
    ) -> (usize, bool) {
        if self.shared.is_none() {
            return (self.evict_least(class, hashes.len(), out), false);
        }
        let mut evicted = 0;
        while evicted < hashes.len() {
            if hashes[evicted].is_some_and(|hash| !self.is_worth_evicting(class, hash)) {
                return (evicted, true);
            }
            match self.evict_least(class, 1, out) {
                0 => break,
                freed => evicted += freed,
            }
        }
        (evicted, false)
    }

    /// Returns whether a key without an entry is worth what would be evicted next.
    #[must_use]
    pub fn is_worth_evicting(&self, class: u8, hash: u64) -> bool {
        let shared = self.shared.as_ref();
        shared.is_none_or(|shared| shared.admits(class, &[hash], 0).worth > 0)
    }

    /// Returns what the policy has learned, in at most about `limit` bytes, for a later
    /// [`Index::use_policy`]; empty if it saves nothing.
    #[must_use]
    pub fn policy_state(&self, limit: usize) -> Vec<u8> {
        let shared = self.shared.as_ref();
        shared.map_or(Vec::new(), |shared| shared.save(limit))
    }

    /// Evicts like [`Index::evict_least`], but from one shard after the other. Waits for each lock, so
    /// it misses no entry that was there when it began.
    fn evict_anywhere(&self, class: u8, n: usize, out: &mut Vec<Evicted>) -> usize {
        let mut evicted = 0;
        for shard in 0..self.shards.len() {
            if evicted >= n {
                break;
            }
            let mut guard = self.lock(shard, LockPurpose::Eviction);
            evicted += guard.evict(class, n - evicted, out);
        }
        evicted
    }

    /// Returns the shard with the lowest-valued victim, and the value of the next best shard's
    /// victim.
    fn least_shard(&self, class: u8) -> Option<(usize, u64)> {
        let (mut least, mut next) = (None, u64::MAX);
        for (number, cell) in self.shards.iter().enumerate() {
            let shown = cell.worth.get(usize::from(class)).map(Tally::get);
            // 0 means that there is nothing to evict.
            let Some(worth) = shown.and_then(|shown| shown.checked_sub(1)) else {
                continue;
            };
            match least {
                Some((_, known)) if worth >= known => next = next.min(worth),
                _ => {
                    next = least.map_or(u64::MAX, |(_, known)| known);
                    least = Some((number, worth));
                }
            }
        }
        least.map(|(shard, _)| (shard, next))
    }
}

impl ShardGuard<'_> {
    /// Evicts entries of a class in this shard until they had `n` slots, in the policy's order,
    /// never a leased one. The evicted slots become reserved for the caller. Appends to `out` and
    /// returns the number of slots, which exceeds `n` if the last entry had several.
    pub fn evict(&mut self, class: u8, n: usize, out: &mut Vec<Evicted>) -> usize {
        let shard = &mut *self.shard;
        let (mut evicted, mut entries) = (0, 0);
        while evicted < n {
            let at = match shard.victim(class, self.index.now()) {
                Ok(Some(at)) => at,
                Ok(None) => break,
                Err(_) => {
                    let cell = &self.index.shards[self.number as usize];
                    cell.refused_victims.add(1);
                    break;
                }
            };
            let entry = *shard.store.entry(at);
            self.index.prefetch_evicted(&shard.store, &entry);
            let key: Box<[u8]> = shard.store.key(at).into();
            if self.index.keeps_evicted {
                shard.evicted.push(KeptEviction {
                    hash: entry.hash,
                    key: key.clone(),
                    metadata: shard.store.key_and_metadata(at).1.into(),
                    more: shard
                        .store
                        .more(at)
                        .flat_map(|slot| slot.0.to_le_bytes())
                        .collect(),
                    located: shard.store.located(at),
                    recency: entry.recency(self.index.recency_now()),
                });
            }
            shard.unrecorded.add(entry.hash, &self.index.bases);
            shard.moved = true;
            let gone = Resident::new(at, &entry);
            shard.evictable.subtract(&gone);
            shard.policy.remove(&gone, Gone::Evicted);
            let more: Box<[SlotId]> = shard.store.more(at).collect();
            shard.store.unlist(at);
            shard.store.discard(at);
            let gone = Evicted {
                slot: SlotId(entry.slot),
                more,
                class,
                payload_len: entry.payload_len,
                hash: entry.hash,
                key,
                generation: entry.generation,
            };
            for SlotId(slot) in gone.slots() {
                (self.index.slots).change(slot, State::Live, State::Reserved);
            }
            evicted += 1 + gone.more.len();
            entries += 1;
            out.push(gone);
        }
        self.index.shards[self.number as usize]
            .evictions
            .add(entries);
        evicted
    }

    /// Marks the eviction of this entry as delivered to the observer: snapshots no longer include
    /// it.
    pub fn delivered(&mut self, key: &[u8], generation: u64) {
        let evicted = &mut self.shard.evicted;
        evicted.retain(|kept| kept.located.generation != generation || *kept.key != *key);
    }

    fn worth(&self, class: u8) -> Option<u64> {
        self.shard.worth(class, self.index.now())
    }
}

impl ShardCell {
    /// Publishes the value of the next victim of this shard, which the caller has locked. The few
    /// entries read here (one per shard and class) stay in the cache, and a value is written only
    /// when it changes.
    pub(crate) fn show_worth(&self, shard: &Shard, now: u64) {
        self.show_counts(shard);
        let entries = Entries::new(&shard.store, now);
        match &shard.policy {
            Chosen::Lru(lru) => self.show_worth_of(lru, &entries),
            Chosen::Other(policy) => self.show_worth_of(policy.as_ref(), &entries),
        }
    }

    /// Publishes the numbers of live entries and of evictable slots.
    fn show_counts(&self, shard: &Shard) {
        self.entries.set(shard.store.len() as u64);
        for (shown, &slots) in self.evictable.iter().zip(shard.evictable.of_classes()) {
            shown.set(slots);
        }
    }

    fn show_worth_of(&self, policy: &(impl Policy + ?Sized), entries: &Entries<'_>) {
        for (class, hint) in self.worth.iter().enumerate() {
            // There are at most 64 classes.
            let worth = policy.worth(class as u8, entries);
            let shown = worth.map_or(0, |worth| worth.saturating_add(1));
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
        if std::mem::take(&mut self.shard.moved) {
            cell.show_worth(&self.shard, self.index.now());
        }
    }
}

#[cfg(all(test, not(rb_loom)))]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::tests::repeated;
    use crate::{IndexOptions, NewEntry, Place, PutMode, Reserve};

    /// With stamps far enough apart, eviction over 8 shards is exactly that of one list: the least
    /// recently used entry is evicted first, and leased entries stay.
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
                let mut guard = index.lock(index.shard_of(hash(key)), LockPurpose::Operation);
                let touched = guard.touch(hash(key), &key.to_le_bytes(), Place::default());
                if touched.is_some() {
                    order.retain(|known| *known != key);
                    order.push_back(key);
                    continue;
                }
                let name = key.to_le_bytes();
                drop(guard);
                let mut slots = Vec::new();
                if index.take_free(0, 1, &mut slots) == 0 {
                    // Lease the oldest now and then: the next one must be evicted instead.
                    let oldest = order[0];
                    let lease = (random(4) == 0).then(|| {
                        let mut guard =
                            index.lock(index.shard_of(hash(oldest)), LockPurpose::Operation);
                        guard
                            .lease(hash(oldest), &oldest.to_le_bytes(), Place::default())
                            .unwrap()
                    });
                    let mut evicted = Vec::new();
                    assert_eq!(index.evict_least(0, 1, &mut evicted), 1);
                    let expected = order[usize::from(lease.is_some())];
                    let found = u64::from_le_bytes(evicted[0].key[..].try_into().unwrap());
                    assert_eq!(found, expected, "seed {seed}, step {step}");
                    order.retain(|known| *known != expected);
                    slots.push(evicted[0].slot);
                    index.begin_batch(16);
                    if let Some(lease) = lease {
                        index
                            .lock(lease.shard(), LockPurpose::Operation)
                            .release(lease);
                        order.retain(|known| *known != oldest);
                        order.push_back(oldest);
                    }
                }
                generation += 1;
                let mut guard = index.lock(index.shard_of(hash(key)), LockPurpose::Operation);
                let Reserve::Reserved(reservation) = guard.reserve(
                    hash(key),
                    &name,
                    &slots,
                    generation,
                    PutMode::Replace,
                    Place::default(),
                ) else {
                    panic!("seed {seed}: a replacing put is always reserved")
                };
                drop(guard);
                let entry = NewEntry {
                    slot: slots[0],
                    more: &[],
                    payload_len: 1,
                    payload_checksum: 0,
                    placement: 0,
                    expiry: 0,
                    metadata: &[],
                    verified: true,
                };
                index.begin_batch(16);
                let mut guard = index.lock(index.shard_of(hash(key)), LockPurpose::Operation);
                guard.publish(reservation, &name, entry);
                order.push_back(key);
            }
            index.audit().unwrap();
        }
    }

    #[test]
    fn nothing_to_evict_is_reported_without_waiting() {
        let index = Index::new(IndexOptions {
            shards: 4,
            classes: vec![vec![0..4]],
            secret: [0; 16],
        })
        .unwrap();
        assert_eq!(index.evict_least(0, 1, &mut Vec::new()), 0);
        assert_eq!(index.evict_least(9, 1, &mut Vec::new()), 0);
    }
}
