//! The state behind one shard's lock, and the step shared by all ways of losing an entry.

use std::collections::VecDeque;

use crate::chosen::Chosen;
use crate::entries::Entries;
use crate::entry::Entry;
use crate::free_list::Hold;
use crate::lru::Lru;
use crate::memory::NoMemory;
use crate::note::Note;
use crate::pending::Pending;
use crate::place::Place;
use crate::policy::{Gone, Lookup, Origin, Policy, Purpose, Resident};
use crate::put::KeptEviction;
use crate::put::NewEntry;
use crate::slots::{SlotId, Slots, State};
use crate::store::Store;
use crate::sync::{Lock, Tally};
use crate::unrecorded::Unrecorded;

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) store: Store,
    pub(crate) policy: Chosen,
    /// True if this hold has inserted, used or removed an entry, so that the next victim may have
    /// changed.
    pub(crate) moved: bool,
    pub(crate) pending: Pending,
    /// Number of slots of live entries without a lease.
    pub(crate) evictable: Evictable,
    /// Slots freed by changes of this hold of the lock, with their placement ids; their state is
    /// retired until the hold is recorded.
    pub(crate) freed: Vec<(u32, u16)>,
    /// Entries that this hold has made live.
    pub(crate) fresh: Vec<u32>,
    /// Entries whose record was not durable at the last check: ticket, entry and generation.
    pub(crate) volatile: VecDeque<(u64, u32, u64)>,
    /// The ticket of the last change, and of the last strict change, which must be durable before
    /// it is acknowledged.
    pub(crate) last_ticket: u64,
    pub(crate) strict_ticket: u64,
    /// Evicted entries of which no observer has been notified.
    pub(crate) evicted: Vec<KeptEviction>,
    pub(crate) unrecorded: Unrecorded,
}

/// A shard with its lock and its counters; aligned so that two shards do not share a cache line.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct ShardCell {
    pub(crate) shard: Lock<Shard>,
    pub(crate) visits: [Tally; 3],
    pub(crate) contended: Tally,
    /// The longest wait of an operation for the lock, in nanoseconds.
    pub(crate) longest_wait: Tally,
    pub(crate) evictions: Tally,
    /// Number of victims of the policy that were refused.
    pub(crate) refused_victims: Tally,
    /// Per class, the value of the next victim of this shard, plus one, or 0 for nothing. Written
    /// when a guard is dropped; a hint where to look, never relied upon.
    pub(crate) worth: Box<[Tally]>,
    /// Per class, the slots of live entries without a lease. Written when a guard is dropped.
    pub(crate) evictable: Box<[Tally]>,
    /// Number of live entries. Written when a guard is dropped.
    pub(crate) entries: Tally,
}

/// Per class, the number of slots of a shard's live entries without a lease: those that its policy
/// may choose.
#[derive(Debug)]
pub(crate) struct Evictable(Box<[u64]>);

impl Evictable {
    fn new(classes: usize) -> Evictable {
        Evictable(vec![0; classes].into())
    }

    pub(crate) fn add(&mut self, entry: &Resident) {
        self.0[usize::from(entry.class)] += u64::from(entry.slots);
    }

    pub(crate) fn subtract(&mut self, entry: &Resident) {
        self.0[usize::from(entry.class)] -= u64::from(entry.slots);
    }

    pub(crate) fn of_classes(&self) -> &[u64] {
        &self.0
    }
}

impl ShardCell {
    pub(crate) fn new(classes: usize, expected: usize) -> Result<ShardCell, NoMemory> {
        Ok(ShardCell {
            shard: Lock::new(Shard {
                store: Store::new(expected)?,
                policy: Chosen::Lru(Lru::new(classes)),
                moved: false,
                evictable: Evictable::new(classes),
                pending: Pending::default(),
                freed: Vec::new(),
                fresh: Vec::new(),
                volatile: VecDeque::new(),
                last_ticket: 0,
                strict_ticket: 0,
                evicted: Vec::new(),
                unrecorded: Unrecorded::default(),
            }),
            visits: std::array::from_fn(|_| Tally::default()),
            contended: Tally::default(),
            longest_wait: Tally::default(),
            evictions: Tally::default(),
            refused_victims: Tally::default(),
            worth: (0..classes).map(|_| Tally::default()).collect(),
            evictable: (0..classes).map(|_| Tally::default()).collect(),
            entries: Tally::default(),
        })
    }
}

impl Shard {
    /// Notifies the policy of a lookup. Returns what it knows of the key.
    #[inline]
    pub(crate) fn looked_up(
        &mut self,
        hash: u64,
        place: Place,
        purpose: Purpose,
        found: Option<u32>,
    ) -> Note {
        if !self.policy.heeds(purpose) {
            return Note::default();
        }
        self.moved |= purpose == Purpose::Touch;
        let store = &self.store;
        let found = found.map(|at| Resident::new(at, store.entry(at)));
        self.policy.lookup(&Lookup {
            hash,
            place,
            purpose,
            found,
        })
    }

    /// Returns the entry of a class to evict next; the error is an invalid victim of the policy.
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

    /// Returns the value of the next victim of a class.
    #[inline]
    pub(crate) fn worth(&self, class: u8, now: u64) -> Option<u64> {
        self.policy.worth(class, &Entries::new(&self.store, now))
    }

    /// Makes an entry live, and used just now. Its slots are live already.
    pub(crate) fn admit(
        &mut self,
        entry: Entry,
        key: &[u8],
        new: &NewEntry<'_>,
        now: u32,
        origin: Origin,
    ) {
        let at = self.store.add(entry, key, new);
        let entry = self.store.entry_mut(at);
        entry.stamp(now);
        self.moved = true;
        let entry = Resident::new(at, entry);
        self.evictable.add(&entry);
        self.policy.insert(&entry, origin);
        self.fresh.push(at);
    }

    /// Removes a live entry from the index. Its slots are free once this hold is recorded or, if it
    /// is leased, after the last lease ends.
    pub(crate) fn retire(&mut self, slots: &Slots, at: u32, why: Gone) {
        let entry = *self.store.entry(at);
        self.store.unlist(at);
        for SlotId(slot) in self.store.slots(at) {
            slots.change(slot, State::Live, State::Retired);
        }
        self.moved = true;
        let gone = Resident::new(at, &entry);
        self.policy.remove(&gone, why);
        if entry.leases() > 0 {
            self.store.entry_mut(at).retire();
        } else {
            self.evictable.subtract(&gone);
            let placement = self.store.placement(at);
            let freed = self.store.slots(at).map(|slot| (slot.0, placement));
            self.freed.extend(freed);
            self.store.discard(at);
        }
    }

    /// Declares that the changes of this hold are durable with `ticket`.
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

    /// Returns a ticket with which the record of an entry is durable; 0 if it is already.
    ///
    /// It is the ticket of the shard's last change, which may be later than the entry's own:
    /// searching all non-durable entries for the exact one took longer than the additional wait for
    /// a later commit.
    pub(crate) fn ticket_of(&mut self, slots: &Slots, at: u32) -> u64 {
        self.settle(slots.durable.get());
        match self.store.entry(at).is_volatile() {
            true => self.last_ticket,
            false => 0,
        }
    }

    /// Returns when the slot of a retired entry whose last lease ends now may be used again.
    pub(crate) fn hold(&self, slots: &Slots) -> Hold {
        Hold {
            ticket: self.last_ticket,
            strict: self.strict_ticket > slots.durable.get(),
        }
    }
}
