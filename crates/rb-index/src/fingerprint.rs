//! Lists everything that determines the next actions of an index, as text.
//!
//! A state search that prunes known states must know all of it. So every structure is destructured
//! here by name: a new field does not compile until it is either listed or excluded.

use std::fmt;

use crate::index::Index;
use crate::shard::{Shard, ShardCell};

/// Receives a part of the state with its name.
type Show<'a> = dyn FnMut(&str, fmt::Arguments<'_>) + 'a;

impl Index {
    /// Passes every part of the state with its name to `show`. Excludes reported statistics, and
    /// the position of the recency clock between two stamps.
    #[doc(hidden)]
    pub fn each_part(&self, show: &mut Show<'_>) {
        let Index {
            shards,
            shard_bits: _,
            hasher: _,
            slots,
            tick: _,
            newest,
            keeps_evicted,
            bases,
            shared,
            fetch: _,
        } = self;
        for (number, cell) in shards.iter().enumerate() {
            cell.each_part(number, show);
        }
        slots.each_part(show);
        show(
            "index",
            format_args!(
                "{:?}",
                (
                    self.recency_now(),
                    newest.get(),
                    keeps_evicted,
                    bases,
                    shared
                )
            ),
        );
    }
}

impl ShardCell {
    fn each_part(&self, number: usize, show: &mut Show<'_>) {
        let ShardCell {
            shard,
            visits: _,
            contended: _,
            longest_wait: _,
            evictions: _,
            refused_victims: _,
            worth,
            evictable: _,
            entries: _,
        } = self;
        let shard = shard.lock();
        let Shard {
            store,
            policy,
            moved: _,
            // Follows from the entries.
            evictable: _,
            pending,
            freed,
            fresh,
            volatile,
            last_ticket,
            strict_ticket,
            evicted,
            unrecorded,
        } = &*shard;
        let entry = |at| {
            let entry = store.entry(at);
            let cell =
                (!entry.is_vacant()).then(|| (store.key_and_metadata(at), store.placement(at)));
            let more = (!entry.is_vacant()).then(|| store.more(at));
            let listed = cell.and_then(|((key, _), _)| store.find(entry.hash, key));
            (entry, cell, more, listed)
        };
        let entries: Vec<_> = (0..store.end()).map(entry).collect();
        show(
            &format!("shard {number}"),
            format_args!(
                "{:?}",
                (
                    (entries, store.first_vacant(), policy, pending.sorted()),
                    (
                        freed,
                        fresh,
                        volatile,
                        last_ticket,
                        strict_ticket,
                        evicted,
                        unrecorded,
                        worth
                    ),
                )
            ),
        );
    }
}
