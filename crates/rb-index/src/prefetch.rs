//! Prefetches the memory that a batch of lookups is about to read.
//!
//! A lookup waits for memory three times, each time at an address that the previous access
//! returned: a line of the table, the entry, its key. The keys of a batch do not depend on each
//! other, so all lines can be prefetched together, then all entries, then all keys, and the batch
//! waits three times in total rather than three times per key.

use crate::index::Index;
use crate::store::PrefetchStage;

impl Index {
    /// Prefetches the memory for lookups of keys with these hashes. `fetch` must only start to
    /// fetch the cache line at an address and must not read it: the memory may have been reused by
    /// then. Locked shards are skipped; prefetching affects only the time of a lookup.
    pub fn prefetch(&self, hashes: &[u64], fetch: impl Fn(*const u8)) {
        if let Some(shared) = &self.shared {
            hashes
                .iter()
                .for_each(|&hash| shared.prefetch(hash, &fetch));
        }
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

    /// Prefetches a line, and both ends of an entry and of a key; only the line if there is no
    /// entry; nothing, without waiting, if the shard is locked.
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
            more: &[],
            payload_len: 1,
            payload_checksum: 0,
            placement: 0,
            expiry: 0,
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
