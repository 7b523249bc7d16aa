//! Step 2 of a put: a slot for each key, evicting where nothing is free, then a generation.
//!
//! In this order: the former owner of a slot drew its generation before it freed the slot, so the generations of a
//! slot's owners ascend. Recovery relies on it: of two claims of a slot the higher generation wins.
//!
//! Slots come from the free list first, all of a class in one call. What is missing is evicted where
//! the index says that entries are worth least: one shard at a time, counted apart from the
//! visits that the batch makes for its own keys.

use std::time::Duration;

use rb_index::{Evicted, LockPurpose, PutMode, Reservation, Reserve, ShardGuard, SlotId};

use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::error::Error;
use crate::events::Event;
use crate::ops::put_plan::PlannedPut;
use crate::simulator::{Change, SwitchPoint};

/// Commits of a put that finds no slot but those that wait for one. Other puts may take what each of them frees.
const COMMITS_MAX: usize = 16;

/// What a key gets.
pub(crate) enum Taken {
    /// A slot, and a generation that was drawn for it.
    Slot(Reservation, SlotId),
    /// None: the key exists, is to be kept, and is durable with this ticket.
    Exists(u64),
    Failed(Error),
}

/// Takes a slot for each key and reserves it, if it can be one that was last written with the placement id
/// `near` (0: none). Answers in the order of `wanted`. Unless it `may_commit`, keys whose slots wait for a commit have
/// failed with `Busy`.
pub(crate) fn take_slots(
    inner: &Inner,
    writer: &Writer,
    wanted: &[PlannedPut<'_>],
    mode: PutMode,
    near: u16,
    may_commit: bool,
) -> Vec<Taken> {
    let no_space = |wanted: &PlannedPut<'_>| {
        Taken::Failed(Error::NoSpace {
            slot_bytes: inner.geometry.class_capacity(wanted.class),
        })
    };
    let mut taken: Vec<Taken> = wanted.iter().map(no_space).collect();
    let mut needy: Vec<usize> = (0..wanted.len()).collect();
    if mode == PutMode::KeepExisting {
        // No entry is evicted for a key that exists. What exists now may be gone when the key is reserved, and the other
        // way round, so that looks again.
        each(inner, wanted, &needy, |shard, at| {
            if let Some(ticket) = existing(shard, &wanted[at]) {
                taken[at] = Taken::Exists(ticket);
            }
        });
        needy.retain(|&at| !matches!(taken[at], Taken::Exists(_)));
    }
    let mut slots = vec![None; wanted.len()];
    for class in 0..inner.geometry.classes() as u8 {
        let of_class = needy.iter().filter(|&&at| wanted[at].class == class);
        let mut of_class: Vec<usize> = of_class.copied().collect();
        // By key: where slots are short the last keys go without, and neighbours in a batch are neighbours on the device.
        of_class.sort_unstable_by_key(|&at| wanted[at].at);
        match take(inner, writer, class, of_class.len(), near, may_commit) {
            Ok(found) => {
                for (at, slot) in of_class.into_iter().zip(found) {
                    slots[at] = Some(slot);
                }
            }
            Err(error) => of_class
                .into_iter()
                .for_each(|at| taken[at] = Taken::Failed(error.clone())),
        }
    }
    needy.retain(|&at| slots[at].is_some());
    let mut unneeded = Vec::new();
    each(inner, wanted, &needy, |shard, at| {
        let Some(slot) = slots[at] else { return };
        let (key, hash, place) = (&wanted[at].key[..], wanted[at].hash, wanted[at].place);
        let reserved = writer
            .next_generation()
            .map(|generation| shard.reserve(hash, key, slot, generation.0, mode, place));
        taken[at] = match reserved {
            Ok(Reserve::Reserved(reservation)) => {
                return taken[at] = Taken::Slot(reservation, slot);
            }
            Ok(Reserve::Exists(_)) => Taken::Exists(shard.ticket_of(hash, key)),
            Err(error) => Taken::Failed(error),
        };
        unneeded.push(slot);
    });
    inner.index.give_back(&unneeded);
    inner.switch(SwitchPoint::Reserved);
    taken
}

/// The ticket of the key's entry; none if there is no entry.
fn existing(shard: &mut ShardGuard<'_>, wanted: &PlannedPut<'_>) -> Option<u64> {
    let found = shard.get(wanted.hash, &wanted.key);
    found.map(|_| shard.ticket_of(wanted.hash, &wanted.key))
}

/// Visits these positions, which are grouped by shard, with one hold of each shard's lock.
fn each(
    inner: &Inner,
    wanted: &[PlannedPut<'_>],
    positions: &[usize],
    mut visit: impl FnMut(&mut ShardGuard<'_>, usize),
) {
    for group in positions.chunk_by(|&one, &other| wanted[one].shard == wanted[other].shard) {
        let mut shard = inner
            .index
            .lock(wanted[group[0]].shard, LockPurpose::Operation);
        group.iter().for_each(|&at| visit(&mut shard, at));
    }
}

/// Takes up to `count` slots of a class: free ones, all in one call; evicts what is missing, and then looks once
/// more among the free, where a slot may have arrived meanwhile. Where slots wait for a commit and nothing else is
/// left, it commits and looks again; where none waits any more, it looks a last time.
fn take(
    inner: &Inner,
    writer: &Writer,
    class: u8,
    count: usize,
    near: u16,
    may_commit: bool,
) -> Result<Vec<SlotId>, Error> {
    let mut slots = Vec::with_capacity(count);
    for _ in 0..COMMITS_MAX {
        take_free(inner, class, count, near, &mut slots);
        if slots.len() < count {
            evict(inner, class, count, &mut slots);
            take_free(inner, class, count, near, &mut slots);
        }
        if slots.len() == count {
            break;
        }
        if !inner.index.awaits_durability(class) {
            // Slots that waited at the last look may have become free by another's commit since.
            take_free(inner, class, count, near, &mut slots);
            break;
        }
        let committed = match may_commit {
            true => inner.commit(writer),
            false => Err(Error::Busy {
                what: "slots that wait for a commit",
                waited: Duration::ZERO,
            }),
        };
        if let Err(error) = committed {
            inner.index.give_back(&slots);
            return Err(error);
        }
    }
    Ok(slots)
}

/// Takes free slots until there are `count`. Those whose former value a crash may still need come last.
fn take_free(inner: &Inner, class: u8, count: usize, near: u16, slots: &mut Vec<SlotId>) {
    let before = slots.len();
    let missing = count - before;
    if inner.index.take_free_near(class, missing, near, slots) < missing {
        let early = slots.len();
        inner.index.take_early(class, count - early, slots);
        taken(inner, &slots[early..], true);
        taken(inner, &slots[before..early], false);
    } else {
        taken(inner, &slots[before..], false);
    }
    inner.switch(SwitchPoint::SlotsTaken);
}

fn taken(inner: &Inner, slots: &[SlotId], early: bool) {
    for slot in slots {
        let slot = slot.0;
        inner.changed(&Change::Taken { slot, early });
    }
}

/// Evicts entries until there are `count` slots, and notifies the observer before any of that can be durable.
fn evict(inner: &Inner, class: u8, count: usize, slots: &mut Vec<SlotId>) {
    let mut evicted = Vec::new();
    let missing = count - slots.len();
    inner.index.evict_least(class, missing, &mut evicted);
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
    }
    slots.extend(evicted.iter().map(|evicted| evicted.slot));
    taken(inner, &slots[slots.len() - evicted.len()..], false);
    inner.switch(SwitchPoint::Evicted);
    if inner.options.events.is_some() {
        for Evicted {
            key,
            generation,
            hash,
            ..
        } in &evicted
        {
            let generation = *generation;
            inner.emit(&Event::Evicted { key, generation });
            // From now on a base may leave the entry out.
            let shard = inner.index.shard_of(*hash);
            let mut shard = inner.index.lock(shard, LockPurpose::Eviction);
            shard.delivered(key, generation);
        }
    }
    inner.switch(SwitchPoint::EvictionsNotified);
}
