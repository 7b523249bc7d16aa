//! One locked shard: lookups and leases. Puts, removes and evictions are in `guard_put`, the
//! snapshot in `snapshot`.

use crate::index::Index;
use crate::lease::{Lease, Located};
use crate::more_slots::MoreSlots;
use crate::note::Note;
use crate::place::Place;
use crate::policy::{Gone, Policy, Purpose, Resident};
use crate::shard::Shard;
use crate::slots::{SlotId, State};
use crate::stats::LockPurpose;
use crate::sync::{Guard, step_aside};

/// Exclusive access to one shard, returned by [`Index::lock`]; the lock is held until it is
/// dropped.
///
/// Keys must belong to the locked shard: `index.shard_of(hash)`. A thread must not hold two guards
/// at a time.
///
/// Every method completes its transitions before it returns, so a panic of the caller leaves the
/// index consistent. No method panics, except that a debug build panics if a caller breaks the
/// rules.
pub struct ShardGuard<'a> {
    pub(crate) index: &'a Index,
    pub(crate) number: u32,
    pub(crate) shard: Guard<'a, Shard>,
}

impl Index {
    /// Locks a shard.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn lock(&self, shard: usize, visit: LockPurpose) -> ShardGuard<'_> {
        let cell = &self.shards[shard];
        let (guard, waited) = cell.shard.lock_counted();
        cell.visits[visit as usize].add(1);
        if let Some(waited) = waited {
            cell.contended.add(1);
            if visit != LockPurpose::Background {
                let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
                cell.longest_wait.raise(nanos);
            }
        }
        ShardGuard {
            index: self,
            number: shard as u32,
            shard: guard,
        }
    }
}

impl ShardGuard<'_> {
    /// Returns the number of the shard.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.number as usize
    }

    /// Declares that the records of the changes made in this hold are queued, and will be durable
    /// with `ticket`, a number that the caller increments ([`Index::set_durable`]). With `strict`
    /// the changes are acknowledged only then: a slot freed by one of them is not used earlier.
    ///
    /// A hold that ends without this call declares that its changes have no records and count as
    /// durable.
    pub fn recorded(&mut self, ticket: u64, strict: bool) {
        self.index.newest.raise(ticket);
        self.shard.record(&self.index.slots, ticket, strict);
    }

    /// Returns the ticket of the last change in this shard; 0 if there was none.
    #[must_use]
    pub fn last_ticket(&self) -> u64 {
        self.shard.last_ticket
    }

    /// Returns a ticket with which the record of the key's entry is durable; 0 if it is already, or
    /// if there is no entry.
    pub fn ticket_of(&mut self, hash: u64, key: &[u8]) -> u64 {
        match self.find(hash, key) {
            Some(at) => self.shard.ticket_of(&self.index.slots, at),
            None => 0,
        }
    }

    pub(crate) fn record_unrecorded(&mut self) {
        if !self.shard.freed.is_empty() || !self.shard.fresh.is_empty() {
            self.shard.record(&self.index.slots, 0, false);
        }
    }

    /// Hands the lock to waiting threads and takes it again afterwards. For callers that would
    /// otherwise relock immediately: the lock goes to the first thread that asks, and a sleeping
    /// waiter asks late.
    pub fn step_aside(&mut self) {
        step_aside(&mut self.shard);
    }

    /// Leases the live entry of a key, which is not evicted until its last lease ends. `place` is
    /// the key's place in the caller's batch.
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
    /// put(b"key", 1);
    /// let mut shard = index.lock(0, LockPurpose::Operation);
    /// let lease = shard.lease(index.hash(b"key"), b"key", place).expect("it was put");
    /// assert_eq!(lease.located().generation, 1);
    /// drop(shard);
    ///
    /// // A leased entry is not evicted.
    /// let mut evicted = Vec::new();
    /// assert_eq!(index.evict_least(0, 1, &mut evicted), 0);
    /// index.lock(0, LockPurpose::Operation).release(lease);
    /// assert_eq!(index.evict_least(0, 1, &mut evicted), 1);
    /// # Ok::<(), rb_index::IndexError>(())
    /// ```
    pub fn lease(&mut self, hash: u64, key: &[u8], place: Place) -> Option<Lease> {
        let found = self.find(hash, key);
        let shard = &mut *self.shard;
        let note = shard.looked_up(hash, place, Purpose::Lease, found);
        let at = found?;
        let entry = shard.store.entry_mut(at);
        if entry.add_lease() {
            shard.moved = true;
            let entry = Resident::new(at, entry);
            shard.evictable.subtract(&entry);
            shard.policy.pin(&entry);
        }
        let located = shard.store.located(at);
        Some(Lease {
            located,
            shard: self.number,
            entry: at,
            position: place.position,
            note,
        })
    }

    /// Ends a lease. When the last one ends, a live entry becomes the most recently used, and the
    /// slots of a removed or replaced entry become free.
    ///
    /// In a batch, release the first key last, so that it becomes the most recently used.
    pub fn release(&mut self, lease: Lease) {
        if !self.holds(&lease) {
            // A lease of another shard or index must not change anything here.
            self.index.slots.count_illegal();
            return;
        }
        let now = self.index.recency_now();
        let at = lease.entry;
        let shard = &mut *self.shard;
        let entry = shard.store.entry_mut(at);
        if lease.note != Note::default() && entry.is_live() {
            let entry = Resident::new(at, entry);
            shard.policy.mark(&entry, lease.position, lease.note);
        }
        let entry = shard.store.entry_mut(at);
        if !entry.end_lease(now) {
            return;
        }
        if entry.is_retired() {
            let placement = shard.store.placement(at);
            let hold = shard.hold(&self.index.slots);
            for SlotId(slot) in shard.store.slots(at) {
                let slots = &self.index.slots;
                slots.free_from(slot, State::Retired, placement, hold);
            }
            shard.store.discard(at);
        } else {
            shard.moved = true;
            let entry = Resident::new(at, entry);
            shard.evictable.add(&entry);
            shard.policy.unpin(&entry);
        }
    }

    /// Returns the metadata of a leased entry; empty for a lease of another shard.
    #[must_use]
    pub fn metadata(&self, lease: &Lease) -> &[u8] {
        if self.holds(lease) {
            self.shard.store.key_and_metadata(lease.entry).1
        } else {
            &[]
        }
    }

    /// Returns the slots of a leased entry after its first; none for a lease of another shard.
    #[must_use]
    pub fn more_slots(&self, lease: &Lease) -> MoreSlots<'_> {
        if self.holds(lease) {
            self.shard.store.more(lease.entry)
        } else {
            MoreSlots::default()
        }
    }

    /// Returns the live entry of a key. Counts neither as a use nor as a lookup.
    #[must_use]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<Located> {
        Some(self.shard.store.located(self.find(hash, key)?))
    }

    /// Returns whether an entry of this shard ever had an expiry. If not, the caller need not ask for
    /// the time.
    #[must_use]
    pub fn may_expire(&self) -> bool {
        self.shard.store.may_expire()
    }

    /// Drops the live entry of a key if its time is over: its [`crate::NewEntry::expiry`] is not 0,
    /// and at most `now`. Returns the entry; its slots are free, or retired while leased. Callers
    /// that use expiries call this before they look a key up; lookups do not know the time.
    pub fn expire(&mut self, hash: u64, key: &[u8], now: u32) -> Option<Located> {
        let at = self.find(hash, key)?;
        let located = self.shard.store.located(at);
        let is_over = (1..=now).contains(&located.expiry);
        is_over.then(|| {
            self.drop_unrecorded(at);
            located
        })
    }

    /// Returns whether leases hold the live entry of a key. Leases of entries that the key had
    /// before do not count. Counts neither as a use nor as a lookup.
    #[must_use]
    pub fn is_leased(&self, hash: u64, key: &[u8]) -> bool {
        let found = self.find(hash, key);
        found.is_some_and(|at| self.shard.store.entry(at).leases() > 0)
    }

    /// Looks up the live entry of a key for a caller. Counts as a lookup, but not as a use. Returns what
    /// the policy knows of the key, for [`Index::judge`].
    pub fn probe(&mut self, hash: u64, key: &[u8], place: Place) -> Option<Note> {
        let found = self.find(hash, key);
        let note = self.shard.looked_up(hash, place, Purpose::Probe, found);
        found.map(|_| note)
    }

    /// Marks a key as used. Returns what the policy knew of it, for [`Index::judge`]; `None` if it is
    /// not live.
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
    /// put(b"a", 1);
    /// put(b"b", 2);
    /// let place = index.begin_batch(1).at(0);
    /// assert!(index.lock(0, LockPurpose::Operation).touch(index.hash(b"a"), b"a", place).is_some());
    /// let mut evicted = Vec::new();
    /// index.evict_least(0, 1, &mut evicted);
    /// assert_eq!(&*evicted[0].key, b"b");
    /// # Ok::<(), rb_index::IndexError>(())
    /// ```
    pub fn touch(&mut self, hash: u64, key: &[u8], place: Place) -> Option<Note> {
        let found = self.find(hash, key);
        let shard = &mut *self.shard;
        let note = shard.looked_up(hash, place, Purpose::Touch, found);
        let now = self.index.recency_now();
        shard.store.entry_mut(found?).stamp(now);
        Some(note)
    }

    /// Marks the leased bytes as verified. Does nothing if that generation is no longer live.
    pub fn set_verified(&mut self, lease: &Lease) {
        if self.holds(lease) {
            self.shard.store.entry_mut(lease.entry).set_verified();
        }
    }

    /// Marks the bytes of a key's entry as verified if its generation is still `generation`, for a
    /// validator without leases. Returns whether it was.
    pub fn set_verified_generation(&mut self, hash: u64, key: &[u8], generation: u64) -> bool {
        let found = self.find(hash, key);
        let Some(at) = found.filter(|&at| self.shard.store.entry(at).generation == generation)
        else {
            return false;
        };
        self.shard.store.entry_mut(at).set_verified();
        true
    }

    /// Invalidates exactly the leased generation, because its bytes do not match the index. Its
    /// slot is retired until the last lease ends. Returns true if the entry was live until now.
    pub fn invalidate(&mut self, lease: &Lease) -> bool {
        let live = self.holds(lease) && self.shard.store.entry(lease.entry).is_live();
        if live {
            self.drop_unrecorded(lease.entry);
        }
        live
    }

    /// Invalidates the entry of a key if its generation is exactly `generation`. Returns whether it
    /// was.
    pub fn invalidate_generation(&mut self, hash: u64, key: &[u8], generation: u64) -> bool {
        let found = self.find(hash, key);
        let Some(at) = found.filter(|&at| self.shard.store.entry(at).generation == generation)
        else {
            return false;
        };
        self.drop_unrecorded(at);
        true
    }

    /// Removes a live entry without a record.
    fn drop_unrecorded(&mut self, at: u32) {
        let shard = &mut *self.shard;
        let hash = shard.store.entry(at).hash;
        shard.unrecorded.add(hash, &self.index.bases);
        shard.retire(&self.index.slots, at, Gone::Removed);
    }

    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        debug_assert_eq!(
            self.index.shard_of(hash),
            self.shard(),
            "key of another shard"
        );
        self.shard.store.find(hash, key)
    }

    /// Returns whether the lease belongs to this shard. While a lease lasts, its entry number is
    /// not reused.
    fn holds(&self, lease: &Lease) -> bool {
        lease.shard == self.number && lease.entry < self.shard.store.end() && {
            let entry = self.shard.store.entry(lease.entry);
            entry.generation == lease.located.generation
                && entry.slot == lease.located.slot.0
                && entry.leases() > 0
        }
    }
}

impl std::fmt::Debug for ShardGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.shard.store.len();
        f.debug_struct("ShardGuard")
            .field("shard", &self.number)
            .field("entries", &entries)
            .finish()
    }
}
