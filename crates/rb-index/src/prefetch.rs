//! Prefetches the memory that a batch of lookups is about to read.
//!
//! A lookup waits for memory three times, each time at an address that the previous access
//! returned: a line of the table, the entry, its key. The keys of a batch do not depend on each
//! other, so all lines can be prefetched together, then all entries, then all keys, and the batch
//! waits three times in total rather than three times per key.

use crate::entry::Entry;
use crate::index::Index;
use crate::store::{PrefetchStage, Store};

impl Index {
    /// Sets the function that prefetches memory for lookups, evictions and loading; by default
    /// nothing is prefetched. `fetch` must only start to fetch the cache line at an address and must
    /// not read it: the memory may have been reused by then.
    pub fn use_prefetch(&mut self, fetch: fn(*const u8)) {
        self.fetch = fetch;
    }

    /// Prefetches the memory for lookups of keys with these hashes. Locked shards are skipped;
    /// prefetching affects only the time of a lookup.
    pub fn prefetch(&self, hashes: &[u64]) {
        if let Some(shared) = &self.shared {
            hashes
                .iter()
                .for_each(|&hash| shared.prefetch(hash, self.fetch));
        }
        for step in PrefetchStage::ALL {
            for &hash in hashes {
                if let Some(shard) = self.shards[self.shard_of(hash)].shard.try_lock() {
                    shard.store.prefetch(hash, step, self.fetch);
                }
            }
        }
    }

    /// Prefetches what the eviction of an entry reads: it would wait for one after the other.
    pub(crate) fn prefetch_evicted(&self, store: &Store, entry: &Entry) {
        store.prefetch(entry.hash, PrefetchStage::Line, self.fetch);
        store.prefetch_key(entry, self.fetch);
        self.slots.fetch(entry.slot, self.fetch);
        if let Some(shared) = &self.shared {
            shared.prefetch(entry.hash, self.fetch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crate::{Index, IndexOptions, LockPurpose, NewEntry, SlotId};

    thread_local! {
        static FETCHED: Cell<u32> = const { Cell::new(0) };
    }

    /// Prefetches a line, and both ends of an entry and of a key; only the line if there is no
    /// entry; nothing, without waiting, if the shard is locked. An eviction prefetches what it reads next.
    #[test]
    fn each_step_asks_for_what_it_reads() {
        let options = IndexOptions {
            shards: 1,
            classes: vec![vec![0..8]],
            secret: [0; 16],
        };
        let mut index = Index::new(options).unwrap();
        index.use_prefetch(|_| FETCHED.set(FETCHED.get() + 1));
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
        FETCHED.take();
        let asked = |hash| {
            index.prefetch(&[hash]);
            FETCHED.take()
        };
        assert_eq!((asked(7 << 40 | 1), asked(9 << 41 | 2)), (1 + 2 + 2, 1));
        let guard = index.lock(0, LockPurpose::Operation);
        assert_eq!(asked(7 << 40 | 1), 0);
        drop(guard);
        // The line, both ends of the key, and the state of the slot.
        index.evict_least(0, 1, &mut Vec::new());
        assert_eq!(FETCHED.take(), 1 + 2 + 1);
    }
}
