//! The fixed key hash ranges of sections.
//!
//! They do not depend on the index, so a base does not depend on the configuration of the program
//! that wrote it.

use std::ops::RangeInclusive;

/// Number of hash ranges of a base. Each has as many sections as it needs, possibly none.
pub const SECTION_RANGES: usize = 64;

/// The number of topmost bits of a hash that select its range.
const RANGE_BITS: u32 = SECTION_RANGES.ilog2();

const _: () = assert!(SECTION_RANGES.is_power_of_two() && SECTION_RANGES > 1);

/// Returns the range of a key hash, below [`SECTION_RANGES`].
#[must_use]
pub fn section_range(key_hash: u64) -> usize {
    (key_hash >> (u64::BITS - RANGE_BITS)) as usize
}

/// Returns all key hashes of a range; numbers wrap around after the last range.
#[must_use]
pub fn section_hashes(range: usize) -> RangeInclusive<u64> {
    let first = (range % SECTION_RANGES) as u64;
    let first = first << (u64::BITS - RANGE_BITS);
    first..=first + (u64::MAX >> RANGE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_is_in_exactly_one_range() {
        let mut next = Some(0);
        for range in 0..SECTION_RANGES {
            let hashes = section_hashes(range);
            assert_eq!(Some(*hashes.start()), next, "range {range}");
            assert_eq!(section_range(*hashes.start()), range);
            assert_eq!(section_range(*hashes.end()), range);
            next = hashes.end().checked_add(1);
        }
        assert_eq!(next, None, "the last range ends with the last hash");
    }
}
