//! Step 2 of a put: a reservation and a slot for each key, evicting where nothing is free.
//!
//! Slots come from the free list first, all of a class in one call. What is missing is evicted where
//! the index says that entries were used longest ago: one shard at a time, counted apart from the
//! visits that the batch makes for its own keys.

use std::collections::VecDeque;

use rb_index::{Evicted, PutMode, Reservation, Reserve, SlotId, Visit};

use crate::batch::by_shard;
use crate::error::Error;
use crate::events::Event;
use crate::inner::{Inner, Writer};

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
pub(crate) fn take_slots(
    inner: &Inner,
    writer: &Writer,
    wanted: &[Wanted<'_>],
    mode: PutMode,
    near: u16,
) -> Vec<Taken> {
    let mut stock = Stock::take(inner, wanted, near);
    let mut taken: Vec<Taken> = wanted.iter().map(|_| Ok(None)).collect();
    let mut unserved = Vec::new();
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
            let reservation = match shard.reserve(hash, key, generation.0, mode) {
                Reserve::Exists(_) => continue,
                Reserve::Reserved(reservation) => reservation,
            };
            match stock.pop(class) {
                Some(slot) => taken[at] = Ok(Some((reservation, slot))),
                None => unserved.push((at, reservation)),
            }
        }
    }
    for class in 0..stock.slots.len() {
        let class = u8::try_from(class).unwrap_or(u8::MAX);
        let missing = unserved
            .iter()
            .filter(|(at, _)| wanted[*at].class == class)
            .count();
        stock.evict(inner, class, missing);
    }
    for (at, reservation) in unserved {
        let Wanted {
            key, shard, class, ..
        } = wanted[at];
        taken[at] = match stock.pop(class) {
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
    stock.finish(inner);
    taken
}

/// Slots taken for a batch and not yet given to a key.
struct Stock {
    slots: Vec<VecDeque<SlotId>>,
    evicted: Vec<Evicted>,
    /// The placement id that they are taken for.
    near: u16,
}

impl Stock {
    /// Takes free slots for every key, one call per class.
    fn take(inner: &Inner, wanted: &[Wanted<'_>], near: u16) -> Stock {
        let mut counts = vec![0; inner.geometry.classes()];
        for want in wanted {
            counts[usize::from(want.class)] += 1;
        }
        let mut slots = Vec::with_capacity(counts.len());
        for (class, count) in (0_u8..).zip(counts) {
            let mut free = Vec::with_capacity(count);
            if count > 0 {
                inner.index.take_free_near(class, count, near, &mut free);
            }
            slots.push(free.into());
        }
        Stock {
            slots,
            evicted: Vec::new(),
            near,
        }
    }

    fn pop(&mut self, class: u8) -> Option<SlotId> {
        self.slots[usize::from(class)].pop_front()
    }

    /// Evicts what is missing, then looks once more in the free list, where a slot may have arrived
    /// meanwhile.
    fn evict(&mut self, inner: &Inner, class: u8, missing: usize) {
        let before = self.evicted.len();
        let evicted = inner.index.evict_oldest(class, missing, &mut self.evicted);
        let slots = &mut self.slots[usize::from(class)];
        slots.extend(self.evicted[before..].iter().map(|evicted| evicted.slot));
        let mut late = Vec::new();
        if evicted < missing {
            let missing = missing - evicted;
            inner
                .index
                .take_free_near(class, missing, self.near, &mut late);
        }
        slots.extend(late);
    }

    /// Gives back what no key needed, and reports the evictions now that no lock is held.
    fn finish(self, inner: &Inner) {
        for slots in self.slots {
            let slots: Vec<SlotId> = slots.into();
            if !slots.is_empty() {
                inner.index.give_back_near(&slots, self.near);
            }
        }
        if inner.options.events.is_some() {
            for evicted in &self.evicted {
                inner.emit(&Event::Evicted {
                    key: &evicted.key,
                    generation: evicted.generation,
                });
            }
        }
    }
}
