//! A fuzzy snapshot of one shard, in bounded steps, for a base; and the keys that may return from one.

use crate::error::IndexError;
use crate::guard::ShardGuard;
use crate::index::{Index, expected_per_shard};
use crate::lease::Located;
use crate::memory::NoMemory;
use crate::more_slots::MoreSlots;
use crate::note::Note;
use crate::policy::Policy;
use crate::unrecorded::{CELLS_PER_SLOT, Unrecorded};

/// The progress of a snapshot of one shard: a position in its slab. Start with `Cursor::default()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    next: u32,
}

/// One entry of a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotEntry<'a> {
    /// The hash of the key.
    pub hash: u64,
    /// The key.
    pub key: &'a [u8],
    /// The metadata.
    pub metadata: &'a [u8],
    /// Its slots after the first.
    pub more: MoreSlots<'a>,
    /// The index's data on the entry.
    pub located: Located,
    /// The stamp of its last use; the current one if it is leased.
    pub recency: u32,
    /// Number of leases on it now.
    pub leases: u32,
    /// The note that the policy saves of it.
    pub note: Note,
}

impl Index {
    /// Tracks the keys that leave without a record, evicted, expired or invalidated, in two bytes for each slot. Without it
    /// [`ShardGuard::may_return`] is true for every key.
    ///
    /// # Errors
    /// [`IndexError::Memory`].
    pub fn track_unrecorded(&mut self) -> Result<(), IndexError> {
        let classes = 0..self.slots.classes();
        let slots = classes.map(|class| self.slots.class_stats(class).capacity);
        let of_shard = expected_per_shard(slots.sum::<u64>() as usize, self.shards.len());
        for cell in &self.shards {
            let filter = Unrecorded::new(of_shard).map_err(|NoMemory| IndexError::Memory {
                what: "memory for the keys that leave without a record",
                need: (of_shard * CELLS_PER_SLOT * self.shards.len()) as u64,
            })?;
            cell.shard.lock().unrecorded = filter;
        }
        Ok(())
    }

    /// Notes that a base begins: the caller reads its position in the log and takes the snapshots of all shards after this.
    /// One base is written at a time.
    pub fn base_begins(&self) {
        self.bases.begin();
    }

    /// Notes that the base begun last is complete and durable, in place of the older one of the two that were there.
    pub fn base_completed(&self) {
        self.bases.complete();
    }
}

impl ShardGuard<'_> {
    /// Returns whether a key without an entry may have one after a crash, because its former one has left without a record,
    /// and one of the two newest bases can still have it. The answer may be true for other keys, and is true for all
    /// until two bases are complete. A removed key counts as one whose record is durable.
    #[must_use]
    pub fn may_return(&self, hash: u64) -> bool {
        self.shard.unrecorded.may_return(hash, &self.index.bases)
    }

    /// Passes the live entries of the next `max` positions of the slab to `each` (so the time under
    /// the lock is bounded, holes or not) and advances the cursor; returns true if there are more.
    ///
    /// The lock may be dropped between the steps. An entry that is live throughout is passed
    /// exactly once. Concurrent changes are covered by the log: a key may be passed with an old and
    /// again with a new generation, or not at all.
    pub fn snapshot(
        &self,
        cursor: &mut Cursor,
        max: usize,
        each: &mut dyn FnMut(SnapshotEntry<'_>),
    ) -> bool {
        let store = &self.shard.store;
        let now = self.index.recency_now();
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        let end = cursor.next.saturating_add(max).min(store.end());
        for at in cursor.next..end {
            let entry = store.entry(at);
            if entry.is_live() {
                let (key, metadata) = store.key_and_metadata(at);
                each(SnapshotEntry {
                    hash: entry.hash,
                    key,
                    metadata,
                    more: store.more(at),
                    located: store.located(at),
                    recency: entry.recency(now),
                    leases: entry.leases(),
                    note: self.shard.policy.saved(at),
                });
            }
        }
        cursor.next = cursor.next.max(end);
        cursor.next < store.end()
    }

    /// Passes the entries whose eviction no observer has been notified of
    /// ([`crate::Index::keep_evicted`]). Call it in the hold in which the last step of a snapshot
    /// ends; some of them may have been passed before.
    pub fn snapshot_evicted(&mut self, each: &mut dyn FnMut(SnapshotEntry<'_>)) {
        let shard = &mut *self.shard;
        for kept in &shard.evicted {
            // This base has it, as if it left only now.
            shard.unrecorded.add(kept.hash, &self.index.bases);
            each(SnapshotEntry {
                hash: kept.hash,
                key: &kept.key,
                metadata: &kept.metadata,
                more: MoreSlots::stored(&kept.more),
                located: kept.located,
                recency: kept.recency,
                leases: 0,
                note: Note::default(),
            });
        }
    }
}
