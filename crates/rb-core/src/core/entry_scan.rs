//! Walks all live entries for the background tasks, without leases.
//!
//! A lease would hold back eviction (a small store full of leases returns `NoSpace`), and releasing
//! it counts as a use. None is needed because generations are unique: if the entry is still live
//! with the same generation after the read, it owned its slot during the read, and the bytes
//! decide. Otherwise the result is discarded; nothing was returned to a caller.

use rb_format::Geometry;
use rb_index::{Cursor, Index, Located, LockPurpose, SnapshotEntry};

use crate::core::inner::Inner;
use crate::core::pieces::{Piece, SlotIds, pieces, slots_of};
use crate::counters::add;
use crate::events::{DropReason, Event};

/// Position of a walk over all shards.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryScan {
    shard: usize,
    cursor: Cursor,
}

/// A snapshot of a live entry, taken by a walk.
pub(crate) struct LiveEntry {
    pub(crate) hash: u64,
    pub(crate) shard: usize,
    pub(crate) key: Box<[u8]>,
    pub(crate) located: Located,
    pub(crate) slots: SlotIds,
}

impl EntryScan {
    /// Calls `each` for the live entries of the next `max` positions of one shard, under its lock.
    /// Returns whether more entries follow.
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
            slots: slots_of(&entry.located, entry.more.clone()),
        }
    }

    /// Returns the slots of the entry with the parts of its value.
    pub(crate) fn pieces<'a>(
        &'a self,
        geometry: &'a Geometry,
    ) -> impl ExactSizeIterator<Item = Piece> + 'a {
        pieces(geometry, &self.slots, self.located.payload_len as usize)
    }

    /// Returns whether the key still has the generation of the snapshot.
    pub(crate) fn is_live(&self, index: &Index) -> bool {
        let guard = index.lock(self.shard, LockPurpose::Background);
        let now = guard.get(self.hash, &self.key);
        now.is_some_and(|now| now.generation == self.located.generation)
    }

    /// Marks the entry verified if it still has this generation.
    pub(crate) fn set_verified(&self, index: &Index) {
        let mut guard = index.lock(self.shard, LockPurpose::Background);
        guard.set_verified_generation(self.hash, &self.key, self.located.generation);
    }

    /// Invalidates exactly this generation after a failed verification. Returns false if it was
    /// gone already; otherwise the caller must call [`LiveEntry::notify_dropped`] once it holds no
    /// lock.
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
            slot: self.located.slot.0,
            generation: self.located.generation,
            len: self.located.payload_len,
            class: self.located.class,
            reason,
        });
    }
}

/// Returns the pieces of all entries in their order, each with the position of its entry.
pub(crate) fn all_pieces(entries: &[LiveEntry], geometry: &Geometry) -> Vec<(usize, Piece)> {
    let of_entry = |(at, entry)| {
        let entry: &LiveEntry = entry;
        entry.pieces(geometry).map(move |piece| (at, piece))
    };
    entries.iter().enumerate().flat_map(of_entry).collect()
}
