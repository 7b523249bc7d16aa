//! First in, first out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rb_core::policy::{
    Entries, Gone, IndexError, Lookup, Note, Origin, Policies, Policy, PolicyFactory, Resident,
    Room,
};

use super::queue::{Linked, Queue};

/// Makes a [`Fifo`] for each shard. They share a clock, so that the oldest entry of all shards goes.
#[derive(Debug, Default)]
pub(super) struct FifoFactory {
    clock: Arc<AtomicU64>,
}

impl PolicyFactory for FifoFactory {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        Ok(Policies::alone(room, || Fifo {
            clock: Arc::clone(&self.clock),
            linked: Linked::default(),
            entries: Vec::new(),
            queues: room.slots.iter().map(|_| Queue::default()).collect(),
        }))
    }
}

#[derive(Debug)]
struct Fifo {
    clock: Arc<AtomicU64>,
    linked: Linked,
    entries: Vec<Entry>,
    /// One for each class.
    queues: Vec<Queue>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    inserted: u64,
    pinned: bool,
}

impl Fifo {
    fn next(&self, class: u8) -> Option<u32> {
        let mut oldest_first = self.queues[usize::from(class)].iter(&self.linked);
        oldest_first.find(|&at| !self.entries[at as usize].pinned)
    }
}

impl Policy for Fifo {
    fn insert(&mut self, new: &Resident, _: Origin) {
        let at = new.entry as usize;
        if self.entries.len() <= at {
            self.entries.resize(at + 1, Entry::default());
        }
        self.entries[at] = Entry {
            inserted: self.clock.fetch_add(1, Ordering::Relaxed),
            pinned: false,
        };
        self.queues[usize::from(new.class)].push(&mut self.linked, new.entry);
    }

    fn lookup(&mut self, _: &Lookup) -> Note {
        Note::default()
    }

    fn pin(&mut self, entry: &Resident) {
        self.entries[entry.entry as usize].pinned = true;
    }

    fn unpin(&mut self, entry: &Resident) {
        self.entries[entry.entry as usize].pinned = false;
    }

    fn remove(&mut self, gone: &Resident, _: Gone) {
        self.queues[usize::from(gone.class)].take(&mut self.linked, gone.entry);
    }

    fn victim(&mut self, class: u8, _: &Entries<'_>) -> Option<u32> {
        self.next(class)
    }

    fn worth(&self, class: u8, _: &Entries<'_>) -> Option<u64> {
        let next = self.next(class)?;
        Some(self.entries[next as usize].inserted)
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        let all = self.queues[usize::from(class)].iter(&self.linked);
        all.filter(|&at| !self.entries[at as usize].pinned)
            .for_each(each);
    }
}
