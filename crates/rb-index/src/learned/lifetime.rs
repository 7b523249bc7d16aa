//! Lifetimes of what is written: classes of about the same value go together.

use super::class::CLASSES;
use super::value::Values;
use crate::policy::LIFETIMES;
use crate::sync::{Tally, Tally32};

/// Counted keys from which on old counts lose half of their weight.
const DECAYED_FROM: u64 = 1 << 10;

/// Divides the classes so that about as much is written with each lifetime.
#[derive(Debug)]
pub(super) struct Lifetimes {
    /// Sampled keys of each class that were written, the latest with more weight.
    written: [Tally; CLASSES],
    of_classes: [Tally32; CLASSES],
}

impl Lifetimes {
    pub(super) fn new() -> Lifetimes {
        Lifetimes {
            written: std::array::from_fn(|_| Tally::default()),
            of_classes: std::array::from_fn(|_| Tally32::default()),
        }
    }

    /// Returns the lifetime of a class.
    pub(super) fn of(&self, class: u8) -> u8 {
        self.of_classes[usize::from(class)].get() as u8
    }

    /// Counts a key that was written.
    pub(super) fn wrote(&self, class: u8) {
        self.written[usize::from(class)].add(1);
    }

    /// Divides the classes by their values: what is worth more is read again, and stays.
    pub(super) fn divide(&self, values: &Values) {
        let written = self.written.each_ref().map(Tally::get);
        let all: u64 = written.iter().sum();
        let mut order: [usize; CLASSES] = std::array::from_fn(|class| class);
        order.sort_by(|&a, &b| values.of(a as u8, 0).total_cmp(&values.of(b as u8, 0)));
        let mut before = 0;
        for class in order {
            // By the middle of the class.
            let middle = before + written[class] / 2;
            let lifetime = (middle * u64::from(LIFETIMES))
                .checked_div(all)
                .unwrap_or(0);
            self.of_classes[class].set(lifetime.min(u64::from(LIFETIMES) - 1) as u32);
            before += written[class];
        }
        if all > DECAYED_FROM {
            for (place, count) in self.written.iter().zip(written) {
                place.subtract(count - count / 2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learned::ages::Ages;
    use crate::learned::class::{new_part, reused};
    use crate::learned::value::{Counts, Measure};

    /// Classes in the order of their values, each about a quarter of what is written; later the shares count that are new.
    #[test]
    fn lifetimes_are_in_the_order_of_values() {
        let (ages, mut counts) = (Ages::new(1024), Counts::new());
        let classes = [0, 1, 2, 4].map(|count| new_part(count, false));
        for (rank, class) in classes.into_iter().enumerate() {
            counts.visits[usize::from(class)].fill(1000);
            counts.references[usize::from(class)].fill(200 * rank as u32);
        }
        let measure = Measure {
            ages: &ages,
            period: 128.0,
            chain: 1.0,
            guarded: 4,
        };
        let values = Values::compute(&counts, measure);
        let lifetimes = Lifetimes::new();
        for class in classes {
            assert_eq!(lifetimes.of(class), 0, "nothing is known");
            (0..DECAYED_FROM).for_each(|_| lifetimes.wrote(class));
        }
        lifetimes.divide(&values);
        assert_eq!(classes.map(|class| lifetimes.of(class)), [0, 1, 2, 3]);
        // Most of what is written now is worth least.
        for _ in 0..8 * DECAYED_FROM {
            lifetimes.wrote(classes[0]);
        }
        lifetimes.divide(&values);
        assert_eq!(lifetimes.of(classes[0]), 1);
        assert_eq!(lifetimes.of(classes[3]), 3);
        assert!(lifetimes.of(reused(7, 0, false)) <= 3);
    }
}
