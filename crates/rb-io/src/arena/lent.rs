//! Shared loans: which bytes several borrowers hold at once, and how many.

use std::collections::BTreeMap;
use std::ops::Range;

use super::free::FreeRanges;

/// Ranges held by shared loans. Together with the free ranges and those of exclusive claims they
/// cover the arena without overlap.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// First byte to the end and the number of loans, which is at least 1.
    ranges: BTreeMap<usize, (usize, u32)>,
}

impl Lent {
    /// Adds a loan of a range, if every byte of it is free or lent already.
    pub(super) fn add(&mut self, free: &mut FreeRanges, range: &Range<usize>) -> bool {
        let mut at = range.start;
        while at < range.end {
            match self.at(at) {
                Some((end, _)) => at = end,
                None => {
                    let end = self.next_start(at).min(range.end);
                    if !free.contains(at, end - at) {
                        return false;
                    }
                    at = end;
                }
            }
        }
        self.split(range.start);
        self.split(range.end);
        let mut at = range.start;
        while at < range.end {
            if let Some((end, loans)) = self.ranges.get_mut(&at) {
                *loans += 1;
                at = *end;
            } else {
                let end = self.next_start(at).min(range.end);
                let taken = free.take_at(at, end - at);
                debug_assert!(taken, "checked above");
                self.ranges.insert(at, (end, 1));
                at = end;
            }
        }
        true
    }

    /// Ends a loan of a range that [`Lent::add`] added.
    pub(super) fn remove(&mut self, free: &mut FreeRanges, range: &Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let Some((end, loans)) = self.ranges.get_mut(&at) else {
                debug_assert!(false, "byte {at} is not lent");
                return;
            };
            let end = *end;
            *loans -= 1;
            if *loans == 0 {
                self.ranges.remove(&at);
                free.give(at, end - at);
            }
            at = end;
        }
    }

    /// Returns the first lent range that overlaps this one.
    pub(super) fn first_in(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let before = self.ranges.range(..=range.start).next_back();
        let after = self.ranges.range(range.start..range.end).next();
        let overlaps = |lent: &Range<usize>| lent.end > range.start;
        [before, after]
            .into_iter()
            .flatten()
            .map(|(&start, &(end, _))| start..end)
            .find(overlaps)
    }

    /// Returns the end and the loans of the range that contains a byte.
    fn at(&self, byte: usize) -> Option<(usize, u32)> {
        let (_, &(end, loans)) = self.ranges.range(..=byte).next_back()?;
        (byte < end).then_some((end, loans))
    }

    fn next_start(&self, byte: usize) -> usize {
        let next = self.ranges.range(byte..).next();
        next.map_or(usize::MAX, |(&start, _)| start)
    }

    /// Cuts the range that contains a byte in two, so that one starts there.
    fn split(&mut self, byte: usize) {
        if let Some((&start, &(end, loans))) = self.ranges.range(..byte).next_back()
            && byte < end
        {
            self.ranges.insert(start, (byte, loans));
            self.ranges.insert(byte, (end, loans));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Loans, shared and exclusive, agree with counters per byte after any sequence of calls.
        #[test]
        fn agrees_with_counters(steps in prop::collection::vec((0..4_u8, 0..64_usize, 1..20_usize), 1..200)) {
            const EXCLUSIVE: u32 = u32::MAX;
            let (mut free, mut lent) = (FreeRanges::all(64), Lent::default());
            let mut cells = [0_u32; 64];
            let mut out: Vec<(Range<usize>, bool)> = Vec::new();
            for (what, at, len) in steps {
                let range = at..(at + len).min(64);
                match what {
                    0 | 1 => {
                        let may = cells[range.clone()].iter().all(|cell| *cell != EXCLUSIVE);
                        prop_assert_eq!(lent.add(&mut free, &range), may);
                        if may {
                            cells[range.clone()].iter_mut().for_each(|cell| *cell += 1);
                            out.push((range, true));
                        }
                    }
                    2 => {
                        let may = cells[range.clone()].iter().all(|cell| *cell == 0);
                        prop_assert_eq!(free.take_at(range.start, range.len()), may);
                        if may {
                            cells[range.clone()].fill(EXCLUSIVE);
                            out.push((range, false));
                        }
                    }
                    _ if out.is_empty() => {}
                    _ => {
                        let (range, shared) = out.swap_remove(at % out.len());
                        if shared {
                            lent.remove(&mut free, &range);
                            cells[range].iter_mut().for_each(|cell| *cell -= 1);
                        } else {
                            free.give(range.start, range.len());
                            cells[range].fill(0);
                        }
                    }
                }
                prop_assert_eq!(free.bytes(), cells.iter().filter(|cell| **cell == 0).count());
            }
        }
    }
}
