//! Classes of blocks: what is known of a block at its last lookup decides how likely the next one is.

/// Levels of the reuse count: 1, 2, 3 to 6, 7 and more.
const COUNT_LEVELS: usize = 4;
/// Levels of the last gap: short, medium, long.
pub(super) const GAP_LEVELS: usize = 3;
/// Classes of blocks that were looked up before.
const REUSED: usize = COUNT_LEVELS * GAP_LEVELS;
/// Kinds of new blocks, by the reuse of what precedes them in their chain.
const NEW: usize = 5;
/// Classes of chains without a hint; as many follow for chains of which the caller has said that they have ended.
const WITHOUT_HINT: usize = REUSED + NEW;

/// Number of classes.
pub(super) const CLASSES: usize = 2 * WITHOUT_HINT;

/// The highest reuse count; higher ones count as this one.
pub(super) const COUNT_MAX: u8 = 16;

/// Groups of classes, of which a class with little evidence borrows: the reused ones of the same gap, or the new ones.
pub(super) const GROUPS: usize = GAP_LEVELS + 1;

const _: () = assert!(CLASSES <= 64, "a ghost has 6 bits for the class");

/// Gaps from here on are medium, or long, in lookups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gaps {
    pub(super) medium: u32,
    pub(super) long: u32,
}

impl Gaps {
    /// Returns the level of a gap: 0 short, 1 medium, 2 long.
    #[inline]
    pub(super) fn level(self, gap: u32) -> u8 {
        u8::from(gap >= self.medium) + u8::from(gap >= self.long)
    }
}

/// Returns the class of a block that was known before its last lookup. `count` includes that lookup.
#[inline]
pub(super) fn reused(count: u8, gap_level: u8, ended: bool) -> u8 {
    let by_count = match count {
        0 | 1 => 0,
        2 => 1,
        3..=6 => 2,
        _ => 3,
    };
    hinted(by_count * GAP_LEVELS + usize::from(gap_level), ended)
}

/// Returns the class of the new part of a chain whose deepest known block has been reused `count` times; 0 if no block
/// of the chain is known.
#[inline]
pub(super) fn new_part(count: u8, ended: bool) -> u8 {
    let kind = match count {
        0 => 0,
        1 => 1,
        2..=3 => 2,
        4..=15 => 3,
        _ => 4,
    };
    hinted(REUSED + kind, ended)
}

#[inline]
fn hinted(class: usize, ended: bool) -> u8 {
    (class + if ended { WITHOUT_HINT } else { 0 }) as u8
}

/// Returns whether blocks of the class were read often, the last time shortly before.
pub(super) fn is_hot(class: usize) -> bool {
    class % WITHOUT_HINT == (COUNT_LEVELS - 1) * GAP_LEVELS
}

/// Returns the group of a class.
pub(super) fn group(class: usize) -> usize {
    match class % WITHOUT_HINT {
        reused @ 0..REUSED => reused % GAP_LEVELS,
        _ => GROUPS - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_number_of_its_own() {
        let mut seen = [0; CLASSES];
        for ended in [false, true] {
            for count in [1, 2, 3, 7] {
                for gap in 0..GAP_LEVELS as u8 {
                    seen[usize::from(reused(count, gap, ended))] += 1;
                }
            }
            for count in [0, 1, 2, 4, 16] {
                seen[usize::from(new_part(count, ended))] += 1;
            }
        }
        assert_eq!(seen, [1; CLASSES]);
        let hot = (0..CLASSES).filter(|&class| is_hot(class));
        let expected = [false, true].map(|ended| usize::from(reused(7, 0, ended)));
        assert!(hot.eq(expected));
        assert_eq!(group(usize::from(new_part(0, true))), GROUPS - 1);
        assert_eq!(group(usize::from(reused(7, 2, true))), 2);
    }
}
