//! A set of small numbers, one bit each, with memory allocated up front.

use std::ops::Range;

use crate::memory::{NoMemory, zeroed};

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bits(Box<[u64]>);

impl Bits {
    /// Creates an empty set for numbers below `len`.
    pub(crate) fn new(len: u32) -> Result<Bits, NoMemory> {
        Ok(Bits(zeroed(len.div_ceil(64) as usize)?))
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.0[word(number)] & bit(number) != 0
    }

    pub(crate) fn flip(&mut self, number: u32) {
        self.0[word(number)] ^= bit(number);
    }

    /// Adds a range of numbers. Returns false, and adds none, if one of them is already in the set.
    pub(crate) fn add(&mut self, numbers: Range<u32>) -> bool {
        let absent = words(&numbers).all(|(word, mask)| self.0[word] & mask == 0);
        if absent {
            words(&numbers).for_each(|(word, mask)| self.0[word] |= mask);
        }
        absent
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

fn word(number: u32) -> usize {
    (number / 64) as usize
}

fn bit(number: u32) -> u64 {
    1 << (number % 64)
}

/// Returns the words that hold a range, each with the mask of its bits.
fn words(numbers: &Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = *numbers;
    let touched = match start < end {
        true => word(start)..word(end - 1) + 1,
        false => 0..0,
    };
    touched.map(move |at| {
        let first = at as u64 * 64;
        let from = u64::from(start).saturating_sub(first);
        let to = (u64::from(end) - first).min(64);
        (at, (u64::MAX << from) & (u64::MAX >> (64 - to)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_its_numbers_are() {
        for (start, end) in [
            (0, 0),
            (0, 1),
            (5, 64),
            (63, 65),
            (64, 128),
            (70, 300),
            (0, 320),
        ] {
            let (mut whole, mut single) = (Bits::new(320).unwrap(), Bits::new(320).unwrap());
            assert!(whole.add(start..end));
            (start..end).for_each(|number| single.flip(number));
            assert_eq!(whole, single, "{start}..{end}");
            assert_eq!(whole.count(), end - start);
            assert!(
                (0..320).all(|number| whole.contains(number) == (start..end).contains(&number))
            );
            if start < end {
                assert!(!whole.add(end - 1..320));
                assert_eq!(whole, single, "one is in it, so none is added");
            }
        }
    }
}
