//! Step 2 of a put: takes a slot for each key, evicting if none is free, then draws its generation.
//!
//! The order matters: the former owner of a slot drew its generation before it freed the slot, so
//! the generations of a slot's owners ascend. Recovery relies on it: of two claims of a slot, the
//! higher generation wins.
//!
//! Slots come from the free list first, all of a class in one call. The missing ones are evicted
//! from the shard whose entries are worth least, one shard at a time. These lock holds come in
//! addition to those for the batch's own keys.

use std::time::Duration;

use rb_index::{Evicted, LockPurpose, PutMode, Reservation, Reserve, ShardGuard, SlotId};

use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::error::Error;
use crate::events::Event;
use crate::ops::put_plan::PlannedPut;
use crate::simulator::{Change, SwitchPoint};

/// Most commits for one put that finds only slots waiting for a commit. The number is bounded
/// because other puts may take the slots that each commit frees.
const COMMITS_MAX: usize = 16;

/// Outcome of step 2 for one key.
pub(crate) enum Taken {
    /// A slot and the generation drawn for it.
    Slot(Reservation, SlotId),
    /// No slot: the key exists and is kept. It is durable once this ticket is.
    Exists(u64),
    Failed(Error),
}

/// Takes and reserves a slot for each key, preferably one last written with the placement id `near`
/// (0: none). Returns the outcomes in the order of `wanted`. Without `may_commit`, keys whose slots
/// wait for a commit fail with `Busy`.
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
    debug_assert!(
        wanted.is_sorted_by_key(|put| put.shard),
        "puts of one shard stand together, so that each lock is taken once"
    );
    let mut taken: Vec<Taken> = wanted.iter().map(no_space).collect();
    let mut needy: Vec<usize> = (0..wanted.len()).collect();
    if mode == PutMode::KeepExisting {
        // Evict nothing for a key that already exists. The key may still come or go before
        // `reserve`, which decides.
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
        // In key order: if slots run out the last keys fail, and neighbours in the batch become
        // neighbours on the device.
        of_class.sort_unstable_by_key(|&at| wanted[at].at);
        match take(inner, writer, class, of_class.len(), near, may_commit) {
            Ok(found) => {
                assert!(
                    found.len() <= of_class.len(),
                    "a slot that no key takes would be lost"
                );
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

/// The ticket of the key's entry; `None` if there is no entry.
fn existing(shard: &mut ShardGuard<'_>, wanted: &PlannedPut<'_>) -> Option<u64> {
    let found = shard.get(wanted.hash, &wanted.key);
    found.map(|_| shard.ticket_of(wanted.hash, &wanted.key))
}

/// Visits these positions, which must be grouped by shard, with one lock hold per shard.
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

/// Takes up to `count` slots of a class: free ones first, all in one call, then evicted ones, then
/// any freed in the meantime. While slots wait for a commit and no others are left, it commits and
/// tries again.
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
            // A concurrent commit may have freed the slots that waited at the last look.
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

/// Takes free slots until there are `count`. Slots whose former value may still be needed after a
/// crash come last.
fn take_free(inner: &Inner, class: u8, count: usize, near: u16, slots: &mut Vec<SlotId>) {
    let before = slots.len();
    assert!(before <= count, "no more slots are taken than wanted");
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

/// Evicts entries until there are `count` slots, and notifies the observer before any of the
/// evictions can become durable.
fn evict(inner: &Inner, class: u8, count: usize, slots: &mut Vec<SlotId>) {
    let mut evicted = Vec::new();
    let missing = count - slots.len();
    inner.index.evict_least(class, missing, &mut evicted);
    assert!(
        evicted.len() <= missing,
        "eviction stops at the slots that are wanted"
    );
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
            // From here on a base may omit the entry.
            let shard = inner.index.shard_of(*hash);
            let mut shard = inner.index.lock(shard, LockPurpose::Eviction);
            shard.delivered(key, generation);
        }
    }
    inner.switch(SwitchPoint::EvictionsNotified);
}
