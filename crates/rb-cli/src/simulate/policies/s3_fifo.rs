//! S3-FIFO: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.

use std::collections::{HashSet, VecDeque};

use rb_core::policy::{
    Entries, Gone, IndexError, Lookup, Note, Origin, Policies, Policy, PolicyFactory, Resident,
    Room,
};

use super::queue::{Linked, Queue};

/// Makes an [`S3Fifo`] for each shard.
#[derive(Debug)]
pub(super) struct S3FifoFactory;

impl PolicyFactory for S3FifoFactory {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        let class = |&slots: &u64| Class {
            slots: (slots as usize).div_ceil(room.shards),
            ..Class::default()
        };
        Ok(Policies::alone(room, || S3Fifo {
            linked: Linked::default(),
            entries: Vec::new(),
            classes: room.slots.iter().map(class).collect(),
        }))
    }
}

/// A small queue for what is new, a main one for what was used there, and the hashes of what left the small one unused.
#[derive(Debug)]
struct S3Fifo {
    linked: Linked,
    entries: Vec<Entry>,
    classes: Vec<Class>,
}

/// Uses that are counted.
const USES_MAX: u8 = 3;
/// Share of the small queue, in percent.
const SMALL_PERCENT: usize = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    uses: u8,
    main: bool,
    pinned: bool,
    hash: u64,
}

#[derive(Debug, Default)]
struct Class {
    slots: usize,
    small: Queue,
    main: Queue,
    pinned: usize,
    ghosts: VecDeque<u64>,
    is_ghost: HashSet<u64>,
}

impl Class {
    fn remember(&mut self, hash: u64) {
        self.ghosts.push_back(hash);
        self.is_ghost.insert(hash);
        while self.ghosts.len() > self.slots {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.is_ghost.remove(&oldest);
            }
        }
    }

    fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    fn next(&self) -> Option<u32> {
        let small = self.small.len * 100 > self.slots * SMALL_PERCENT || self.main.len == 0;
        let queue = if small { &self.small } else { &self.main };
        queue.oldest()
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, new: &Resident, _: Origin) {
        let at = new.entry as usize;
        if self.entries.len() <= at {
            self.entries.resize(at + 1, Entry::default());
        }
        let class = &mut self.classes[usize::from(new.class)];
        let main = class.is_ghost.remove(&new.hash);
        self.entries[at] = Entry {
            main,
            hash: new.hash,
            ..Entry::default()
        };
        let queue = if main {
            &mut class.main
        } else {
            &mut class.small
        };
        queue.push(&mut self.linked, new.entry);
    }

    fn lookup(&mut self, lookup: &Lookup) -> Note {
        if let (Some(found), true) = (lookup.found, lookup.purpose.is_use()) {
            let entry = &mut self.entries[found.entry as usize];
            entry.uses = USES_MAX.min(entry.uses + 1);
        }
        Note::default()
    }

    fn pin(&mut self, entry: &Resident) {
        self.entries[entry.entry as usize].pinned = true;
        self.classes[usize::from(entry.class)].pinned += 1;
    }

    fn unpin(&mut self, entry: &Resident) {
        self.entries[entry.entry as usize].pinned = false;
        self.classes[usize::from(entry.class)].pinned -= 1;
    }

    fn remove(&mut self, gone: &Resident, why: Gone) {
        let class = &mut self.classes[usize::from(gone.class)];
        let entry = self.entries[gone.entry as usize];
        class.pinned -= usize::from(entry.pinned);
        let queue = if entry.main {
            &mut class.main
        } else {
            &mut class.small
        };
        queue.take(&mut self.linked, gone.entry);
        if why == Gone::Evicted && !entry.main {
            class.remember(entry.hash);
        }
    }

    fn victim(&mut self, class: u8, _: &Entries<'_>) -> Option<u32> {
        let class = &mut self.classes[usize::from(class)];
        if class.pinned == class.len() {
            return None;
        }
        // Each turn lowers a count, or moves an entry that is in use: to the main queue once, and round it while others can go.
        loop {
            let at = class.next()?;
            let entry = &mut self.entries[at as usize];
            if entry.uses == 0 && !entry.pinned {
                return Some(at);
            }
            let queue = if entry.main {
                &mut class.main
            } else {
                &mut class.small
            };
            queue.take(&mut self.linked, at);
            entry.uses = match entry.main {
                true => entry.uses.saturating_sub(1),
                false => 0,
            };
            entry.main = true;
            class.main.push(&mut self.linked, at);
        }
    }

    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64> {
        let class = &self.classes[usize::from(class)];
        let next = class.next()?;
        (class.pinned < class.len()).then(|| entries.last_use(next))
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        let class = &self.classes[usize::from(class)];
        let all = class
            .small
            .iter(&self.linked)
            .chain(class.main.iter(&self.linked));
        all.filter(|&at| !self.entries[at as usize].pinned)
            .for_each(each);
    }
}
