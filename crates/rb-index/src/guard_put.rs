//! One locked shard: puts, removes, evictions, and loading entry by entry.

use crate::entry::{Entry, MAX_KEY_BYTES, MAX_METADATA_BYTES, MAX_VALUE_SLOTS};
use crate::free_list::Hold;
use crate::guard::ShardGuard;
use crate::lease::Located;
use crate::pending::Meanwhile;
use crate::place::Place;
use crate::policy::{Gone, Origin};
use crate::put::{NewEntry, Published, PutMode, Reservation, Reserve};
use crate::slots::{SlotId, State};

impl ShardGuard<'_> {
    /// Reserves a key for a put that has taken all its slots, before its bytes are written.
    ///
    /// `place` is the put's place in the caller's batch. The caller assigns generations: unique, at
    /// least 1, and drawn under this guard (see the crate documentation), because a put with a
    /// lower number than an earlier remove would be void at recovery. They are drawn after the slots
    /// were taken, so those of a slot's owners ascend; a debug build checks that.
    pub fn reserve(
        &mut self,
        hash: u64,
        key: &[u8],
        slots: &[SlotId],
        generation: u64,
        mode: PutMode,
        place: Place,
    ) -> Reserve {
        if mode == PutMode::KeepExisting
            && let Some(located) = self.get(hash, key)
        {
            return Reserve::Exists(located);
        }
        for slot in slots {
            self.index.slots.check_drawn(slot.0, generation);
        }
        Reserve::Reserved(self.shard.pending.enter(hash, key, generation, mode, place))
    }

    /// Makes a written value the live one of its key, unless a later change arrived in the
    /// meantime.
    ///
    /// On `Inserted` and `Replaced` the slots become live and the entry counts as used; a displaced
    /// entry's slots become free, or retired while leased. Otherwise the slots become free.
    ///
    /// The slots must be reserved, the key must be that of the reservation, and both lengths must be
    /// within [`MAX_KEY_BYTES`] and [`MAX_METADATA_BYTES`]; a call that breaks this is counted as
    /// illegal and returns `Removed`.
    ///
    /// ```
    /// use rb_index::{Index, IndexOptions, LockPurpose, NewEntry, PutMode, Reserve};
    ///
    /// let index = Index::new(IndexOptions { shards: 1, classes: vec![vec![0..2]], secret: [1; 16] })?;
    /// let place = index.begin_batch(1).at(0);
    /// let put = |key: &[u8], generation| {
    ///     let mut slots = Vec::new();
    ///     index.take_free(0, 1, &mut slots);
    ///     let mut shard = index.lock(0, LockPurpose::Operation);
    ///     let reserved = shard.reserve(index.hash(key), key, &slots, generation, PutMode::Replace, place);
    ///     let Reserve::Reserved(reservation) = reserved else { unreachable!("Replace always reserves") };
    ///     let entry = NewEntry {
    ///         slot: slots[0],
    ///         more: &[],
    ///         payload_len: 1000,
    ///         payload_checksum: 0,
    ///         placement: 0,
    ///         expiry: 0,
    ///         metadata: b"",
    ///         verified: true,
    ///     };
    ///     shard.publish(reservation, key, entry)
    /// };
    ///
    /// use rb_index::Published;
    /// assert_eq!(put(b"key", 1), Published::Inserted);
    /// assert!(matches!(put(b"key", 2), Published::Replaced { .. }));
    /// assert_eq!(index.stats().classes[0].free, 1);
    /// # Ok::<(), rb_index::IndexError>(())
    /// ```
    pub fn publish(
        &mut self,
        reservation: Reservation,
        key: &[u8],
        entry: NewEntry<'_>,
    ) -> Published {
        let slots = &self.index.slots;
        let meanwhile = self.shard.pending.leave(&reservation, key);
        let live = self.find(reservation.hash, key);
        let refusal = match (meanwhile, live) {
            (None, _) => {
                slots.count_illegal();
                Some(Published::Removed)
            }
            (Some(Meanwhile::Removed), _) => Some(Published::Removed),
            (_, Some(_)) if reservation.mode == PutMode::KeepExisting => Some(Published::Exists),
            (Some(Meanwhile::Superseded), _) => Some(Published::Superseded),
            (_, Some(at)) if self.shard.store.entry(at).generation >= reservation.generation => {
                Some(Published::Superseded)
            }
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.free_refused(&entry);
            return refusal;
        }
        self.put_live(&reservation, key, &entry, live)
    }

    /// Frees the slots of a put that is not published.
    fn free_refused(&self, entry: &NewEntry<'_>) {
        for SlotId(slot) in entry.slots() {
            let slots = &self.index.slots;
            slots.free_from(slot, State::Reserved, entry.placement, Hold::NONE);
        }
    }

    /// Drops the kept evictions of a changed key: a snapshot that still included them would undo
    /// the change, whose record may lie before the snapshot's position.
    fn strike_evicted(&mut self, hash: u64, key: &[u8]) {
        let evicted = &mut self.shard.evicted;
        if !evicted.is_empty() {
            evicted.retain(|kept| kept.hash != hash || *kept.key != *key);
        }
    }

    /// Cancels a reservation whose bytes were not written. Touches no slot.
    pub fn cancel(&mut self, reservation: Reservation, key: &[u8]) {
        if self.shard.pending.leave(&reservation, key).is_none() {
            self.index.slots.count_illegal();
        }
    }

    /// Returns the number of puts reserved in this shard and neither published nor cancelled.
    #[cfg(test)]
    pub(crate) fn pending_puts(&self) -> usize {
        self.shard.pending.len()
    }

    /// Removes the live entry of a key if its generation is below `generation`, which is drawn
    /// under this guard, and cancels older puts in progress. Returns the removed entry; its slot is
    /// free, or retired while leased.
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
    /// let removed = shard.remove(index.hash(b"key"), b"key", 2).expect("it was put");
    /// assert_eq!(removed.generation, 1);
    /// assert!(shard.get(index.hash(b"key"), b"key").is_none());
    /// # Ok::<(), rb_index::IndexError>(())
    /// ```
    pub fn remove(&mut self, hash: u64, key: &[u8], generation: u64) -> Option<Located> {
        self.shard
            .pending
            .notify(hash, key, generation, Meanwhile::Removed);
        self.strike_evicted(hash, key);
        let at = self.find(hash, key)?;
        let located = self.shard.store.located(at);
        if located.generation >= generation {
            return None;
        }
        self.shard.retire(&self.index.slots, at, Gone::Removed);
        Some(located)
    }

    fn put_live(
        &mut self,
        reservation: &Reservation,
        key: &[u8],
        entry: &NewEntry<'_>,
        displaced: Option<u32>,
    ) -> Published {
        let slots = &self.index.slots;
        let Reservation {
            hash,
            generation,
            place,
            ..
        } = *reservation;
        if !fits(key, entry) {
            slots.count_illegal();
            self.free_refused(entry);
            return Published::Removed;
        }
        let Some(class) = slots.class_of_all(entry.slots()) else {
            slots.count_illegal();
            return Published::Removed;
        };
        let lives = |slot: SlotId| slots.change(slot.0, State::Reserved, State::Live);
        if !entry.slots().all(lives) {
            return Published::Removed;
        }
        // Older puts of the key must not be published after this one, even if it is evicted before
        // they complete.
        self.shard
            .pending
            .notify(hash, key, generation, Meanwhile::Superseded);
        self.strike_evicted(hash, key);
        let gone = displaced.map(|at| *self.shard.store.entry(at));
        if let Some(at) = displaced {
            self.shard.retire(slots, at, Gone::Replaced);
        }
        let new = Entry::live(hash, generation, entry.slot.0, class);
        let now = self.index.recency_now();
        self.shard.admit(new, key, entry, now, Origin::Put(place));
        gone.map_or(Published::Inserted, |gone| Published::Replaced {
            slot: SlotId(gone.slot),
            generation: gone.generation,
            payload_len: gone.payload_len,
        })
    }
}

/// Returns whether the lengths are within the limits of an entry.
pub(crate) fn fits(key: &[u8], entry: &NewEntry<'_>) -> bool {
    let short = key.len() <= MAX_KEY_BYTES && entry.metadata.len() <= MAX_METADATA_BYTES;
    short && entry.more.len() < MAX_VALUE_SLOTS
}
