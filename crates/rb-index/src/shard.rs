//! The state behind one shard's lock, and the step that every way of losing an entry shares.

use std::collections::VecDeque;

use crate::chosen::Chosen;
use crate::entries::Entries;
use crate::entry::Entry;
use crate::free_list::Hold;
use crate::lru::Lru;
use crate::memory::NoMemory;
use crate::pending::Pending;
use crate::place::Place;
use crate::policy::{Gone, Lookup, Policy, Purpose, Resident};
use crate::put::KeptEviction;
use crate::put::NewEntry;
use crate::slots::{Slots, State};
use crate::store::Store;
use crate::sync::{Lock, Tally};

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) store: Store,
    pub(crate) policy: Chosen,
    /// Whether this hold has inserted, used or removed an entry, so that another may be the next victim.
    pub(crate) moved: bool,
    pub(crate) pending: Pending,
    /// Slots that changes of this hold of the lock have freed, with their placement ids; their state is retired
    /// until the hold is recorded.
    pub(crate) freed: Vec<(u32, u16)>,
    /// Entries that this hold has made live.
    pub(crate) fresh: Vec<u32>,
    /// Entries whose record was not durable when last looked at: ticket, entry and generation.
    pub(crate) volatile: VecDeque<(u64, u32, u64)>,
    /// The ticket of the last change, and of the last one that was to be durable before it was acknowledged.
    pub(crate) last_ticket: u64,
    pub(crate) strict_ticket: u64,
    /// Evicted entries of which no observer has been notified.
    pub(crate) evicted: Vec<KeptEviction>,
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
    /// Victims of the policy that were none.
    pub(crate) refused_victims: Tally,
    /// Per class, what the next victim of this shard is worth, plus one, or 0 for nothing. Written
    /// when a guard goes; a hint of where to look, never proof of anything.
    pub(crate) worth: Box<[Tally]>,
}

impl ShardCell {
    pub(crate) fn new(classes: usize, expected: usize) -> Result<ShardCell, NoMemory> {
        Ok(ShardCell {
            shard: Lock::new(Shard {
                store: Store::new(expected)?,
                policy: Chosen::Lru(Lru::new(classes)),
                moved: false,
                pending: Pending::default(),
                freed: Vec::new(),
                fresh: Vec::new(),
                volatile: VecDeque::new(),
                last_ticket: 0,
                strict_ticket: 0,
                evicted: Vec::new(),
            }),
            visits: std::array::from_fn(|_| Tally::default()),
            contended: Tally::default(),
            longest_wait: Tally::default(),
            evictions: Tally::default(),
            refused_victims: Tally::default(),
            worth: (0..classes).map(|_| Tally::default()).collect(),
        })
    }
}

impl Shard {
    /// Notifies the policy of a lookup.
    #[inline]
    pub(crate) fn looked_up(
        &mut self,
        hash: u64,
        place: Place,
        purpose: Purpose,
        found: Option<u32>,
    ) {
        if !self.policy.heeds(purpose) {
            return;
        }
        self.moved |= purpose == Purpose::Touch;
        let store = &self.store;
        let found = found.map(|at| Resident::new(at, store.entry(at)));
        self.policy.lookup(&Lookup {
            hash,
            place,
            purpose,
            found,
        });
    }

    /// The entry of a class to evict next; the error is a victim of the policy that is none.
    pub(crate) fn victim(&mut self, class: u8, now: u64) -> Result<Option<u32>, u32> {
        let entries = Entries::new(&self.store, now);
        let Some(at) = self.policy.victim(class, &entries) else {
            return Ok(None);
        };
        match at < self.store.end() && self.store.entry(at).is_evictable(class) {
            true => Ok(Some(at)),
            false => Err(at),
        }
    }

    /// What the next victim of a class is worth.
    #[inline]
    pub(crate) fn worth(&self, class: u8, now: u64) -> Option<u64> {
        self.policy.worth(class, &Entries::new(&self.store, now))
    }

    /// Makes an entry live, and used just now. Its slot is live already.
    pub(crate) fn admit(
        &mut self,
        entry: Entry,
        key: &[u8],
        new: &NewEntry<'_>,
        now: u32,
        place: Option<Place>,
    ) {
        let at = self.store.add(entry, key, new);
        let entry = self.store.entry_mut(at);
        entry.stamp(now);
        self.moved = true;
        self.policy.insert(&Resident::new(at, entry), place);
        self.fresh.push(at);
    }

    /// Takes a live entry out of the index. Its slot is free once this hold is recorded, or if it is leased, after the
    /// last lease ends.
    pub(crate) fn retire(&mut self, slots: &Slots, at: u32, why: Gone) {
        let entry = *self.store.entry(at);
        self.store.unlist(at);
        slots.change(entry.slot, State::Live, State::Retired);
        self.moved = true;
        self.policy.remove(&Resident::new(at, &entry), why);
        if entry.leases() > 0 {
            self.store.entry_mut(at).retire();
        } else {
            let placement = self.store.placement(at);
            self.store.discard(at);
            self.freed.push((entry.slot, placement));
        }
    }

    /// The changes of this hold are durable with `ticket`.
    pub(crate) fn record(&mut self, slots: &Slots, ticket: u64, strict: bool) {
        self.last_ticket = self.last_ticket.max(ticket);
        if strict {
            self.strict_ticket = self.last_ticket;
        }
        let hold = Hold { ticket, strict };
        for (slot, placement) in self.freed.drain(..) {
            slots.free_from(slot, State::Retired, placement, hold);
        }
        let durable = slots.durable.get();
        for at in self.fresh.drain(..) {
            if ticket > durable {
                let entry = self.store.entry_mut(at);
                entry.set_volatile(true);
                self.volatile.push_back((ticket, at, entry.generation));
            }
        }
        self.settle(durable);
    }

    /// Unmarks the entries whose records are durable by now.
    fn settle(&mut self, durable: u64) {
        while let Some(&(ticket, at, generation)) = self.volatile.front()
            && ticket <= durable
        {
            self.volatile.pop_front();
            let entry = self.store.entry_mut(at);
            if !entry.is_vacant() && entry.generation == generation {
                entry.set_volatile(false);
            }
        }
    }

    /// A ticket with which the record of an entry is durable; 0 if it is already.
    ///
    /// It is that of the shard's last change, which may be later than the entry's own: to find that one among all that
    /// are not durable took longer than the commit that is waited for does more.
    pub(crate) fn ticket_of(&mut self, slots: &Slots, at: u32) -> u64 {
        self.settle(slots.durable.get());
        match self.store.entry(at).is_volatile() {
            true => self.last_ticket,
            false => 0,
        }
    }

    /// When the slot of a retired entry may be used again whose last lease ends now.
    pub(crate) fn hold(&self, slots: &Slots) -> Hold {
        Hold {
            ticket: self.last_ticket,
            strict: self.strict_ticket > slots.durable.get(),
        }
    }
}
