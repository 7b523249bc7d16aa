//! History of a key: the states it has been in, and what is known of each.

use std::collections::HashMap;
use std::fmt;

use super::version::{ABSENT, KEYS, Version};

/// Number of recorded steps of the device; negative before the recording began.
pub(super) type Step = i64;

/// Any moment before the recording.
pub(super) const BEFORE: Step = -1;

/// Reason why a state is known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Sync,
    /// A put or remove with `EachBatch` completed.
    Answered,
    Existed,
    Superseded,
    Close,
    /// A restart found it.
    Restart,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Sync => "a sync",
            Why::Answered => "the completion of an operation with EachBatch",
            Why::Existed => "the result Existed with EachBatch",
            Why::Superseded => "the result Superseded with EachBatch",
            Why::Close => "a close",
            Why::Restart => "a restart that found it",
        })
    }
}

/// Event of a put taking a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reuse {
    pub(super) at: Step,
    pub(super) early: bool,
}

/// State of a key after a change.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) version: Version,
    /// Generation of the value, or of the remove.
    pub(super) generation: u64,
    /// Its slots, in order; none for a remove.
    pub(super) slots: Vec<u32>,
    /// Step at which the change took effect: a later crash may find it.
    pub(super) at: Step,
    /// True if the change is acknowledged only once it is durable.
    pub(super) each_batch: bool,
    /// Number of events before the entry left the index by eviction or drop.
    pub(super) gone: Option<u64>,
    pub(super) evicted: bool,
    /// Step at which the observer was notified of the eviction.
    pub(super) notified: Option<Step>,
    /// Step from which on its bytes may differ from those that were put.
    pub(super) damaged: Option<Step>,
    /// True if a restart found it in the index although the crash could not leave it: its bytes must fail verification.
    pub(super) illegal: bool,
    /// Puts that took one of its slots after the next change had freed them.
    pub(super) reuses: Vec<Reuse>,
}

impl State {
    pub(super) fn new(version: Version, generation: u64, slots: Vec<u32>, at: Step) -> State {
        State {
            version,
            generation,
            slots,
            at,
            each_batch: false,
            gone: None,
            evicted: false,
            notified: None,
            damaged: None,
            illegal: false,
            reuses: Vec::new(),
        }
    }

    pub(super) fn before(self) -> State {
        State { at: BEFORE, ..self }
    }

    /// Returns whether it is a value in the index, provided that no change came after it.
    pub(super) fn is_live(&self) -> bool {
        self.version != ABSENT && self.gone.is_none()
    }
}

/// A key's states, in order.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) states: Vec<State>,
    /// Index of the last state whose operation has completed.
    pub(super) acknowledged: usize,
    /// Known durability: from a step on, up to which state, and why.
    pub(super) durable: Vec<(Step, usize, Why)>,
}

impl Key {
    pub(super) fn new(state: State) -> Key {
        Key {
            durable: vec![(state.at, 0, Why::Restart)],
            states: vec![state],
            acknowledged: 0,
        }
    }

    pub(super) fn last(&self) -> usize {
        self.states.len() - 1
    }

    pub(super) fn current(&self) -> &State {
        &self.states[self.last()]
    }

    pub(super) fn of_generation(&mut self, generation: u64) -> Option<&mut State> {
        let mut states = self.states.iter_mut().rev();
        states.find(|state| state.version != ABSENT && state.generation == generation)
    }
}

/// For each generation: its key and version, and the device's step when it was first seen.
pub(super) type Generations = HashMap<u64, (usize, Version, Step)>;

/// Period of the store between two times at which it was emptied.
#[derive(Clone, Debug)]
pub(super) struct Era {
    pub(super) from: Step,
    /// Step at which emptying began, and whether it is by formatting.
    pub(super) emptying: Option<(Step, bool)>,
    pub(super) keys: Vec<Key>,
    /// Key and version of each generation, which never repeats.
    pub(super) generations: Generations,
}

impl Era {
    pub(super) fn new(from: Step) -> Era {
        let absent = || Key::new(State::new(ABSENT, 0, Vec::new(), from));
        Era {
            from,
            emptying: None,
            keys: (0..KEYS).map(|_| absent()).collect(),
            generations: Generations::new(),
        }
    }
}
