//! Bringing what a batch of lookups is about to read into the processor's caches.
//!
//! A lookup waits for memory three times, each time for an address that the last answer told: for a line of
//! the table, for the entry, for its key. The keys of a batch do not depend on each other, so all lines can be
//! asked for at once, then all entries, then all keys, and the batch waits three times in all rather than
//! three times a key.

use crate::index::Index;
use crate::store::PrefetchStage;

impl Index {
    /// Prepares lookups of keys with these hashes. `fetch` is to start fetching the cache line at an address
    /// and must not read it: the memory may be another's by then. Shards that are locked are left out;
    /// whether a key was prepared or not changes nothing but the time of its lookup.
    pub fn prefetch(&self, hashes: &[u64], fetch: impl Fn(*const u8)) {
        for step in PrefetchStage::ALL {
            for &hash in hashes {
                if let Some(shard) = self.shards[self.shard_of(hash)].shard.try_lock() {
                    shard.store.prefetch(hash, step, &fetch);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crate::{Index, IndexOptions, LockPurpose, NewEntry, SlotId};

    /// A line, and both ends of an entry and of a key; only the line where there is no entry; nothing, and no
    /// waiting, where the shard is locked.
    #[test]
    fn each_step_asks_for_what_it_reads() {
        let options = IndexOptions {
            shards: 1,
            classes: vec![vec![0..8]],
            secret: [0; 16],
        };
        let index = Index::new(options).unwrap();
        let loader = index.loader().unwrap();
        let entry = NewEntry {
            slot: SlotId(0),
            payload_len: 1,
            payload_checksum: 0,
            placement: 0,
            metadata: &[],
            verified: true,
        };
        loader.load(7 << 40 | 1, b"key", entry, 1, 0);
        loader.finish(0, 1);
        let asked = |hash| {
            let count = Cell::new(0);
            index.prefetch(&[hash], |_| count.set(count.get() + 1));
            count.get()
        };
        assert_eq!((asked(7 << 40 | 1), asked(9 << 41 | 2)), (1 + 2 + 2, 1));
        let guard = index.lock(0, LockPurpose::Operation);
        assert_eq!(asked(7 << 40 | 1), 0);
        drop(guard);
    }
}
