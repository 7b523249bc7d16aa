//! Step 2 of a put: takes the slots of each key (`collect.rs`), then draws its generation.
//!
//! The order matters: the former owner of a slot drew its generation before it freed the slot, so
//! the generations of a slot's owners ascend. Recovery relies on it: of two claims of a slot, the
//! higher generation wins.

use rb_index::{PutMode, Reservation, Reserve, ShardGuard};
use smallvec::smallvec;

use crate::core::expiry::Expiry;
use crate::core::inner::Inner;
use crate::core::pieces::SlotIds;
use crate::core::writer::Writer;
use crate::error::Error;
use crate::ops::admission::Admission;
use crate::ops::collect::Collector;
use crate::ops::locking::each_locked;
use crate::ops::put_plan::{Ended, PlannedPut};
use crate::simulator::SwitchPoint;

/// Outcome of step 2 for one key.
pub(crate) enum Taken {
    /// The slots and the generation drawn for them.
    Slots(Reservation, SlotIds),
    /// No slots: the key exists and is kept. It is durable once this ticket is.
    Exists(u64),
    /// No slots: the key had no entry, and the policy or the budget refused it, or one before it in its batch.
    NotAdmitted,
    Failed(Error),
}

/// How a part of a batch takes its slots.
#[derive(Clone, Copy)]
pub(crate) struct Taking {
    pub(crate) mode: PutMode,
    /// False if keys whose slots wait for a commit fail with `Busy`.
    pub(crate) may_commit: bool,
}

/// Takes and reserves the slots of each key. Returns the outcomes in the order of `wanted`. If the policy has refused a key
/// of an earlier part of the batch, it refuses all that have no entry.
pub(crate) fn take_slots(
    inner: &Inner,
    writer: &Writer,
    wanted: &[PlannedPut<'_>],
    taking: Taking,
    ended: &Ended,
) -> Vec<Taken> {
    let Taking { mode, may_commit } = taking;
    let mut collector = Collector {
        inner,
        writer,
        near: 0,
        may_commit,
    };
    let no_space = |wanted: &PlannedPut<'_>| {
        Taken::Failed(Error::NoSpace {
            slots: wanted.slots,
            slot_bytes: inner.geometry.class_capacity(wanted.class),
        })
    };
    debug_assert!(
        wanted.is_sorted_by_key(|put| put.shard),
        "puts of one shard stand together, so that each lock is taken once"
    );
    let mut taken: Vec<Taken> = wanted.iter().map(no_space).collect();
    let (mut needy, refused): (Vec<usize>, Vec<usize>) =
        (0..wanted.len()).partition(|&at| wanted[at].refused.is_none());
    refused
        .into_iter()
        .for_each(|at| taken[at] = Taken::NotAdmitted);
    let mut expiry = Expiry::new(inner);
    if mode == PutMode::KeepExisting {
        // Evict nothing for a key that already exists. The key may still come or go before
        // `reserve`, which decides.
        each_locked(inner, wanted, &needy, |shard, at| {
            expiry.apply(shard, wanted[at].hash, &wanted[at].key);
            if let Some(ticket) = existing(shard, &wanted[at]) {
                taken[at] = Taken::Exists(ticket);
            }
        });
        needy.retain(|&at| !matches!(taken[at], Taken::Exists(_)));
    }
    let mut admission = Admission::new(inner, wanted, &needy, mode, ended.get());
    inner.switch(SwitchPoint::PutJudged);
    let mut slots: Vec<Option<SlotIds>> = vec![None; wanted.len()];
    let mut order = needy.clone();
    admission.sort(&mut order);
    let together = |&one: &usize, &other: &usize| {
        let (one, other) = (&wanted[one], &wanted[other]);
        one.class == other.class && one.slots == 1 && other.slots == 1
    };
    for group in order.chunk_by(together) {
        let (refused, left): (Vec<usize>, Vec<usize>) =
            group.iter().partition(|&&at| admission.follows_refusal(at));
        let mut refuse = |refused: &[usize]| {
            let refused = refused.iter();
            refused.for_each(|&at| taken[at] = Taken::NotAdmitted);
        };
        refuse(&refused);
        let Some(&first) = left.first() else {
            continue;
        };
        let class = wanted[first].class;
        // Of a batch with several ids, the first: most have one.
        collector.near = wanted[first].placement;
        if wanted[first].slots > 1 {
            if !admission.admits(first) {
                taken[first] = Taken::NotAdmitted;
                continue;
            }
            match collector.take_together(class, wanted[first].slots) {
                Ok(found) => slots[first] = found,
                Err(error) => taken[first] = Taken::Failed(error),
            }
            continue;
        }
        let single = left;
        let hashes = single.iter().map(|&at| admission.hash(at));
        match collector.take(class, &hashes.collect::<Vec<_>>()) {
            Ok((found, refused)) => {
                assert!(
                    found.len() <= single.len(),
                    "a slot that no key takes would be lost"
                );
                if refused {
                    let (first, others) = (single[found.len()], &single[found.len()..]);
                    admission.refused(first);
                    refuse(others);
                }
                for (at, slot) in single.into_iter().zip(found) {
                    slots[at] = Some(smallvec![slot]);
                }
            }
            Err(error) => single
                .into_iter()
                .for_each(|at| taken[at] = Taken::Failed(error.clone())),
        }
    }
    needy.retain(|&at| slots[at].is_some());
    let mut unneeded = Vec::new();
    each_locked(inner, wanted, &needy, |shard, at| {
        let Some(slots) = slots[at].take() else {
            return;
        };
        let (key, hash, place) = (&wanted[at].key[..], wanted[at].hash, wanted[at].place);
        if mode == PutMode::KeepExisting {
            expiry.apply(shard, hash, key);
        }
        let reserved = writer
            .next_generation()
            .map(|generation| shard.reserve(hash, key, &slots, generation.0, mode, place));
        taken[at] = match reserved {
            Ok(Reserve::Reserved(reservation)) => {
                return taken[at] = Taken::Slots(reservation, slots);
            }
            Ok(Reserve::Exists(_)) => Taken::Exists(shard.ticket_of(hash, key)),
            Err(error) => Taken::Failed(error),
        };
        unneeded.extend(slots);
    });
    inner.index.give_back(&unneeded);
    expiry.notify();
    inner.switch(SwitchPoint::Reserved);
    taken
}

/// The ticket of the key's entry; `None` if there is no entry.
fn existing(shard: &mut ShardGuard<'_>, wanted: &PlannedPut<'_>) -> Option<u64> {
    let found = shard.get(wanted.hash, &wanted.key);
    found.map(|_| shard.ticket_of(wanted.hash, &wanted.key))
}
