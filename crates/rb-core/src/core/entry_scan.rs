//! The way of the background tasks over all live entries, without leases.
//!
//! A lease would hold back eviction (a small store under leases answers `NoSpace`), and its end counts as a
//! use. None is needed, because a generation is unique: if the entry is still live with the same generation
//! after a read, its slot was its own during the read, and what the bytes said counts. If it is not, nothing
//! is changed and nothing was handed out.

use rb_index::{Cursor, Index, Located, LockPurpose, SnapshotEntry};

use crate::core::inner::Inner;
use crate::counters::add;
use crate::events::{DropReason, Event};

/// How far a walk over all shards has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryScan {
    shard: usize,
    cursor: Cursor,
}

/// An entry as a walk met it.
pub(crate) struct LiveEntry {
    pub(crate) hash: u64,
    pub(crate) shard: usize,
    pub(crate) key: Box<[u8]>,
    pub(crate) located: Located,
}

impl EntryScan {
    /// Shows the live entries of the next `max` positions of one shard, under its lock. Answers whether
    /// there is more.
    pub(crate) fn step(
        &mut self,
        index: &Index,
        max: usize,
        each: &mut dyn FnMut(SnapshotEntry<'_>),
    ) -> bool {
        if self.shard >= index.shards() {
            return false;
        }
        let guard = index.lock(self.shard, LockPurpose::Background);
        if !guard.snapshot(&mut self.cursor, max, each) {
            (self.shard, self.cursor) = (self.shard + 1, Cursor::default());
        }
        self.shard < index.shards()
    }
}

impl LiveEntry {
    pub(crate) fn new(index: &Index, entry: &SnapshotEntry<'_>) -> LiveEntry {
        LiveEntry {
            hash: entry.hash,
            shard: index.shard_of(entry.hash),
            key: entry.key.into(),
            located: entry.located,
        }
    }

    /// Whether the entry is still of the generation that was met.
    pub(crate) fn is_live(&self, index: &Index) -> bool {
        let guard = index.lock(self.shard, LockPurpose::Background);
        let now = guard.get(self.hash, &self.key);
        now.is_some_and(|now| now.generation == self.located.generation)
    }

    /// What was read proves the entry.
    pub(crate) fn set_verified(&self, index: &Index) {
        let mut guard = index.lock(self.shard, LockPurpose::Background);
        guard.set_verified_generation(self.hash, &self.key, self.located.generation);
    }

    /// What was read disproves the entry: forgets exactly that generation. False if it was gone already.
    /// If not, [`LiveEntry::notify_dropped`] is to follow when no lock is held.
    pub(crate) fn invalidate(&self, inner: &Inner) -> bool {
        let mut guard = inner.index.lock(self.shard, LockPurpose::Background);
        let live = guard.invalidate_generation(self.hash, &self.key, self.located.generation);
        inner.changed_if(live, &self.key, self.located.generation);
        add(&inner.counters.dropped, usize::from(live));
        live
    }

    pub(crate) fn notify_dropped(&self, inner: &Inner, reason: DropReason) {
        inner.emit(&Event::Dropped {
            key: &self.key,
            generation: self.located.generation,
            reason,
        });
    }
}
