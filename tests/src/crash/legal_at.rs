//! Computes from the oracle's knowledge what a crash may leave.

use std::fmt::Write;

use super::history::{Era, Key, State, Step, Why};
use super::legal::{Legal, LegalKey};
use super::oracle::Oracle;
use super::version::{ABSENT, Version};

/// Returns whether a crash may lose the last write to a slot before a step.
pub(super) type Loses<'a> = &'a dyn Fn(u32, Step) -> bool;

impl Oracle {
    /// Returns what may be found after a crash when `at` steps of the device were done. A change that took effect after
    /// the last of them cannot be on the device; a change that was durable by then must be.
    pub(super) fn legal_at(&self, at: Step, loses: Loses<'_>) -> Legal {
        if let Some((_, legal)) = self.inherited.as_ref().filter(|(until, _)| at < *until) {
            return legal.clone();
        }
        let era = self.era_at(at);
        let emptying = era.emptying.filter(|(from, _)| *from < at);
        Legal {
            keys: era.keys.iter().map(|key| key.legal_at(at, loses)).collect(),
            or_empty: emptying.is_some(),
            or_no_store: emptying.is_some_and(|(_, formatting)| formatting),
        }
    }

    /// Returns what a restart without a crash may find of a key.
    pub(super) fn legal_now(&self, key: usize) -> LegalKey {
        self.key(key).legal_at(Step::MAX, &|_, _| false)
    }

    /// Explains why a restart without a crash must not have found this state of the key.
    pub(super) fn explain_restart(&self, key: usize) -> String {
        let mut before = self.clone();
        let last = before.eras.len() - 1;
        let states = &mut before.eras[last].keys[key];
        let found = states.states.pop().map_or(ABSENT, |state| state.version);
        states
            .durable
            .retain(|(_, state, _)| *state < states.states.len());
        before.explain(Step::MAX, key, found)
    }

    pub(super) fn era_at(&self, at: Step) -> &Era {
        let began = self.eras.partition_point(|era| era.from <= at);
        &self.eras[began.saturating_sub(1)]
    }

    /// Returns whether a crash at this step came before the store was opened.
    pub(super) fn is_inherited(&self, at: Step) -> bool {
        self.inherited
            .as_ref()
            .is_some_and(|(until, _)| at < *until)
    }

    /// Explains why a crash at this step must not have left this version of the key.
    pub(super) fn explain(&self, at: Step, key: usize, found: Version) -> String {
        let mut words = match found {
            ABSENT => format!("key {key} is missing: "),
            version => format!("key {key} is version {version}: "),
        };
        let key = &self.era_at(at).keys[key];
        match found {
            ABSENT => {
                key.explain_missing(at, &mut words);
                self.explain_owner(at, key, &mut words);
            }
            version => key.explain(at, version, &mut words),
        }
        words
    }

    /// Explains whether recovery may have mistaken a former owner of the key's slot for a later one.
    fn explain_owner(&self, at: Step, key: &Key, words: &mut String) {
        let (first, ..) = key.range_at(at);
        let entry = &key.states[first];
        for (other, states) in self.era_at(at).keys.iter().enumerate() {
            let mut states = states.states.iter();
            let former = states.find(|state| {
                let shares = state.slots.iter().any(|slot| entry.slots.contains(slot));
                shares && state.at <= entry.at && state.generation > entry.generation
            });
            if let Some(former) = former {
                let _ = write!(
                    words,
                    "; its generation {} is lower than {}, that of key {other} which had one of slots {:?} before",
                    entry.generation, former.generation, entry.slots
                );
            }
        }
    }
}

impl Key {
    /// Returns the first and the last state that a crash at this step may leave, and why none before the first.
    fn range_at(&self, at: Step) -> (usize, usize, Why) {
        let known = self.durable.iter().rev().find(|(from, ..)| *from <= at);
        let (first, why) = known.map_or((0, Why::Restart), |(_, state, why)| (*state, *why));
        let last = self.states.partition_point(|state| state.at < at);
        (first, last.saturating_sub(1).max(first), why)
    }

    fn legal_at(&self, at: Step, loses: Loses<'_>) -> LegalKey {
        let (first, last, _) = self.range_at(at);
        let mut legal = LegalKey::default();
        for (number, state) in self.states.iter().enumerate().take(last + 1).skip(first) {
            if !state.illegal {
                legal.versions.push(state.version);
            }
            if number > first && state.slots.iter().any(|slot| loses(*slot, state.at)) {
                legal.hollow.push(state.version);
            }
            let notified = state.notified.is_some_and(|notified| notified < at);
            let damaged = state.damaged.is_some_and(|damaged| damaged < at);
            if notified || damaged || number < last && self.is_reused(number, at) {
                legal.versions.push(ABSENT);
            }
        }
        legal.versions.sort_unstable();
        legal.versions.dedup();
        legal
    }

    /// Returns whether a slot of a state was reused before the change that freed it was durable, as reported by the
    /// store, and this was allowed.
    fn is_reused(&self, number: usize, at: Step) -> bool {
        let mut reuses = self.states[number].reuses.iter();
        let early = reuses.any(|reuse| reuse.early && reuse.at < at);
        early && !self.states[number + 1].each_batch
    }

    fn explain_missing(&self, at: Step, words: &mut String) {
        let (first, last, why) = self.range_at(at);
        let states = &self.states[first..=last];
        for state in states.iter().filter(|state| state.evicted) {
            let State { version, slots, .. } = state;
            let when = match state.notified {
                Some(step) => format!("at step {step}"),
                None => "never".into(),
            };
            let _ = write!(
                words,
                "version {version} in slots {slots:?} was evicted, and the observer notified {when}, not before the crash; "
            );
        }
        for two in states.windows(2) {
            let (former, next) = (&two[0], &two[1]);
            let Some(reuse) = former.reuses.iter().find(|reuse| reuse.at < at) else {
                continue;
            };
            let State { version, slots, .. } = former;
            let how = match (next.each_batch, reuse.early) {
                (true, _) => "which is acknowledged only when it is durable",
                (false, _) => "and the store did not report that as early",
            };
            let _ = write!(
                words,
                "one of slots {slots:?} of version {version} was used again at step {} before its change to version {} was durable, {how}; ",
                reuse.at, next.version
            );
        }
        let _ = write!(
            words,
            "version {} is durable because of {why}, later ones are {:?}",
            self.states[first].version,
            versions(&states[1..])
        );
    }

    fn explain(&self, at: Step, version: Version, words: &mut String) {
        let (first, last, why) = self.range_at(at);
        let known = self.states[first].version;
        match self
            .states
            .iter()
            .position(|state| state.version == version)
        {
            Some(number) if number < first => {
                let next = self.states[number + 1].version;
                let _ = write!(
                    words,
                    "it was changed to version {next}, and version {known} is durable because of {why}"
                );
            }
            Some(number) if number > last => {
                let _ = write!(
                    words,
                    "it was put at step {}, after the crash",
                    self.states[number].at
                );
            }
            _ => {
                let _ = write!(
                    words,
                    "it never was that, only {:?}",
                    versions(&self.states)
                );
            }
        }
    }
}

fn versions(states: &[State]) -> Vec<Version> {
    states.iter().map(|state| state.version).collect()
}

#[cfg(test)]
#[path = "legal_tests.rs"]
mod tests;
