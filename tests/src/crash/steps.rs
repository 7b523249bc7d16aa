//! Operations of a run, which may begin within each other, and the checks of their results.

use std::time::Duration;

use rb_core::{Error, Operation, Value};

use super::history::Why;
use super::oracle::Since;
use super::pairs::Kind;
use super::states::State;
use super::values::{name, version_of};
use super::version::{ABSENT, KEYS, Version};
use super::world::{Held, Locked, World, Writing};
use crate::schedule::Wait;

/// Maximum number of leases that a run holds at the same time.
const LOCKS_MAX: usize = 4;

impl World {
    /// Returns whether an operation of this kind has work to do now.
    pub(super) fn can(&self, kind: Kind) -> bool {
        let inside = self.lock();
        match kind {
            Kind::Unlease => !inside.locks.is_empty(),
            Kind::Validate => inside.validates,
            Kind::Discard => self.discards(),
            _ => true,
        }
    }

    /// Runs one operation.
    pub(super) fn operate(&self, kind: Kind) {
        match kind {
            Kind::Put => self.put_with(5, false, false),
            Kind::PutEachBatch => self.put_with(5, true, self.random(3) == 0),
            Kind::PutKeep => self.put_with(5, false, true),
            Kind::Remove => self.remove(4),
            Kind::Get => self.get(4),
            Kind::Lease => self.lease(),
            Kind::Unlease => self.unlease(),
            Kind::Sync => self.sync(),
            Kind::Commit => self.commit(),
            Kind::Checkpoint => self.checkpoint(),
            Kind::Validate => self.validate(),
            Kind::Scrub => self.scrub(),
            Kind::Discard => self.discard(),
            Kind::Close => self.close(),
            Kind::Alone => self.alone(),
        }
    }

    pub(super) fn some_keys(&self, most: u64) -> Vec<usize> {
        let mut keys: Vec<usize> = (0..=self.random(most))
            .map(|_| self.random(KEYS as u64) as usize)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        // The order of a batch is the order of use; any order will do.
        let turn = self.random(keys.len() as u64) as usize;
        keys.rotate_left(turn);
        keys
    }

    /// Waits for an async operation by switching: other operations run in the meantime.
    pub(super) fn wait<T>(&self, operation: Operation<T>) -> T {
        self.baton.wait_until(Wait::Answer, || operation.is_done());
        operation.wait()
    }

    /// Records that an operation is about to change these keys.
    pub(super) fn begin(
        &self,
        keys: &[usize],
        writings: impl Iterator<Item = Writing>,
    ) -> Vec<Since> {
        let current = self.baton.current();
        let mut inside = self.lock();
        for (key, writing) in keys.iter().zip(writings) {
            inside.writes.insert((current, *key), writing);
        }
        inside.oracle.since(keys)
    }

    /// Ends the change of a key, and returns what the operation made of it.
    pub(super) fn end(&self, key: usize) -> Option<Writing> {
        let current = self.baton.current();
        self.lock().writes.remove(&(current, key))
    }

    pub(super) fn remove(&self, most: u64) {
        let Some(Held { store, opening }) = self.held() else {
            return;
        };
        let keys = self.some_keys(most);
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        let asked: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
        let writing = Writing {
            version: ABSENT,
            each_batch: self.removes_each_batch(),
            made: None,
            was_there: false,
        };
        self.begin(&keys, std::iter::repeat(writing));
        self.trace(|| format!("remove {keys:?}"));
        let answers = store.remove_many(&asked);
        self.trace(|| format!("remove {keys:?}: {answers:?}"));
        for (key, answer) in keys.into_iter().zip(answers) {
            let Some(Writing {
                each_batch,
                made,
                was_there,
                ..
            }) = self.end(key)
            else {
                continue;
            };
            match (answer, made) {
                (Ok(there), Some(state)) => {
                    let leased = |several: bool| {
                        let is_it =
                            |lock: &Locked| lock.key == key && (!several || lock.slots.len() > 1);
                        self.lock().locks.iter().any(is_it)
                    };
                    self.reach(State::LeasedRemoved, leased(false));
                    self.reach(State::SeveralLeasedRemoved, leased(true));
                    self.record(|oracle, now| {
                        oracle.answered(key, state);
                        if each_batch {
                            oracle.durable(key, state, now, Why::Answered);
                        }
                    });
                    if there.is_some() && !was_there {
                        self.check::<()>(Err(format!("key {key} was removed, and was not there")));
                    }
                }
                (Ok(_), None) => {
                    self.fail(format!(
                        "the remove of key {key} was acknowledged and did nothing"
                    ));
                }
                (Err(error), _) => self.judge("remove", key, &error, opening),
            }
        }
    }

    pub(super) fn get(&self, most: u64) {
        let keys = self.some_keys(most);
        drop(self.get_keys(&keys));
    }

    /// Gets keys; returns the version of each result.
    pub(super) fn get_keys(&self, keys: &[usize]) -> Vec<Option<Version>> {
        let Some(Held { store, opening }) = self.held() else {
            return Vec::new();
        };
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        let asked: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
        let since = self.lock().oracle.since(keys);
        self.trace(|| format!("get {keys:?}"));
        let answers = match self.random(4) {
            0 => self.wait(store.get_many_async(&asked)),
            _ => store.get_many(&asked),
        };
        let mut found = Vec::new();
        for ((key, since), answer) in keys.iter().zip(since).zip(answers) {
            let version = match answer {
                Ok(Some(value)) => self.identify(*key, since, &value),
                Ok(None) => {
                    self.record(|oracle, _| oracle.missed(*key, since));
                    Some(ABSENT)
                }
                Err(error) => {
                    self.judge("get", *key, &error, opening);
                    None
                }
            };
            self.trace(|| format!("get {key}: {version:?}"));
            found.push(version);
        }
        found
    }

    /// Returns the version of a value that a get returned.
    fn identify(&self, key: usize, since: Since, value: &Value) -> Option<Version> {
        let (generation, next) = (value.generation(), self.lock().next_version);
        let Some(version) = version_of(key, value, next) else {
            self.fail(format!("key {key} has bytes that were never put for it"));
            return None;
        };
        let was = self.lock().oracle.was(key, since, version, generation);
        if !was {
            self.check::<()>(Err(format!(
                "key {key} is version {version} of generation {generation}, which it was not at any time since"
            )));
        }
        Some(version)
    }

    /// Checks whether an operation may return this error.
    pub(super) fn judge(&self, what: &str, key: usize, error: &Error, opening: u64) {
        let full = matches!(error, Error::Busy { what, .. } if what.contains("delta log"));
        let legal = {
            let mut inside = self.lock();
            inside.log_was_full |= full;
            let closed = inside.closing || inside.opening != opening;
            full || inside.faulty
                || matches!(error, Error::NoSpace { .. })
                || (what == "put" && matches!(error, Error::Io(_)))
                || (closed && matches!(error, Error::Closed))
        };
        if !legal {
            self.fail(format!("{what} of key {key} failed: {error}"));
        }
    }

    /// Returns a key, mostly one that has a value.
    fn a_key(&self) -> usize {
        let first = self.random(KEYS as u64) as usize;
        let all = (0..KEYS).map(|at| (first + at) % KEYS);
        let mut there = all.filter(|key| self.lock().oracle.live(*key).is_some());
        match self.random(4) {
            0 => first,
            _ => there.next().unwrap_or(first),
        }
    }

    pub(super) fn lease(&self) {
        let Some(Held { store, opening }) = self.held() else {
            return;
        };
        let key = self.a_key();
        let since = self.lock().oracle.since(&[key])[0];
        let lock = store.lookup_and_pin(&[&name(key)]).pop().flatten();
        let Some(lock) = lock else {
            return self.record(|oracle, _| oracle.missed(key, since));
        };
        self.trace(|| format!("lease {key}"));
        let mut inside = self.lock();
        let live = inside
            .oracle
            .live(key)
            .map(|state| (state.generation, state.slots.clone()));
        let is_there = live.is_some();
        let superfluous = match live {
            Some((generation, slots)) if inside.opening == opening && !inside.closing => {
                inside.locks.push(Locked {
                    key,
                    generation,
                    slots,
                    pin: lock,
                });
                let full = inside.locks.len() > LOCKS_MAX;
                full.then(|| inside.locks.remove(0).pin)
            }
            _ => Some(lock),
        };
        drop(inside);
        drop(superfluous);
        if !is_there {
            self.check::<()>(Err(format!("key {key} was leased, and is not there")));
        }
    }

    fn unlease(&self) {
        let count = self.lock().locks.len() as u64;
        if count > 0 {
            let at = self.random(count) as usize;
            let lock = self.lock().locks.swap_remove(at);
            self.trace(|| format!("unlease {}", lock.key));
            drop(lock);
        }
    }

    pub(super) fn sync(&self) {
        let Some(Held { store, opening }) = self.held() else {
            return;
        };
        let acknowledged = self.lock().oracle.acknowledged();
        self.trace(|| "sync".into());
        let answer = match self.random(4) {
            0 => self.wait(store.sync_async()),
            _ => store.sync(),
        };
        self.trace(|| format!("sync: {answer:?}"));
        match answer {
            Ok(()) => self.are_durable(&acknowledged, Why::Sync),
            Err(error) => self.judge("sync", 0, &error, opening),
        }
    }

    /// Records that these states of the keys are durable.
    pub(super) fn are_durable(&self, states: &[usize], why: Why) {
        self.record(|oracle, now| {
            for (key, state) in states.iter().enumerate() {
                oracle.durable(key, *state, now, why);
            }
        });
        self.lock().evicted = false;
    }

    pub(super) fn commit(&self) {
        self.step("commit", |held| held.store.step_commit());
    }

    pub(super) fn checkpoint(&self) {
        self.step("checkpoint", |held| held.store.checkpoint());
    }

    pub(super) fn checkpoint_if_due(&self) {
        self.step("checkpoint if due", |held| {
            held.store.step_checkpoint().map(drop)
        });
    }

    /// Discards freed slots, if the run uses discards.
    pub(super) fn discard(&self) {
        self.step("discard", |held| held.store.step_discard().map(drop));
    }

    fn validate(&self) {
        self.step("validate", |Held { store, opening }| {
            let more = store.step_validate(1)?;
            let mut inside = self.lock();
            if inside.opening == *opening {
                inside.validates = more;
            }
            Ok(())
        });
    }

    fn scrub(&self) {
        // A new pass may begin.
        self.clock.advance(Duration::from_secs(2));
        self.step("scrub", |held| held.store.step_scrub(4).map(drop));
    }

    fn step(&self, what: &str, step: impl FnOnce(&Held) -> Result<(), Error>) {
        let Some(held) = self.held() else { return };
        self.trace(|| what.to_owned());
        let answer = step(&held);
        self.trace(|| format!("{what}: {answer:?}"));
        if let Err(error) = answer {
            self.judge(what, 0, &error, held.opening);
        }
    }

    /// Checks the accounting, and every miss that must be explained once no operation is under way.
    pub(super) fn settle(&self) {
        self.lock().given.clear();
        let settled = self.record(|oracle, _| oracle.settle());
        self.check(settled);
        if let Some(store) = self.store()
            && let Err(why) = store.audit()
        {
            self.fail(format!("accounting: {why}"));
        }
    }
}
