//! Operations without I/O: presence, recency, pins, iteration.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rb_index::{Hints, Lease, LockPurpose, Note, Place, Purpose, ShardGuard, SnapshotEntry};

use crate::core::entry_scan::EntryScan;
use crate::core::expiry::{Expiry, is_over, now, time_of};
use crate::core::inner::Inner;
use crate::ops::groups::by_shard;
use crate::ops::judging::{Judging, Notes};

/// Facts about a live entry that the store knows without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryInfo {
    /// The key.
    pub key: Box<[u8]>,
    /// Length of the value in bytes.
    pub len: u32,
    /// Slot number on the device; the first of several.
    pub slot: u32,
    /// The further slots of a value that takes several, in the order of its bytes; mostly empty.
    pub more_slots: Box<[u32]>,
    /// Slot class.
    pub class: u8,
    /// Generation of the put that wrote the entry.
    pub generation: u64,
    /// The metadata put with the value.
    pub metadata: Box<[u8]>,
    /// True if the entry was put, or its header on the device was verified, in this session.
    pub verified: bool,
    /// True if the entry is leased now.
    pub leased: bool,
    /// About how many uses of any entries there were since the last use of this one. Uses that follow each other share a
    /// number, and an opening counts as several.
    pub uses_since: u64,
    /// The time from which the entry is a miss, in whole seconds; `None` for never.
    pub expires: Option<SystemTime>,
}

impl EntryInfo {
    pub(crate) fn new(inner: &Inner, entry: &SnapshotEntry<'_>) -> EntryInfo {
        EntryInfo {
            key: entry.key.into(),
            len: entry.located.payload_len,
            slot: entry.located.slot.0,
            more_slots: entry.more.clone().map(|slot| slot.0).collect(),
            class: entry.located.class,
            generation: entry.located.generation,
            metadata: entry.metadata.into(),
            verified: entry.located.verified,
            leased: entry.leases > 0,
            uses_since: inner.index.uses_since(entry.recency),
            expires: time_of(inner, entry.located.expiry),
        }
    }
}

/// A lease on an entry, taken by `lookup_and_pin`. Until it is unpinned or dropped, the entry's
/// slots are neither evicted nor reused.
#[must_use = "dropping it unpins the entry"]
pub struct Pin {
    inner: Arc<Inner>,
    lease: Option<Lease>,
    len: usize,
    shard: usize,
}

impl Pin {
    /// Returns the length of the pinned value in bytes.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", &[0; 1000])?;
    /// let pin = store.lookup_and_pin(&[b"key"]).remove(0).expect("it was put");
    /// assert_eq!(pin.len(), 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "values are never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        match self.inner.check_process() {
            Ok(()) => self
                .inner
                .index
                .lock(self.shard, LockPurpose::Operation)
                .release(lease),
            // In a forked child the lease and the store belong to the parent: touch neither.
            Err(_) => std::mem::forget((lease, Arc::clone(&self.inner))),
        }
    }
}

/// Leases each key that exists, with one lock hold per touched shard.
pub(crate) fn lookup_and_pin(inner: &Arc<Inner>, keys: &[&[u8]], hints: Hints) -> Vec<Option<Pin>> {
    let mut pins: Vec<Option<Pin>> = keys.iter().map(|_| None).collect();
    let notes = each(
        inner,
        keys,
        hints,
        Purpose::Lease,
        |shard, at, hash, place| {
            let lease = shard.lease(hash, keys[at], place)?;
            let note = lease.note();
            pins[at] = Some(Pin {
                inner: Arc::clone(inner),
                len: lease.located().payload_len as usize,
                shard: shard.shard(),
                lease: Some(lease),
            });
            Some(note)
        },
    );
    for (at, pin) in pins.iter_mut().enumerate() {
        if let Some(lease) = pin.as_mut().and_then(|pin| pin.lease.as_mut()) {
            lease.set_note(notes.of(at));
        }
    }
    pins
}

/// Ends leases, with one lock hold per touched shard. The first pin of the batch ends as the most
/// recently used.
pub(crate) fn unpin(inner: &Arc<Inner>, pins: Vec<Pin>) {
    if inner.check_process().is_err() {
        return;
    }
    // A pin of another store must not be released in this index; dropping it releases it in its
    // own.
    let mut pins: Vec<Pin> = pins
        .into_iter()
        .filter(|lock| Arc::ptr_eq(&lock.inner, inner))
        .collect();
    inner.index.begin_batch(pins.len());
    for group in by_shard(pins.len(), |at| pins[at].shard) {
        let mut shard = inner.index.lock(group.shard, LockPurpose::Operation);
        for at in group.positions {
            if let Some(lease) = pins[at].lease.take() {
                shard.release(lease);
            }
        }
    }
}

/// Returns for each key whether it exists. Recency does not change.
pub(crate) fn contains_many(inner: &Inner, keys: &[&[u8]], hints: Hints) -> Vec<bool> {
    presence(inner, keys, hints, Purpose::Probe)
}

/// Marks each existing key as recently used, the batch's first as the most recent. Returns for each
/// key whether it exists.
pub(crate) fn touch_many(inner: &Inner, keys: &[&[u8]], hints: Hints) -> Vec<bool> {
    presence(inner, keys, hints, Purpose::Touch)
}

/// Returns the length of each value; `None` if there is none. No lookup: neither recency nor the policy learns of it.
pub(crate) fn lengths_of_many(inner: &Inner, keys: &[&[u8]]) -> Vec<Option<usize>> {
    let mut lengths = vec![None; keys.len()];
    let Ok(_pass) = inner.enter() else {
        return lengths;
    };
    let hashes: Vec<u64> = keys.iter().map(|key| inner.hash(key)).collect();
    visit_each(inner, keys, &hashes, |shard, at| {
        let found = shard.get(hashes[at], keys[at]);
        lengths[at] = found.map(|located| located.payload_len as usize);
    });
    lengths
}

/// Looks up each key without a lease, and returns whether it exists.
fn presence(inner: &Inner, keys: &[&[u8]], hints: Hints, purpose: Purpose) -> Vec<bool> {
    let mut found = vec![false; keys.len()];
    each(inner, keys, hints, purpose, |shard, at, hash, place| {
        let known = match purpose.is_use() {
            true => shard.touch(hash, keys[at], place),
            false => shard.probe(hash, keys[at], place),
        };
        found[at] = known.is_some();
        known
    });
    found
}

/// Visits each key under its shard's lock, and then lets the policy judge the batch; visits none if the store is closed.
/// `visit` returns what the policy knows of a key that it has found. Returns its verdicts.
fn each(
    inner: &Inner,
    keys: &[&[u8]],
    hints: Hints,
    purpose: Purpose,
    mut visit: impl FnMut(&mut ShardGuard<'_>, usize, u64, Place) -> Option<Note>,
) -> Notes {
    let batch = inner.index.begin_batch(keys.len()).with_hints(hints);
    let Ok(_pass) = inner.enter() else {
        return Notes::default();
    };
    let hashes: Vec<u64> = keys.iter().map(|key| inner.hash(key)).collect();
    let mut judging = Judging::new(inner, &hashes);
    visit_each(inner, keys, &hashes, |shard, at| {
        if let Some(note) = visit(shard, at, hashes[at], batch.at(at)) {
            judging.found(at, note);
        }
    });
    judging.judge(inner, batch, purpose)
}

/// Visits each key under its shard's lock, and drops its entry before if its time is over.
fn visit_each(
    inner: &Inner,
    keys: &[&[u8]],
    hashes: &[u64],
    mut visit: impl FnMut(&mut ShardGuard<'_>, usize),
) {
    inner.prefetch(hashes);
    let mut expiry = Expiry::new(inner);
    for group in by_shard(keys.len(), |at| inner.index.shard_of(hashes[at])) {
        let mut shard = inner.index.lock(group.shard, LockPurpose::Operation);
        for at in group.positions {
            expiry.apply(&mut shard, hashes[at], keys[at]);
            visit(&mut shard, at);
        }
    }
    expiry.notify();
}

/// Entries copied per hold of a shard's lock.
pub(crate) const ENTRIES_PER_HOLD: usize = 256;

/// Visits every live entry once, in no particular order; holds no lock while `visit` runs. Entries
/// inserted or removed during the walk may or may not be visited. Ends when `visit` returns false
/// or the store is closed.
pub(crate) fn for_each(inner: &Inner, visit: &mut dyn FnMut(EntryInfo) -> bool) {
    let (mut walk, mut more) = (EntryScan::default(), true);
    while more {
        // Copies, so that `visit` runs without the lock.
        let mut held = Vec::new();
        let Ok(pass) = inner.enter() else { return };
        let now = now(inner);
        more = walk.step(&inner.index, ENTRIES_PER_HOLD, &mut |entry| {
            if !is_over(entry.located.expiry, now) {
                held.push(EntryInfo::new(inner, &entry));
            }
        });
        // `visit` may close the store.
        drop(pass);
        for info in held {
            if !visit(info) {
                return;
            }
        }
    }
}
