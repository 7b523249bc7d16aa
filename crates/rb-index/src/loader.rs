//! Fills an empty index from a checkpoint base and its log.
//!
//! A base is fuzzy: it may contain a key with two generations, and a slot may be claimed by two
//! keys. Two rules resolve this in any order of the claims:
//!
//! * **for each key, the highest generation wins**, removes included: a remove leaves a tombstone
//!   here until [`Loader::finish`], so an older put of the key that comes later is refused;
//! * **for each slot, the highest generation wins**, even one whose own key has lost or was removed
//!   since: the previous contents of the slot were overwritten.
//!
//! A key whose newest put lost its slot is gone, together with its older puts, which had been
//! replaced.
//!
//! An entry of several slots lives only if it wins every one of them.
//!
//! So sections may be loaded in parallel and the log replayed at the same time or after, in order
//! or not. The price is 8 bytes for each slot and one entry for each removed key of the log until
//! `finish`.

use std::collections::HashMap;
use std::ops::AddAssign;

use crate::by_shard::ByShard;
use crate::entries::age;
use crate::entry::Entry;
use crate::error::IndexError;
use crate::guard_put::fits;
use crate::index::{Index, TICKS_PER_STAMP_BITS};
use crate::memory::{NoMemory, zeroed};
use crate::note::Note;
use crate::policy::{Origin, Policy, Resident};
use crate::put::{Loaded, NewEntry};
use crate::shard::ShardCell;
use crate::slots::{NO_SLOT, SlotId, State};
use crate::store::{PrefetchStage, Store};
use crate::sync::{Lock, Tally};

/// One claim of a base or log: this key was put into these slots.
#[derive(Clone, Copy, Debug)]
pub struct LoadEntry<'a> {
    /// The hash of the key.
    pub hash: u64,
    /// The key, at most [`crate::MAX_KEY_BYTES`].
    pub key: &'a [u8],
    /// Slots, length, checksum, placement, expiry, metadata, and whether it is verified.
    pub entry: NewEntry<'a>,
    /// The generation of the put; unique, and at least 1.
    pub generation: u64,
    /// The stamp of its last use.
    pub recency: u32,
    /// The note that the policy saved of it; 0 if that is unknown.
    pub note: Note,
}

/// The result of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LoadReport {
    /// Entries that are live now.
    pub entries: u64,
    /// Newest puts of their keys one of whose slots was taken by a later put, or is bad. Normal in a fuzzy
    /// base.
    pub displaced: u64,
    /// Invalid claims: no such slot, slots of several classes, or lengths over the limits. Not 0 means a damaged or foreign
    /// record.
    pub refused: u64,
    /// Entries dropped because another one of the same generation claims one of their slots, because
    /// a slot was already in use, or because they name a slot twice. A generation never repeats, so this is 0 unless records are
    /// damaged.
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

/// Takes claims from several threads concurrently and builds an index from them. Returned by
/// [`Index::loader`].
///
/// The index stays empty until [`Loader::finish`] and must not be used before; dropping a loader
/// leaves it empty.
#[derive(Debug)]
pub struct Loader<'a> {
    index: &'a Index,
    stores: Box<[StoreCell]>,
    /// For each slot, the highest generation of the claims not held by a live entry: those of
    /// entries that were replaced or removed, or came too late. 0 for none. The claim of a live
    /// entry is added in `finish`, so that loading does not wait for memory at a random slot.
    claims: Box<[Tally]>,
    refused: Tally,
    /// Slots recorded as bad, and the last generation that does not contradict it.
    bad: Lock<HashMap<u32, u64>>,
}

/// The store of a shard while it is loaded; aligned so that two shards do not share a cache line.
#[derive(Debug)]
#[repr(align(128))]
struct StoreCell(Lock<Loading>);

#[derive(Debug)]
struct Loading {
    store: Store,
    /// By entry; of the later ones none is known. Empty if there are no notes.
    notes: Vec<Note>,
}

impl Loading {
    fn of(store: Store) -> Loading {
        Loading {
            store,
            notes: Vec::new(),
        }
    }
}

/// Distance, in entries, between the one being settled and the one whose slot is prefetched.
const FETCH_AHEAD: u32 = 16;
/// Claims of a batch that are prefetched together: their lines fit the L1 cache.
const FETCH_TOGETHER: usize = 64;

impl Index {
    /// Creates a loader for this index, which must be empty: every slot free or bad.
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
        // The loader uses the shards' empty stores, because their tables already have the final
        // size.
        let take = |cell: &ShardCell| {
            let mut shard = cell.shard.lock();
            let store = std::mem::replace(&mut shard.store, Store::placeholder());
            StoreCell(Lock::new(Loading::of(store)))
        };
        Ok(Loader {
            index: self,
            stores: self.shards.iter().map(take).collect(),
            claims,
            refused: Tally::default(),
            bad: Lock::new(HashMap::new()),
        })
    }
}

impl Loader<'_> {
    /// Returns the hash of a key, see [`Index::hash`].
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.index.hash(key)
    }

    /// Takes one claim. `Replaced` and `Older` refer to the key only: whether the slot is kept is
    /// decided when all claims are known.
    pub fn load(
        &self,
        hash: u64,
        key: &[u8],
        entry: NewEntry<'_>,
        generation: u64,
        recency: u32,
    ) -> Loaded {
        let mut loading = self.stores[self.index.shard_of(hash)].0.lock();
        self.load_into(
            &mut loading,
            &LoadEntry {
                hash,
                key,
                entry,
                generation,
                recency,
                note: Note::default(),
            },
        )
    }

    /// Takes many claims, with one lock per shard; batches of about a thousand are the most
    /// efficient. Shards locked by another thread come last.
    pub fn load_batch(&self, claims: &[LoadEntry<'_>]) {
        let shard_of = |at: usize| self.index.shard_of(claims[at].hash);
        let by_shard = ByShard::new(claims.len(), self.stores.len(), shard_of);
        // Threads with a batch each start at different shards, so that they rarely meet.
        let first = claims.first().map_or(0, |_| shard_of(0));
        let mut busy = Vec::new();
        for (shard, positions) in by_shard.groups(first) {
            match self.stores[shard].0.try_lock() {
                Some(mut loading) => self.load_all(&mut loading, claims, positions),
                None => busy.push((shard, positions)),
            }
        }
        for (shard, positions) in busy {
            self.load_all(&mut self.stores[shard].0.lock(), claims, positions);
        }
    }

    /// Takes the claims at these positions, all of the store's shard.
    fn load_all(&self, loading: &mut Loading, claims: &[LoadEntry<'_>], positions: &[u32]) {
        for some in positions.chunks(FETCH_TOGETHER) {
            // Most claims are for new keys and only wait for the table line that shows it.
            for &at in some {
                let hash = claims[at as usize].hash;
                (loading.store).prefetch(hash, PrefetchStage::Line, self.index.fetch);
            }
            for &at in some {
                self.load_into(loading, &claims[at as usize]);
            }
        }
    }

    /// Takes a remove: puts of the key with a generation before `generation` are void, whether they
    /// came already or come later. Returns whether one was known.
    pub fn remove(&self, hash: u64, key: &[u8], generation: u64) -> bool {
        let mut loading = self.stores[self.index.shard_of(hash)].0.lock();
        let store = &mut loading.store;
        let known = store.find(hash, key);
        let Some(at) = known else {
            if key.len() <= crate::MAX_KEY_BYTES {
                let at = add_unclaimed(store, hash, key, generation);
                store.entry_mut(at).retire();
            }
            return false;
        };
        let entry = store.entry_mut(at);
        if entry.generation >= generation {
            return false;
        }
        let (was_live, former) = (entry.is_live(), entry.generation);
        entry.generation = generation;
        entry.retire();
        if was_live {
            self.claim_all(store.slots(at), former);
        }
        was_live
    }

    /// Prefetches the memory that [`Loader::load`] and [`Loader::remove`] access for keys with
    /// these hashes.
    pub fn prefetch(&self, hashes: &[u64]) {
        let each = |step: &dyn Fn(&Store, u64)| {
            for &hash in hashes {
                if let Some(loading) = self.stores[self.index.shard_of(hash)].0.try_lock() {
                    step(&loading.store, hash);
                }
            }
        };
        for step in PrefetchStage::ALL {
            each(&|store, hash| store.prefetch(hash, step, self.index.fetch));
        }
        // The previous entry of the key leaves a claim.
        each(&|store, hash| {
            store.each_of_hash(hash, |entry| self.fetch_claim(entry.slot));
        });
    }

    /// Takes the claim of a put on a slot, without its key: entries of earlier puts lose the slot.
    /// Returns false if there is no such slot.
    pub fn claim_slot(&self, slot: SlotId, generation: u64) -> bool {
        let known = self.index.class_of(slot).is_some();
        if known {
            self.claim(slot.0, generation);
        }
        known
    }

    fn fetch_claim(&self, slot: u32) {
        if let Some(claim) = self.claims.get(slot as usize) {
            (self.index.fetch)(std::ptr::from_ref(claim).cast());
        }
    }

    /// Takes a slot recorded as bad after the puts up to generation `last`. Any claim of it is
    /// displaced, unless it is of a later put: then the slot was found good again and used. Returns
    /// false if there is no such slot.
    pub fn bad_slot(&self, slot: SlotId, last: u64) -> bool {
        let known = self.index.mark_bad(slot) || self.index.is_bad(slot);
        if known {
            let mut bad = self.bad.lock();
            let since = bad.entry(slot.0).or_default();
            *since = last.max(*since);
        }
        known
    }

    /// Frees bad slots that a later put used.
    fn forgive(&self) {
        for (&slot, &last) in &*self.bad.lock() {
            if self.claims[slot as usize].get() > last {
                self.index.slots.change(slot, State::Bad, State::Free);
            }
        }
    }

    /// Builds the index from the loaded claims, on up to `threads` threads: settles the slots,
    /// inserts the entries into the policies in the order of their last use (least recently used
    /// first), and lists the free slots in the order of their numbers.
    ///
    /// `recency_now` is the current stamp, relative to which the loaded stamps are read; the
    /// index's clock continues from there.
    pub fn finish(self, recency_now: u32, threads: usize) -> LoadReport {
        self.index.set_recency(recency_now);
        for StoreCell(loading) in &self.stores {
            let store = &loading.lock().store;
            for at in 0..store.end() {
                if at + FETCH_AHEAD < store.end() {
                    self.fetch_claim(store.entry(at + FETCH_AHEAD).slot);
                }
                let entry = store.entry(at);
                if entry.is_live() {
                    // No other thread is active, and a plain store lets the processor continue with
                    // the next slot.
                    for SlotId(slot) in store.slots(at) {
                        let claim = &self.claims[slot as usize];
                        claim.set(claim.get().max(entry.generation));
                    }
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
                    // No thread could be started.
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

    /// Settles and orders the entries of one shard and moves them into the index.
    fn settle_shard(
        &self,
        number: usize,
        recency_now: u32,
        by_age: &mut Vec<u64>,
        report: &mut LoadReport,
    ) {
        let index = self.index;
        let empty = Loading::of(Store::placeholder());
        let Loading { mut store, notes } =
            std::mem::replace(&mut *self.stores[number].0.lock(), empty);
        by_age.clear();
        for at in 0..store.end() {
            if at + FETCH_AHEAD < store.end() {
                let ahead = store.entry(at + FETCH_AHEAD).slot;
                self.fetch_claim(ahead);
                index.slots.fetch(ahead, index.fetch);
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
            let entry = Resident::new(at, store.entry(at));
            let age = u64::from(u32::MAX) - (aged >> 32);
            let origin = Origin::Saved {
                note: notes.get(at as usize).copied().unwrap_or_default(),
                uses_ago: age << TICKS_PER_STAMP_BITS,
            };
            shard.policy.insert(&entry, origin);
            shard.evictable.add(&entry);
            of_class[usize::from(entry.class)] += u64::from(entry.slots);
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

    fn claim_all(&self, slots: impl Iterator<Item = SlotId>, generation: u64) {
        slots.for_each(|SlotId(slot)| self.claim(slot, generation));
    }

    fn load_into(&self, loading: &mut Loading, claim: &LoadEntry<'_>) -> Loaded {
        let LoadEntry {
            hash,
            key,
            ref entry,
            generation,
            recency,
            note,
        } = *claim;
        let Loading { store, notes } = loading;
        let mut noted = |at: u32| {
            if note != Note::default() || !notes.is_empty() {
                notes.resize(notes.len().max(at as usize + 1), Note::default());
                notes[at as usize] = note;
            }
        };
        let class = self.index.slots.class_of_all(entry.slots());
        let (Some(class), true) = (class, fits(key, entry) && generation > 0) else {
            self.refused.add(1);
            return Loaded::Older;
        };
        let mut answer = Loaded::Inserted;
        let later = Entry::live(hash, generation, entry.slot.0, class);
        if let Some(at) = store.find(hash, key) {
            let known = store.entry(at);
            if known.generation > generation || known.generation == generation && known.is_live() {
                // The slots were overwritten by this put, so the claims count although the key has
                // a newer put.
                self.claim_all(entry.slots(), generation);
                return Loaded::Older;
            }
            if known.is_live() {
                self.claim_all(store.slots(at), known.generation);
                answer = Loaded::Replaced(store.located(at));
                // Most of a log replaces entries of the base; this saves half of the memory
                // accesses.
                if store.renew(at, later, entry) {
                    store.entry_mut(at).stamp(recency);
                    noted(at);
                    return answer;
                }
            }
            store.unlist(at);
            store.discard(at);
        }
        let at = store.add(later, key, entry);
        store.entry_mut(at).stamp(recency);
        noted(at);
        answer
    }
}

/// Adds an entry that claims no slot, to become a tombstone.
fn add_unclaimed(store: &mut Store, hash: u64, key: &[u8], generation: u64) -> u32 {
    let nothing = NewEntry {
        slot: SlotId(NO_SLOT),
        more: &[],
        payload_len: 0,
        payload_checksum: 0,
        placement: 0,
        expiry: 0,
        metadata: &[],
        verified: false,
    };
    store.add(Entry::live(hash, generation, NO_SLOT, 0), key, &nothing)
}

/// Decides whether an entry stays. If so, its slots become live but are not counted yet; otherwise
/// the entry is dropped.
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
        let won = |slot: SlotId| claims[slot.0 as usize].get() == entry.generation;
        let is_bad = |slot: SlotId| index.slots.state(slot.0) == Some(State::Bad as u8);
        let mut slots = store.slots(at);
        if !slots.clone().all(won) || slots.any(is_bad) {
            report.displaced += 1;
        } else if occupy(index, store, at) {
            return true;
        } else {
            report.duplicate_slots_left += 1;
        }
    }
    store.unlist(at);
    store.discard(at);
    false
}

/// Makes all slots of an entry live, without counting them. If one is not free, changes none.
fn occupy(index: &Index, store: &Store, at: u32) -> bool {
    let (free, live) = (State::Free, State::Live);
    let change = |slot: SlotId, from, to| index.slots.try_change_uncounted(slot.0, from, to);
    let slots = store.slots(at);
    let taken = slots.clone().take_while(|slot| change(*slot, free, live));
    let taken = taken.count();
    let all = taken == slots.clone().count();
    if !all {
        for slot in slots.take(taken) {
            change(slot, live, free);
        }
    }
    all
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
