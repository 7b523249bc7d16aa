//! Receives the store's reports: its switch points, where other operations may run, its changes, where they take
//! effect, and its events.

use std::sync::{Arc, Weak};

use rb_core::{Change, Event, Events, HeldLock, Simulator, SlotId, SwitchPoint};

use super::history::{Reuse, State as KeyState};
use super::states::State;
use super::values::number;
use super::version::ABSENT;
use super::world::{Locked, World};
use crate::schedule::{Place, Wait};

/// Observer and simulator of a world's store.
#[derive(Debug)]
pub(super) struct Watch(pub(super) Weak<World>);

impl Watch {
    fn world(&self) -> Option<Arc<World>> {
        self.0.upgrade()
    }
}

impl Simulator for Watch {
    fn switch(&self, point: SwitchPoint) {
        if let Some(world) = self.world() {
            world.baton.reach(Place::At(point));
        }
    }

    fn blocked(&self, lock: HeldLock) {
        if let Some(world) = self.world() {
            assert!(
                world.baton.current().is_some(),
                "{lock:?} is held, and no operation runs that has it"
            );
            world.baton.reach(Place::Waits(Wait::Lock(lock)));
        }
    }

    fn changed(&self, change: &Change<'_>) {
        let Some(world) = self.world() else { return };
        world.trace(|| changed_words(change));
        match *change {
            Change::Put {
                key,
                generation,
                slots,
            } => world.was_put(key, generation, slots),
            Change::Removed { key, generation } => world.was_removed(key, generation),
            Change::Evicted {
                key,
                generation,
                slots,
            } => world.was_evicted(key, generation, slots),
            Change::Dropped { key, generation } => {
                let Some(key) = number(key) else { return };
                let outcome = world.record(|oracle, _| oracle.dropped(key, generation));
                let legal = world.check(outcome).is_some();
                world.reach(State::DataLost, legal);
            }
            Change::Taken { slot, early } => {
                world.is_not_leased(|lock| lock.slots.contains(&slot));
                let outcome = world.record(|oracle, at| oracle.taken(slot, Reuse { at, early }));
                world.check(outcome);
            }
            _ => {}
        }
    }
}

impl Events for Watch {
    fn event(&self, event: &Event<'_>) {
        let Some(world) = self.world() else { return };
        match event {
            Event::Evicted {
                key, generation, ..
            } => {
                let Some(key) = number(key) else { return };
                world.trace(|| format!("notified that {key} was evicted"));
                let outcome = world.record(|oracle, at| oracle.notified(key, *generation, at));
                world.check(outcome);
                world.lock().evicted = true;
            }
            Event::BadSlot { .. } => world.reach(State::BadSlot, true),
            Event::Poisoned { reason } => {
                world.trace(|| format!("poisoned {reason}"));
                if !world.lock().faulty {
                    world.fail(format!("poisoned: {reason}"));
                }
            }
            _ => {}
        }
    }
}

impl World {
    /// Records that a put became its key's value.
    fn was_put(&self, name: &[u8], generation: u64, slots: &[SlotId]) {
        let Some(key) = number(name) else { return };
        let slots: Vec<u32> = slots.iter().map(|slot| slot.0).collect();
        let operation = (self.baton.current(), key);
        if slots.len() > 1 {
            let mut inside = self.lock();
            let evicted = slots
                .iter()
                .any(|slot| inside.given.contains(&(operation.0, *slot)));
            inside.states.reach_if(State::SeveralEvicting, evicted);
        }
        let writing = self.lock().writes.get(&operation).copied();
        let Some(writing) = writing else {
            return self.fail(format!(
                "key {key} was put, and no operation asked for that"
            ));
        };
        let made = self.record(|oracle, now| {
            let state = KeyState {
                each_batch: writing.each_batch,
                ..KeyState::new(writing.version, generation, slots, now)
            };
            oracle.put(key, state)
        });
        let made = self.check(made);
        if let Some(writing) = self.lock().writes.get_mut(&operation) {
            writing.made = made;
        }
    }

    /// Records that an entry was evicted, for the current operation.
    fn was_evicted(&self, name: &[u8], generation: u64, slots: &[SlotId]) {
        let Some(key) = number(name) else { return };
        let slots: Vec<u32> = slots.iter().map(|slot| slot.0).collect();
        self.is_not_leased(|lock| lock.key == key && lock.generation == generation);
        let outcome = self.record(|oracle, _| oracle.evicted(key, generation, &slots));
        self.check(outcome);
        self.reach(State::SeveralEvicted, slots.len() > 1);
        let operation = self.baton.current();
        let given = slots.into_iter().map(|slot| (operation, slot));
        self.lock().given.extend(given);
    }

    fn was_removed(&self, name: &[u8], generation: u64) {
        let Some(key) = number(name) else { return };
        let operation = (self.baton.current(), key);
        // A remove, or a put that was refused.
        let writing = self.lock().writes.get(&operation).copied();
        let each_batch = match writing {
            Some(writing) => writing.each_batch,
            None => self.removes_each_batch(),
        };
        let (made, was_there) = self.record(|oracle, now| {
            let state = KeyState {
                each_batch,
                ..KeyState::new(ABSENT, generation, Vec::new(), now)
            };
            oracle.removed(key, state)
        });
        if let Some(writing) = self.lock().writes.get_mut(&operation) {
            writing.made = Some(made);
            writing.was_there = was_there;
        }
    }

    /// Checks C5: no lease holds this.
    fn is_not_leased(&self, is_it: impl Fn(&Locked) -> bool) {
        let key = {
            let inside = self.lock();
            let leased = inside.locks.iter().find(|lock| is_it(lock));
            leased.map(|lock| (lock.key, lock.generation))
        };
        if let Some((key, generation)) = key {
            self.fail(format!(
                "generation {generation} of key {key} was evicted, or its slot taken, under a lease"
            ));
        }
    }
}

fn changed_words(change: &Change<'_>) -> String {
    let key = |name: &[u8]| number(name).map_or(String::new(), |key| key.to_string());
    match change {
        Change::Put {
            key: name,
            generation,
            slots,
        } => format!(
            "  key {} is generation {generation} in slots {slots:?}",
            key(name)
        ),
        Change::Removed {
            key: name,
            generation,
        } => format!("  key {} is removed by generation {generation}", key(name)),
        Change::Evicted {
            key: name,
            generation,
            slots,
        } => format!(
            "  key {} generation {generation} gives slots {slots:?}",
            key(name)
        ),
        Change::Dropped {
            key: name,
            generation,
        } => format!("  key {} generation {generation} is dropped", key(name)),
        Change::Taken { slot, early } => format!("  slot {slot} is taken, early {early}"),
        _ => "  another change".into(),
    }
}
