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
