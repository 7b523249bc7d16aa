//! One execution: a store over a prepared device, its operations, and the oracle that the store's hooks update.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rb_core::{
    Change, Durability, Error, Event, Events, HeldLock, Put, PutMode, PutOptions, PutOutcome,
    Simulator, SlotId, Store, SwitchPoint,
};
use rb_io::OpKind;
use rb_testkit::{MemOp, Moment};

use super::config::{Config, KEYS, Operation, SLOTS};
use super::fiber;
use super::oracle::Oracle;
use super::order::is_visible;
use super::running::Running;
use super::values::{all_slots, initial_version, name, number, value, version_of};
use crate::schedule::{Place, Wait};

/// The hooks of the store, and the knowledge gained from them.
pub(super) struct World {
    inside: Mutex<Inside>,
}

pub(super) struct Inside {
    pub(super) oracle: Oracle,
    pub(super) operations: Vec<Running>,
    /// True if the policy refuses what it would have to evict for.
    refuses: bool,
    /// Number of the running operation.
    pub(super) current: Option<usize>,
    /// True if operations no longer stop: the execution is only brought to its end.
    pub(super) ending: bool,
    pub(super) violation: Option<String>,
    /// Descriptions of the steps, if requested.
    pub(super) trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(config: &Config, trace: bool) -> Arc<World> {
        let running = |operation: &Operation| Running {
            operation: *operation,
            began: false,
            ended: false,
            place: None,
            passed: None,
            stops: 0,
            flushes: false,
            has_slot: false,
            made: None,
            since: [0; KEYS],
            acknowledged: [0; KEYS],
            observed: 0,
        };
        Arc::new(World {
            inside: Mutex::new(Inside {
                oracle: Oracle::new([const { None }; KEYS]),
                operations: config.operations.iter().map(running).collect(),
                refuses: config.refuses,
                current: None,
                ending: false,
                violation: None,
                trace: trace.then(Vec::new),
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inside> {
        // A panic of an operation is a violation, reported elsewhere.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the entries of the store after it was opened.
    pub(super) fn opened(&self, store: &Store) {
        let mut found = [const { None }; KEYS];
        store.for_each(|entry| {
            let key = number(&entry.key);
            found[key] = Some((initial_version(key), entry.generation, all_slots(&entry)));
            true
        });
        self.lock().oracle = Oracle::new(found);
    }

    pub(super) fn fail(&self, words: String) {
        self.trace(|| format!("VIOLATION {words}"));
        self.lock().violation.get_or_insert(words);
    }

    fn check<T>(&self, outcome: Result<T, String>) -> Option<T> {
        outcome.map_err(|words| self.fail(words)).ok()
    }

    pub(super) fn trace(&self, words: impl FnOnce() -> String) {
        let mut inside = self.lock();
        let operation = inside.current;
        if let Some(trace) = &mut inside.trace {
            let who = operation.map_or(String::new(), |operation| format!("#{operation}"));
            trace.push(format!("{who:>4} {}", words()));
        }
    }

    /// Runs an operation of an execution.
    pub(super) fn operate(&self, at: usize, store: &Store) {
        let operation = {
            let mut inside = self.lock();
            let (since, acknowledged) = (inside.oracle.last(), inside.oracle.acknowledged());
            let running = &mut inside.operations[at];
            running.began = true;
            // Only what it will need, because it becomes part of the state.
            match running.operation {
                Operation::Sync => running.acknowledged = acknowledged,
                Operation::Put { .. } => running.since = since,
                _ => {}
            }
            running.operation
        };
        self.trace(|| format!("{operation} begins"));
        match operation {
            Operation::Put {
                key,
                keeps,
                each_batch,
                large: _,
            } => {
                let options = PutOptions {
                    mode: match keeps {
                        true => PutMode::KeepExisting,
                        false => PutMode::Replace,
                    },
                    durability: Some(match each_batch {
                        true => Durability::EachBatch,
                        false => Durability::Interval,
                    }),
                    ..PutOptions::default()
                };
                let bytes = value(version_of(operation, at));
                let answer = store
                    .put_many(vec![Put::new(&name(key), &bytes)], options)
                    .pop();
                self.trace(|| format!("{operation} ends: {answer:?}"));
                self.put_answered(at, key, each_batch, &answer.unwrap_or(Err(Error::Closed)));
            }
            Operation::Remove { key, each_batch } => {
                let answer = store.remove(&name(key));
                self.trace(|| format!("{operation} ends: {answer:?}"));
                self.remove_answered(at, key, each_batch, answer);
            }
            Operation::Sync => {
                let answer = store.sync();
                self.trace(|| format!("sync ends: {answer:?}"));
                let covered = self.lock().operations[at].acknowledged;
                self.committed(answer, covered);
            }
            Operation::Checkpoint => {
                let answer = store.checkpoint();
                self.trace(|| format!("checkpoint ends: {answer:?}"));
                self.committed(answer, [0; KEYS]);
            }
            Operation::Close => {
                let answer = store.close();
                self.trace(|| format!("close ends: {answer:?}"));
                // It has waited for all others.
                let covered = self.lock().oracle.acknowledged();
                self.committed(answer, covered);
            }
        }
        self.lock().operations[at].ended = true;
    }

    fn remove_answered(
        &self,
        at: usize,
        key: usize,
        each_batch: bool,
        answer: Result<Option<u32>, Error>,
    ) {
        let mut inside = self.lock();
        let Running {
            made, operation, ..
        } = inside.operations[at];
        match (answer, made) {
            (Ok(_), Some(made)) => inside.oracle.answered(key, made, each_batch),
            (Err(Error::Closed), None) => {}
            (answer, made) => {
                drop(inside);
                self.fail(format!("{operation} made {made:?} and returned {answer:?}"));
            }
        }
    }

    fn put_answered(
        &self,
        at: usize,
        key: usize,
        each_batch: bool,
        answer: &Result<PutOutcome, Error>,
    ) {
        let mut inside = self.lock();
        let Running {
            made,
            since,
            operation,
            ..
        } = inside.operations[at];
        let (since, keeps) = (since[key], operation.keeps());
        let begun = inside.operations.iter().filter(|running| running.began);
        let wanted: u64 = begun.map(|running| running.operation.slots()).sum();
        let wrong = match (answer, made) {
            (Ok(PutOutcome::Inserted | PutOutcome::Replaced { .. }), Some(made)) => {
                inside.oracle.answered(key, made, each_batch);
                false
            }
            (Ok(PutOutcome::Existed), None) => {
                let existing = inside.oracle.first_value(key, since);
                if let (Some(existing), true) = (existing, each_batch) {
                    inside.oracle.refers_to(key, existing);
                }
                existing.is_none()
            }
            (Ok(PutOutcome::Superseded), None) => {
                let later = since + 1;
                if each_batch {
                    inside.oracle.refers_to(key, later);
                }
                later > inside.oracle.last()[key]
            }
            // Nothing of the key is there, and nothing returns.
            (Ok(PutOutcome::NotAdmitted), Some(removed)) => {
                inside.oracle.answered(key, removed, each_batch);
                !inside.refuses || keeps
            }
            (Ok(PutOutcome::NotAdmitted), None) => {
                let overtaken = match keeps {
                    true => Some(since),
                    false => inside.oracle.first_value(key, since + 1),
                };
                if let (Some(newer), true) = (overtaken, each_batch && !keeps) {
                    inside.oracle.refers_to(key, newer);
                }
                let was_absent = inside.oracle.was_absent(key, since);
                !inside.refuses || overtaken.is_none() || !was_absent
            }
            // Others have reserved what it needs.
            (Err(Error::NoSpace { .. }), None) => wanted <= SLOTS,
            (Err(Error::Closed), None) => false,
            _ => true,
        };
        drop(inside);
        if wrong {
            self.fail(format!("a put made state {made:?} and returned {answer:?}"));
        }
    }

    fn committed(&self, answer: Result<(), Error>, covered: [usize; KEYS]) {
        match answer {
            Ok(()) => self.lock().oracle.durable(covered),
            Err(Error::Closed) => {}
            Err(why) => self.fail(format!("a commit failed: {why}")),
        }
    }

    /// The running operation stands at a place, and may be suspended there.
    fn reach(&self, place: Place) {
        {
            let mut inside = self.lock();
            let Some(current) = inside.current else {
                return;
            };
            let (ending, refuses) = (inside.ending, inside.refuses);
            let running = &mut inside.operations[current];
            if let Place::At(point) = place {
                running.passed = Some(point);
            }
            let waits = matches!(place, Place::Waits(_));
            if !waits && (ending || !is_visible(running.operation, place, refuses)) {
                return;
            }
            // A wait is not progress.
            running.stops += u32::from(!waits);
            running.place = Some(place);
        }
        if fiber::is_inside() {
            fiber::stop(place);
        }
    }

    /// Passes a change to the oracle, with the operation that made it.
    fn changed_by(
        &self,
        change: impl FnOnce(&mut Oracle, Operation) -> Result<Option<usize>, String>,
    ) {
        let outcome = {
            let inside = &mut *self.lock();
            let Some(current) = inside.current else {
                return;
            };
            let running = &mut inside.operations[current];
            let made = change(&mut inside.oracle, running.operation);
            made.map(|made| running.made = made.or(running.made))
        };
        self.check(outcome);
    }
}

impl Simulator for World {
    fn switch(&self, point: SwitchPoint) {
        self.reach(Place::At(point));
    }

    fn blocked(&self, lock: HeldLock) {
        assert!(
            fiber::is_inside(),
            "{lock:?} is held, and no operation runs that has it"
        );
        self.reach(Place::Waits(Wait::Lock(lock)));
    }

    fn changed(&self, change: &Change<'_>) {
        self.trace(|| format!("  {change:?}"));
        let current = {
            let inside = &mut *self.lock();
            let running = inside.current.and_then(|at| inside.operations.get_mut(at));
            if let Some(running) = running {
                running.observe(words(change));
                // A put of two slots may give one back and try again.
                let takes_one = running.operation.slots() == 1;
                running.has_slot |= takes_one && matches!(change, Change::Taken { .. });
            }
            inside.current
        };
        self.changed_by(|oracle, operation| match *change {
            Change::Put {
                key,
                generation,
                slots,
            } => {
                let version = version_of(operation, current.unwrap_or_default());
                let each_batch = operation.is_each_batch();
                let made = oracle.put(
                    number(key),
                    version,
                    generation,
                    &numbers(slots),
                    each_batch,
                );
                made.map(Some)
            }
            Change::Removed { key, generation } => {
                let (key, each_batch) = (number(key), operation.is_each_batch());
                if matches!(operation, Operation::Put { .. }) && oracle.has_value(key) {
                    return Err(format!("a refused put removes the value of key {key}"));
                }
                oracle.removed(key, generation, each_batch).map(Some)
            }
            Change::Evicted {
                key,
                generation,
                slots,
            } => {
                let evicted = oracle.evicted(number(key), generation, &numbers(slots));
                evicted.map(|()| None)
            }
            Change::Taken { slot, early } => oracle.taken(slot, early).map(|()| None),
            Change::Dropped { key, generation } => Err(format!(
                "generation {generation} of key {} was dropped, and its bytes must be there",
                number(key)
            )),
            _ => Ok(None),
        });
    }
}

fn numbers(slots: &[SlotId]) -> Vec<u32> {
    slots.iter().map(|slot| slot.0).collect()
}

/// Returns the parts of a change for a hash.
fn words(change: &Change<'_>) -> (u8, Option<usize>, u64, Vec<u32>) {
    match *change {
        Change::Put {
            key,
            generation,
            slots,
        } => (0, Some(number(key)), generation, numbers(slots)),
        Change::Removed { key, generation } => (1, Some(number(key)), generation, Vec::new()),
        Change::Evicted {
            key,
            generation,
            slots,
        } => (2, Some(number(key)), generation, numbers(slots)),
        Change::Dropped { key, generation } => (3, Some(number(key)), generation, Vec::new()),
        Change::Taken { slot, early } => (4, None, u64::from(early), vec![slot]),
        _ => (5, None, 0, Vec::new()),
    }
}

impl Events for World {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Evicted {
                key, generation, ..
            } => {
                self.trace(|| format!("  the observer is notified: {event:?}"));
                let key = number(key);
                let outcome = self.lock().oracle.notified(key, generation);
                self.check(outcome);
            }
            _ => self.fail(format!("{event:?}")),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    /// The device executes requests of the running operation.
    pub(super) fn device(&self, moment: Moment, requests: &[MemOp]) {
        // Reads are of blocks that are not written while the store is open.
        if requests.iter().any(|request| request.op != OpKind::Read) {
            {
                let inside = &mut *self.lock();
                if let Some(running) = inside.current.and_then(|at| inside.operations.get_mut(at)) {
                    running.flushes = requests.iter().any(|request| request.op == OpKind::Flush);
                }
            }
            self.reach(Place::Device(moment));
        }
    }
}
