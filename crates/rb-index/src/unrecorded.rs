//! The keys that have left without a record, and may therefore return after a crash.
//!
//! An eviction leaves no record. A base begun before it has the entry, and so has the log after such a base. The device
//! keeps two bases, so the key can return until two bases that were begun after the eviction are complete.
//!
//! Each shard has a filter: cells of one byte, of which each key has two by its hash. Both of a key that leaves take the
//! number of the base begun last. A key may return if both have the number of a base that the device can still have, or a
//! later one. Other keys can have set both, so the answer errs to one side only.

use crate::error::IndexError;
use crate::guard::ShardGuard;
use crate::index::{Index, expected_per_shard};
use crate::memory::{NoMemory, zeroed};
use crate::sync::Tally;

/// Bytes of the filters for each slot.
const CELLS_PER_SLOT: usize = 2;

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

impl Unrecorded {
    fn new(slots: usize) -> Result<Unrecorded, NoMemory> {
        Ok(Unrecorded {
            cells: zeroed(slots * CELLS_PER_SLOT)?,
        })
    }

    pub(crate) fn add(&mut self, hash: u64, bases: &Bases) {
        for place in self.places(hash) {
            self.cells[place] = 1 + (bases.begun.get() % NUMBERS) as u8;
        }
    }

    fn may_return(&self, hash: u64, bases: &Bases) -> bool {
        // The bases of former sessions are on the device until two of this one are complete.
        let Some(older) = Some(bases.older.get()).filter(|&older| older > 0) else {
            return true;
        };
        // A completed base was begun, under an earlier hold of this shard's lock.
        let begun = bases.begun.get();
        let age_max = begun - older;
        self.places(hash).all(|place| {
            let number = self.cells[place];
            let age = (begun + NUMBERS + 1 - u64::from(number)) % NUMBERS;
            number != 0 && (age <= age_max)
        })
    }

    /// Returns the places of a key's cells; none without cells. The top ten bits of the hash may be the same for all keys
    /// of a shard.
    fn places(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let cells = self.cells.len() as u64;
        let parts = [hash as u32, (hash >> 22) as u32];
        let places = parts.map(|part| (u64::from(part) * cells >> u32::BITS) as usize);
        places.into_iter().filter(move |_| cells > 0)
    }
}

impl Index {
    /// Tracks the keys that leave without a record, in two bytes for each slot: those evicted, expired, and invalidated.
    /// Without it [`ShardGuard::may_return`] is true for every key.
    ///
    /// # Errors
    /// [`IndexError::Memory`].
    pub fn track_unrecorded(&mut self) -> Result<(), IndexError> {
        let classes = 0..self.slots.classes();
        let slots: u64 = classes
            .map(|class| self.slots.class_stats(class).capacity)
            .sum();
        let of_shard = expected_per_shard(slots as usize, self.shards.len());
        for cell in &self.shards {
            let filter = Unrecorded::new(of_shard).map_err(|NoMemory| IndexError::Memory {
                what: "memory for the keys that leave without a record",
                need: (of_shard * CELLS_PER_SLOT * self.shards.len()) as u64,
            })?;
            cell.shard.lock().unrecorded = filter;
        }
        Ok(())
    }

    /// Notes that a base begins: the caller takes the snapshots of all shards from now on. One base is written at a time.
    pub fn base_begins(&self) {
        self.bases.begun.add(1);
    }

    /// Notes that the base begun last is complete, and has replaced the one before the last complete one.
    pub fn base_completed(&self) {
        self.bases.older.set(self.bases.newest.get());
        self.bases.newest.set(self.bases.begun.get());
    }
}

impl ShardGuard<'_> {
    /// Returns whether a key without an entry may have one after a crash, because its former one has left without a record,
    /// and one of the two newest bases can still have it. The answer may be true for other keys, and is true for all
    /// until two bases are complete. Changes of the key whose records are not durable count for nothing here.
    #[must_use]
    pub fn may_return(&self, hash: u64) -> bool {
        self.shard.unrecorded.may_return(hash, &self.index.bases)
    }
}
