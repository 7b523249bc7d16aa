//! The index: shards, slots and the recency clock.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::error::IndexError;
use crate::free_list::{ANYWHERE, FreeList, Hold};
use crate::memory::NoMemory;
use crate::place::{Batch, Hints};
use crate::policy::{Judged, LIFETIMES, Purpose, SharedPolicy};
use crate::shard::ShardCell;
use crate::slots::{Fate, SlotId, Slots, State, checked_runs};
use crate::stats::{IndexStats, LockPurpose};
use crate::sync::{Arc, Tally};
use crate::unrecorded::Bases;

const SHARD_LIMIT: u32 = 1024;
const DEFAULT_SHARDS_MAX: u64 = 64;
const SLOTS_PER_SHARD: u64 = 256;
/// Keys used per step of the recency stamp, as a power of two: 32-bit stamps last 2^36 uses.
pub(crate) const TICKS_PER_STAMP_BITS: u32 = 4;
/// Start of the clock: the largest possible age of a stamp, so that the time of any use is a
/// non-negative number. Stamps, its low bits, start at 0.
const CLOCK_START: u64 = 1 << (u32::BITS + TICKS_PER_STAMP_BITS);

/// Options of an index.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// Number of shards: a power of two in 1..=1024. With 1, one policy sees all keys, and the
    /// order of eviction is exact.
    pub shards: u32,
    /// For each slot class its runs of slot ids. Runs must not overlap. One byte is kept for every
    /// id below the highest, so ids should be dense. At most 64 classes.
    pub classes: Vec<Vec<Range<u32>>>,
    /// The secret of [`Index::hash`]. Must be random and unknown to anyone who chooses keys, so
    /// that colliding keys cannot be chosen.
    pub secret: [u8; 16],
}

/// The index of a store: maps keys to slots, and tracks leases and free slots.
///
/// All methods may be called from any thread. Those that need a shard are on
/// [`ShardGuard`](crate::ShardGuard). Locks are taken in the order shard, then free list, never two
/// of a kind, except by [`Index::audit`], which takes all in ascending order.
pub struct Index {
    pub(crate) shards: Box<[ShardCell]>,
    pub(crate) shard_bits: u32,
    pub(crate) hasher: SipHasher13,
    pub(crate) slots: Slots,
    pub(crate) tick: Tally,
    /// The highest ticket of any change.
    pub(crate) newest: Tally,
    /// True if evicted entries are kept until their eviction has been delivered.
    pub(crate) keeps_evicted: bool,
    pub(crate) bases: Bases,
    /// The part of the policy that all shards share, if it has one.
    pub(crate) shared: Option<Arc<dyn SharedPolicy>>,
    /// Starts to fetch the cache line at an address.
    pub(crate) fetch: fn(*const u8),
}

impl Index {
    /// Creates an empty index in which every slot is free. It evicts by [`Lru`](crate::Lru); see
    /// [`Index::use_policy`].
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
            bases: Bases::default(),
            shared: None,
            fetch: |_| {},
        })
    }

    /// Returns a suitable number of shards for this many slots in total: a power of two, at least 1
    /// and at most 64, with at least about 256 slots per shard.
    #[must_use]
    pub fn default_shards(smallest_class_slots: u64) -> u32 {
        let wanted = (smallest_class_slots / SLOTS_PER_SHARD).clamp(1, DEFAULT_SHARDS_MAX);
        1 << wanted.ilog2()
    }

    /// Keeps evicted entries in snapshots until
    /// [`ShardGuard::delivered`](crate::ShardGuard::delivered), so that a base cannot make an
    /// eviction durable before an observer has been notified of it.
    pub fn keep_evicted(&mut self) {
        self.keeps_evicted = true;
    }

    /// Marks the changes up to this ticket as durable
    /// ([`ShardGuard::recorded`](crate::ShardGuard::recorded)): the slots that they freed become
    /// ready.
    pub fn set_durable(&self, ticket: u64) {
        self.slots.durable.raise(ticket);
    }

    /// Returns the number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the hash of a key, which selects its shard and its place there: SipHash-1-3 with the
    /// secret of the options.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// Returns the shard of a hash, from its top bits.
    pub fn shard_of(&self, hash: u64) -> usize {
        // A shift by all 64 bits overflows, so one shard is a special case.
        hash.checked_shr(u64::BITS - self.shard_bits).unwrap_or(0) as usize
    }

    /// Returns the class of a slot; `None` if there is no such slot.
    pub fn class_of(&self, slot: SlotId) -> Option<u8> {
        self.slots.class_of(slot.0)
    }

    /// Takes up to `n` free slots of a class, those free longest first, under one lock. They become
    /// reserved. Appends to `out` and returns the number taken.
    ///
    /// Excludes slots freed by changes that are not durable yet ([`Index::take_early`]). Slots that
    /// wait for their discard are taken last; see [`Index::discard_freed`].
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

    /// Takes free slots like [`Index::take_free`], for a write with this placement id (0: none):
    /// slots last written with it come first, then those of unknown placement. After loading, the
    /// placement of entries is known, but not that of slots that were free.
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

    /// Takes up to `n` slots of a class freed by changes that are not durable: a crash may lose
    /// both the slot's former value and the new one. Slots freed by changes recorded as `strict`
    /// are never taken. Appends to `out` and returns the number taken.
    pub fn take_early(&self, class: u8, n: usize, out: &mut Vec<SlotId>) -> usize {
        let taken = self
            .slots
            .take_free(class, n, State::Reserved, FreeList::pop_early, out);
        self.slots.count_early(class, taken as u64);
        taken
    }

    /// Returns whether slots of the class wait for changes that are not durable.
    pub fn awaits_durability(&self, class: u8) -> bool {
        let durable = self.slots.durable.get();
        usize::from(class) < self.slots.classes() && self.slots.lock_free(class).is_waiting(durable)
    }

    /// Returns the number of slots of a class that eviction could free: those of live entries
    /// without a lease. Counts the changes of finished lock holds only.
    pub fn evictable(&self, class: u8) -> u64 {
        let shown = |cell: &ShardCell| cell.evictable.get(usize::from(class)).map(Tally::get);
        self.shards.iter().filter_map(shown).sum()
    }

    /// Returns the number of free slots of a class, including those that wait for a change to be
    /// durable and those that wait for their discard.
    pub fn free(&self, class: u8) -> u64 {
        match usize::from(class) < self.slots.classes() {
            true => self.slots.class_stats(usize::from(class)).free,
            false => 0,
        }
    }

    /// Frees reserved slots that were not used, in this order. If one was evicted from, its old
    /// contents wait for their discard. Placement ids are dropped.
    pub fn give_back(&self, slots: &[SlotId]) {
        // A slot that was taken early must still wait for the change that freed it, whose ticket is
        // no longer known; the newest ticket is never too early.
        let hold = Hold {
            ticket: self.newest.get(),
            strict: false,
        };
        for slot in slots {
            self.slots
                .free_from(slot.0, State::Reserved, ANYWHERE, hold);
        }
    }

    /// Frees reserved slots of evicted entries, in this order. Nothing was written to them since, and
    /// no record frees them, so they can be taken at once.
    pub fn free_evicted(&self, slots: &[SlotId]) {
        for slot in slots {
            (self.slots).free_from(slot.0, State::Reserved, ANYWHERE, Hold::NONE);
        }
    }

    /// Sets whether slots of the class wait to be discarded ([`Index::take_freed`]) after an entry
    /// leaves them or a write to them was not published. Does not affect slots that are already
    /// free.
    pub fn discard_freed(&self, class: u8, on: bool) {
        if usize::from(class) < self.slots.classes() {
            self.slots.lock_free(class).set_discards(on);
        }
    }

    /// Returns whether any slot waits for its discard and may be discarded now: no restart needs
    /// its contents any more.
    pub fn has_undiscarded(&self) -> bool {
        self.each_list(|free, durable| free.has_undiscarded(durable) == Some(true))
    }

    /// Returns whether slots of discarded classes may start to wait for a discard without a record
    /// that triggers a commit: when the lease of a removed entry ends, a put in progress is not
    /// published, or a quarantine ends.
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

    /// Takes up to `n` slots of a class that wait for their discard, those that have waited longest
    /// first. They are not free until [`Index::discarded`]. Appends to `out` and returns the number
    /// taken.
    pub fn take_freed(&self, class: u8, n: usize, out: &mut Vec<SlotId>) -> usize {
        let durable = self.slots.durable.get();
        let pop = |free: &mut FreeList| free.pop_undiscarded(durable);
        self.slots.take_free(class, n, State::Discarding, pop, out)
    }

    /// Frees slots whose discard has completed.
    pub fn discarded(&self, slots: &[SlotId]) {
        self.slots.free_discarded(slots);
    }

    /// Quarantines a reserved slot, because a failed write may still land on it.
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

    /// Returns whether the slot is bad.
    #[must_use]
    pub fn is_bad(&self, slot: SlotId) -> bool {
        self.slots.state(slot.0) == Some(State::Bad as u8)
    }

    /// Frees a bad slot that has accepted a write again; returns false if it is not bad.
    pub fn forgive_bad(&self, slot: SlotId) -> bool {
        let bad = self.is_bad(slot);
        if bad {
            self.slots
                .free_from(slot.0, State::Bad, ANYWHERE, Hold::NONE);
        }
        bad
    }

    /// Marks a free slot as bad; returns false if it is not free.
    pub fn mark_bad(&self, slot: SlotId) -> bool {
        self.slots.take_named(slot.0, State::Bad)
    }

    /// Starts a batch of `keys` keys: later uses get more recent stamps. Stamps are coarse; 16 keys
    /// share one.
    pub fn begin_batch(&self, keys: usize) -> Batch {
        let number = self.tick.add(keys.max(1) as u64) - CLOCK_START;
        Batch {
            number,
            hints: Hints::new(),
        }
    }

    /// Returns whether the policy judges batches, so that [`Index::judge`] does something.
    #[must_use]
    pub fn judges(&self) -> bool {
        self.shared.is_some()
    }

    /// Returns how long a key that is put next will stay, by [`SharedPolicy::lifetime`]; 0 if the
    /// policy does not know.
    #[must_use]
    pub fn lifetime(&self, class: u8, hash: u64) -> u8 {
        let shared = self.shared.as_ref();
        shared.map_or(0, |shared| shared.lifetime(class, hash).min(LIFETIMES - 1))
    }

    /// Lets the policy judge the keys of a batch, in their order, after all were looked up. The caller must hold no
    /// guard, and then sets the notes of leased keys on their leases ([`Lease::set_note`](crate::Lease::set_note)).
    pub fn judge(&self, batch: Batch, purpose: Purpose, keys: &mut [Judged]) {
        if let Some(shared) = &self.shared {
            shared.judge(batch.at(0), purpose, keys);
        }
    }

    /// Returns the stamp of a use at this moment. It wraps around after 2^36 uses; stamps are
    /// compared by their distance from now.
    pub fn recency_now(&self) -> u32 {
        self.now() as u32
    }

    /// Returns the number of uses until now. It does not wrap around.
    pub fn uses(&self) -> u64 {
        self.tick.get()
    }

    /// Returns the number of uses since the one that made this stamp, to within the uses that share a stamp.
    pub fn uses_since(&self, stamp: u32) -> u64 {
        u64::from(crate::entries::age(stamp, self.recency_now())) << TICKS_PER_STAMP_BITS
    }

    /// Returns the same time as [`Index::recency_now`], without wrapping around.
    pub(crate) fn now(&self) -> u64 {
        self.tick.get() >> TICKS_PER_STAMP_BITS
    }

    /// Advances the clock, so that later uses are more recent than the loaded entries.
    pub(crate) fn set_recency(&self, now: u32) {
        self.tick
            .raise(CLOCK_START + (u64::from(now) << TICKS_PER_STAMP_BITS));
    }

    /// Returns the counters. Takes the free lists' locks one by one, and no shard's.
    pub fn stats(&self) -> IndexStats {
        let classes: Vec<_> = (0..self.slots.classes())
            .map(|class| self.slots.class_stats(class))
            .collect();
        let sum = |of: &dyn Fn(&ShardCell) -> u64| self.shards.iter().map(of).sum();
        let visits = |visit: LockPurpose| sum(&move |cell| cell.visits[visit as usize].get());
        IndexStats {
            entries: sum(&|cell| cell.entries.get()),
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

/// Returns room for an even share and four standard deviations, so that tables do not grow under
/// the lock.
pub(crate) fn expected_per_shard(slots: usize, shards: usize) -> usize {
    let share = slots / shards;
    slots.min(share + 4 * share.isqrt() + 4)
}
