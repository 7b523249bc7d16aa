//! SIEVE: Zhang et al., "SIEVE is simpler than LRU", NSDI 2024.

use rb_core::policy::{
    Entries, Gone, IndexError, Lookup, Note, Origin, Policies, Policy, PolicyFactory, Resident,
    Room,
};

use super::queue::{Linked, Queue};

/// Makes a [`Sieve`] for each shard.
#[derive(Debug)]
pub(super) struct SieveFactory;

impl PolicyFactory for SieveFactory {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        Ok(Policies::alone(room, || Sieve {
            linked: Linked::default(),
            entries: Vec::new(),
            classes: room.slots.iter().map(|_| Class::default()).collect(),
        }))
    }
}

/// A FIFO queue in which entries keep their places. A hand goes from the oldest to the newest and evicts the first that
/// was not visited since it last passed.
#[derive(Debug)]
struct Sieve {
    linked: Linked,
    entries: Vec<Entry>,
    classes: Vec<Class>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    visited: bool,
    pinned: bool,
}

#[derive(Debug, Default)]
struct Class {
    queue: Queue,
    hand: Option<u32>,
    pinned: usize,
}

impl Policy for Sieve {
    fn insert(&mut self, new: &Resident, _: Origin) {
        let at = new.entry as usize;
        if self.entries.len() <= at {
            self.entries.resize(at + 1, Entry::default());
        }
        self.entries[at] = Entry::default();
        let class = &mut self.classes[usize::from(new.class)];
        class.queue.push(&mut self.linked, new.entry);
    }

    fn lookup(&mut self, lookup: &Lookup) -> Note {
        if let (Some(found), true) = (lookup.found, lookup.purpose.is_use()) {
            self.entries[found.entry as usize].visited = true;
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

    fn remove(&mut self, gone: &Resident, _: Gone) {
        let class = &mut self.classes[usize::from(gone.class)];
        if class.hand == Some(gone.entry) {
            class.hand = class.queue.newer(&self.linked, gone.entry);
        }
        class.pinned -= usize::from(self.entries[gone.entry as usize].pinned);
        class.queue.take(&mut self.linked, gone.entry);
    }

    fn victim(&mut self, class: u8, _: &Entries<'_>) -> Option<u32> {
        let class = &mut self.classes[usize::from(class)];
        if class.pinned == class.queue.len {
            return None;
        }
        // Two rounds at most: the first leaves none visited.
        loop {
            let at = class.hand.or(class.queue.oldest())?;
            let entry = &mut self.entries[at as usize];
            if !entry.visited && !entry.pinned {
                class.hand = Some(at);
                return Some(at);
            }
            entry.visited = false;
            class.hand = class.queue.newer(&self.linked, at);
        }
    }

    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64> {
        let class = &self.classes[usize::from(class)];
        let next = class.hand.or(class.queue.oldest())?;
        (class.pinned < class.queue.len).then(|| entries.last_use(next))
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        let all = self.classes[usize::from(class)].queue.iter(&self.linked);
        all.filter(|&at| !self.entries[at as usize].pinned)
            .for_each(each);
    }
}
