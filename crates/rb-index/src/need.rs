//! Computes how much memory an index needs, before allocating it.
//!
//! Structures that grow with the entries grow by at most 16 KiB at a time; [`Index::entries_bytes`]
//! estimates their sum.

use crate::entry::Entry;
use crate::index::{Index, IndexOptions, expected_per_shard};
use crate::shard::ShardCell;
use crate::table;

/// A slab entry, its links in the eviction order, and the head of its key cell with its padding.
const ENTRY_BYTES: u64 = size_of::<Entry>() as u64 + 8 + 7;
/// A state, and a bit of the free set.
const SLOT_BITS: u64 = 9;
/// A claim, until loading has ended.
const CLAIM_BYTES: u64 = 8;

impl IndexOptions {
    /// Returns the bytes that [`Index::new`] allocates, independent of the contents: up to 8.2 per
    /// slot, and 1 KiB per shard.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let shards = self.shards.max(1);
        let slots = self.slots();
        let table = table::bytes(expected_per_shard(slots as usize, shards as usize));
        let shard = (size_of::<ShardCell>() + 64 * self.classes.len()) as u64;
        let debug = if cfg!(debug_assertions) {
            8 * self.end()
        } else {
            0
        };
        debug + self.end() * SLOT_BITS / 8 + u64::from(shards) * (table + shard)
    }

    /// Returns the bytes that [`Index::loader`] allocates until
    /// [`Loader::finish`](crate::Loader::finish).
    #[must_use]
    pub fn loader_bytes(&self) -> u64 {
        self.end() * CLAIM_BYTES
    }

    pub(crate) fn slots(&self) -> u64 {
        let runs = self.classes.iter().flatten();
        runs.map(|run| u64::from(run.end.saturating_sub(run.start)))
            .sum()
    }

    /// Returns one more than the highest slot id.
    fn end(&self) -> u64 {
        let ends = self.classes.iter().flatten().map(|run| run.end);
        u64::from(ends.max().unwrap_or(0))
    }
}

impl Index {
    /// Returns an upper bound of the bytes that `entries` entries take, with `key_bytes` bytes of
    /// keys and metadata in total, without the memory allocated by [`Index::new`].
    #[must_use]
    pub fn entries_bytes(entries: u64, key_bytes: u64) -> u64 {
        // A pool of key cells holds up to 5/4 of the live cells, and its chunks up to 5/4 of that:
        // 25/16 in total.
        let cells = key_bytes.saturating_add(entries.saturating_mul(7));
        let slack = cells / 16 * 9;
        let entries = entries.saturating_mul(ENTRY_BYTES - 7);
        entries.saturating_add(cells).saturating_add(slack)
    }
}
