//! Generations: numbers of puts and removes that never repeat.

use std::fmt;

/// The number of a put or remove: incarnation (upper 22 bits) and counter (lower 42 bits).
///
/// Each time a store is opened for writing it gets a new incarnation number, made durable before
/// anything else is written, so a generation never repeats, not even one of a lost unsynced tail.
/// The split allows 4 million incarnations and 4.4e12 puts per incarnation, a year at 150,000 puts
/// a second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Generation(pub u64);

impl Generation {
    /// Number of bits of the counter.
    pub const COUNTER_BITS: u32 = 42;
    /// The highest incarnation number.
    pub const INCARNATION_MAX: u32 = (1 << 22) - 1;
    /// The highest counter.
    pub const COUNTER_MAX: u64 = (1 << Self::COUNTER_BITS) - 1;

    /// Joins the two parts; `None` if either is above its maximum.
    ///
    /// ```
    /// use rb_format::Generation;
    ///
    /// let generation = Generation::new(3, 7).expect("both are in range");
    /// assert_eq!((generation.incarnation(), generation.counter()), (3, 7));
    /// assert!(Generation::new(3, u64::MAX).is_none());
    /// assert!(generation < Generation::new(4, 1).expect("both are in range"));
    /// ```
    #[must_use]
    pub fn new(incarnation: u32, counter: u64) -> Option<Generation> {
        if incarnation > Self::INCARNATION_MAX || counter > Self::COUNTER_MAX {
            return None;
        }
        Some(Generation(
            u64::from(incarnation) << Self::COUNTER_BITS | counter,
        ))
    }

    /// Returns the last generation that an incarnation can issue.
    #[must_use]
    pub fn last_of(incarnation: u32) -> Generation {
        Generation::new(incarnation, Self::COUNTER_MAX).unwrap_or(Generation(u64::MAX))
    }

    /// Returns the incarnation that issued this number.
    #[must_use]
    pub fn incarnation(self) -> u32 {
        (self.0 >> Self::COUNTER_BITS) as u32
    }

    /// Returns the counter within that incarnation.
    #[must_use]
    pub fn counter(self) -> u64 {
        self.0 & Self::COUNTER_MAX
    }
}

/// Prints "incarnation.counter".
impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation(), self.counter())
    }
}

// All 64 bits are used: the counter gets the bits that the incarnation does not need.
const _: () = assert!(Generation::INCARNATION_MAX.count_ones() + Generation::COUNTER_BITS == 64);

#[cfg(test)]
mod tests {
    use super::Generation;

    #[test]
    fn parts_survive_and_limits_hold() {
        for (incarnation, counter) in [
            (0, 0),
            (1, 5),
            (Generation::INCARNATION_MAX, Generation::COUNTER_MAX),
        ] {
            let g = Generation::new(incarnation, counter).unwrap();
            assert_eq!((g.incarnation(), g.counter()), (incarnation, counter));
        }
        assert_eq!(Generation::new(Generation::INCARNATION_MAX + 1, 0), None);
        assert_eq!(Generation::new(0, Generation::COUNTER_MAX + 1), None);
    }

    #[test]
    fn a_later_incarnation_is_always_higher() {
        let last_of_old = Generation::new(3, Generation::COUNTER_MAX).unwrap();
        let first_of_new = Generation::new(4, 0).unwrap();
        assert!(first_of_new > last_of_old);
        assert_eq!(first_of_new.to_string(), "4.0");
    }
}
