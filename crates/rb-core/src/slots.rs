//! Step 2 of a put: a reservation and a slot for each key, evicting where nothing is free.
//!
//! Slots come from the free list first, all of a class in one call. What is missing is evicted where
//! the index says that entries were used longest ago: one shard at a time, counted apart from the
//! visits that the batch makes for its own keys.

use rb_index::{Evicted, PutMode, Reservation, Reserve, SlotId, Visit};

use crate::batch::by_shard;
use crate::error::Error;
use crate::events::Event;
use crate::inner::{Inner, Writer};
use crate::simulator::{Change, SwitchPoint};

/// A key that needs a slot.
pub(crate) struct Wanted<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) hash: u64,
    pub(crate) shard: usize,
    pub(crate) class: u8,
}

/// A reservation with its slot; none if the key exists and is to be kept.
pub(crate) type Taken = Result<Option<(Reservation, SlotId)>, Error>;

/// Reserves each key and takes a slot for it, if it can be one that was last written with the placement id
/// `near` (0: none). Answers in the order of `wanted`.
///
/// Reservations come first, so that no more slots are taken, and no more is evicted, than are needed: a slot that
/// is given back has lost its place among the free ones.
pub(crate) fn take_slots(
    inner: &Inner,
    writer: &Writer,
    wanted: &[Wanted<'_>],
    mode: PutMode,
    near: u16,
) -> Vec<Taken> {
    let mut taken: Vec<Taken> = wanted.iter().map(|_| Ok(None)).collect();
    let mut reserved: Vec<Vec<(usize, Reservation)>> = Vec::new();
    reserved.resize_with(inner.geometry.classes(), Vec::new);
    for group in by_shard(wanted.len(), |at| wanted[at].shard) {
        let mut shard = inner.index.lock(group.shard, Visit::Operation);
        for at in group.positions {
            let Wanted {
                key, hash, class, ..
            } = wanted[at];
            let generation = match writer.next_generation() {
                Ok(generation) => generation,
                Err(error) => {
                    taken[at] = Err(error);
                    continue;
                }
            };
            match shard.reserve(hash, key, generation.0, mode) {
                Reserve::Exists(_) => {}
                Reserve::Reserved(reservation) => {
                    reserved[usize::from(class)].push((at, reservation));
                }
            }
        }
    }
    inner.switch(SwitchPoint::Reserved);
    for (class, reserved) in (0_u8..).zip(reserved) {
        let mut slots = take(inner, class, reserved.len(), near).into_iter();
        for (at, reservation) in reserved {
            let Wanted { key, shard, .. } = wanted[at];
            taken[at] = match slots.next() {
                Some(slot) => Ok(Some((reservation, slot))),
                None => {
                    inner
                        .index
                        .lock(shard, Visit::Operation)
                        .cancel(reservation, key);
                    Err(Error::NoSpace {
                        slot_bytes: inner.geometry.class_capacity(class),
                    })
                }
            };
        }
    }
    taken
}

/// Takes up to `count` slots of a class: free ones, all in one call; evicts what is missing, and then looks once
/// more among the free, where a slot may have arrived meanwhile.
fn take(inner: &Inner, class: u8, count: usize, near: u16) -> Vec<SlotId> {
    let mut slots = Vec::with_capacity(count);
    let free = inner.index.take_free_near(class, count, near, &mut slots);
    inner.switch(SwitchPoint::SlotsTaken);
    if free < count {
        let mut evicted = Vec::new();
        inner.index.evict_oldest(class, count - free, &mut evicted);
        slots.extend(evicted.iter().map(|evicted| evicted.slot));
        inner.switch(SwitchPoint::Evicted);
        let missing = count - slots.len();
        inner.index.take_free_near(class, missing, near, &mut slots);
        // No lock is held.
        for Evicted {
            key,
            generation,
            slot,
            ..
        } in &evicted
        {
            let (generation, slot) = (*generation, slot.0);
            inner.changed(&Change::Evicted {
                key,
                generation,
                slot,
            });
            inner.emit(&Event::Evicted { key, generation });
        }
        inner.switch(SwitchPoint::EvictionsNotified);
    }
    for slot in &slots {
        inner.changed(&Change::Taken {
            slot: slot.0,
            early: false,
        });
    }
    slots
}
