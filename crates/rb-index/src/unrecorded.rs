//! The keys that have left without a record, and may therefore return after a crash.
//!
//! An eviction leaves no record. A base begun before it has the entry, and so has the log after such a base. The device
//! keeps two bases, so the key can return until two bases that were begun after the eviction are complete.
//!
//! Each shard has a filter: cells of one byte, of which each key has two by its hash. Both of a key that leaves take the
//! number of the base begun last. A key may return if both have the number of a base that the device can still have, or a
//! later one. Other keys can have set both, so the answer errs to one side only.

use crate::memory::{NoMemory, zeroed};
use crate::sync::Tally;

/// Bytes of a filter for each slot.
pub(crate) const CELLS_PER_SLOT: usize = 2;

/// A cell has the number of a base modulo this, plus one, or 0 if no key has set it.
const NUMBERS: u64 = u8::MAX as u64;

/// The bases of this session, numbered from 1 in the order in which they were begun.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    begun: Tally,
    /// The last one completed, and the one completed before it; 0 if there is none.
    newest: Tally,
    older: Tally,
}

/// The keys that have left a shard without a record. Without cells, any key may have.
#[derive(Debug, Default)]
pub(crate) struct Unrecorded {
    cells: Box<[u8]>,
}

impl Bases {
    pub(crate) fn begin(&self) {
        self.begun.add(1);
    }

    /// The base begun last is complete.
    pub(crate) fn complete(&self) {
        self.older.set(self.newest.get());
        self.newest.set(self.begun.get());
    }
}

impl Unrecorded {
    pub(crate) fn new(slots: usize) -> Result<Unrecorded, NoMemory> {
        Ok(Unrecorded {
            cells: zeroed(slots * CELLS_PER_SLOT)?,
        })
    }

    pub(crate) fn add(&mut self, hash: u64, bases: &Bases) {
        for place in self.places(hash) {
            self.cells[place] = 1 + (bases.begun.get() % NUMBERS) as u8;
        }
    }

    pub(crate) fn may_return(&self, hash: u64, bases: &Bases) -> bool {
        // The bases of former sessions are on the device until two of this one are complete.
        let Some(older) = Some(bases.older.get()).filter(|&older| older > 0) else {
            return true;
        };
        // What sees a base as complete holds the shard's lock after its snapshot, and sees that it has begun.
        let begun = bases.begun.get();
        let age_max = begun - older;
        self.places(hash).all(|place| {
            let number = self.cells[place];
            let age = (begun + NUMBERS + 1 - u64::from(number)) % NUMBERS;
            number != 0 && age <= age_max
        })
    }

    /// Returns the places of a key's cells; none without cells. The top ten bits of the hash may be the same for all keys
    /// of a shard.
    fn places(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let cells = self.cells.len() as u64;
        let parts = [hash as u32, (hash >> 22) as u32];
        let places = parts.map(|part| ((u64::from(part) * cells) >> u32::BITS) as usize);
        places.into_iter().filter(move |_| cells > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Random;

    fn write_base(bases: &Bases) {
        bases.begin();
        bases.complete();
    }

    /// A cell holds the number of a base modulo 255, so a key that left long ago is taken for one that may return now and
    /// then, and never the other way round.
    #[test]
    fn a_key_may_return_until_two_bases_are_without_it() {
        let bases = Bases::default();
        (0..2).for_each(|_| write_base(&bases));
        let mut left = Unrecorded::new(64).unwrap();
        assert!(!left.may_return(7, &bases));
        left.add(7, &bases);
        let mut after = Vec::new();
        for written in 0..600 {
            if left.may_return(7, &bases) {
                after.push(written);
            }
            write_base(&bases);
        }
        assert_eq!(after, [0, 1, 255, 256, 510, 511]);
    }

    /// A base that is not completed leaves the two before it.
    #[test]
    fn bases_that_fail_count_for_nothing() {
        let bases = Bases::default();
        (0..2).for_each(|_| write_base(&bases));
        let mut left = Unrecorded::new(64).unwrap();
        left.add(7, &bases);
        write_base(&bases);
        for _ in 0..600 {
            bases.begin();
            assert!(left.may_return(7, &bases));
        }
        // So many numbers repeat: every key that left may return, until the older base is one of the last.
        bases.complete();
        write_base(&bases);
        assert!(!left.may_return(7, &bases));
    }

    /// Shares of other keys that are taken for those that have left, by how many have left for each slot.
    #[test]
    fn few_other_keys_may_return() {
        const SLOTS: u64 = 4096;
        for (eighths, expected) in [(1, 0.014), (4, 0.155), (8, 0.400)] {
            let bases = Bases::default();
            (0..2).for_each(|_| write_base(&bases));
            let (mut left, mut random) = (Unrecorded::new(SLOTS as usize).unwrap(), Random::new(1));
            (0..SLOTS * eighths / 8).for_each(|_| left.add(random.next(), &bases));
            let others = (0..10_000).filter(|_| left.may_return(random.next(), &bases));
            let share = others.count() as f64 / 10_000.0;
            assert!(
                (share - expected).abs() < 0.015,
                "{eighths}/8 left: {share}"
            );
        }
    }
}
