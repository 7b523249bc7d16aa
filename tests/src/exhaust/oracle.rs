//! Knows what each key may hold now, and after a crash now (C1 to C3).
//!
//! The store reports each change where it takes effect, so each key's states are known in order. A crash leaves the
//! last state that is known to be durable, or a later one. It may leave nothing instead of a value only if
//!
//! * the entry was evicted, and the observer notified; it may also be there still, because an eviction leaves no
//!   record;
//! * one of its slots was reused `early`, before the change that freed it was durable, and that change was not `EachBatch`;
//! * its record reached the device and its bytes did not, because no flush came after either (seen in the image itself,
//!   by `check.rs`).

use std::collections::BTreeMap;

use super::config::KEYS;

/// Version of a key's value; 0 means absent.
pub(super) type Version = u8;

/// The key is absent.
pub(super) const ABSENT: Version = 0;
/// The first of the versions that fill two slots.
pub(super) const FIRST_LARGE: Version = 50;
/// The first of the versions of initial values, which fill one slot.
pub(super) const FIRST_INITIAL: Version = 100;

/// Returns the number of slots that a version's value takes.
pub(super) fn slots_of(version: Version) -> usize {
    match version {
        ABSENT => 0,
        FIRST_LARGE..FIRST_INITIAL => 2,
        _ => 1,
    }
}

/// State of a key after a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) version: Version,
    pub(super) generation: u64,
    pub(super) slots: Vec<u32>,
    /// True if the change is acknowledged only once it is durable.
    each_batch: bool,
    evicted: bool,
    /// True if the observer was notified of the eviction.
    notified: bool,
    /// True if one of its slots was taken before the change that freed it was durable.
    early: bool,
}

/// A key's states, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    states: Vec<State>,
    /// Index of the last acknowledged state.
    acknowledged: usize,
    /// Index of the last state that is known to be durable.
    durable: usize,
}

impl Key {
    fn last(&self) -> usize {
        self.states.len() - 1
    }
}

/// A state of a key that a crash may leave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    pub(super) version: Version,
    pub(super) generation: u64,
    pub(super) slots: Vec<u32>,
    /// True if the key may be absent instead.
    pub(super) may_miss: bool,
    /// True if it is not known to be durable.
    pub(super) volatile: bool,
}

/// States that a crash may leave, per key.
pub(super) type Legal = Vec<Vec<Candidate>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Oracle {
    keys: Vec<Key>,
    /// Key and state of the last value in each slot.
    owners: BTreeMap<u32, (usize, usize)>,
}

impl Oracle {
    /// Creates the oracle from the entries that a restart found: version, generation and slots.
    pub(super) fn new(found: [Option<(Version, u64, Vec<u32>)>; KEYS]) -> Oracle {
        let mut owners = BTreeMap::new();
        let keys = found.into_iter().enumerate().map(|(key, found)| {
            let (version, generation, slots) = found.unwrap_or((ABSENT, 0, Vec::new()));
            owners.extend(slots.iter().map(|slot| (*slot, (key, 0))));
            Key {
                states: vec![State::new(version, generation, slots, true)],
                acknowledged: 0,
                durable: 0,
            }
        });
        let keys = keys.collect();
        Oracle { keys, owners }
    }

    // ---- changes, where they take effect

    /// Records that a put became the key's value. Returns its state.
    pub(super) fn put(
        &mut self,
        key: usize,
        version: Version,
        generation: u64,
        slots: &[u32],
        each_batch: bool,
    ) -> Result<usize, String> {
        let wanted = slots_of(version);
        if slots.len() != wanted {
            return Err(format!(
                "version {version} of key {key} is in slots {slots:?}, and fills {wanted}"
            ));
        }
        let new = State::new(version, generation, slots.to_vec(), each_batch);
        let at = self.push(key, new)?;
        for &slot in slots {
            let former = self.owners.insert(slot, (key, at));
            // Neither twice in this value, nor in another one that is still there.
            if former == Some((key, at)) || former.is_some_and(|former| self.is_live(former, key)) {
                return Err(format!(
                    "key {key} is put into slot {slot}, which has the value of {former:?} (key, state)"
                ));
            }
        }
        Ok(at)
    }

    /// Returns whether a state is its key's value when `changed` has just got a new one.
    fn is_live(&self, (key, at): (usize, usize), changed: usize) -> bool {
        let states = &self.keys[key].states;
        let last = states.len() - 1 - usize::from(key == changed);
        at == last && states[at].version != ABSENT && !states[at].evicted
    }

    /// Records that the key was removed. Returns its state.
    pub(super) fn removed(
        &mut self,
        key: usize,
        generation: u64,
        each_batch: bool,
    ) -> Result<usize, String> {
        self.push(key, State::new(ABSENT, generation, Vec::new(), each_batch))
    }

    fn push(&mut self, key: usize, state: State) -> Result<usize, String> {
        let states = &mut self.keys[key].states;
        let former = states.iter().map(|state| state.generation).max();
        if former.is_some_and(|former| former >= state.generation) {
            let generation = state.generation;
            return Err(format!("generation {generation} comes after {former:?}"));
        }
        states.push(state);
        Ok(states.len() - 1)
    }

    fn of_generation(&mut self, key: usize, generation: u64) -> Result<&mut State, String> {
        let mut states = self.keys[key].states.iter_mut().rev();
        let found = states.find(|state| state.version != ABSENT && state.generation == generation);
        found.ok_or_else(|| format!("generation {generation} was never put"))
    }

    /// Records that an entry was evicted and gave these slots: all that it had.
    pub(super) fn evicted(
        &mut self,
        key: usize,
        generation: u64,
        slots: &[u32],
    ) -> Result<(), String> {
        let state = self.of_generation(key, generation)?;
        state.evicted = true;
        match state.slots == slots {
            true => Ok(()),
            false => Err(format!(
                "generation {generation} of key {key} gives slots {slots:?}, and had {:?}",
                state.slots
            )),
        }
    }

    /// Records that the observer was notified of an eviction.
    pub(super) fn notified(&mut self, key: usize, generation: u64) -> Result<(), String> {
        let state = self.of_generation(key, generation)?;
        if !state.evicted {
            return Err(format!(
                "the observer is notified that generation {generation} was evicted, and it was not"
            ));
        }
        state.notified = true;
        Ok(())
    }

    /// Records that a put took a slot.
    pub(super) fn taken(&mut self, slot: u32, early: bool) -> Result<(), String> {
        let Some(&(key, at)) = self.owners.get(&slot) else {
            return Ok(());
        };
        let states = &mut self.keys[key].states;
        let freed_by = states.get(at + 1).cloned();
        let state = &mut states[at];
        match freed_by {
            None if !state.evicted => Err(format!("slot {slot} is taken, and has a value")),
            Some(next) if early && next.each_batch => Err(format!(
                "slot {slot} is taken early, and was freed by a change with EachBatch"
            )),
            _ => {
                state.early |= early;
                Ok(())
            }
        }
    }

    // ---- results

    /// Records that the operation that made this state completed; the state is durable if that was requested.
    pub(super) fn answered(&mut self, key: usize, state: usize, durable: bool) {
        let key = &mut self.keys[key];
        key.acknowledged = key.acknowledged.max(state);
        if durable {
            key.durable = key.durable.max(state);
        }
    }

    /// Records that the result of an operation that completes only once durable refers to this state.
    pub(super) fn refers_to(&mut self, key: usize, state: usize) {
        let key = &mut self.keys[key];
        key.durable = key.durable.max(state.min(key.last()));
    }

    /// Returns the last acknowledged state of each key.
    pub(super) fn acknowledged(&self) -> [usize; KEYS] {
        std::array::from_fn(|key| self.keys[key].acknowledged)
    }

    /// Returns the last state of each key.
    pub(super) fn last(&self) -> [usize; KEYS] {
        std::array::from_fn(|key| self.keys[key].last())
    }

    /// Records that these states are durable.
    pub(super) fn durable(&mut self, states: [usize; KEYS]) {
        for (key, state) in self.keys.iter_mut().zip(states) {
            key.durable = key.durable.max(state);
        }
    }

    /// Returns the first state of a key since `since` in which it had a value.
    pub(super) fn first_value(&self, key: usize, since: usize) -> Option<usize> {
        let states = &self.keys[key].states;
        (since..states.len()).find(|at| states[*at].version != ABSENT)
    }

    /// Returns whether a key had no value at some time since its state `since`.
    pub(super) fn was_absent(&self, key: usize, since: usize) -> bool {
        let mut states = self.keys[key].states[since..].iter();
        states.any(|state| state.version == ABSENT || state.evicted)
    }

    /// Returns whether the key has a value now.
    pub(super) fn has_value(&self, key: usize) -> bool {
        let last = &self.keys[key].states[self.keys[key].last()];
        last.version != ABSENT && !last.evicted
    }

    // ---- queries

    /// Returns what a crash may leave now.
    pub(super) fn legal(&self) -> Legal {
        let of_key = |key: &Key| {
            let states = key.states.iter().enumerate().skip(key.durable);
            let candidates = states.map(|(at, state)| Candidate {
                version: state.version,
                generation: state.generation,
                slots: state.slots.clone(),
                may_miss: state.version == ABSENT || state.notified || state.early,
                volatile: at > key.durable,
            });
            candidates.collect()
        };
        self.keys.iter().map(of_key).collect()
    }

    /// Returns what a get must return now: version and generation.
    pub(super) fn current(&self, key: usize) -> Option<(Version, u64)> {
        let state = self.keys[key].states.last()?;
        let is_there = state.version != ABSENT && !state.evicted;
        is_there.then_some((state.version, state.generation))
    }
}

impl State {
    fn new(version: Version, generation: u64, slots: Vec<u32>, each_batch: bool) -> State {
        State {
            version,
            generation,
            slots,
            each_batch,
            evicted: false,
            notified: false,
            early: false,
        }
    }
}
