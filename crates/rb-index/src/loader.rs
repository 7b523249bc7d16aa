//! Filling an empty index from a checkpoint base and its log.
//!
//! A base is fuzzy: a key may be in it with two generations, and a slot may be claimed by two keys. Two
//! rules settle it, and both hold whatever the order in which the claims come:
//!
//! * **for each key, the highest generation wins**, removes included: a remove leaves a tombstone here
//!   until [`Loader::finish`], so an older put of the key that comes later is refused;
//! * **for each slot, the highest generation wins**, even one whose own key has lost or was removed since:
//!   whoever held the slot before was overwritten.
//!
//! A key whose newest put lost its slot is gone, and its older puts with it: they were replaced before.
//!
//! So sections may be loaded in parallel and the log replayed at the same time or after, in order or not. The
//! price is 8 bytes for each slot and one entry for each removed key of the log until `finish`.

use std::collections::HashMap;
use std::ops::AddAssign;

use crate::by_shard::ByShard;
use crate::entries::age;
use crate::entry::Entry;
use crate::error::IndexError;
use crate::guard_put::fits;
use crate::index::Index;
use crate::memory::{NoMemory, zeroed};
use crate::policy::{Policy, Resident};
use crate::put::{Loaded, NewEntry};
use crate::shard::ShardCell;
use crate::slots::{NO_SLOT, SlotId, State};
use crate::store::{PrefetchStage, Store};
use crate::sync::{Lock, Tally};

/// One claim of a base or log: this key was put into this slot.
#[derive(Clone, Copy, Debug)]
pub struct LoadEntry<'a> {
    /// The hash of the key.
    pub hash: u64,
    /// The key, at most [`crate::MAX_KEY_BYTES`].
    pub key: &'a [u8],
    /// Slot, length, checksum, placement, metadata, and whether it is known to be true.
    pub entry: NewEntry<'a>,
    /// The generation of the put; unique, and at least 1.
    pub generation: u64,
    /// The stamp of its last use.
    pub recency: u32,
}

/// What a load came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LoadReport {
    /// Entries that are live now.
    pub entries: u64,
    /// Newest puts of their keys whose slot a later put has taken, or that is bad. Usual in a fuzzy base.
    pub displaced: u64,
    /// Claims that cannot be true: no such slot, or lengths over the limits. Not 0: a damaged or foreign record.
    pub refused: u64,
    /// Entries dropped because another of the same generation claims their slot, or because the slot was
    /// in use already. A generation never repeats, so this is 0 unless records are damaged.
    pub duplicate_slots_left: u64,
}

impl AddAssign for LoadReport {
    fn add_assign(&mut self, other: LoadReport) {
        let LoadReport {
            entries,
            displaced,
            refused,
            duplicate_slots_left,
        } = other;
        self.entries += entries;
        self.displaced += displaced;
        self.refused += refused;
        self.duplicate_slots_left += duplicate_slots_left;
    }
}

/// Takes claims from several threads at once and makes an index of them. Made by [`Index::loader`].
///
/// The index stays empty until [`Loader::finish`] and must not be used before; a loader that is dropped
/// leaves it empty.
#[derive(Debug)]
pub struct Loader<'a> {
    index: &'a Index,
    stores: Box<[StoreCell]>,
    /// For each slot the highest generation of the claims that no live entry stands for: those of entries
    /// that were replaced or removed, or came too late. 0 for none. The claim of a live entry is added in
    /// `finish`, so that loading does not wait for memory at a random slot.
    claims: Box<[Tally]>,
    refused: Tally,
    /// Slots that are remembered as bad, and the last generation that does not speak against it.
    bad: Lock<HashMap<u32, u64>>,
    fetch: fn(*const u8),
}

/// The store of a shard while it is loaded; aligned so that two shards do not share a cache line.
#[derive(Debug)]
#[repr(align(128))]
struct StoreCell(Lock<Store>);

/// Entries between the one that is settled and the one whose slot is fetched.
const FETCH_AHEAD: u32 = 16;
/// Claims of a batch that are fetched for together: their lines fit the nearest cache.
const FETCH_TOGETHER: usize = 64;

impl Index {
    /// A loader for this index, which must be empty: every slot free or bad.
    ///
    /// # Errors
    /// [`IndexError::NotEmpty`] and [`IndexError::Memory`].
    pub fn loader(&self) -> Result<Loader<'_>, IndexError> {
        let classes = self.stats().classes;
        let in_use = classes
            .iter()
            .map(|class| class.capacity - class.free - class.bad)
            .sum();
        if in_use > 0 {
            return Err(IndexError::NotEmpty { in_use });
        }
        let claims = zeroed(self.slots.end() as usize).map_err(|NoMemory| IndexError::Memory {
            what: "memory for loading the index",
            need: u64::from(self.slots.end()) * size_of::<Tally>() as u64,
        })?;
        // The empty stores are taken along, because their tables are as large as they will be.
        let take = |cell: &ShardCell| {
            let mut shard = cell.shard.lock();
            StoreCell(Lock::new(std::mem::replace(
                &mut shard.store,
                Store::placeholder(),
            )))
        };
        Ok(Loader {
            index: self,
            stores: self.shards.iter().map(take).collect(),
            claims,
            refused: Tally::default(),
            bad: Lock::new(HashMap::new()),
            fetch: |_| {},
        })
    }
}

impl Loader<'_> {
    /// As [`Index::hash`].
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.index.hash(key)
    }

    /// Has memory fetched ahead of time by `fetch`, which is as for [`Index::prefetch`]; without it nothing is.
    #[must_use]
    pub fn fetching(self, fetch: fn(*const u8)) -> Self {
        Loader { fetch, ..self }
    }

    /// Takes one claim. `Replaced` and `Older` speak of the key only: whether the slot is kept is known when
    /// all claims are.
    pub fn load(
        &self,
        hash: u64,
        key: &[u8],
        entry: NewEntry<'_>,
        generation: u64,
        recency: u32,
    ) -> Loaded {
        let mut store = self.stores[self.index.shard_of(hash)].0.lock();
        self.load_into(
            &mut store,
            &LoadEntry {
                hash,
                key,
                entry,
                generation,
                recency,
            },
        )
    }

    /// Takes many claims, with one lock for each shard: a thousand together cost least. Shards that another thread
    /// loads just now come last.
    pub fn load_batch(&self, claims: &[LoadEntry<'_>]) {
        let shard_of = |at: usize| self.index.shard_of(claims[at].hash);
        let by_shard = ByShard::new(claims.len(), self.stores.len(), shard_of);
        // Threads with a batch each begin at different shards, and then do not meet.
        let first = claims.first().map_or(0, |_| shard_of(0));
        let mut busy = Vec::new();
        for (shard, positions) in by_shard.groups(first) {
            match self.stores[shard].0.try_lock() {
                Some(mut store) => self.load_all(&mut store, claims, positions),
                None => busy.push((shard, positions)),
            }
        }
        for (shard, positions) in busy {
            self.load_all(&mut self.stores[shard].0.lock(), claims, positions);
        }
    }

    /// Takes the claims at these positions, all of the store's shard.
    fn load_all(&self, store: &mut Store, claims: &[LoadEntry<'_>], positions: &[u32]) {
        for some in positions.chunks(FETCH_TOGETHER) {
            // Most claims are of new keys, and the line of the table that says so is all they wait for.
            for &at in some {
                store.prefetch(claims[at as usize].hash, PrefetchStage::Line, &self.fetch);
            }
            for &at in some {
                self.load_into(store, &claims[at as usize]);
            }
        }
    }

    /// Takes a remove: puts of the key with a generation before `generation` are void, whether they came
    /// already or will. Returns whether one was known.
    pub fn remove(&self, hash: u64, key: &[u8], generation: u64) -> bool {
        let mut store = self.stores[self.index.shard_of(hash)].0.lock();
        let known = store.find(hash, key);
        let Some(at) = known else {
            if key.len() <= crate::MAX_KEY_BYTES {
                let at = add_unclaimed(&mut store, hash, key, generation);
                store.entry_mut(at).retire();
            }
            return false;
        };
        let entry = store.entry_mut(at);
        if entry.generation >= generation {
            return false;
        }
        let was_live = entry.is_live();
        let (slot, former) = (entry.slot, entry.generation);
        entry.generation = generation;
        entry.retire();
        if was_live {
            self.claim(slot, former);
        }
        was_live
    }

    /// Prepares [`Loader::load`] and [`Loader::remove`] of keys with these hashes.
    pub fn prefetch(&self, hashes: &[u64]) {
        let each = |step: &dyn Fn(&Store, u64)| {
            for &hash in hashes {
                if let Some(store) = self.stores[self.index.shard_of(hash)].0.try_lock() {
                    step(&store, hash);
                }
            }
        };
        for step in PrefetchStage::ALL {
            each(&|store, hash| store.prefetch(hash, step, &self.fetch));
        }
        // Whoever has held the key so far leaves a claim.
        each(&|store, hash| {
            store.each_of_hash(hash, |entry| self.fetch_claim(entry.slot));
        });
    }

    fn fetch_claim(&self, slot: u32) {
        if let Some(claim) = self.claims.get(slot as usize) {
            (self.fetch)(std::ptr::from_ref(claim).cast());
        }
    }

    /// Takes a slot that is remembered as bad since some put with generation `last` or an earlier one. Whatever claims it is
    /// displaced, unless it was put later: the slot was found good again, and used.
    /// False if there is no such slot.
    pub fn bad_slot(&self, slot: SlotId, last: u64) -> bool {
        let known = self.index.mark_bad(slot) || self.index.is_bad(slot);
        if known {
            let mut bad = self.bad.lock();
            let since = bad.entry(slot.0).or_default();
            *since = last.max(*since);
        }
        known
    }

    /// Slots that were used after they had been bad are not.
    fn forgive(&self) {
        for (&slot, &last) in &*self.bad.lock() {
            if self.claims[slot as usize].get() > last {
                self.index.slots.change(slot, State::Bad, State::Free);
            }
        }
    }

    /// Makes the index of what was loaded, on up to `threads` threads: settles the slots, gives the entries to
    /// the policies in the order of their last use (those used longest ago come first), and lists the free slots in the order of
    /// their numbers.
    ///
    /// `recency_now` is the present stamp, in whose terms the loaded stamps are read; the index's clock goes on
    /// from there.
    pub fn finish(self, recency_now: u32, threads: usize) -> LoadReport {
        self.index.set_recency(recency_now);
        for StoreCell(store) in &self.stores {
            let store = store.lock();
            for at in 0..store.end() {
                if at + FETCH_AHEAD < store.end() {
                    self.fetch_claim(store.entry(at + FETCH_AHEAD).slot);
                }
                let entry = store.entry(at);
                if entry.is_live() {
                    // Nobody else is about, and a plain store lets the processor go on to the next slot.
                    let claim = &self.claims[entry.slot as usize];
                    claim.set(claim.get().max(entry.generation));
                }
            }
        }
        self.forgive();
        let threads = threads.clamp(1, self.stores.len());
        let settle_shards = &|first: usize| {
            let mut report = LoadReport::default();
            let mut by_age = Vec::new();
            for shard in (first..self.stores.len()).step_by(threads) {
                self.settle_shard(shard, recency_now, &mut by_age, &mut report);
            }
            report
        };
        let mut report = LoadReport {
            refused: self.refused.get(),
            ..LoadReport::default()
        };
        std::thread::scope(|scope| {
            let mut helpers = Vec::new();
            for first in 1..threads {
                let settle = move || settle_shards(first);
                match std::thread::Builder::new().spawn_scoped(scope, settle) {
                    Ok(helper) => helpers.push(helper),
                    // There is no thread to be had.
                    Err(_) => report += settle_shards(first),
                }
            }
            report += settle_shards(0);
            for helper in helpers {
                match helper.join() {
                    Ok(more) => report += more,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        self.index.slots.relist_free();
        report
    }

    /// Settles and orders the entries of one shard and gives them to the index.
    fn settle_shard(
        &self,
        number: usize,
        recency_now: u32,
        by_age: &mut Vec<u64>,
        report: &mut LoadReport,
    ) {
        let index = self.index;
        let mut store = std::mem::replace(&mut *self.stores[number].0.lock(), Store::placeholder());
        by_age.clear();
        for at in 0..store.end() {
            if at + FETCH_AHEAD < store.end() {
                let ahead = store.entry(at + FETCH_AHEAD).slot;
                self.fetch_claim(ahead);
                index.slots.fetch(ahead, self.fetch);
            }
            if settle(index, &self.claims, &mut store, at, report) {
                let age = age(store.entry(at).recency(recency_now), recency_now);
                by_age.push(u64::from(u32::MAX - age) << 32 | u64::from(at));
            }
        }
        by_age.sort_unstable();
        let cell = &index.shards[number];
        let mut shard = cell.shard.lock();
        if shard.store.len() > 0 {
            index.slots.count_illegal();
        }
        let mut of_class = vec![0; index.slots.classes()];
        for &aged in &*by_age {
            let at = aged as u32;
            let entry = store.entry(at);
            shard.policy.insert(&Resident::new(at, entry), None);
            of_class[usize::from(entry.class())] += 1;
        }
        for (class, slots) in (0..).zip(of_class) {
            index
                .slots
                .count_changes(class, State::Free, State::Live, slots);
        }
        shard.store = store;
        cell.show_worth(&shard, index.now());
        report.entries += by_age.len() as u64;
    }

    fn claim(&self, slot: u32, generation: u64) {
        self.claims[slot as usize].raise(generation);
    }

    fn load_into(&self, store: &mut Store, claim: &LoadEntry<'_>) -> Loaded {
        let LoadEntry {
            hash,
            key,
            ref entry,
            generation,
            recency,
        } = *claim;
        let class = self.index.class_of(entry.slot);
        let (Some(class), true) = (class, fits(key, entry) && generation > 0) else {
            self.refused.add(1);
            return Loaded::Older;
        };
        let mut answer = Loaded::Inserted;
        let later = Entry::live(hash, generation, entry.slot.0, class);
        if let Some(at) = store.find(hash, key) {
            let known = store.entry(at);
            if known.generation > generation || known.generation == generation && known.is_live() {
                // The slot was overwritten by this put, so the claim counts though the key has moved on.
                self.claim(entry.slot.0, generation);
                return Loaded::Older;
            }
            if known.is_live() {
                self.claim(known.slot, known.generation);
                answer = Loaded::Replaced(store.located(at));
                // Most of a log replaces what the base has; this saves half of the memory accesses.
                if store.renew(at, later, entry) {
                    store.entry_mut(at).stamp(recency);
                    return answer;
                }
            }
            store.unlist(at);
            store.discard(at);
        }
        let at = store.add(later, key, entry);
        store.entry_mut(at).stamp(recency);
        answer
    }
}

/// Adds an entry that claims no slot, to become a tombstone.
fn add_unclaimed(store: &mut Store, hash: u64, key: &[u8], generation: u64) -> u32 {
    let nothing = NewEntry {
        slot: SlotId(NO_SLOT),
        payload_len: 0,
        payload_checksum: 0,
        placement: 0,
        metadata: &[],
        verified: false,
    };
    store.add(Entry::live(hash, generation, NO_SLOT, 0), key, &nothing)
}

/// Whether an entry stays; its slot is live then, and yet to be counted. Otherwise it is dropped.
fn settle(
    index: &Index,
    claims: &[Tally],
    store: &mut Store,
    at: u32,
    report: &mut LoadReport,
) -> bool {
    let entry = *store.entry(at);
    if entry.is_vacant() {
        return false;
    }
    if entry.is_live() {
        let lost = claims[entry.slot as usize].get() != entry.generation;
        let (free, live) = (State::Free, State::Live);
        if !lost && index.slots.try_change_uncounted(entry.slot, free, live) {
            return true;
        }
        if lost || index.slots.state(entry.slot) == Some(State::Bad as u8) {
            report.displaced += 1;
        } else {
            report.duplicate_slots_left += 1;
        }
    }
    store.unlist(at);
    store.discard(at);
    false
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
