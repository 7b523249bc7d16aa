//! Metadata blocks that the device could not write. Their content has another copy, or was written
//! elsewhere.

use std::collections::BTreeSet;

use rb_format::{BAD_BLOCKS_MAX, FORMAT_BLOCK, Region};

use crate::error::Error;
use crate::events::Event;

/// Most offsets kept for deduplicating reports: more than the bad blocks a base header lists.
const SEEN_MAX: usize = 4096;

pub(crate) struct Unwritable {
    /// Bad blocks of base regions, as format block numbers. No base is written to them any more.
    bad: BTreeSet<u64>,
    /// Byte offsets already reported in this session.
    reported: BTreeSet<u64>,
}

/// A block that could not be written; reported when no lock is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedWrite {
    pub(crate) what: &'static str,
    pub(crate) offset: u64,
    /// True if the write failed for lack of space, which says nothing about the block.
    pub(crate) no_space: bool,
}

impl FailedWrite {
    pub(crate) fn new(what: &'static str, offset: u64, why: Option<&Error>) -> FailedWrite {
        FailedWrite {
            what,
            offset,
            no_space: why.is_some_and(Error::is_out_of_space),
        }
    }

    pub(crate) fn event(self) -> Event<'static> {
        let FailedWrite { what, offset, .. } = self;
        Event::MetadataWriteFailed { what, offset }
    }
}

impl Unwritable {
    /// Creates the set from the blocks that base headers list as bad.
    pub(crate) fn new(bad: Vec<u64>) -> Unwritable {
        Unwritable {
            bad: bad.into_iter().take(BAD_BLOCKS_MAX).collect(),
            reported: BTreeSet::new(),
        }
    }

    /// Keeps the failures that were not reported before in this session.
    pub(crate) fn unreported(&mut self, failed: Vec<FailedWrite>) -> Vec<FailedWrite> {
        let reported = &mut self.reported;
        let is_new =
            |failed: &FailedWrite| reported.len() < SEEN_MAX && reported.insert(failed.offset);
        failed.into_iter().filter(is_new).collect()
    }

    /// Adds the block at byte `offset` to the bad ones. Returns false if a base header has no room
    /// for it.
    pub(crate) fn add_bad(&mut self, offset: u64) -> bool {
        let number = offset / FORMAT_BLOCK as u64;
        self.bad.contains(&number) || self.bad.len() < BAD_BLOCKS_MAX && self.bad.insert(number)
    }

    /// Every bad block, ascending.
    pub(crate) fn bad(&self) -> Vec<u64> {
        self.bad.iter().copied().collect()
    }

    /// Returns the first offset from `from` in `region` at which `len` bytes touch no bad block; it
    /// may lie past the end.
    pub(crate) fn place(&self, region: &Region, from: u64, len: u64) -> u64 {
        let block = FORMAT_BLOCK as u64;
        let mut at = from;
        let inside = region.offset / block..(region.offset + region.bytes) / block;
        for &bad in self.bad.range(inside) {
            if bad * block < at {
                continue;
            }
            if bad * block >= at + len {
                break;
            }
            at = (bad + 1) * block;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_meets_no_bad_block_and_is_the_first_that_does_not() {
        let region = Region {
            offset: 40960,
            bytes: 40960,
        };
        let bad = Unwritable::new(vec![9, 11, 12, 15, 20]);
        let place = |from: u64, blocks: u64| bad.place(&region, from * 4096, blocks * 4096) / 4096;
        assert_eq!(place(10, 1), 10);
        assert_eq!(place(10, 2), 13);
        assert_eq!(place(10, 3), 16);
        assert_eq!(place(12, 1), 13);
        assert_eq!(place(13, 2), 13);
        assert_eq!(place(16, 4), 16, "block 20 is beyond the region");
    }
}
