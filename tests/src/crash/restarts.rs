//! Updates the oracle for a restart, with or without a crash before it, and for a store that is emptied.

use super::history::{BEFORE, Era, Generations, Key, State, Step, Why};
use super::oracle::Oracle;
use super::version::{ABSENT, Version};

impl Oracle {
    /// Records that the store was opened. `found` is each key's entry after the restart: version, generation and slots.
    /// Returns the keys with illegal entries.
    pub(super) fn opened(
        &mut self,
        found: &[Option<(Version, u64, Vec<u32>)>],
        at: Step,
    ) -> Vec<usize> {
        self.owners.clear();
        self.owed.clear();
        self.events += 1;
        // Only at the first opening after a crash.
        let crash = self.inherited.take_if(|(until, _)| *until == Step::MAX);
        let inherited = crash.map(|(_, legal)| legal);
        let empty = found.iter().all(Option::is_none);
        let emptied = inherited
            .as_ref()
            .is_some_and(|legal| legal.or_empty && empty);
        if let Some(legal) = &inherited {
            self.inherited = Some((at, legal.clone()));
        }
        if emptied {
            self.emptied(at);
            return Vec::new();
        }
        let mut illegal = Vec::new();
        for (key, found) in found.iter().enumerate() {
            let (version, generation, slots) = found.clone().unwrap_or((ABSENT, 0, Vec::new()));
            for &slot in &slots {
                self.owners.insert(slot, (key, generation));
            }
            let mut state = State::new(version, generation, slots, at);
            if self.loose {
                self.keys()[key] = Key::new(state.before());
            } else if let Some(legal) = &inherited {
                let legal = &legal.keys[key];
                state.illegal = !legal.versions.contains(&version);
                // A read will show whether the crash lost its bytes.
                state.damaged = legal.may_miss(version).then_some(BEFORE);
                illegal.extend(state.illegal.then_some(key));
                self.keys()[key] = Key::new(state.before());
            } else if self.reopened(key, state) {
                illegal.push(key);
            }
        }
        illegal
    }

    /// Records the state of a key after a restart without a crash. Returns whether it is illegal.
    fn reopened(&mut self, key: usize, mut state: State) -> bool {
        let current = self.key(key).current();
        let same = (current.version, current.generation) == (state.version, state.generation);
        let still_absent = state.version == ABSENT && current.version == ABSENT;
        if still_absent || same && current.is_live() {
            return false;
        }
        let legal = self.legal_now(key);
        state.illegal = !legal.versions.contains(&state.version);
        // An evicted entry that returns may have lost its slot.
        state.damaged = legal.may_miss(state.version).then_some(BEFORE);
        let (at, illegal) = (state.at, state.illegal);
        let index = self.push(key, state);
        self.durable(key, index, at, Why::Restart);
        self.answered(key, index);
        illegal
    }

    /// Records that emptying or formatting begins.
    pub(super) fn begin_emptying(&mut self, formatting: bool, at: Step) {
        self.era_mut().emptying = Some((at, formatting));
    }

    /// Records that the store is durably empty. It has another epoch or is another store: generations may start again.
    pub(super) fn emptied(&mut self, at: Step) {
        self.eras.push(Era::new(at));
        self.owners.clear();
    }

    /// Returns the generations that were seen up to a step.
    pub(super) fn generations_at(&self, at: Step) -> Generations {
        let generations = self.era_at(at).generations.iter();
        let seen = generations.filter(|(_, (.., seen))| *seen <= at);
        seen.map(|(generation, (key, version, _))| (*generation, (*key, *version, BEFORE)))
            .collect()
    }

    /// Begins the recording: everything so far was before.
    pub(super) fn start_history(&mut self) {
        let last = self.eras.len() - 1;
        self.eras.drain(..last);
        self.inherited = None;
        self.eras[0].from = BEFORE;
        for key in &mut self.eras[0].keys {
            for state in &mut key.states {
                state.at = BEFORE;
                let times = [&mut state.notified, &mut state.damaged];
                times.into_iter().flatten().for_each(|time| *time = BEFORE);
                state.reuses.iter_mut().for_each(|reuse| reuse.at = BEFORE);
            }
            key.durable.iter_mut().for_each(|(at, ..)| *at = BEFORE);
        }
        for (.., seen) in self.eras[0].generations.values_mut() {
            *seen = BEFORE;
        }
    }
}
