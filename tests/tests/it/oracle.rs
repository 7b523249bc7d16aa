//! Knows what each key may hold, now and after a crash, for the shutdown tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use rb_core::{Event, Events};

/// Version of a key's value; `None` means absent.
pub(crate) type Version = Option<u64>;

/// Possible contents of each key.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Now: more than one where an eviction may have taken the key.
    pub(crate) current: BTreeMap<u64, BTreeSet<Version>>,
    /// After a crash: every version that was current at the last sync or later.
    legal: BTreeMap<u64, BTreeSet<Version>>,
}

impl Oracle {
    pub(crate) fn now(&self, key: u64) -> BTreeSet<Version> {
        self.current
            .get(&key)
            .cloned()
            .unwrap_or_else(|| [None].into())
    }

    pub(crate) fn may_be(&self, key: u64) -> BTreeSet<Version> {
        self.legal
            .get(&key)
            .cloned()
            .unwrap_or_else(|| [None].into())
    }

    pub(crate) fn set(&mut self, key: u64, version: Version) {
        self.current.insert(key, [version].into());
        self.may_become(key, version);
    }

    pub(crate) fn may_become(&mut self, key: u64, version: Version) {
        self.legal
            .entry(key)
            .or_insert_with(|| [None].into())
            .insert(version);
    }

    /// Records that a put of this version failed: it may have happened or not, and the former value may be gone.
    pub(crate) fn may_be_put(&mut self, key: u64, version: u64) {
        self.may_become(key, Some(version));
        self.may_become(key, None);
        let current = self.current.entry(key).or_insert_with(|| [None].into());
        current.insert(Some(version));
    }

    pub(crate) fn evicted(&mut self, key: u64) {
        self.current
            .entry(key)
            .or_insert_with(|| [None].into())
            .insert(None);
        self.may_become(key, None);
    }

    pub(crate) fn synced(&mut self) {
        self.legal = self.current.clone();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Evictions(pub(crate) Mutex<Vec<u64>>);

impl Events for Evictions {
    fn event(&self, event: &Event<'_>) {
        if let Event::Evicted { key, .. } = event {
            let number = u64::from_le_bytes((*key).try_into().unwrap());
            self.0.lock().unwrap().push(number);
        }
    }
}

/// Returns the seed of a version's bytes.
pub(crate) fn content(key: u64, version: u64) -> u64 {
    key << 40 | version
}
