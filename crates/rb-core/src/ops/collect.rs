//! Takes slots for puts: free ones first, all of a class in one call, then those of evicted entries.
//!
//! Entries are evicted from the shard whose entries are worth least, one shard at a time. These
//! lock holds come in addition to those for the batch's own keys.
//!
//! A put of several slots gets all of them or none. While it takes them, no other put evicts in the
//! class: two that evicted together could each get half and fail, with everything evicted for
//! nothing. The right to evict is never held over I/O or a call of the observer.

use std::time::Duration;

use rb_index::{Evicted, LockPurpose, SlotId};

use crate::core::inner::Inner;
use crate::core::pieces::SlotIds;
use crate::core::writer::Writer;
use crate::error::Error;
use crate::events::Event;
use crate::simulator::{Change, SwitchPoint};

/// Most commits for one put that finds only slots waiting for a commit. The number is bounded
/// because other puts may take the slots that each commit frees.
const COMMITS_MAX: usize = 16;

/// Takes slots for the puts of one batch.
pub(crate) struct Collector<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) writer: &'a Writer,
    /// Slots last written with this placement id are preferred; 0 for none.
    pub(crate) near: u16,
    /// False if a put whose slots wait for a commit fails with `Busy` instead.
    pub(crate) may_commit: bool,
}

/// Slots that a put took without evicting.
#[derive(Default)]
struct Free {
    slots: Vec<SlotId>,
    /// The position of the first one that was taken early.
    early: usize,
}

impl Collector<'_> {
    /// Takes up to a slot of a class for each value of one slot: free ones first, then evicted ones, then
    /// any freed in the meantime. While slots wait for a commit and no others are left, it commits and
    /// tries again. Evicts nothing for the first value that the policy refuses
    /// ([`Index::evict_for`](rb_index::Index::evict_for)) and those after it, and then returns true, too.
    pub(crate) fn take(
        &self,
        class: u8,
        hashes: &[Option<u64>],
    ) -> Result<(Vec<SlotId>, bool), Error> {
        let count = hashes.len();
        let mut slots = Vec::with_capacity(count);
        for _ in 0..COMMITS_MAX {
            self.take_free(class, count, &mut slots);
            if slots.len() < count {
                if self.evict(class, hashes, &mut slots) {
                    return Ok((slots, true));
                }
                self.take_free(class, count, &mut slots);
            }
            if slots.len() == count {
                break;
            }
            if !self.inner.index.awaits_durability(class) {
                // A concurrent commit may have freed the slots that waited at the last look.
                self.take_free(class, count, &mut slots);
                break;
            }
            if let Err(error) = self.commit() {
                self.inner.index.give_back(&slots);
                return Err(error);
            }
        }
        Ok((slots, false))
    }

    /// Takes `count` slots of a class for one value, all or none. `None` means that there are not
    /// so many that are free or could be evicted; then nothing is evicted, unless a reader leased an
    /// entry between that look and its eviction.
    pub(crate) fn take_together(&self, class: u8, count: usize) -> Result<Option<SlotIds>, Error> {
        let index = &self.inner.index;
        for _ in 0..COMMITS_MAX {
            let (mut free, mut evicted) = (Free::default(), Vec::new());
            let mut freed = 0;
            {
                let _alone = self.writer.evicting[usize::from(class)].write();
                if index.free(class) + index.evictable(class) < count as u64 {
                    return Ok(None);
                }
                free.take(self, class, count);
                let missing = count - free.slots.len();
                if missing > 0 && index.evictable(class) >= missing as u64 {
                    freed = index.evict_least(class, missing, &mut evicted);
                }
            }
            self.report_evicted(&evicted);
            self.took(&free);
            self.notify_evicted(&evicted);
            let mut slots: SlotIds = free.slots.iter().copied().collect();
            slots.extend(evicted.iter().flat_map(Evicted::slots));
            if free.slots.len() + freed >= count {
                // The last entry evicted may have had more slots than were missing.
                index.free_evicted(&slots[count..]);
                slots.truncate(count);
                // Neighbours on the device are read and written in its order.
                slots.sort_unstable();
                return Ok(Some(slots));
            }
            index.free_evicted(&slots[free.slots.len()..]);
            index.give_back(&free.slots);
            // No slot is held here: others must be able to finish while this one waits. If nothing waits
            // for a commit, others have committed, leased or taken something since that look: the
            // next one decides.
            if index.awaits_durability(class) {
                self.commit()?;
            }
        }
        Ok(None)
    }

    fn commit(&self) -> Result<(), Error> {
        match self.may_commit {
            true => self.inner.commit(self.writer),
            false => Err(Error::Busy {
                what: "slots that wait for a commit",
                waited: Duration::ZERO,
            }),
        }
    }

    /// Takes free slots until there are `count`.
    fn take_free(&self, class: u8, count: usize, slots: &mut Vec<SlotId>) {
        assert!(slots.len() <= count, "no more slots are taken than wanted");
        let mut free = Free::default();
        free.take(self, class, count - slots.len());
        self.took(&free);
        slots.append(&mut free.slots);
    }

    fn took(&self, free: &Free) {
        let (ready, early) = free.slots.split_at(free.early);
        self.taken(early, true);
        self.taken(ready, false);
        self.inner.switch(SwitchPoint::SlotsTaken);
    }

    fn taken(&self, slots: &[SlotId], early: bool) {
        for slot in slots {
            let slot = slot.0;
            self.inner.changed(&Change::Taken { slot, early });
        }
    }

    /// Evicts entries until there is a slot for each value. Returns true if the policy has refused one.
    fn evict(&self, class: u8, hashes: &[Option<u64>], slots: &mut Vec<SlotId>) -> bool {
        let (index, mut evicted) = (&self.inner.index, Vec::new());
        let (_, refused) = {
            let _shared = self.writer.evicting[usize::from(class)].read();
            index.evict_for(class, &hashes[slots.len()..], &mut evicted)
        };
        self.report_evicted(&evicted);
        self.notify_evicted(&evicted);
        slots.extend(evicted.iter().flat_map(Evicted::slots));
        // The last entry may have had more slots than were missing.
        let count = hashes.len();
        index.free_evicted(slots.get(count..).unwrap_or_default());
        slots.truncate(count);
        refused
    }

    /// Reports evictions to the simulator, before any other operation runs: these keys have no values from here on.
    fn report_evicted(&self, evicted: &[Evicted]) {
        for gone in evicted {
            let slots: SlotIds = gone.slots().collect();
            self.inner.changed(&Change::Evicted {
                key: &gone.key,
                generation: gone.generation,
                slots: &slots,
            });
            self.taken(&slots, false);
        }
    }

    /// Notifies the observer before any of the evictions can become durable, and before any of the
    /// slots can be written.
    fn notify_evicted(&self, evicted: &[Evicted]) {
        let inner = self.inner;
        inner.switch(SwitchPoint::Evicted);
        let is_observed = inner.options.events.is_some();
        if is_observed || inner.counters.trace.reports_evictions() {
            for gone in evicted {
                let (key, generation) = (&*gone.key, gone.generation);
                inner.emit(&Event::Evicted {
                    key,
                    generation,
                    len: gone.payload_len,
                    class: gone.class,
                });
                if is_observed {
                    // From here on a base may omit the entry.
                    let shard = inner.index.shard_of(gone.hash);
                    let mut shard = inner.index.lock(shard, LockPurpose::Eviction);
                    shard.delivered(key, generation);
                }
            }
        }
        inner.switch(SwitchPoint::EvictionsNotified);
    }
}

impl Free {
    /// Takes up to `count` free slots. Those whose former value may still be needed after a crash
    /// come last.
    fn take(&mut self, collector: &Collector<'_>, class: u8, count: usize) {
        let index = &collector.inner.index;
        self.early = index.take_free_near(class, count, collector.near, &mut self.slots);
        if self.early < count {
            index.take_early(class, count - self.early, &mut self.slots);
        }
    }
}
