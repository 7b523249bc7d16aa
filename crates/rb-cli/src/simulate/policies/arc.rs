//! ARC: Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003.

use std::collections::{BTreeMap, HashMap};

use rb_core::policy::{
    Entries, Gone, IndexError, Lookup, Note, Origin, Policies, Policy, PolicyFactory, Resident,
    Room,
};

use super::queue::{Linked, Queue};

/// Makes an [`Arc`] for each shard.
#[derive(Debug)]
pub(super) struct ArcFactory;

impl PolicyFactory for ArcFactory {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        let class = |&slots: &u64| Class {
            slots: (slots as usize).div_ceil(room.shards),
            ..Class::default()
        };
        Ok(Policies::alone(room, || Arc {
            linked: Linked::default(),
            entries: Vec::new(),
            classes: room.slots.iter().map(class).collect(),
        }))
    }
}

/// Entries used once and entries used again, each least recently used first, with the hashes of what left them. A hit in
/// such a ghost list makes room for its kind.
#[derive(Debug)]
struct Arc {
    linked: Linked,
    entries: Vec<Entry>,
    classes: Vec<Class>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    again: bool,
    pinned: bool,
    hash: u64,
}

#[derive(Debug, Default)]
struct Class {
    slots: usize,
    once: Queue,
    again: Queue,
    once_ghosts: Ghosts,
    again_ghosts: Ghosts,
    /// The number of entries used once that are kept, p in the paper.
    wanted_once: usize,
}

/// Hashes in the order in which they came.
#[derive(Debug, Default)]
struct Ghosts {
    by_age: BTreeMap<u64, u64>,
    ages: HashMap<u64, u64>,
    clock: u64,
}

impl Ghosts {
    fn len(&self) -> usize {
        self.ages.len()
    }

    fn push(&mut self, hash: u64) {
        self.take(hash);
        self.clock += 1;
        self.by_age.insert(self.clock, hash);
        self.ages.insert(hash, self.clock);
    }

    fn take(&mut self, hash: u64) -> bool {
        let age = self.ages.remove(&hash);
        age.is_some_and(|age| self.by_age.remove(&age).is_some())
    }

    fn pop_oldest(&mut self) {
        if let Some((_, hash)) = self.by_age.pop_first() {
            self.ages.remove(&hash);
        }
    }
}

impl Class {
    fn queue(&mut self, again: bool) -> &mut Queue {
        match again {
            true => &mut self.again,
            false => &mut self.once,
        }
    }

    /// Keeps at most as many ghosts as the paper: with the entries used once one capacity, and two in all.
    fn limit_ghosts(&mut self) {
        while self.once.len + self.once_ghosts.len() > self.slots && self.once_ghosts.len() > 0 {
            self.once_ghosts.pop_oldest();
        }
        let all = self.once.len + self.again.len + self.once_ghosts.len();
        while all + self.again_ghosts.len() > 2 * self.slots && self.again_ghosts.len() > 0 {
            self.again_ghosts.pop_oldest();
        }
    }

    fn missed(&mut self, hash: u64) {
        let (once, again) = (self.once_ghosts.len(), self.again_ghosts.len());
        if self.once_ghosts.ages.contains_key(&hash) {
            let step = (again / once.max(1)).max(1);
            self.wanted_once = (self.wanted_once + step).min(self.slots);
        } else if self.again_ghosts.ages.contains_key(&hash) {
            let step = (once / again.max(1)).max(1);
            self.wanted_once = self.wanted_once.saturating_sub(step);
        }
    }
}

impl Arc {
    /// Returns the next victim: of the entries used once if there are more than wanted.
    fn next(&self, class: u8) -> Option<u32> {
        let class = &self.classes[usize::from(class)];
        let first = |queue: &Queue| {
            let mut oldest_first = queue.iter(&self.linked);
            oldest_first.find(|&at| !self.entries[at as usize].pinned)
        };
        let (once, again) = (|| first(&class.once), || first(&class.again));
        match class.once.len > class.wanted_once {
            true => once().or_else(again),
            false => again().or_else(once),
        }
    }

    fn moved(&mut self, entry: &Resident, again: bool) {
        let known = &mut self.entries[entry.entry as usize];
        let class = &mut self.classes[usize::from(entry.class)];
        class.queue(known.again).take(&mut self.linked, entry.entry);
        known.again = again;
        class.queue(again).push(&mut self.linked, entry.entry);
    }
}

impl Policy for Arc {
    fn insert(&mut self, new: &Resident, _: Origin) {
        let at = new.entry as usize;
        if self.entries.len() <= at {
            self.entries.resize(at + 1, Entry::default());
        }
        let class = &mut self.classes[usize::from(new.class)];
        let again = class.once_ghosts.take(new.hash) | class.again_ghosts.take(new.hash);
        self.entries[at] = Entry {
            again,
            pinned: false,
            hash: new.hash,
        };
        class.queue(again).push(&mut self.linked, new.entry);
        class.limit_ghosts();
    }

    fn lookup(&mut self, lookup: &Lookup) -> Note {
        match lookup.found {
            Some(found) if lookup.purpose.is_use() => self.moved(&found, true),
            Some(_) => {}
            // The classes of a store hold different values, so a ghost is in one of them.
            None => {
                let missed = |class: &mut Class| class.missed(lookup.hash);
                self.classes.iter_mut().for_each(missed);
            }
        }
        Note::default()
    }

    fn pin(&mut self, entry: &Resident) {
        self.entries[entry.entry as usize].pinned = true;
    }

    fn unpin(&mut self, entry: &Resident) {
        self.entries[entry.entry as usize].pinned = false;
        let again = self.entries[entry.entry as usize].again;
        self.moved(entry, again);
    }

    fn remove(&mut self, gone: &Resident, why: Gone) {
        let entry = self.entries[gone.entry as usize];
        let class = &mut self.classes[usize::from(gone.class)];
        class.queue(entry.again).take(&mut self.linked, gone.entry);
        if why == Gone::Evicted {
            let ghosts = match entry.again {
                true => &mut class.again_ghosts,
                false => &mut class.once_ghosts,
            };
            ghosts.push(entry.hash);
            class.limit_ghosts();
        }
    }

    fn victim(&mut self, class: u8, _: &Entries<'_>) -> Option<u32> {
        self.next(class)
    }

    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64> {
        Some(entries.last_use(self.next(class)?))
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        let class = &self.classes[usize::from(class)];
        let all = class.once.iter(&self.linked);
        let all = all.chain(class.again.iter(&self.linked));
        all.filter(|&at| !self.entries[at as usize].pinned)
            .for_each(each);
    }
}
