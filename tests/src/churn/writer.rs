//! One thread of the churn: what it does, and what it knows.

use std::collections::{BTreeMap, BTreeSet};

use rb_core::{Durability, EntryInfo, Error, Lock, Put, PutMode, PutOptions, Store, Stored};

use super::{KEYS, WRITERS, name, random};
use crate::marked::{bytes_of, payload, version_of};
use crate::tally::words;

/// A writer changes only its own keys, so it knows what each must be. A reader has none.
pub(super) struct Writer {
    store: Store,
    state: u64,
    first: u64,
    versions: BTreeMap<u64, u64>,
    /// The newest version of each key; none: removed.
    current: BTreeMap<u64, Option<u64>>,
    pub(super) steps: u64,
    pub(super) reads: u64,
    pub(super) locks: u64,
}

impl Writer {
    pub(super) fn new(store: Store, state: u64, first: u64) -> Writer {
        Writer {
            store,
            state,
            first,
            versions: BTreeMap::new(),
            current: BTreeMap::new(),
            steps: 0,
            reads: 0,
            locks: 0,
        }
    }

    pub(super) fn into_current(self) -> BTreeMap<u64, Option<u64>> {
        self.current
    }

    fn random(&mut self, below: u64) -> u64 {
        random(&mut self.state, below)
    }

    fn some_keys(&mut self) -> BTreeSet<u64> {
        let count = 1 + self.random(6);
        (0..count).map(|_| self.first + self.random(KEYS)).collect()
    }

    /// One operation on keys of its own.
    pub(super) fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        let keys = self.some_keys();
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        match self.random(100) {
            0..45 => self.put(&keys),
            45..60 => self.remove(&keys),
            60..80 => self.check(&keys, self.store.get_many(&slices(&names))),
            80..88 => self.check(&keys, self.store.get_many_async(&slices(&names)).wait()),
            88..95 => self.lock(&keys),
            95..97 => self.store.sync().map_err(|why| words(&why)),
            97..98 => self.store.checkpoint().map_err(|why| words(&why)),
            _ => {
                self.store.touch_many(&slices(&names));
                Ok(())
            }
        }
    }

    /// Gets keys of anybody's; each must be a version of its key, byte for byte.
    pub(super) fn read_anything(&mut self) -> Result<(), String> {
        let keys: BTreeSet<u64> = (0..8).map(|_| self.random(WRITERS * KEYS)).collect();
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        // Half of the reads come while the keys are locked: locks of readers meet removes of writers.
        let locks = match self.random(2) {
            0 => self.store.lookup_and_lock(&slices(&names)),
            _ => Vec::new(),
        };
        for (key, answer) in keys.iter().zip(self.store.get_many(&slices(&names))) {
            if let Some(bytes) = answer.map_err(|why| words(&why))? {
                version_of(*key, &bytes)?;
                self.reads += 1;
            }
        }
        self.store.unlock(locks.into_iter().flatten().collect());
        Ok(())
    }

    fn put(&mut self, keys: &BTreeSet<u64>) -> Result<(), String> {
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        let values: Vec<_> = keys.iter().map(|key| self.next_value(*key)).collect();
        let in_own_memory = self.random(2) == 0;
        let puts = names.iter().zip(&values).map(|(key, bytes)| Put {
            key,
            payload: payload(&self.store, bytes, in_own_memory),
            metadata: &[],
        });
        let puts = puts.collect();
        let keeps = self.random(4) == 0;
        let options = PutOptions {
            mode: match keeps {
                true => PutMode::KeepExisting,
                false => PutMode::Replace,
            },
            durability: (self.random(12) == 0).then_some(Durability::EachBatch),
            ..PutOptions::default()
        };
        let answers = match self.random(3) {
            0 => self.store.put_many_async(puts, options).wait(),
            _ => self.store.put_many(puts, options),
        };
        for (key, answer) in keys.iter().zip(answers) {
            match answer {
                Ok(Stored::Stored) => {
                    self.current.insert(*key, self.versions.get(key).copied());
                }
                Ok(Stored::Existed) if keeps => {}
                // Locks and reads may hold all slots of a class; nothing changed.
                Err(Error::NoSpace { .. }) => {}
                other => return Err(format!("the put of {key} was answered {other:?}")),
            }
        }
        Ok(())
    }

    /// The next version of a key, of a length in any class.
    fn next_value(&mut self, key: u64) -> Vec<u8> {
        let len = match self.random(4) {
            0 => 24 + self.random(100),
            1 => 4096,
            2 => 4096 + self.random(12_000),
            _ => (16 << 10) + self.random(48 << 10),
        };
        let version = self.versions.entry(key).or_insert(0);
        *version += 1;
        bytes_of(key, *version, len as usize)
    }

    fn remove(&mut self, keys: &BTreeSet<u64>) -> Result<(), String> {
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        for (key, answer) in keys.iter().zip(self.store.remove_many(&slices(&names))) {
            answer.map_err(|why| words(&why))?;
            self.current.insert(*key, None);
        }
        Ok(())
    }

    /// Whatever is there must be what was put last; it may have been evicted.
    fn check(&self, keys: &BTreeSet<u64>, answers: Vec<rb_core::Lookup>) -> Result<(), String> {
        for (key, answer) in keys.iter().zip(answers) {
            if let Some(bytes) = answer.map_err(|why| words(&why))? {
                let (found, newest) = (version_of(*key, &bytes)?, self.newest(*key));
                if Some(found) != newest {
                    return Err(format!("key {key} is version {found}, not {newest:?}"));
                }
            }
        }
        Ok(())
    }

    fn newest(&self, key: u64) -> Option<u64> {
        self.current.get(&key).copied().flatten()
    }

    /// Locks keys, removes one of them, and makes everybody want slots. Until the locks end, the others
    /// stay, and no slot of theirs holds anything else, not even the removed one's.
    fn lock(&mut self, keys: &BTreeSet<u64>) -> Result<(), String> {
        let names: Vec<_> = keys.iter().map(|key| name(*key)).collect();
        let locks = self.store.lookup_and_lock(&slices(&names));
        let locked: Vec<u64> = keys
            .iter()
            .zip(&locks)
            .filter_map(|(key, lock)| lock.is_some().then_some(*key))
            .collect();
        let locks: Vec<Lock> = locks.into_iter().flatten().collect();
        self.locks += locks.len() as u64;
        let mut held = BTreeMap::new();
        for entry in self.entries() {
            if locked.iter().any(|key| *entry.key == name(*key)) {
                held.insert(entry.slot, entry.generation);
            }
        }
        if held.len() != locked.len() {
            return Err(format!(
                "keys {locked:?} were locked, and only {} are there",
                held.len()
            ));
        }
        if let Some(&gone) = locked.first() {
            self.remove(&[gone].into())?;
        }
        for _ in 0..3 {
            let mut others = self.some_keys();
            others.retain(|key| !locked.contains(key));
            self.put(&others)?;
        }
        for entry in self.entries() {
            let holder = held.get(&entry.slot);
            if holder.is_some_and(|generation| *generation != entry.generation) {
                return Err(format!(
                    "slot {} was used again before its lock ended",
                    entry.slot
                ));
            }
        }
        for &key in locked.iter().skip(1) {
            let bytes = self.store.get(&name(key)).map_err(|why| words(&why))?;
            let found = bytes.map(|bytes| version_of(key, &bytes)).transpose()?;
            if found != self.newest(key) {
                return Err(format!(
                    "key {key} is {found:?} under a lock, not {:?}",
                    self.newest(key)
                ));
            }
        }
        self.store.unlock(locks);
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

fn slices(names: &[Vec<u8>]) -> Vec<&[u8]> {
    names.iter().map(Vec::as_slice).collect()
}
