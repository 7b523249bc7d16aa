//! Notes on a key, from the policy of a shard to the shared part and back.

use crate::note::Note;

// Of a key that has an entry: | known 1 | | counted 1 | again 1 | level of the gap 2 | count 5 |
// A verdict: | 0 | verdict 1 | | last 1 | count 5 | class 6 |
const KNOWN: u16 = 1 << 15;
const VERDICT: u16 = 1 << 14;
const COUNTED: u16 = 1 << 8;
const AGAIN: u16 = 1 << 7;
const GAP_SHIFT: u32 = 5;
const COUNT_MASK: u16 = 31;
const LAST: u16 = 1 << 11;
const CLASS_BITS: u32 = 6;

/// The knowledge of a shard about a key that it has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Uses before this one.
    pub(super) count: u8,
    pub(super) gap_level: u8,
    /// True if this is no further use: leases hold the entry, or it was used a moment ago.
    pub(super) again: bool,
    /// True if a probe before this lookup was counted.
    pub(super) counted: bool,
}

/// The state of a key from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) class: u8,
    pub(super) count: u8,
    /// True for the last key of a chain.
    pub(super) last: bool,
}

impl Found {
    pub(super) fn note(self) -> Note {
        let flags = if self.again { AGAIN } else { 0 } | if self.counted { COUNTED } else { 0 };
        Note(KNOWN | flags | u16::from(self.gap_level) << GAP_SHIFT | u16::from(self.count))
    }

    pub(super) fn read(note: Note) -> Option<Found> {
        (note.0 & KNOWN != 0).then_some(Found {
            count: (note.0 & COUNT_MASK) as u8,
            gap_level: (note.0 >> GAP_SHIFT & 3) as u8,
            again: note.0 & AGAIN != 0,
            counted: note.0 & COUNTED != 0,
        })
    }
}

impl Verdict {
    pub(super) fn note(self) -> Note {
        let last = if self.last { LAST } else { 0 };
        Note(VERDICT | last | u16::from(self.count) << CLASS_BITS | u16::from(self.class))
    }

    pub(super) fn read(note: Note) -> Option<Verdict> {
        (note.0 & VERDICT != 0).then_some(Verdict {
            class: (note.0 & ((1 << CLASS_BITS) - 1)) as u8,
            count: (note.0 >> CLASS_BITS & COUNT_MASK) as u8,
            last: note.0 & LAST != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_as_they_were() {
        for flags in 0..4 {
            for (count, gap_level) in [(0, 0), (16, 2), (7, 1)] {
                let (again, counted) = (flags & 1 != 0, flags & 2 != 0);
                let found = Found {
                    count,
                    gap_level,
                    again,
                    counted,
                };
                assert_eq!(Found::read(found.note()), Some(found));
                let verdict = Verdict {
                    class: 33 - count,
                    count,
                    last: again,
                };
                assert_eq!(Verdict::read(verdict.note()), Some(verdict));
            }
        }
        // A lease that was not judged has the note of its lookup.
        let found = Found {
            count: 3,
            gap_level: 1,
            again: true,
            counted: true,
        };
        assert_eq!(Verdict::read(found.note()), None);
        assert_eq!(Found::read(Note::default()), None);
        assert_eq!(Verdict::read(Note::default()), None);
    }
}
