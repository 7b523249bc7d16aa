//! The state behind one shard's lock, and the step that every way of losing an entry shares.

use crate::entry::Entry;
use crate::pending::Pending;
use crate::policy::{Lru, Policy};
use crate::put::NewEntry;
use crate::slots::{Slots, State};
use crate::store::Store;
use crate::sync::{Lock, Tally};

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) store: Store,
    pub(crate) policy: Lru,
    pub(crate) pending: Pending,
}

/// A shard with its lock and its counters; aligned so that two shards do not share a cache line.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct ShardCell {
    pub(crate) shard: Lock<Shard>,
    pub(crate) visits: [Tally; 3],
    pub(crate) contended: Tally,
    /// Of an operation for the lock, in nanoseconds.
    pub(crate) longest_wait: Tally,
    pub(crate) evictions: Tally,
    /// Per class, what this shard would evict next: its stamp plus one, or 0 for nothing. Written
    /// when a guard goes; a hint of where to look, never proof of anything.
    pub(crate) oldest: Box<[Tally]>,
}

impl ShardCell {
    pub(crate) fn new(classes: usize, expected: usize) -> ShardCell {
        ShardCell {
            shard: Lock::new(Shard {
                store: Store::new(expected),
                policy: Lru::new(classes),
                pending: Pending::default(),
            }),
            visits: std::array::from_fn(|_| Tally::default()),
            contended: Tally::default(),
            longest_wait: Tally::default(),
            evictions: Tally::default(),
            oldest: (0..classes).map(|_| Tally::default()).collect(),
        }
    }
}

impl Shard {
    /// Makes an entry live and the most recently used of its class. Its slot is live already.
    pub(crate) fn admit(&mut self, entry: Entry, key: &[u8], new: &NewEntry<'_>, now: u32) {
        let class = entry.class();
        let at = self.store.add(entry, key, new);
        self.store.entry_mut(at).stamp(now);
        self.policy.insert(class, at);
    }

    /// Takes a live entry out of the index; its slot becomes free, or retired if it is leased.
    pub(crate) fn retire(&mut self, slots: &Slots, at: u32) {
        let entry = *self.store.entry(at);
        self.store.unlist(at);
        if entry.leases() > 0 {
            self.store.entry_mut(at).retire();
            slots.change(entry.slot, State::Live, State::Retired);
        } else {
            self.policy.remove(entry.class(), at);
            let placement = self.store.placement(at);
            self.store.discard(at);
            slots.free_from(entry.slot, State::Live, placement);
        }
    }
}
