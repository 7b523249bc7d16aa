//! The index: shards, slots and the clock of recency.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::error::IndexError;
use crate::free_list::{ANYWHERE, FreeList, Hold};
use crate::memory::NoMemory;
use crate::place::Batch;
use crate::shard::ShardCell;
use crate::slots::{Fate, SlotId, Slots, State, checked_runs};
use crate::stats::{IndexStats, LockPurpose};
use crate::sync::Tally;

const SHARD_LIMIT: u32 = 1024;
const DEFAULT_SHARDS_MAX: u64 = 64;
const SLOTS_PER_SHARD: u64 = 256;
/// Keys used per step of the recency stamp, as a power of two: 32 bits of stamp last 2^36 uses.
const TICKS_PER_STAMP_BITS: u32 = 4;
/// Where the clock starts: as far ahead as a stamp can be ago, so that the time of any use is a number. Stamps, which are
/// its low bits, start at 0.
const CLOCK_START: u64 = 1 << (u32::BITS + TICKS_PER_STAMP_BITS);

/// How an index is divided.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// Number of shards: a power of two in 1..=1024. With 1, one policy sees all keys, and the order of eviction is exact.
    pub shards: u32,
    /// For each slot class its runs of slot ids. Runs must not overlap.
    /// One byte is kept for every id below the highest, so ids should be dense. At most 64 classes.
    pub classes: Vec<Vec<Range<u32>>>,
    /// The key of [`Index::hash`]. Random and unknown to those who choose keys, so that they cannot choose keys of one
    /// place.
    pub secret: [u8; 16],
}

/// The index of a store: which key is in which slot, who uses it, and which slots are free.
///
/// All methods may be called from any thread. Those that need a shard are on [`ShardGuard`](crate::ShardGuard).
/// Locks are taken in the order shard, then free list, never two of a kind, except by [`Index::audit`],
/// which takes all in ascending order.
pub struct Index {
    pub(crate) shards: Box<[ShardCell]>,
    pub(crate) shard_bits: u32,
    pub(crate) hasher: SipHasher13,
    pub(crate) slots: Slots,
    pub(crate) tick: Tally,
    /// The highest ticket of any change.
    pub(crate) newest: Tally,
    /// Whether evicted entries are kept until their eviction has been delivered.
    pub(crate) keeps_evicted: bool,
}

impl Index {
    /// An empty index in which every slot is free. It evicts by [`Lru`](crate::Lru); see [`Index::use_policy`].
    ///
    /// # Errors
    /// Options out of range, runs that overlap, or [`IndexError::Memory`].
    ///
    /// ```
    /// use rb_index::{Index, IndexError, IndexOptions};
    ///
    /// let options = |shards| IndexOptions { shards, classes: vec![vec![0..100]], secret: [1; 16] };
    /// let index = Index::new(options(8))?;
    /// assert_eq!(index.stats().classes[0].free, 100);
    /// assert!(matches!(Index::new(options(3)), Err(IndexError::ShardCount { shards: 3, .. })));
    /// # Ok::<(), IndexError>(())
    /// ```
    pub fn new(options: IndexOptions) -> Result<Index, IndexError> {
        let shards = options.shards;
        if !shards.is_power_of_two() || shards > SHARD_LIMIT {
            return Err(IndexError::ShardCount {
                shards,
                limit: SHARD_LIMIT,
            });
        }
        let classes = &options.classes;
        let runs = checked_runs(classes)?;
        let refused = |NoMemory| IndexError::Memory {
            what: "memory for the index",
            need: options.bytes(),
        };
        let slots = Slots::new(runs, classes.len()).map_err(refused)?;
        let expected = expected_per_shard(options.slots() as usize, shards as usize);
        let cell = |_| ShardCell::new(classes.len(), expected);
        let cells: Result<_, _> = (0..shards).map(cell).collect();
        Ok(Index {
            shards: cells.map_err(refused)?,
            shard_bits: shards.ilog2(),
            hasher: SipHasher13::new_with_key(&options.secret),
            slots,
            tick: Tally::new(CLOCK_START),
            newest: Tally::default(),
            keeps_evicted: false,
        })
    }

    /// How many shards to choose for this many slots in all: a power of two, at most 64, and with at least
    /// about 256 slots per shard; at least 1.
    #[must_use]
    pub fn default_shards(smallest_class_slots: u64) -> u32 {
        let wanted = (smallest_class_slots / SLOTS_PER_SHARD).clamp(1, DEFAULT_SHARDS_MAX);
        1 << wanted.ilog2()
    }

    /// Keeps evicted entries in snapshots until [`ShardGuard::delivered`](crate::ShardGuard::delivered), so that a base cannot make an eviction
    /// durable before an observer has been notified of it.
    pub fn keep_evicted(&mut self) {
        self.keeps_evicted = true;
    }

    /// The changes up to this ticket are durable ([`ShardGuard::recorded`](crate::ShardGuard::recorded)): the slots that they freed are ready.
    pub fn set_durable(&self, ticket: u64) {
        self.slots.durable.raise(ticket);
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The hash of a key, which names its shard and its place there: SipHash-1-3 with the secret of the options.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// The shard of a hash: its top bits.
    pub fn shard_of(&self, hash: u64) -> usize {
        // A shift by all 64 bits is not a shift, so one shard is a case of its own.
        hash.checked_shr(u64::BITS - self.shard_bits).unwrap_or(0) as usize
    }

    /// The class of a slot; `None` if there is no such slot.
    pub fn class_of(&self, slot: SlotId) -> Option<u8> {
        self.slots.class_of(slot.0)
    }

    /// Takes up to `n` free slots of a class, those that have been free longest first, under one lock. They
    /// become reserved. Appends to `out` and returns how many.
    ///
    /// Slots that changes freed are not among them until these are durable ([`Index::take_early`]). Those that wait
    /// for their discard are taken last; see [`Index::discard_freed`].
    ///
    /// ```
    /// use rb_index::{Index, IndexOptions};
    ///
    /// let index = Index::new(IndexOptions { shards: 1, classes: vec![vec![0..3]], secret: [1; 16] })?;
    /// let mut slots = Vec::new();
    /// assert_eq!(index.take_free(0, 5, &mut slots), 3);
    /// assert_eq!(index.stats().classes[0].reserved, 3);
    /// index.give_back(&slots);
    /// assert_eq!(index.stats().classes[0].free, 3);
    /// # Ok::<(), rb_index::IndexError>(())
    /// ```
    pub fn take_free(&self, class: u8, n: usize, out: &mut Vec<SlotId>) -> usize {
        self.take_free_near(class, n, ANYWHERE, out)
    }

    /// As [`Index::take_free`], for a write with this placement id (0: none): slots that were last written
    /// with it come first, then those of which that is not known. An index that was loaded knows it of
    /// the entries only, not of the slots that were free.
    pub fn take_free_near(
        &self,
        class: u8,
        n: usize,
        placement: u16,
        out: &mut Vec<SlotId>,
    ) -> usize {
        let durable = self.slots.durable.get();
        let pop = |free: &mut FreeList| free.pop(placement, durable);
        self.slots.take_free(class, n, State::Reserved, pop, out)
    }

    /// Takes up to `n` slots of a class that changes freed which are not durable: a crash may lose both the slot's
    /// former value and what came after it. Slots freed by changes recorded as `strict` are never taken.
    /// Appends to `out` and returns how many.
    pub fn take_early(&self, class: u8, n: usize, out: &mut Vec<SlotId>) -> usize {
        let taken = self
            .slots
            .take_free(class, n, State::Reserved, FreeList::pop_early, out);
        self.slots.count_early(class, taken as u64);
        taken
    }

    /// Whether slots of the class wait for changes that are not durable.
    pub fn awaits_durability(&self, class: u8) -> bool {
        let durable = self.slots.durable.get();
        usize::from(class) < self.slots.classes() && self.slots.lock_free(class).is_waiting(durable)
    }

    /// Frees reserved slots that are not used after all, in this order. What an entry left in them, if it was
    /// evicted from there, waits for its discard, and its placement id is forgotten.
    pub fn give_back(&self, slots: &[SlotId]) {
        // A slot that was taken early still waits for what freed it, whose ticket is not known any more.
        let hold = Hold {
            ticket: self.newest.get(),
            strict: false,
        };
        for slot in slots {
            self.slots
                .free_from(slot.0, State::Reserved, ANYWHERE, hold);
        }
    }

    /// From now on, slots of the class that an entry leaves, or that were written for nothing, wait to be discarded
    /// ([`Index::take_freed`]), or do so no longer. Slots that are free already do not.
    pub fn discard_freed(&self, class: u8, on: bool) {
        if usize::from(class) < self.slots.classes() {
            self.slots.lock_free(class).set_discards(on);
        }
    }

    /// Whether any slot waits for its discard and may be discarded: nothing that a restart finds looks for what it
    /// holds.
    pub fn has_undiscarded(&self) -> bool {
        self.each_list(|free, durable| free.has_undiscarded(durable) == Some(true))
    }

    /// Whether slots of classes that are discarded may come to wait for it without a record that brings a commit: when
    /// a lease of an entry that is gone ends, a put under way was for nothing, or a quarantine ends.
    pub fn awaits_undiscarded(&self) -> bool {
        (0..self.slots.classes()).any(|class| {
            let stats = self.slots.class_stats(class);
            let coming = stats.retired + stats.reserved + stats.quarantined > 0;
            let mut free = self.slots.lock_free(class as u8);
            let discards = free.has_undiscarded(self.slots.durable.get()).is_some();
            discards && (coming || free.is_waiting(self.slots.durable.get()))
        })
    }

    fn each_list(&self, any: impl Fn(&mut FreeList, u64) -> bool) -> bool {
        let durable = self.slots.durable.get();
        (0..self.slots.classes()).any(|class| any(&mut self.slots.lock_free(class as u8), durable))
    }

    /// Takes up to `n` slots of a class that wait for their discard, those that have waited longest first. They are not free until [`Index::discarded`]. Appends to `out` and returns how many.
    pub fn take_freed(&self, class: u8, n: usize, out: &mut Vec<SlotId>) -> usize {
        let durable = self.slots.durable.get();
        let pop = |free: &mut FreeList| free.pop_undiscarded(durable);
        self.slots.take_free(class, n, State::Discarding, pop, out)
    }

    /// Frees slots whose discard has ended.
    pub fn discarded(&self, slots: &[SlotId]) {
        self.slots.free_discarded(slots);
    }

    /// Sets a reserved slot aside, because a failed write may still land on it.
    pub fn quarantine(&self, slot: SlotId) {
        self.slots
            .change(slot.0, State::Reserved, State::Quarantined);
    }

    /// Ends a quarantine.
    pub fn settle_quarantined(&self, slot: SlotId, fate: Fate) {
        match fate {
            Fate::Free => {
                self.slots
                    .free_from(slot.0, State::Quarantined, ANYWHERE, Hold::NONE);
            }
            Fate::Bad => drop(self.slots.change(slot.0, State::Quarantined, State::Bad)),
        }
    }

    /// Whether the slot is bad.
    #[must_use]
    pub fn is_bad(&self, slot: SlotId) -> bool {
        self.slots.state(slot.0) == Some(State::Bad as u8)
    }

    /// Frees a bad slot that has taken a write again; false if it is not bad.
    pub fn forgive_bad(&self, slot: SlotId) -> bool {
        let bad = self.is_bad(slot);
        if bad {
            self.slots
                .free_from(slot.0, State::Bad, ANYWHERE, Hold::NONE);
        }
        bad
    }

    /// Gives up a free slot that is remembered as bad; false if it is not free.
    pub fn mark_bad(&self, slot: SlotId) -> bool {
        self.slots.take_named(slot.0, State::Bad)
    }

    /// Starts a batch of `keys` keys: what is used from now on is more recent. Stamps are coarse,
    /// 16 keys share one.
    pub fn begin_batch(&self, keys: usize) -> Batch {
        let number = self.tick.add(keys.max(1) as u64) - CLOCK_START;
        Batch { number }
    }

    /// The stamp of a use at this moment. It wraps around after 2^36 uses; stamps are compared by their
    /// distance from now.
    pub fn recency_now(&self) -> u32 {
        self.now() as u32
    }

    /// As [`Index::recency_now`], but it does not wrap around.
    pub(crate) fn now(&self) -> u64 {
        self.tick.get() >> TICKS_PER_STAMP_BITS
    }

    /// Moves the clock on, so that what is used from now on is more recent than what was loaded.
    pub(crate) fn set_recency(&self, now: u32) {
        self.tick
            .raise(CLOCK_START + (u64::from(now) << TICKS_PER_STAMP_BITS));
    }

    /// The numbers. Takes the free lists' locks one by one, no shard's.
    pub fn stats(&self) -> IndexStats {
        let classes: Vec<_> = (0..self.slots.classes())
            .map(|class| self.slots.class_stats(class))
            .collect();
        let sum = |of: &dyn Fn(&ShardCell) -> u64| self.shards.iter().map(of).sum();
        let visits = |visit: LockPurpose| sum(&move |cell| cell.visits[visit as usize].get());
        IndexStats {
            entries: classes.iter().map(|class| class.live).sum(),
            evictions: sum(&|cell| cell.evictions.get()),
            refused_victims: sum(&|cell| cell.refused_victims.get()),
            operation_locks: visits(LockPurpose::Operation),
            eviction_locks: visits(LockPurpose::Eviction),
            background_locks: visits(LockPurpose::Background),
            contended_locks: sum(&|cell| cell.contended.get()),
            longest_wait: Duration::from_nanos(
                self.shards
                    .iter()
                    .map(|cell| cell.longest_wait.get())
                    .max()
                    .unwrap_or(0),
            ),
            illegal_transitions: self.slots.illegal(),
            free_list_rejections: self.slots.rejected(),
            classes,
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = self.slots.classes();
        f.debug_struct("Index")
            .field("shards", &self.shards.len())
            .field("classes", &classes)
            .finish_non_exhaustive()
    }
}

/// Room for an even share and four standard deviations, so that tables do not grow under the lock.
pub(crate) fn expected_per_shard(slots: usize, shards: usize) -> usize {
    let share = slots / shards;
    slots.min(share + 4 * share.isqrt() + 4)
}
