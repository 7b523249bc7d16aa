//! Everything that decides what an index does next, in words.
//!
//! A search that cuts off what it has seen before must know all of it. So every structure is taken apart here by name:
//! a field that is added does not compile before it is said what it is.

use std::fmt;

use crate::index::Index;
use crate::shard::{Shard, ShardCell};

/// Shows a part by its name.
type Show<'a> = dyn FnMut(&str, fmt::Arguments<'_>) + 'a;

impl Index {
    /// Shows every part of the state by its name. Left out is what is only reported, and how far the recency clock has
    /// come between two stamps.
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
        } = self;
        for (number, cell) in shards.iter().enumerate() {
            cell.each_part(number, show);
        }
        slots.each_part(show);
        show(
            "index",
            format_args!("{:?}", (self.recency_now(), newest.get(), keeps_evicted)),
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
        } = self;
        let shard = shard.lock();
        let Shard {
            store,
            policy,
            moved: _,
            pending,
            freed,
            fresh,
            volatile,
            last_ticket,
            strict_ticket,
            evicted,
        } = &*shard;
        let entry = |at| {
            let entry = store.entry(at);
            let cell =
                (!entry.is_vacant()).then(|| (store.key_and_metadata(at), store.placement(at)));
            let listed = cell.and_then(|((key, _), _)| store.find(entry.hash, key));
            (entry, cell, listed)
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
                        worth
                    ),
                )
            ),
        );
    }
}
