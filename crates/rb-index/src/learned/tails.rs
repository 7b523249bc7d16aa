//! The ends of the lists of all shards, and the search for the next victim among them.

use super::ages::Ages;
use super::class::CLASSES;
use super::duel::Arm;
use super::value::Values;
use crate::sync::{Meeting, Tally, Tally32};

/// Shards that the search looks at each time: once for the admission of a key, and once for the eviction.
const LOOKS: usize = 4;

const _: () = assert!(
    CLASSES <= u64::BITS as usize,
    "the classes of a shard are bits"
);

/// For each slot class, shard and class the time of the least recently used entry. Written under the lock of the shard,
/// and read without it: a hint.
#[derive(Debug)]
pub(super) struct Tails {
    shards: usize,
    /// 0 for none; a time of 0 is shown as 1.
    times: Box<[Tally32]>,
    /// For each slot class and shard the classes that have an entry.
    present: Box<[Tally]>,
    /// Where the threads that show and those that search meet.
    meeting: Meeting,
}

impl Tails {
    pub(super) fn new(slot_classes: usize, shards: usize) -> Tails {
        let count = slot_classes * shards * CLASSES;
        Tails {
            shards,
            times: (0..count).map(|_| Tally32::default()).collect(),
            present: (0..slot_classes * shards)
                .map(|_| Tally::default())
                .collect(),
            meeting: Meeting::new(),
        }
    }

    /// The caller holds the lock of the shard.
    pub(super) fn show(&self, slot_class: u8, shard: usize, class: u8, time: Option<u32>) {
        self.meeting.meet();
        let shown = time.map_or(0, |time| time.max(1));
        self.times[self.place(slot_class, shard) * CLASSES + usize::from(class)].set(shown);
        let present = &self.present[self.place(slot_class, shard)];
        let bit = 1 << class;
        present.set(match time {
            Some(_) => present.get() | bit,
            None => present.get() & !bit,
        });
    }

    /// Iterates over the classes of a shard that have an entry. Under its lock they are exact.
    #[inline]
    pub(super) fn present(&self, slot_class: u8, shard: usize) -> impl Iterator<Item = u8> + use<> {
        let shown = self.present.get(self.place(slot_class, shard));
        let mut left = shown.map_or(0, Tally::get);
        std::iter::from_fn(move || {
            let class = (left != 0).then(|| left.trailing_zeros() as u8)?;
            left &= left - 1;
            Some(class)
        })
    }

    /// The same with the times of the tails.
    #[inline]
    pub(super) fn of_shard(
        &self,
        slot_class: u8,
        shard: usize,
    ) -> impl Iterator<Item = (u8, u32)> + '_ {
        let classes = self.present(slot_class, shard);
        classes.filter_map(move |class| Some((class, self.get(slot_class, shard, class)?)))
    }

    fn get(&self, slot_class: u8, shard: usize, class: u8) -> Option<u32> {
        self.meeting.meet();
        let place = self.place(slot_class, shard) * CLASSES + usize::from(class);
        let shown = self.times[place].get();
        (shown != 0).then_some(shown)
    }

    #[inline]
    fn place(&self, slot_class: u8, shard: usize) -> usize {
        usize::from(slot_class) * self.shards + shard
    }
}

/// The search for the next victim of a slot class. It remembers of each class the oldest tail that it has seen, and looks
/// at a few more shards each time.
#[derive(Debug)]
pub(super) struct Search {
    slot_class: u8,
    oldest: [Option<Tail>; CLASSES],
    /// The shard to look at next.
    turn: usize,
}

#[derive(Clone, Copy, Debug)]
struct Tail {
    shard: usize,
    time: u32,
}

/// The shard to evict from, and the value of its victim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Next {
    pub(super) shard: usize,
    pub(super) value: f32,
}

/// How to compare tails.
pub(super) struct Judgement<'a> {
    pub(super) now: u32,
    pub(super) ages: &'a Ages,
    pub(super) values: &'a Values,
    pub(super) arm: Arm,
}

impl Judgement<'_> {
    /// Returns the value of an entry, which is 0 for LRU.
    #[inline]
    pub(super) fn value(&self, class: u8, time: u32) -> f32 {
        match self.arm {
            Arm::Lru => 0.0,
            Arm::Learned { .. } => {
                let age = self.now.wrapping_sub(time);
                self.values.of(class, self.ages.bucket(age))
            }
        }
    }

    /// Returns the class whose entry is worth least, the oldest of those that are worth the same.
    pub(super) fn least(&self, tails: impl Iterator<Item = (u8, u32)>) -> Option<(u8, f32)> {
        let mut least: Option<(u8, f32, u32)> = None;
        for (class, time) in tails {
            let (value, age) = (self.value(class, time), self.now.wrapping_sub(time));
            let is_less = |(_, least, oldest)| value < least || value == least && age > oldest;
            if least.is_none_or(is_less) {
                least = Some((class, value, age));
            }
        }
        least.map(|(class, value, _)| (class, value))
    }
}

impl Search {
    pub(super) fn new(slot_class: u8) -> Search {
        Search {
            slot_class,
            oldest: [None; CLASSES],
            turn: 0,
        }
    }

    /// Returns the shard to evict from next; `None` if no shard shows an entry.
    pub(super) fn next(&mut self, tails: &Tails, judgement: &Judgement<'_>) -> Option<Next> {
        for _ in 0..LOOKS.min(tails.shards) {
            self.look(tails, judgement.now);
        }
        // Each turn corrects what is remembered of a class, or ends.
        for _ in 0..2 * CLASSES {
            let remembered = self.oldest.iter().enumerate();
            let remembered =
                remembered.filter_map(|(class, tail)| Some((class as u8, (*tail)?.time)));
            let Some((class, value)) = judgement.least(remembered) else {
                // Nothing is remembered: look at all.
                for _ in 0..tails.shards {
                    self.look(tails, judgement.now);
                }
                if self.oldest.iter().all(Option::is_none) {
                    return None;
                }
                continue;
            };
            let tail = self.oldest[usize::from(class)]?;
            let shown = tails.get(self.slot_class, tail.shard, class);
            if shown == Some(tail.time) {
                let shard = tail.shard;
                return Some(Next { shard, value });
            }
            let shard = tail.shard;
            self.oldest[usize::from(class)] = shown.map(|time| Tail { shard, time });
        }
        // Other threads change the tails faster than they can be compared: any entry will do.
        let tail = self.oldest.iter().flatten().next()?;
        Some(Next {
            shard: tail.shard,
            value: 0.0,
        })
    }

    /// Looks at the tails of the next shard.
    fn look(&mut self, tails: &Tails, now: u32) {
        let shard = self.turn;
        self.turn = (self.turn + 1) % tails.shards;
        for (class, time) in tails.of_shard(self.slot_class, shard) {
            let oldest = &mut self.oldest[usize::from(class)];
            let is_older = |known: &Tail| now.wrapping_sub(time) > now.wrapping_sub(known.time);
            if oldest.is_none_or(|known| known.shard == shard || is_older(&known)) {
                *oldest = Some(Tail { shard, time });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(search: &mut Search, tails: &Tails, values: &Values, arm: Arm) -> Option<usize> {
        let judgement = Judgement {
            now: 10_000,
            ages: &Ages::new(1000),
            values,
            arm,
        };
        Some(search.next(tails, &judgement)?.shard)
    }

    /// The oldest tail of a class is found over all shards, also if it is shown only after the search has passed its shard,
    /// and forgotten when it is gone.
    #[test]
    fn the_oldest_tail_over_all_shards_is_next() {
        let (tails, values) = (Tails::new(2, 32), Values::new());
        let mut search = Search::new(1);
        assert_eq!(next(&mut search, &tails, &values, Arm::Lru), None);
        for shard in 0..32 {
            tails.show(1, shard, 3, Some(5000 + shard as u32));
        }
        tails.show(0, 9, 3, Some(1));
        tails.show(1, 20, 3, Some(4000));
        for _ in 0..8 {
            next(&mut search, &tails, &values, Arm::Lru);
        }
        assert_eq!(next(&mut search, &tails, &values, Arm::Lru), Some(20));
        // Another class, whose values are the same: the oldest goes.
        tails.show(1, 7, 30, Some(100));
        for _ in 0..8 {
            next(&mut search, &tails, &values, Arm::Learned { theta: 1.0 });
        }
        let arm = Arm::Learned { theta: 1.0 };
        assert_eq!(next(&mut search, &tails, &values, arm), Some(7));
        tails.show(1, 7, 30, None);
        assert_eq!(next(&mut search, &tails, &values, arm), Some(20));
        tails.show(1, 20, 3, Some(9000));
        for _ in 0..8 {
            next(&mut search, &tails, &values, arm);
        }
        assert_eq!(next(&mut search, &tails, &values, arm), Some(0));
    }
}
