//! One thread of a session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use rb_core::{
    Durability, EntryInfo, Error, Lookup, Operation, Put, PutMode, PutOptions, PutOutcome,
    PutResult, Store,
};
use rb_testkit::values::next_number;

use super::event::{Answer, Event, What};
use super::journal::Journal;
use super::plan::{Numbers, Plan};
use super::read::{answers, read, refusal, slices};
use super::shape::Key;
use crate::marked::{bytes_of, payload};
use crate::tally::words;

/// Maximum number of async operations of a thread that are under way at the same time.
const WAITING: usize = 3;

pub(super) struct Worker {
    plan: Arc<Plan>,
    store: Store,
    journal: Arc<Journal>,
    numbers: Arc<Numbers>,
    number: u64,
    state: u64,
    next_op: u64,
    /// Operations that were started and not waited for, the oldest first.
    waiting: Vec<(u64, Started)>,
}

enum Started {
    Put(Operation<Vec<PutResult>>),
    Get(Vec<Key>, Operation<Vec<Lookup>>),
    Sync(Operation<Result<(), Error>>),
}

type Outcome = Result<(), String>;

impl Worker {
    pub(super) fn new(
        plan: &Arc<Plan>,
        store: &Store,
        journal: &Arc<Journal>,
        numbers: &Arc<Numbers>,
        number: u64,
    ) -> Worker {
        Worker {
            plan: Arc::clone(plan),
            store: store.clone(),
            journal: Arc::clone(journal),
            numbers: Arc::clone(numbers),
            number,
            state: plan.session.seed ^ number << 32,
            next_op: (number + 1) << 32,
            waiting: Vec::new(),
        }
    }

    /// Works until the time is over or a violation is found.
    pub(super) fn run(&mut self, until: Instant) -> Outcome {
        while Instant::now() < until && !self.journal.is_wrong() {
            self.step()?;
            if self.waiting.len() > WAITING {
                let (op, oldest) = self.waiting.remove(0);
                self.wait(op, oldest)?;
            }
        }
        self.wait_all()
    }

    fn random(&mut self, below: u64) -> u64 {
        next_number(&mut self.state) % below
    }

    fn own_key(&mut self) -> Key {
        let (threads, own) = (self.plan.session.threads, self.plan.image.own);
        let mine = (own - self.number).div_ceil(threads);
        self.random(mine) * threads + self.number
    }

    /// Returns keys of any thread.
    fn any_keys(&mut self) -> Vec<Key> {
        let count = 1 + self.random(self.plan.session.batch);
        let keys: BTreeSet<Key> = (0..count)
            .map(|_| self.random(self.plan.image.keys()))
            .collect();
        keys.into_iter().collect()
    }

    /// Returns keys that it may change: its own, and some shared ones.
    fn some_keys(&mut self) -> Vec<Key> {
        let count = 1 + self.random(self.plan.session.batch);
        let keys: BTreeSet<Key> = (0..count)
            .map(|_| match self.random(5) {
                0 => self.plan.image.own + self.random(self.plan.image.shared),
                _ => self.own_key(),
            })
            .collect();
        keys.into_iter().collect()
    }

    fn names(&self, keys: &[Key]) -> Vec<Vec<u8>> {
        keys.iter().map(|&key| self.plan.image.name(key)).collect()
    }

    fn begin(&mut self, what: What) -> u64 {
        let op = self.next_op;
        self.next_op += 1;
        self.journal.record(&Event::Begin { op, what });
        op
    }

    fn end(&self, op: u64, answers: Vec<Answer>) {
        self.journal.record(&Event::End { op, answers });
    }

    fn step(&mut self) -> Outcome {
        let session = &self.plan.session;
        let bounds = [
            session.removes,
            session.locks,
            session.syncs,
            session.checkpoints,
        ];
        let mut at = self.random(100);
        for (kind, share) in bounds.into_iter().enumerate() {
            if at < share {
                return match kind {
                    0 => {
                        let keys = self.some_keys();
                        self.remove(&keys)
                    }
                    1 => self.lock(),
                    2 => self.sync(),
                    _ => self.checkpoint(),
                };
            }
            at -= share;
        }
        match self.random(8) {
            0..5 => {
                let keys = self.some_keys();
                self.put(&keys)
            }
            5 | 6 => self.get(),
            _ => self.look(),
        }
    }

    fn put(&mut self, keys: &[Key]) -> Outcome {
        let mut keys = keys.to_vec();
        if self.random(16) == 0 {
            // The same key twice in a batch.
            keys.push(keys[0]);
        }
        let first = self.numbers.versions(keys.len());
        let puts: Vec<(Key, u64)> = keys.iter().copied().zip(first..).collect();
        let values: Vec<_> = puts
            .iter()
            .map(|&(key, version)| bytes_of(key, version, self.plan.image.value_len(key, version)))
            .collect();
        let names = self.names(&keys);
        let in_own_memory = self.random(3) == 0;
        let batch: Vec<Put<'_>> = names
            .iter()
            .zip(&values)
            .map(|(key, bytes)| Put {
                payload: payload(&self.store, bytes, in_own_memory),
                ..Put::new(key, &[])
            })
            .collect();
        let keeps = self.random(5) == 0;
        let durable = self.plan.session.each_batch || self.random(12) == 0;
        let options = PutOptions {
            mode: match keeps {
                true => PutMode::KeepExisting,
                false => PutMode::Replace,
            },
            durability: durable.then_some(Durability::EachBatch),
            ..PutOptions::default()
        };
        let is_async = self.random(3) == 0;
        let op = self.begin(What::Put {
            keeps,
            durable,
            puts,
        });
        if is_async {
            let started = self.store.put_many_async(batch, options);
            self.waiting.push((op, Started::Put(started)));
            return Ok(());
        }
        let answers = put_answers(self.store.put_many(batch, options))?;
        self.end(op, answers);
        Ok(())
    }

    fn remove(&mut self, keys: &[Key]) -> Outcome {
        let names = self.names(keys);
        let op = self.begin(What::Remove {
            durable: self.plan.session.each_batch,
            keys: keys.to_vec(),
        });
        let answers = self.store.remove_many(&slices(&names)).into_iter();
        let answers = answers.map(|answer| match answer {
            Ok(Some(_)) => Ok(Answer::Present),
            Ok(None) => Ok(Answer::Absent),
            Err(error) => refusal(&error),
        });
        let answers = answers.collect::<Result<_, _>>()?;
        self.end(op, answers);
        Ok(())
    }

    /// Gets keys of any thread; half of the time while they are locked.
    fn get(&mut self) -> Outcome {
        let keys = self.any_keys();
        let names = self.names(&keys);
        let pins = match self.random(2) {
            0 => self.store.lookup_and_pin(&slices(&names)),
            _ => Vec::new(),
        };
        let is_async = self.random(3) == 0;
        let op = self.begin(What::Get(keys.clone()));
        if is_async {
            let started = self.store.get_many_async(&slices(&names));
            self.waiting.push((op, Started::Get(keys, started)));
        } else {
            let answers = read(&self.store, &self.plan.image, &keys)?;
            self.end(op, answers);
        }
        self.store.unpin(pins.into_iter().flatten().collect());
        Ok(())
    }

    fn look(&mut self) -> Outcome {
        let keys = self.any_keys();
        let names = self.names(&keys);
        let touches = self.random(2) == 0;
        let op = self.begin(What::Look(keys));
        let found = match touches {
            true => self.store.touch_many(&slices(&names)),
            false => self.store.contains_many(&slices(&names)),
        };
        self.end(op, found.into_iter().map(presence).collect());
        Ok(())
    }

    fn sync(&mut self) -> Outcome {
        let is_async = self.random(4) == 0;
        let op = self.begin(What::Sync);
        let started = match is_async {
            true => self.store.sync_async(),
            false => {
                let done = self.store.sync();
                done.map_err(|why| format!("sync: {}", words(&why)))?;
                self.end(op, vec![Answer::Done]);
                return Ok(());
            }
        };
        self.waiting.push((op, Started::Sync(started)));
        Ok(())
    }

    fn checkpoint(&mut self) -> Outcome {
        let op = self.begin(What::Checkpoint);
        let done = self.store.checkpoint();
        done.map_err(|why| format!("checkpoint: {}", words(&why)))?;
        self.end(op, vec![Answer::Done]);
        Ok(())
    }

    fn wait_all(&mut self) -> Outcome {
        let waiting = std::mem::take(&mut self.waiting);
        let mut waiting = waiting.into_iter();
        waiting.try_for_each(|(op, started)| self.wait(op, started))
    }

    fn wait(&self, op: u64, started: Started) -> Outcome {
        let answers = match started {
            Started::Put(started) => put_answers(started.wait())?,
            Started::Get(keys, started) => answers(&keys, started.wait())?,
            Started::Sync(started) => {
                let done = started.wait();
                done.map_err(|why| format!("sync: {}", words(&why)))?;
                vec![Answer::Done]
            }
        };
        self.end(op, answers);
        Ok(())
    }

    /// Locks keys of its own, removes one of them, and puts others to use up slots. Until the pins end, the others
    /// stay, and none of their slots, first or further, holds anything else, not even the removed one's.
    fn lock(&mut self) -> Outcome {
        self.wait_all()?;
        let keys: BTreeSet<Key> = (0..4).map(|_| self.own_key()).collect();
        let keys: Vec<Key> = keys.into_iter().collect();
        let names = self.names(&keys);
        let op = self.begin(What::Look(keys.clone()));
        let pins = self.store.lookup_and_pin(&slices(&names));
        let there: Vec<bool> = pins.iter().map(Option::is_some).collect();
        self.end(op, there.iter().copied().map(presence).collect());
        let there = keys.iter().zip(there);
        let locked: Vec<Key> = there
            .filter_map(|(key, there)| there.then_some(*key))
            .collect();
        let names = self.names(&locked);
        let (mut held, mut there) = (BTreeMap::new(), 0);
        for entry in self.entries() {
            if names.iter().any(|name| **name == *entry.key) {
                held.extend(slots_of(&entry).map(|slot| (slot, entry.generation)));
                there += 1;
            }
        }
        if there != locked.len() {
            return Err(format!(
                "of the locked keys {locked:?} only {there} are there"
            ));
        }
        if let Some(&gone) = locked.first() {
            self.remove(&[gone])?;
        }
        for _ in 0..3 {
            let mut others = self.some_keys();
            others.retain(|key| !locked.contains(key));
            if !others.is_empty() {
                self.put(&others)?;
            }
        }
        for entry in self.entries() {
            let is_reused = |slot: &u32| {
                let holder = held.get(slot);
                holder.is_some_and(|generation| *generation != entry.generation)
            };
            if let Some(slot) = slots_of(&entry).find(is_reused) {
                return Err(format!("slot {slot} was used again before its lock ended"));
            }
        }
        let stay = locked.get(1..).unwrap_or_default();
        let op = self.begin(What::Get(stay.to_vec()));
        let read = read(&self.store, &self.plan.image, stay)?;
        if let Some(at) = read.iter().position(|answer| *answer == Answer::Absent) {
            return Err(format!("key {} is gone although it is locked", stay[at]));
        }
        self.end(op, read);
        self.store.unpin(pins.into_iter().flatten().collect());
        Ok(())
    }

    fn entries(&self) -> Vec<EntryInfo> {
        let mut entries = Vec::new();
        self.store.for_each(|entry| {
            entries.push(entry);
            true
        });
        entries
    }
}

/// Returns all slots of an entry.
fn slots_of(entry: &EntryInfo) -> impl Iterator<Item = u32> + '_ {
    std::iter::once(entry.slot).chain(entry.more_slots.iter().copied())
}

fn presence(found: bool) -> Answer {
    match found {
        true => Answer::Present,
        false => Answer::Absent,
    }
}

fn put_answers(answers: Vec<PutResult>) -> Result<Vec<Answer>, String> {
    let answer = |answer: PutResult| match answer {
        Ok(written) if written.is_written() => Ok(Answer::Written),
        Ok(PutOutcome::Existed) => Ok(Answer::Existed),
        Ok(PutOutcome::Superseded) => Ok(Answer::Superseded),
        Ok(PutOutcome::NotAdmitted) => Ok(Answer::NotAdmitted),
        Ok(other) => Err(format!("a put returned {other:?}")),
        Err(error) => refusal(&error),
    };
    answers.into_iter().map(answer).collect()
}
