//! Knows what each key may hold, now and after a crash at any moment of the run (C1 to C3).
//!
//! The store reports each change where it takes effect, so the oracle knows each key's *states* in order, and all slots
//! of each value. A crash may leave the state of the last change that is known to be durable, or any later one that had
//! taken effect. A key may also be missing, but only
//!
//! * if its entry was evicted, and the observer notified of that, before the crash; the entry may also return, with its
//!   bytes, because an eviction leaves no record;
//! * if a slot of a former value was reused before the change that freed it was durable, the store reported that
//!   (`early`), and the change was not one that is acknowledged only once it is durable (C2);
//! * if the record of a later change reached the device and the bytes did not, because no flush came between them;
//! * if its bytes were damaged on the medium.

use std::collections::HashMap;

use super::history::{BEFORE, Era, Generations, Key, Reuse, State, Step, Why};
use super::legal::Legal;
use super::values::slots_of;
use super::version::{ABSENT, Version};

/// A key's state when an operation began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    pub(super) state: usize,
    pub(super) events: u64,
}

/// A miss of an entry that is in the index: an error unless its eviction is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    key: usize,
    since: usize,
    last: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Oracle {
    pub(super) eras: Vec<Era>,
    /// Legal outcomes of crashes before the store was opened.
    pub(super) inherited: Option<(Step, Legal)>,
    /// Key and generation of the last value in each slot.
    pub(super) owners: HashMap<u32, (usize, u64)>,
    pub(super) events: u64,
    pub(super) owed: Vec<Owed>,
    /// True if metadata was lost or the device fails: then only the owner of each value's bytes is known.
    pub(super) loose: bool,
}

impl Oracle {
    /// Creates an oracle with every key absent.
    pub(super) fn new() -> Oracle {
        Oracle {
            eras: vec![Era::new(BEFORE)],
            inherited: None,
            owners: HashMap::new(),
            events: 0,
            owed: Vec::new(),
            loose: false,
        }
    }

    /// Creates the oracle of a store that a crash has left and that is not open yet.
    pub(super) fn after_crash(legal: Legal, generations: Generations) -> Oracle {
        let mut oracle = Oracle::new();
        oracle.eras[0].generations = generations;
        oracle.inherited = Some((Step::MAX, legal));
        oracle
    }

    pub(super) fn era(&self) -> &Era {
        &self.eras[self.eras.len() - 1]
    }

    pub(super) fn era_mut(&mut self) -> &mut Era {
        let last = self.eras.len() - 1;
        &mut self.eras[last]
    }

    pub(super) fn keys(&mut self) -> &mut Vec<Key> {
        &mut self.era_mut().keys
    }

    pub(super) fn key(&self, key: usize) -> &Key {
        &self.era().keys[key]
    }

    /// Returns the key and version of a generation.
    pub(super) fn owner(&self, generation: u64) -> Option<(usize, Version)> {
        let owner = self.era().generations.get(&generation);
        owner.map(|(key, version, _)| (*key, *version))
    }

    /// Returns the state of the key's value, if it has one.
    pub(super) fn live(&self, key: usize) -> Option<&State> {
        Some(self.key(key).current()).filter(|state| state.is_live())
    }

    // ---- changes, where they take effect

    /// Records that a put became the key's value. Returns its state.
    pub(super) fn put(&mut self, key: usize, state: State) -> Result<usize, String> {
        let State {
            version,
            generation,
            at,
            ..
        } = state;
        let wanted = slots_of(version);
        if state.slots.len() != wanted {
            return Err(format!(
                "key {key} version {version} is in slots {:?}, and fills {wanted}",
                state.slots
            ));
        }
        let former = self
            .key(key)
            .states
            .iter()
            .map(|state| state.generation)
            .max();
        if former.is_some_and(|former| former >= generation) {
            return Err(format!(
                "generation {generation} of key {key} comes after {former:?}"
            ));
        }
        let owner = self
            .era_mut()
            .generations
            .insert(generation, (key, version, at));
        if let Some((owner, of, _)) = owner {
            return Err(format!(
                "generation {generation} of key {key} version {version} was that of key {owner} version {of}"
            ));
        }
        for &slot in &state.slots {
            self.owned_alone(slot, key)?;
            let former = self.owners.insert(slot, (key, generation));
            if former == Some((key, generation)) {
                return Err(format!("key {key} was put into slot {slot} twice"));
            }
        }
        Ok(self.push(key, state))
    }

    /// Records that the key was removed. Returns its state, and whether there was a value.
    pub(super) fn removed(&mut self, key: usize, state: State) -> (usize, bool) {
        let was_there = self.live(key).is_some();
        (self.push(key, state), was_there)
    }

    pub(super) fn push(&mut self, key: usize, state: State) -> usize {
        self.events += 1;
        let key = &mut self.keys()[key];
        key.states.push(state);
        key.last()
    }

    /// Checks that no value is in a slot that a put of `key` has written; the key's own former value counts, too, since it
    /// gives its slots back only now.
    fn owned_alone(&self, slot: u32, key: usize) -> Result<(), String> {
        let Some(&(owner, generation)) = self.owners.get(&slot) else {
            return Ok(());
        };
        match self.live(owner) {
            Some(state) if state.generation == generation && state.slots.contains(&slot) => {
                Err(format!(
                    "key {key} was put into slot {slot}, and the value of key {owner} is in it"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Records that an entry left the index by eviction, and gave these slots: all that it had.
    pub(super) fn evicted(
        &mut self,
        key: usize,
        generation: u64,
        slots: &[u32],
    ) -> Result<(), String> {
        self.events += 1;
        let events = self.events;
        let Some(state) = self.keys()[key].of_generation(generation) else {
            return Err(format!(
                "generation {generation} of key {key} was evicted, and never put"
            ));
        };
        state.evicted = true;
        state.gone = Some(events);
        match state.slots == slots {
            true => Ok(()),
            false => Err(format!(
                "generation {generation} of key {key} was evicted and gave slots {slots:?}, and it had {:?}",
                state.slots
            )),
        }
    }

    /// Records that the observer was notified of an eviction.
    pub(super) fn notified(&mut self, key: usize, generation: u64, at: Step) -> Result<(), String> {
        match self.keys()[key].of_generation(generation) {
            Some(state) if state.evicted => {
                state.notified.get_or_insert(at);
                Ok(())
            }
            _ => Err(format!(
                "the observer was notified that generation {generation} of key {key} was evicted, and it was not"
            )),
        }
    }

    /// Records that the store dropped an entry because its bytes are not there.
    pub(super) fn dropped(&mut self, key: usize, generation: u64) -> Result<(), String> {
        self.events += 1;
        let events = self.events;
        let Some(state) = self.keys()[key].of_generation(generation) else {
            return Err(format!(
                "generation {generation} of key {key} was dropped, and never put"
            ));
        };
        state.gone = Some(events);
        match state.damaged {
            Some(_) => Ok(()),
            None => Err(format!(
                "key {key} was dropped, and its bytes must be there"
            )),
        }
    }

    /// Records that a put took a slot.
    pub(super) fn taken(&mut self, slot: u32, reuse: Reuse) -> Result<(), String> {
        let Some(&(key, generation)) = self.owners.get(&slot) else {
            return Ok(());
        };
        let key_ = &mut self.keys()[key];
        let last = key_.last();
        let mut states = key_.states.iter_mut().enumerate().rev();
        let found =
            states.find(|(_, state)| state.version != ABSENT && state.generation == generation);
        match found {
            Some((at, state)) if at == last && state.is_live() => Err(format!(
                "slot {slot} was taken, and the value of key {key} is in it"
            )),
            Some((_, state)) => {
                state.reuses.push(reuse);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Records that the bytes of the key's value were damaged on the medium.
    pub(super) fn damaged(&mut self, key: usize, at: Step) {
        let key = &mut self.keys()[key];
        let last = key.last();
        key.states[last].damaged.get_or_insert(at);
    }

    // ---- results

    /// Returns the current states of the keys, for an operation that begins.
    pub(super) fn since(&self, keys: &[usize]) -> Vec<Since> {
        let since = |key: &usize| Since {
            state: self.key(*key).last(),
            events: self.events,
        };
        keys.iter().map(since).collect()
    }

    /// Records that the operation that made this state of the key completed.
    pub(super) fn answered(&mut self, key: usize, state: usize) {
        let key = &mut self.keys()[key];
        key.acknowledged = key.acknowledged.max(state);
    }

    /// Records that the key's states up to this one are durable.
    pub(super) fn durable(&mut self, key: usize, state: usize, at: Step, why: Why) {
        let key = &mut self.keys()[key];
        if key
            .durable
            .last()
            .is_none_or(|(_, known, _)| *known < state)
        {
            key.durable.push((at, state, why));
        }
    }

    /// Returns the last acknowledged state of each key.
    pub(super) fn acknowledged(&self) -> Vec<usize> {
        let keys = self.era().keys.iter();
        keys.map(|key| key.acknowledged).collect()
    }

    /// Checks a value that a get returned: it must have been the key's value at some moment since `since`.
    pub(super) fn was(&self, key: usize, since: Since, version: Version, generation: u64) -> bool {
        let mut states = self.key(key).states[since.state..].iter();
        states.any(|state| {
            let gone_before = state.gone.is_some_and(|gone| gone <= since.events);
            (state.version, state.generation) == (version, generation)
                && !gone_before
                && !state.illegal
        })
    }

    /// Records a miss. If the key had a value the whole time, an eviction must be reported by the time at which no
    /// operation is under way.
    pub(super) fn missed(&mut self, key: usize, since: Since) {
        let mut states = self.key(key).states[since.state..].iter();
        if states.all(|state| state.is_live() && state.damaged.is_none()) {
            let last = self.key(key).last();
            self.owed.push(Owed {
                key,
                since: since.state,
                last,
            });
        }
    }

    /// Returns the first state since `since` in which the key had a value.
    pub(super) fn first_live(&self, key: usize, since: Since) -> Option<usize> {
        let states = self.key(key).states.iter().enumerate().skip(since.state);
        let mut live = states.filter(|(_, state)| {
            state.version != ABSENT && state.gone.is_none_or(|gone| gone > since.events)
        });
        live.next().map(|(at, _)| at)
    }

    /// Returns the first change of the key since `since`.
    pub(super) fn first_change(&self, key: usize, since: Since) -> Option<usize> {
        Some(since.state + 1).filter(|at| *at <= self.key(key).last())
    }

    /// Called when no operation is under way: checks that every miss is explained.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for Owed { key, since, last } in std::mem::take(&mut self.owed) {
            let states = &self.key(key).states;
            // A change that came before the report of an eviction makes the report superfluous.
            if states.len() == last + 1 && states[since..].iter().all(State::is_live) {
                let version = states[last].version;
                return Err(format!(
                    "a get missed key {key} version {version}, which was not evicted"
                ));
            }
        }
        Ok(())
    }
}
