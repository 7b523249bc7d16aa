//! The free ranges of an arena: first fit, with neighbours merged on release.
//!
//! First fit keeps small requests at the front, so the back stays whole for large ones.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct FreeRanges {
    /// Offset to length. Ranges neither overlap nor touch.
    ranges: BTreeMap<usize, usize>,
    bytes: usize,
}

impl FreeRanges {
    pub(super) fn all(bytes: usize) -> Self {
        Self {
            ranges: BTreeMap::from([(0, bytes)]),
            bytes,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn take(&mut self, len: usize) -> Option<usize> {
        let (&offset, &room) = self.ranges.iter().find(|(_, room)| **room >= len)?;
        self.cut(offset, room, offset, len);
        Some(offset)
    }

    /// Returns whether all of a range is free.
    pub(super) fn contains(&self, offset: usize, len: usize) -> bool {
        let before = self.ranges.range(..=offset).next_back();
        before.is_some_and(|(&start, &room)| start + room >= offset + len)
    }

    pub(super) fn take_at(&mut self, offset: usize, len: usize) -> bool {
        let Some((&start, &room)) = self.ranges.range(..=offset).next_back() else {
            return false;
        };
        if start + room < offset + len {
            return false;
        }
        self.cut(start, room, offset, len);
        true
    }

    pub(super) fn give(&mut self, offset: usize, len: usize) {
        self.bytes += len;
        let mut start = offset;
        let mut end = offset + len;
        if let Some((&before, &room)) = self.ranges.range(..offset).next_back()
            && before + room == offset
        {
            self.ranges.remove(&before);
            start = before;
        }
        if let Some(room) = self.ranges.remove(&end) {
            end += room;
        }
        self.ranges.insert(start, end - start);
    }

    /// Takes `offset..offset + len` out of the free range `start..start + room` that contains it.
    fn cut(&mut self, start: usize, room: usize, offset: usize, len: usize) {
        self.ranges.remove(&start);
        if start < offset {
            self.ranges.insert(start, offset - start);
        }
        let (end, room_end) = (offset + len, start + room);
        if end < room_end {
            self.ranges.insert(end, room_end - end);
        }
        self.bytes -= len;
    }
}

#[cfg(test)]
mod tests {
    use super::FreeRanges;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The ranges agree with a map of single cells after any sequence of calls.
        #[test]
        fn agrees_with_cells(steps in prop::collection::vec((0..3_u8, 0..64_usize, 1..9_usize), 1..200)) {
            let mut ranges = FreeRanges::all(64);
            let mut cells = [true; 64];
            let mut out: Vec<(usize, usize)> = Vec::new();
            for (what, at, len) in steps {
                match what {
                    0 => {
                        let fits = (0..=64 - len).find(|at| cells[*at..at + len].iter().all(|c| *c));
                        let taken = ranges.take(len);
                        prop_assert_eq!(taken, fits);
                        if let Some(at) = taken {
                            cells[at..at + len].fill(false);
                            out.push((at, len));
                        }
                    }
                    1 => {
                        let fits = at + len <= 64 && cells[at..at + len].iter().all(|c| *c);
                        prop_assert_eq!(ranges.take_at(at, len), fits);
                        if fits {
                            cells[at..at + len].fill(false);
                            out.push((at, len));
                        }
                    }
                    _ if out.is_empty() => {}
                    _ => {
                        let (at, len) = out.swap_remove(at % out.len());
                        ranges.give(at, len);
                        cells[at..at + len].fill(true);
                    }
                }
                prop_assert_eq!(ranges.bytes(), cells.iter().filter(|c| **c).count());
            }
        }
    }
}
