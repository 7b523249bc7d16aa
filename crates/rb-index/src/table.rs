//! The hash table of a shard: entry numbers by hash.
//!
//! The table is an array of lines, each as large as a cache line: twelve places with a 7-bit tag of
//! the hash, and their entry numbers. An entry is stored in the line selected by its hash or, if
//! that is full, in one of the next. A line counts the entries that overflowed past it because it
//! was full: a search ends at the first line with no overflow, and a removal leaves no trace. So a
//! search almost always touches one line, and the number of lines follows from the number of
//! entries, not from a power of two.
//!
//! Source of the scheme: Bronson, Shi, "Open-sourcing F14 for faster, more memory-efficient hash
//! tables", Meta Engineering, 2019; there the count has eight bits, and lines have fourteen places.

use crate::memory::{NoMemory, filled};

/// Number of places in a line.
const PLACES: usize = 12;
/// Load in percent of the places when the table is created.
const LOAD_PERCENT: usize = 84;
/// Load in percent at which the table grows; it is rebuilt with the initial load.
const GROW_PERCENT: usize = 94;
/// The tag of an occupied place has its top bit set, so 0 is an empty place.
const TAKEN: u8 = 0x80;

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Line {
    tags: [u8; PLACES],
    /// Number of entries whose search passes this line.
    passed: u32,
    entries: [u32; PLACES],
}

const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

const EMPTY: Line = Line {
    tags: [0; PLACES],
    passed: 0,
    entries: [0; PLACES],
};

#[derive(Debug)]
pub(crate) struct Table {
    /// Never empty.
    lines: Vec<Line>,
    len: usize,
}

impl Table {
    /// Creates a table with room for `expected` entries before it grows.
    pub(crate) fn new(expected: usize) -> Result<Table, NoMemory> {
        let lines = filled(EMPTY, lines_for(expected))?;
        Ok(Table { lines, len: 0 })
    }

    /// Creates the smallest possible table.
    pub(crate) fn tiny() -> Table {
        let lines = vec![EMPTY];
        Table { lines, len: 0 }
    }

    /// Returns the number of entries in the table.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the entry of this hash for which `is_it` returns true.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (line, place) = self.place(hash, is_it)?;
        Some(self.lines[line].entries[place])
    }

    /// Returns the address at which the search for a hash begins.
    pub(crate) fn line_address(&self, hash: u64) -> *const u8 {
        std::ptr::from_ref(&self.lines[self.home(hash)]).cast()
    }

    /// Passes the entries that probably have this hash to `each`, except those stored in a later
    /// line.
    pub(crate) fn each_likely(&self, hash: u64, mut each: impl FnMut(u32)) {
        let line = &self.lines[self.home(hash)];
        let mut matches = matches(&line.tags, tag(hash));
        while matches != 0 {
            each(line.entries[matches.trailing_zeros() as usize]);
            matches &= matches - 1;
        }
    }

    /// Adds an entry, which must not be in the table; `hash_of` returns the hash of any entry in
    /// the table.
    pub(crate) fn insert(&mut self, hash: u64, entry: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.len + 1) * 100 > self.lines.len() * PLACES * GROW_PERCENT {
            self.grow(hash_of);
        }
        assert!(
            self.len < self.lines.len() * PLACES,
            "no memory for a larger table of a shard, and the table is full"
        );
        self.add(hash, entry);
    }

    /// Removes an entry. Returns false if it is not there.
    pub(crate) fn remove(&mut self, hash: u64, entry: u32) -> bool {
        let Some((found, place)) = self.place(hash, |other| other == entry) else {
            return false;
        };
        let mut line = self.home(hash);
        while line != found {
            self.lines[line].passed -= 1;
            line = self.after(line);
        }
        self.lines[found].tags[place] = 0;
        self.len -= 1;
        true
    }

    fn place(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<(usize, usize)> {
        let (mut at, wanted) = (self.home(hash), tag(hash));
        for _ in 0..self.lines.len() {
            let line = &self.lines[at];
            let mut matches = matches(&line.tags, wanted);
            while matches != 0 {
                let place = matches.trailing_zeros() as usize;
                if is_it(line.entries[place]) {
                    return Some((at, place));
                }
                matches &= matches - 1;
            }
            if line.passed == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    fn add(&mut self, hash: u64, entry: u32) {
        let mut at = self.home(hash);
        loop {
            let line = &mut self.lines[at];
            if let Some(place) = line.tags.iter().position(|&tag| tag == 0) {
                line.tags[place] = tag(hash);
                line.entries[place] = entry;
                self.len += 1;
                return;
            }
            line.passed += 1;
            at = self.after(at);
        }
    }

    /// Enlarges the table. If the allocation fails, the table gets fuller, and the next insertion
    /// tries again.
    fn grow(&mut self, hash_of: impl Fn(u32) -> u64) {
        let wanted = lines_for(self.len + self.len / 4 + PLACES);
        let Ok(lines) = filled(EMPTY, wanted) else {
            return;
        };
        let former = std::mem::replace(&mut self.lines, lines);
        self.len = 0;
        for line in &former {
            for (tag, entry) in line.tags.iter().zip(line.entries) {
                if *tag != 0 {
                    self.add(hash_of(entry), entry);
                }
            }
        }
    }

    /// Maps the upper half of the hash, as a fraction, to a line.
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.lines.len() as u64) >> 32) as usize
    }

    fn after(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() {
            0
        } else {
            line + 1
        }
    }
}

/// Returns the bytes of a table for this many entries.
pub(crate) fn bytes(expected: usize) -> u64 {
    (lines_for(expected) * size_of::<Line>()) as u64
}

fn lines_for(expected: usize) -> usize {
    (expected * 100).div_ceil(PLACES * LOAD_PERCENT).max(1)
}

/// Returns the tag, from the lower half of the hash: the upper one has chosen the line.
fn tag(hash: u64) -> u8 {
    TAKEN | hash as u8
}

/// Returns a bit for each place with this tag.
fn matches(tags: &[u8; PLACES], wanted: u8) -> u32 {
    let bits = tags.iter().zip(0..);
    bits.fold(0, |bits, (&tag, place)| {
        bits | u32::from(tag == wanted) << place
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::tests::Random;

    /// Against a plain map: many hashes that map to few lines, so that lines are full, entries lie
    /// far from home, and the table wraps around and grows.
    #[test]
    fn it_finds_what_a_plain_map_finds() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let expected = random.below(200) as usize;
            let mut table = Table::new(expected).unwrap();
            let mut model: HashMap<u32, u64> = HashMap::new();
            for step in 0..4000_u32 {
                let hash = random.next() << (32 + random.below(8)) | random.below(4);
                if random.below(5) < 3 {
                    table.insert(hash, step, |entry| model[&entry]);
                    model.insert(step, hash);
                } else if let Some((&entry, &hash)) = model.iter().next() {
                    assert!(table.remove(hash, entry) && !table.remove(hash, entry));
                    model.remove(&entry);
                }
            }
            assert_eq!(table.len(), model.len());
            for (entry, hash) in &model {
                assert_eq!(
                    table.find(*hash, |found| found == *entry),
                    Some(*entry),
                    "seed {seed}"
                );
            }
            let hash = random.next();
            assert_eq!(table.find(hash, |entry| model[&entry] == hash), None);
            for (entry, hash) in model.drain() {
                assert!(table.remove(hash, entry));
            }
            // A removal leaves no trace.
            let clean = |line: &Line| line.passed == 0 && line.tags == [0; PLACES];
            assert!(table.lines.iter().all(clean), "seed {seed}");
        }
    }

    #[test]
    fn what_is_expected_fits_without_growing() {
        for expected in [0, 1, 11, 12, 13, 1000, 15_625] {
            let mut table = Table::new(expected).unwrap();
            let lines = table.lines.len();
            let mut random = Random::new(7);
            for entry in 0..expected as u32 {
                table.insert(random.next(), entry, |_| unreachable!("it does not grow"));
            }
            assert_eq!(table.lines.len(), lines, "{expected}");
        }
    }
}
