//! Least recently used: the default policy.

use std::fmt;

use crate::chunked::Chunked;
use crate::entries::Entries;
use crate::note::Note;
use crate::policy::{Gone, Lookup, Origin, Policy, Purpose, Resident};

const NONE: u32 = u32::MAX;

/// Exact least recently used.
///
/// One doubly linked list per class; the links take 8 bytes per entry. Best of FIFO, S3-FIFO, SIEVE
/// and LRU as measured on production key-value-cache traces (27.9 % hits at a tenth of the
/// capacity).
pub struct Lru {
    links: Chunked<Links>,
    lists: Box<[List]>,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
}

impl Lru {
    /// Creates an empty policy for `classes` slot classes.
    #[must_use]
    pub fn new(classes: usize) -> Lru {
        let lists = vec![
            List {
                newest: NONE,
                oldest: NONE
            };
            classes
        ]
        .into_boxed_slice();
        Lru {
            links: Chunked::new(),
            lists,
        }
    }

    fn push_newest(&mut self, class: u8, entry: u32) {
        while self.links.len() <= entry {
            self.links.push(Links {
                newer: NONE,
                older: NONE,
            });
        }
        let list = &mut self.lists[usize::from(class)];
        let older = std::mem::replace(&mut list.newest, entry);
        if older == NONE {
            list.oldest = entry;
        } else {
            self.links[older].newer = entry;
        }
        self.links[entry] = Links { newer: NONE, older };
    }

    fn unlink(&mut self, class: u8, entry: u32) {
        let Links { newer, older } = self.links[entry];
        let list = &mut self.lists[usize::from(class)];
        if newer == NONE {
            list.newest = older;
        } else {
            self.links[newer].older = older;
        }
        if older == NONE {
            list.oldest = newer;
        } else {
            self.links[older].newer = newer;
        }
    }

    /// Iterates over the unpinned entries of a class, least recently used first; stops if the links
    /// contradict each other, so that an audit terminates.
    fn walk(&self, class: u8) -> impl Iterator<Item = u32> + '_ {
        let first = self
            .lists
            .get(usize::from(class))
            .map_or(NONE, |list| list.oldest);
        let mut at = first;
        let mut older = NONE;
        std::iter::from_fn(move || {
            if at == NONE || self.links[at].older != older {
                return None;
            }
            older = at;
            at = self.links[older].newer;
            Some(older)
        })
    }

    fn oldest(&self, class: u8) -> Option<u32> {
        let oldest = self.lists.get(usize::from(class))?.oldest;
        (oldest != NONE).then_some(oldest)
    }
}

impl Policy for Lru {
    #[inline]
    fn insert(&mut self, new: &Resident, _: Origin) {
        self.push_newest(new.class, new.entry);
    }

    #[inline]
    fn lookup(&mut self, lookup: &Lookup) -> Note {
        // A lease counts as a use when it ends.
        if lookup.purpose == Purpose::Touch
            && let Some(found) = lookup.found
            && !found.pinned
            && self.lists[usize::from(found.class)].newest != found.entry
        {
            self.unlink(found.class, found.entry);
            self.push_newest(found.class, found.entry);
        }
        Note::default()
    }

    #[inline]
    fn pin(&mut self, entry: &Resident) {
        // A pinned entry leaves the list, so the search for a victim never walks over leased
        // entries.
        self.unlink(entry.class, entry.entry);
    }

    #[inline]
    fn unpin(&mut self, entry: &Resident) {
        self.push_newest(entry.class, entry.entry);
    }

    #[inline]
    fn remove(&mut self, gone: &Resident, _: Gone) {
        if !gone.pinned {
            self.unlink(gone.class, gone.entry);
        }
    }

    #[inline]
    fn victim(&mut self, class: u8, _: &Entries<'_>) -> Option<u32> {
        self.oldest(class)
    }

    #[inline]
    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64> {
        Some(entries.last_use(self.oldest(class)?))
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        self.walk(class).for_each(each);
    }
}

/// Prints the order, the only state that matters; links of pinned or removed entries are stale.
impl fmt::Debug for Lru {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = (0..=u8::MAX).take(self.lists.len());
        let order = classes.map(|class| self.walk(class).collect::<Vec<u32>>());
        f.debug_list().entries(order).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use crate::store::Store;

    fn order(lru: &Lru, class: u8) -> Vec<u32> {
        lru.walk(class).collect()
    }

    fn entry(class: u8, entry: u32) -> Resident {
        Resident {
            entry,
            class,
            pinned: false,
            slots: 1,
            payload_len: 1,
            hash: 7,
        }
    }

    #[test]
    fn use_moves_to_the_newest_end_and_pins_leave_the_list() {
        let store = Store::new(0).unwrap();
        let entries = Entries::new(&store, 1 << 32);
        let mut lru = Lru::new(2);
        let saved = Origin::Saved {
            note: Note::default(),
            uses_ago: 0,
        };
        for number in 0..4 {
            lru.insert(&entry(0, number), saved);
        }
        lru.insert(&entry(1, 4), saved);
        let look = |lru: &mut Lru, purpose, number, pinned| {
            let found = Resident {
                pinned,
                ..entry(0, number)
            };
            lru.lookup(&Lookup {
                hash: 7,
                place: Place::default(),
                purpose,
                found: Some(found),
            });
        };
        look(&mut lru, Purpose::Touch, 1, false);
        look(&mut lru, Purpose::Probe, 0, false);
        look(&mut lru, Purpose::Lease, 0, false);
        assert_eq!(order(&lru, 0), [0, 2, 3, 1]);
        lru.pin(&entry(0, 0));
        look(&mut lru, Purpose::Touch, 0, true);
        assert_eq!(lru.victim(0, &entries), Some(2));
        lru.remove(&entry(0, 3), Gone::Removed);
        lru.unpin(&entry(0, 0));
        assert_eq!(order(&lru, 0), [2, 1, 0]);
        assert_eq!(order(&lru, 1), [4]);
        assert_eq!(format!("{lru:?}"), "[[2, 1, 0], [4]]");
        lru.pin(&entry(0, 2));
        lru.remove(
            &Resident {
                pinned: true,
                ..entry(0, 2)
            },
            Gone::Replaced,
        );
        assert_eq!(order(&lru, 0), [1, 0]);
        assert_eq!(lru.victim(9, &entries), None);
    }
}
