//! What a run does with its store: one random operation at a time, and others inside it.
//!
//! An operation inside another must not need a lock that the outer one holds over its I/O: a commit
//! keeps other commits out, a checkpoint other checkpoints.

use rb_core::{Durability, Error, Put, PutMode, PutOptions, Stored};
use rb_io::OpKind;
use rb_testkit::{MemOp, Moment};

use super::oracle::{ABSENT, KEYS, Version};
use super::states::State;
use super::world::{Doing, Locked, World, name, number, value};

/// Operations inside operations, at most.
const NESTED_MAX: usize = 2;
/// What a device answers that cannot write a place.
const EIO: i32 = 5;

impl World {
    /// One random operation.
    pub(super) fn step(&self) {
        match self.random(100) {
            0..42 => self.put(5, true),
            42..53 => self.remove(4),
            53..66 => self.get(4),
            66..70 => self.lease(),
            70..73 => self.unlease(),
            73..81 => self.sync(),
            81..83 => {
                self.commit();
                self.discard();
            }
            83..86 => self.checkpoint(),
            86..91 => self.checkpoint_if_due(),
            91..93 => self.validate(),
            93..95 => match self.random(6) {
                0 => self.break_a_slot(),
                1 => self.fail_a_discard(),
                _ => self.fail_a_write(),
            },
            95 => self.damage_a_slot(),
            96..98 => self.reopen(true),
            98 => self.reopen(false),
            _ => match self.random(2) {
                0 => self.empty(),
                _ => self.format_again(),
            },
        }
        self.check_accounting();
    }

    /// One random operation that a device with faults may fail.
    pub(super) fn step_on_faulty_device(&self) {
        match self.random(10) {
            0..4 => self.put(5, true),
            4 => self.remove(4),
            5..7 => self.get(4),
            7 => self.sync(),
            8 => self.checkpoint(),
            _ => self.validate(),
        }
        self.check_accounting();
    }

    /// Perhaps runs another operation, now that requests are about to be executed or were.
    pub(super) fn intrude(&self, moment: Moment, ops: &[MemOp]) {
        let Some(places) = self.places() else { return };
        let doing = self.lock().doing.clone();
        let Some(last) = doing.last() else { return };
        let in_open = self.store().is_none();
        if in_open || doing.len() > NESTED_MAX || doing.contains(&Doing::Alone) {
            return;
        }
        if self.random(8) != 0 {
            return;
        }
        let in_commit = |op: &MemOp| {
            op.op == OpKind::Flush
                || places.log.contains(&op.offset)
                || places.incarnations.contains(&op.offset)
        };
        let committing = doing.contains(&Doing::Commit) || ops.iter().any(in_commit);
        let checkpointing = doing.contains(&Doing::Checkpoint);
        self.trace(|| format!("{moment:?} in {last:?} {}", ops.len()));
        match self.random(12) {
            // Whether the outer put or what runs now came first could not be told.
            _ if doing.contains(&Doing::PutDurably) && committing => {
                self.under(true, |world| world.get(2));
            }
            0..4 => {
                self.reach(State::PutInPut, *last == Doing::Put);
                self.reach(State::PutInCheckpoint, checkpointing);
                self.reach(State::PutInCommit, committing && !checkpointing);
                self.reach(State::PutInDiscard, *last == Doing::Discard);
                self.under(committing, |world| world.put(2, !committing));
            }
            4..6 => self.under(committing, |world| world.remove(2)),
            6..8 => self.under(committing, |world| world.get(2)),
            8 => self.lease(),
            9 if !committing => {
                self.reach(State::SyncInPut, *last == Doing::Put);
                self.sync();
            }
            10 | 11 if !committing && !checkpointing => {
                self.reach(State::CheckpointInPut, *last == Doing::Put);
                self.checkpoint();
            }
            _ if committing => self.unlease(),
            _ => self.discard(),
        }
    }

    /// Whatever runs inside a commit must know that it does.
    fn under(&self, committing: bool, work: impl FnOnce(&World)) {
        match committing {
            true => self.during(Doing::Commit, || work(self)),
            false => work(self),
        }
    }

    fn during<T>(&self, doing: Doing, work: impl FnOnce() -> T) -> T {
        self.lock().doing.push(doing);
        let answer = work();
        self.lock().doing.pop();
        answer
    }

    fn some_keys(&self, most: u64) -> Vec<usize> {
        let mut keys: Vec<usize> = (0..=self.random(most))
            .map(|_| self.random(KEYS as u64) as usize)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        // A batch's order is the order of use; any will do.
        let turn = self.random(keys.len() as u64) as usize;
        keys.rotate_left(turn);
        keys
    }

    pub(super) fn put(&self, most: u64, may_sync: bool) {
        let Some(store) = self.store() else { return };
        let keys = self.some_keys(most);
        let durably = may_sync && self.random(6) == 0;
        let keep = self.random(6) == 0;
        let first = {
            let mut inside = self.lock();
            let first = inside.next_version;
            inside.next_version += keys.len() as Version;
            first
        };
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        let values: Vec<_> = (first..)
            .zip(&keys)
            .map(|(v, key)| value(*key, v))
            .collect();
        let puts: Vec<_> = names
            .iter()
            .zip(&values)
            .map(|(k, v)| Put::new(k, v))
            .collect();
        let options = PutOptions {
            durability: durably.then_some(Durability::EachBatch),
            mode: if keep {
                PutMode::KeepExisting
            } else {
                PutMode::Replace
            },
            ..PutOptions::default()
        };
        let changes: Vec<_> = (first..)
            .zip(&keys)
            .map(|(version, key)| self.tell(|oracle| oracle.begin(*key, version, durably)))
            .collect();
        let doing = if durably {
            Doing::PutDurably
        } else {
            Doing::Put
        };
        let answers = self.during(doing, || match self.random(4) {
            0 => store.put_many_async(puts, options).wait(),
            _ => store.put_many(puts, options),
        });
        for (((key, version), change), answer) in
            keys.into_iter().zip(first..).zip(changes).zip(answers)
        {
            self.trace(|| {
                format!("put {key} v{version} durably {durably} keep {keep}: {answer:?}")
            });
            let stored = matches!(answer, Ok(Stored::Stored));
            let unsure = matches!(answer, Err(Error::Poisoned { .. }));
            self.tell(|oracle| {
                oracle.end(change, stored || unsure);
                if stored && durably {
                    oracle.synced_key(key, version);
                }
            });
            if let Err(error) = answer {
                self.judge("put", key, &error);
            }
        }
        self.census();
    }

    pub(super) fn remove(&self, most: u64) {
        let Some(store) = self.store() else { return };
        let keys = self.some_keys(most);
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        let asked: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
        let answers = self.during(Doing::Put, || store.remove_many(&asked));
        for (key, answer) in keys.into_iter().zip(answers) {
            self.trace(|| format!("remove {key}: {answer:?}"));
            match answer {
                Ok(_) => {
                    let leased = self.lock().locks.iter().any(|lock| lock.key == key);
                    self.reach(State::LeasedRemoved, leased);
                    self.tell(|oracle| {
                        let change = oracle.begin(key, ABSENT, false);
                        oracle.end(change, true);
                    });
                }
                Err(error) => self.judge("remove", key, &error),
            }
        }
    }

    pub(super) fn get(&self, most: u64) {
        let Some(store) = self.store() else { return };
        let keys = self.some_keys(most);
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        let asked: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
        self.tell(super::oracle::Oracle::open_window);
        let answers = self.during(Doing::Get, || match self.random(4) {
            0 => store.get_many_async(&asked).wait(),
            _ => store.get_many(&asked),
        });
        let window = self.tell(super::oracle::Oracle::close_window);
        for (key, answer) in keys.into_iter().zip(answers) {
            let found = match &answer {
                Ok(Some(value)) => self.identify(key, value, value.generation()),
                Ok(None) => Some(ABSENT),
                Err(error) => {
                    self.judge("get", key, error);
                    continue;
                }
            };
            let Some(version) = found else { continue };
            self.trace(|| format!("get {key}: v{version}"));
            if !self.tell(|oracle| oracle.observed(key, version, &window)) && !self.lock().faulty {
                let legal = &window.current[key];
                self.fail(format!(
                    "key {key} is version {version}, legal now {legal:?}"
                ));
            }
        }
    }

    /// The version of bytes that a get answered.
    pub(super) fn identify(&self, key: usize, bytes: &[u8], generation: u64) -> Option<Version> {
        let Some(version) = self.version_of(key, bytes) else {
            self.fail(format!("key {key} has bytes that were never put for it"));
            return None;
        };
        let steps = self.device.recorded();
        if !self.lock().oracle.owns(generation, key, version, steps) {
            self.fail(format!(
                "generation {generation} of key {key} version {version} was used before"
            ));
        }
        Some(version)
    }

    /// Notes the generation of every entry whose version is certain.
    fn census(&self) {
        let Some(store) = self.store() else { return };
        if self.lock().faulty {
            return;
        }
        let steps = self.device.recorded();
        let mut entries = Vec::new();
        store.for_each(|entry| {
            entries.push((entry.key, entry.generation));
            true
        });
        for (key, generation) in entries {
            let Some(key) = number(&key) else { continue };
            let mut inside = self.lock();
            if let [version] = inside.oracle.current(key)[..]
                && version != ABSENT
                && !inside.oracle.owns(generation, key, version, steps)
            {
                drop(inside);
                self.fail(format!(
                    "generation {generation} of key {key} was used before"
                ));
            }
        }
    }

    /// Whether an operation may answer this.
    fn judge(&self, what: &str, key: usize, error: &Error) {
        let full = matches!(error, Error::Busy { what, .. } if what.contains("delta log"));
        self.lock().log_was_full |= full;
        let legal = full
            || matches!(error, Error::NoSpace { .. })
            || (what == "put" && matches!(error, Error::Io(_)))
            || self.lock().faulty;
        if !legal {
            self.fail(format!("{what} of key {key} failed: {error}"));
        }
    }

    fn lease(&self) {
        let Some(store) = self.store() else { return };
        if self.lock().locks.len() >= 3 {
            return self.unlease();
        }
        let key = self.random(KEYS as u64) as usize;
        if let Some(lock) = store.lookup_and_lock(&[&name(key)]).pop().flatten() {
            self.trace(|| format!("lease {key}"));
            let mut inside = self.lock();
            let version = inside.oracle.current(key).clone();
            inside.locks.push(Locked {
                key,
                version,
                _lock: lock,
            });
        }
    }

    fn unlease(&self) {
        let lock = self.lock().locks.pop();
        drop(lock);
    }

    pub(super) fn sync(&self) {
        self.sync_as(Doing::Commit);
    }

    fn sync_as(&self, doing: Doing) {
        let Some(store) = self.store() else { return };
        self.tell(super::oracle::Oracle::open_window);
        let answer = self.during(doing, || store.sync());
        let window = self.tell(super::oracle::Oracle::close_window);
        self.trace(|| format!("sync: {answer:?}"));
        match answer {
            Ok(()) => {
                self.tell(|oracle| oracle.synced(window));
                self.lock().evicted = false;
            }
            Err(error) => self.judge("sync", 0, &error),
        }
    }

    pub(super) fn commit(&self) {
        let Some(store) = self.store() else { return };
        let answer = self.during(Doing::Commit, || store.step_commit());
        self.trace(|| format!("commit: {answer:?}"));
        answer.unwrap_or_else(|error| self.judge("commit", 0, &error));
    }

    pub(super) fn checkpoint(&self) {
        let Some(store) = self.store() else { return };
        let answer = self.during(Doing::Checkpoint, || store.checkpoint());
        self.trace(|| format!("checkpoint: {answer:?}"));
        answer.unwrap_or_else(|error| self.judge("checkpoint", 0, &error));
    }

    pub(super) fn checkpoint_if_due(&self) {
        let Some(store) = self.store() else { return };
        let answer = self.during(Doing::Checkpoint, || store.step_checkpoint());
        answer
            .map(drop)
            .unwrap_or_else(|error| self.judge("checkpoint", 0, &error));
    }

    /// Discards freed slots, where the run does that.
    fn discard(&self) {
        let Some(store) = self.store() else { return };
        if self.lock().doing.contains(&Doing::Discard) {
            return;
        }
        let answer = self.during(Doing::Discard, || store.step_discard());
        self.trace(|| format!("discard: {answer:?} {:?}", store.stats().discard));
        answer
            .map(drop)
            .unwrap_or_else(|error| self.judge("discard", 0, &error));
    }

    /// A discard fails, and may land all the same; what is put next may be where it lands.
    fn fail_a_discard(&self) {
        let Some(places) = self.places() else { return };
        let late = self.random(3) > 0;
        match late {
            true => self.device.late_discard(places.slots, EIO),
            false => self.device.fail_next(OpKind::Discard, places.slots, EIO),
        }
        let failures = || {
            let store = self.store();
            store.map_or(0, |store| store.stats().discard.failures)
        };
        let before = failures();
        self.remove(4);
        self.commit();
        self.discard();
        self.reach(State::LateDiscard, late && failures() > before);
        self.put(5, true);
        self.sync();
        self.device.heal();
    }

    fn validate(&self) {
        let Some(store) = self.store() else { return };
        let answer = self.during(Doing::Alone, || store.step_validate(4));
        answer
            .map(drop)
            .unwrap_or_else(|error| self.judge("validation", 0, &error));
    }

    /// The next write of a slot fails; it may land all the same.
    fn fail_a_write(&self) {
        let Some(places) = self.places() else { return };
        let times = 1 + self.random(3) as u32;
        match self.random(2) {
            0 => self.device.late_next(places.slots, EIO),
            _ => self
                .device
                .fail_times(OpKind::Write, places.slots, EIO, times),
        }
        self.put(3, false);
        let late = self.device.late_writes() > 0;
        self.reach(State::LateWrite, late);
    }

    /// A slot fails every write, until it is given up or the run has had enough.
    fn break_a_slot(&self) {
        let Some(store) = self.store() else { return };
        let slots = u64::from(store.geometry().slots());
        let Some(offset) = store.geometry().slot_offset(self.random(slots) as u32) else {
            return;
        };
        let bad = || {
            store
                .stats()
                .index
                .classes
                .iter()
                .map(|class| class.bad)
                .sum::<u64>()
        };
        let before = bad();
        self.device
            .fail_always(OpKind::Write, offset..offset + 1, EIO);
        for _ in 0..24 {
            self.put(3, false);
            self.sync();
            if bad() > before {
                break;
            }
        }
        self.device.heal();
    }

    /// One byte of an entry rots on the medium.
    fn damage_a_slot(&self) {
        let Some(store) = self.store() else { return };
        // What is still in the cache would be written again, whole. A put inside this sync would leave
        // its value there.
        self.sync_as(Doing::Alone);
        let mut entries = Vec::new();
        store.for_each(|entry| {
            // Of those that must be there: what rots at the same byte a second time is whole again.
            let sound = |key: &usize| self.tell(|oracle| !oracle.current(*key).contains(&ABSENT));
            if let Some(key) = number(&entry.key).filter(sound) {
                entries.push((key, entry.slot, entry.len));
            }
            true
        });
        if entries.is_empty() {
            return;
        }
        let (key, slot, len) = entries.swap_remove(self.random(entries.len() as u64) as usize);
        let Some(offset) = store.geometry().payload_offset(slot) else {
            return;
        };
        let at = offset + self.random(u64::from(len));
        self.trace(|| format!("rot in {key}"));
        self.tell(|oracle| oracle.damaged(key));
        self.device.corrupt(at..at + 1);
        self.lock().rotten = true;
        self.reach(State::SlotRot, true);
        self.get_one(key);
    }

    fn get_one(&self, key: usize) {
        let Some(store) = self.store() else { return };
        match self.during(Doing::Alone, || store.get(&name(key))) {
            Ok(Some(_)) => self.fail(format!("key {key} was served, and its bytes are rotten")),
            Ok(None) => {}
            Err(error) => self.judge("get", key, &error),
        }
    }

    /// Closes the store, or drops it, and opens it again. No crash, so nothing may be missing.
    fn reopen(&self, close: bool) {
        let Some(store) = self.store() else { return };
        self.tell(super::oracle::Oracle::open_window);
        let closed = match close {
            true => store.close(),
            false => Ok(()),
        };
        drop(store);
        self.shut();
        self.trace(|| format!("close {close}: {closed:?}"));
        let window = self.tell(super::oracle::Oracle::close_window);
        match closed {
            Ok(()) => self.tell(|oracle| oracle.synced(window)),
            Err(error) => return self.fail(format!("close failed: {error}")),
        }
        self.tell(super::oracle::Oracle::reopened);
        match self.open(|_| {}) {
            Ok(()) => self.check_recovery(close),
            Err(why) => self.fail(format!("reopening: {why}")),
        }
    }

    fn check_recovery(&self, closed: bool) {
        let Some(store) = self.store() else { return };
        let report = store.recovery();
        if let Some(lost) = &report.lost_metadata {
            self.fail(format!("metadata lost without a crash: {lost}"));
        }
        if closed && !report.clean {
            self.fail("a store that was closed is not clean".into());
        }
    }

    /// Opens the store anew, empty.
    fn empty(&self) {
        self.shut();
        self.tell(|oracle| oracle.begin_emptying(false));
        self.trace(|| "empty".into());
        match self.open(|options| options.start_empty = true) {
            Ok(()) => self.tell(super::oracle::Oracle::emptied),
            Err(why) => self.fail(format!("starting empty: {why}")),
        }
    }

    /// Formats the device again, with the old store on it.
    fn format_again(&self) {
        self.shut();
        self.tell(|oracle| oracle.begin_emptying(true));
        self.trace(|| "format".into());
        if let Err(why) = self.format() {
            return self.fail(format!("formatting again: {why}"));
        }
        self.tell(super::oracle::Oracle::emptied);
        if let Err(why) = self.open(|_| {}) {
            self.fail(format!("opening after a format: {why}"));
        }
    }

    fn check_accounting(&self) {
        if let Some(store) = self.store()
            && let Err(why) = store.audit()
        {
            self.fail(format!("accounting: {why}"));
        }
    }
}
