//! The policy of one shard: a list of its entries for each class, in the order of their last use.

use std::fmt;

use super::class::{CLASSES, COUNT_MAX, new_part, reused};
use super::note::{Found, Verdict};
use super::shared::Shared;
use crate::chunked::Chunked;
use crate::entries::Entries;
use crate::note::Note;
use crate::policy::{Gone, Lookup, Origin, Policy, Purpose, Resident};
use crate::sync::Arc;

const NONE: u32 = u32::MAX;

/// The state of an entry: 8 bytes more than that of LRU.
#[derive(Clone, Copy, Debug)]
struct Kept {
    newer: u32,
    older: u32,
    time: u32,
    class: u8,
    count: u8,
    /// True for the last key of a chain, whose ghost is remembered for the whole window.
    last: bool,
    /// True if a probe was counted as a use, and the lookup that follows it is not. Of a pinned entry, true if the use has
    /// its time.
    flag: bool,
}

const _: () = assert!(
    size_of::<Kept>() == 16,
    "the bound of an entry's memory counts on it"
);

#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
}

pub(super) struct OfShard {
    shared: Arc<Shared>,
    shard: usize,
    kept: Chunked<Kept>,
    /// The lists of the first slot class, then those of the next one.
    lists: Box<[List]>,
}

impl OfShard {
    pub(super) fn new(shared: Arc<Shared>, shard: usize, slot_classes: usize) -> OfShard {
        let empty = List {
            newest: NONE,
            oldest: NONE,
        };
        OfShard {
            shared,
            shard,
            kept: Chunked::new(),
            lists: vec![empty; slot_classes * CLASSES].into(),
        }
    }

    /// Makes an entry the most recently used of its class.
    fn link(&mut self, slot_class: u8, entry: u32) {
        let kept = &mut self.kept[entry];
        let class = kept.class;
        let list = &mut self.lists[place(slot_class, class)];
        let older = std::mem::replace(&mut list.newest, entry);
        let first = older == NONE;
        if first {
            list.oldest = entry;
        }
        (kept.newer, kept.older) = (NONE, older);
        if first {
            self.show(slot_class, class);
        } else {
            self.kept[older].newer = entry;
        }
    }

    fn unlink(&mut self, slot_class: u8, entry: u32) {
        let Kept {
            newer,
            older,
            class,
            ..
        } = self.kept[entry];
        let list = &mut self.lists[place(slot_class, class)];
        match newer {
            NONE => list.newest = older,
            newer => self.kept[newer].older = older,
        }
        match older {
            NONE => {
                list.oldest = newer;
                self.show(slot_class, class);
            }
            older => self.kept[older].newer = newer,
        }
    }

    /// Shows the end of a list to the search.
    fn show(&self, slot_class: u8, class: u8) {
        let oldest = self.lists[place(slot_class, class)].oldest;
        let time = (oldest != NONE).then(|| self.kept[oldest].time);
        self.shared.tails.show(slot_class, self.shard, class, time);
    }

    /// Iterates over a list from the oldest entry on; ends if its links contradict each other, so that an audit ends.
    fn walk(&self, list: &List) -> impl Iterator<Item = u32> + '_ {
        let (mut at, mut older) = (list.oldest, NONE);
        std::iter::from_fn(move || {
            if at == NONE || self.kept.get(at)?.older != older {
                return None;
            }
            older = at;
            at = self.kept[older].newer;
            Some(older)
        })
    }

    fn keep(&mut self, entry: u32, kept: Kept) {
        while self.kept.len() <= entry {
            self.kept.push(kept);
        }
        self.kept[entry] = kept;
    }
}

/// The time of a use of the key at a position of a batch: the first key is the one that was used last, since the others
/// are worth nothing without it.
fn time_of(now: u32, position: u32) -> u32 {
    now.wrapping_sub(position)
}

fn place(slot_class: u8, class: u8) -> usize {
    usize::from(slot_class) * CLASSES + usize::from(class)
}

impl Policy for OfShard {
    fn insert(&mut self, new: &Resident, origin: Origin) {
        let now = self.shared.now();
        let unknown = Verdict {
            class: new_part(0, false),
            count: 0,
            last: false,
        };
        let time;
        let verdict = match origin {
            Origin::Put(place) => {
                time = time_of(now, place.position);
                let ghost = self.shared.ghosts.get(new.hash, now);
                self.shared.ghosts.remove(new.hash);
                let verdict = ghost.map_or(unknown, |known| Verdict {
                    class: known.class,
                    count: known.count,
                    last: known.strong,
                });
                self.shared.wrote(new.hash, verdict.class);
                verdict
            }
            Origin::Saved { note, uses_ago } => {
                // Lookups are most of the uses.
                let ago = u32::try_from(uses_ago).unwrap_or(u32::MAX);
                time = now.wrapping_sub(ago.min(self.shared.window));
                Verdict::read(note)
                    .filter(|verdict| usize::from(verdict.class) < CLASSES)
                    .unwrap_or(unknown)
            }
        };
        let kept = Kept {
            newer: NONE,
            older: NONE,
            time,
            class: verdict.class,
            count: verdict.count.min(COUNT_MAX),
            last: verdict.last,
            flag: false,
        };
        self.keep(new.entry, kept);
        self.link(new.class, new.entry);
    }

    fn lookup(&mut self, lookup: &Lookup) -> Note {
        let Some(found) = lookup.found else {
            return Note::default();
        };
        let (now, gaps) = (self.shared.now(), self.shared.gaps);
        let kept = &mut self.kept[found.entry];
        let gap = now.wrapping_sub(kept.time);
        let known = Found {
            count: kept.count,
            gap_level: gaps.level(gap),
            again: found.pinned,
            counted: kept.flag && !found.pinned,
        };
        match lookup.purpose {
            Purpose::Probe => {
                kept.flag |= !found.pinned;
                known.note()
            }
            Purpose::Lease => known.note(),
            // The time of a use says by its position which key of its batch was first.
            Purpose::Touch
                if found.pinned
                    || gap.saturating_sub(lookup.place.position) < self.shared.again_within =>
            {
                Found {
                    again: true,
                    ..known
                }
                .note()
            }
            Purpose::Touch => {
                let count = (kept.count + 1).min(COUNT_MAX);
                let class = reused(count, known.gap_level, lookup.place.hints.chain_ended);
                self.unlink(found.class, found.entry);
                let kept = &mut self.kept[found.entry];
                (kept.count, kept.class, kept.time) = (count, class, now);
                self.link(found.class, found.entry);
                known.note()
            }
        }
    }

    fn mark(&mut self, entry: &Resident, position: u32, note: Note) {
        if let Some(verdict) = Verdict::read(note) {
            let now = self.shared.now();
            let kept = &mut self.kept[entry.entry];
            (kept.class, kept.count, kept.last) = (verdict.class, verdict.count, verdict.last);
            (kept.time, kept.flag) = (time_of(now, position), true);
        }
    }

    fn pin(&mut self, entry: &Resident) {
        self.unlink(entry.class, entry.entry);
        self.kept[entry.entry].flag = false;
    }

    fn unpin(&mut self, entry: &Resident) {
        let now = self.shared.now();
        let kept = &mut self.kept[entry.entry];
        if !std::mem::take(&mut kept.flag) {
            // No lease was judged.
            kept.time = now;
        }
        self.link(entry.class, entry.entry);
    }

    fn remove(&mut self, gone: &Resident, why: Gone) {
        if !gone.pinned {
            self.unlink(gone.class, gone.entry);
        }
        let kept = self.kept[gone.entry];
        let age = self.shared.now().wrapping_sub(kept.time);
        if why == Gone::Evicted && age < self.shared.window {
            let ghosts = &self.shared.ghosts;
            ghosts.set(gone.hash, kept.time, kept.class, kept.count, kept.last);
        }
    }

    fn victim(&mut self, slot_class: u8, _: &Entries<'_>) -> Option<u32> {
        let values = self.shared.values();
        let tails = self.shared.tails.of_shard(slot_class, self.shard);
        let (class, _) = self.shared.judgement(values).least(tails)?;
        Some(self.lists[place(slot_class, class)].oldest)
    }

    /// The search compares the tails that the shards show; this only shows that there is something to evict.
    fn worth(&self, slot_class: u8, _: &Entries<'_>) -> Option<u64> {
        let mut classes = self.shared.tails.present(slot_class, self.shard);
        classes.next().map(|_| 1)
    }

    fn saved(&self, entry: u32) -> Note {
        self.kept.get(entry).map_or(Note::default(), |kept| {
            Verdict {
                class: kept.class,
                count: kept.count,
                last: kept.last,
            }
            .note()
        })
    }

    fn evictable(&self, slot_class: u8, each: &mut dyn FnMut(u32)) {
        let first = place(slot_class, 0);
        let lists = self.lists.get(first..first + CLASSES).unwrap_or_default();
        lists.iter().flat_map(|list| self.walk(list)).for_each(each);
    }
}

/// Prints the lists with what is kept of their entries; links of pinned or removed entries are stale.
impl fmt::Debug for OfShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = self.lists.iter().map(|list| {
            let kept = self.walk(list).map(|at| (at, self.kept[at]));
            kept.collect::<Vec<_>>()
        });
        f.debug_list().entries(lists).finish()
    }
}
