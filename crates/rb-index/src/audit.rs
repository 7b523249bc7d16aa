//! Audits the index: everything that must hold between two calls, in one place.

use std::fmt;
use std::ops::Range;

use crate::bits::Bits;
use crate::free_list::FreeList;
use crate::index::Index;
use crate::memory::NoMemory;
use crate::policy::Policy;
use crate::shard::Shard;
use crate::slots::{Run, STATES, SlotId, State};
use crate::sync::Guard;

impl Index {
    /// Checks the whole index: every slot has one owner; states, counters, lists and tables agree;
    /// and no call has broken the rules so far. Holds every lock while it runs, so it is meant for
    /// tests and for `fsck`.
    ///
    /// Deadlocks if the calling thread holds a guard.
    ///
    /// # Errors
    /// A sentence that describes the violation.
    pub fn audit(&self) -> Result<(), String> {
        let shards: Vec<_> = self.shards.iter().map(|cell| cell.shard.lock()).collect();
        let lists: Vec<_> = (0..self.slots.classes())
            .map(|class| self.slots.lock_free(class as u8))
            .collect();
        let mut audit = Audit {
            index: self,
            owned: Bits::new(self.slots.end()).map_err(|NoMemory| "no memory for an audit")?,
            slots: [0; 2],
        };
        for (number, shard) in shards.iter().enumerate() {
            audit.shard(number, shard)?;
        }
        for (class, list) in lists.iter().enumerate() {
            audit.free_list(class, list)?;
        }
        audit.counters(&lists)?;
        let rejected: u64 = lists.iter().map(|list| list.rejected()).sum();
        match (self.slots.illegal(), rejected) {
            (0, 0) => Ok(()),
            (illegal, rejected) => Err(format!(
                "{illegal} illegal slot transitions and {rejected} rejected frees were counted"
            )),
        }
    }
}

struct Audit<'a> {
    index: &'a Index,
    /// Slots seen as owned by an entry or a free list.
    owned: Bits,
    /// Numbers of slots of live and retired entries seen.
    slots: [u64; 2],
}

impl Audit<'_> {
    fn shard(&mut self, number: usize, shard: &Shard) -> Result<(), String> {
        let store = &shard.store;
        let (mut live, mut evictable) = (0, 0);
        let mut evictable_slots = vec![0; self.index.slots.classes()];
        for at in 0..store.end() {
            let entry = store.entry(at);
            if entry.is_vacant() {
                continue;
            }
            let place = format!("shard {number}, entry {at}, slot {}", entry.slot);
            let listed = store.find(entry.hash, store.key(at)) == Some(at);
            if entry.is_live() != listed || entry.is_live() == entry.is_retired() {
                return Err(format!("{place}: live or retired, and the table disagrees"));
            }
            if store.owner(at) != at {
                return Err(format!("{place}: its key cell is another entry's"));
            }
            if self.index.shard_of(entry.hash) != number {
                return Err(format!("{place}: its hash is of another shard"));
            }
            if entry.is_retired() && entry.leases() == 0 {
                return Err(format!("{place}: retired, but no lease holds it"));
            }
            let state = if entry.is_live() {
                State::Live
            } else {
                State::Retired
            };
            for SlotId(slot) in store.slots(at) {
                if self.index.slots.class_of(slot) != Some(entry.class()) {
                    return Err(format!("{place}: slot {slot} is of another class"));
                }
                self.own(slot..slot + 1, state, format_args!("{place}"))?;
            }
            self.slots[usize::from(entry.is_retired())] += entry.slots();
            live += usize::from(entry.is_live());
            if entry.is_evictable(entry.class()) {
                evictable += 1;
                evictable_slots[usize::from(entry.class())] += entry.slots();
            }
        }
        if store.len() != live {
            return Err(format!(
                "shard {number}: {live} live entries, {} in table",
                store.len()
            ));
        }
        let counted = shard.evictable.of_classes();
        if counted != evictable_slots {
            return Err(format!(
                "shard {number}: evictable slots {evictable_slots:?}, counted {counted:?}"
            ));
        }
        self.order(number, shard, evictable)
    }

    /// Checks that the policy would evict exactly the live entries without a lease, and has never
    /// chosen another.
    fn order(&self, number: usize, shard: &Shard, evictable: usize) -> Result<(), String> {
        let refused = self.index.shards[number].refused_victims.get();
        if refused > 0 {
            return Err(format!(
                "shard {number}: {refused} victims of the eviction policy must not be evicted"
            ));
        }
        let (mut ordered, mut wrong) = (0, None);
        let mut seen = vec![false; shard.store.end() as usize];
        for class in (0..=u8::MAX).take(self.index.slots.classes()) {
            shard.policy.evictable(class, &mut |at| {
                ordered += 1;
                let new = seen
                    .get_mut(at as usize)
                    .is_some_and(|seen| !std::mem::replace(seen, true));
                if !new || !shard.store.entry(at).is_evictable(class) {
                    wrong = Some(at);
                }
            });
        }
        if let Some(at) = wrong {
            return Err(format!("shard {number}: entry {at} must not be evictable"));
        }
        if ordered != evictable {
            return Err(format!(
                "shard {number}: {evictable} entries may be evicted, {ordered} are in the order"
            ));
        }
        Ok(())
    }

    fn free_list(&mut self, class: usize, list: &FreeList) -> Result<(), String> {
        list.check()
            .map_err(|wrong| format!("class {class}: {wrong}"))?;
        for slots in list.iter_runs() {
            let place = format_args!("class {class}, free slots {slots:?}");
            self.own(slots.clone(), State::Free, place)?;
        }
        Ok(())
    }

    /// Records that slots have an owner.
    fn own(
        &mut self,
        mut slots: Range<u32>,
        wanted: State,
        place: fmt::Arguments<'_>,
    ) -> Result<(), String> {
        let all = slots.clone();
        let state = |slot: u32| self.index.slots.state(slot);
        if let Some(slot) = slots.find(|&slot| state(slot) != Some(wanted as u8)) {
            let state = state(slot);
            return Err(format!(
                "{place}: must be {wanted:?}, but the state of {slot} is {state:?}"
            ));
        }
        match self.owned.add(all) {
            true => Ok(()),
            false => Err(format!("{place}: a slot has two owners")),
        }
    }

    /// Checks that the counters agree with the states, and that every free, live or retired slot
    /// has an owner.
    fn counters(&self, lists: &[Guard<'_, FreeList>]) -> Result<(), String> {
        let mut by_state = vec![[0_u64; STATES]; lists.len()];
        for Run { slots, class } in self.index.slots.runs() {
            let seen = &mut by_state[usize::from(*class)];
            for state in slots
                .clone()
                .filter_map(|slot| self.index.slots.state(slot))
            {
                seen[usize::from(state)] += 1;
            }
        }
        for (class, (seen, list)) in by_state.iter().zip(lists).enumerate() {
            let stats = self.index.slots.class_stats(class);
            let counted = [
                stats.free,
                stats.reserved,
                stats.live,
                stats.retired,
                stats.quarantined,
                stats.bad,
                stats.discarding,
            ];
            if counted != *seen || seen.iter().sum::<u64>() != stats.capacity {
                return Err(format!("class {class}: slots {seen:?}, counters {stats:?}"));
            }
            if seen[State::Free as usize] != u64::from(list.len()) {
                return Err(format!(
                    "class {class}: {seen:?}, but {} are listed",
                    list.len()
                ));
            }
        }
        let total = |state: State| {
            by_state
                .iter()
                .map(|seen| seen[state as usize])
                .sum::<u64>()
        };
        let states = [total(State::Live), total(State::Retired)];
        if states != self.slots {
            return Err(format!(
                "slots live and retired: {states:?}, those of entries {:?}",
                self.slots
            ));
        }
        Ok(())
    }
}
