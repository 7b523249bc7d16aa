//! The time budget of a call that waits.

use std::time::{Duration, Instant};

/// Steps in which the budget is spent.
const STEPS: u32 = 8;

/// The time that one call may spend waiting, over all of its waits.
///
/// It is spent in steps of an eighth of the limit, and each step counts as an eighth at most: a
/// process that is stopped in the middle of a wait (a paused container, a suspended virtual
/// machine, a debugger) loses one step, not the whole budget.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    limit: Duration,
    spent: Duration,
    /// Time that waits took beyond their steps.
    lost: Duration,
}

impl Patience {
    /// Creates a budget of `limit` for all waits together.
    #[must_use]
    pub fn new(limit: Duration) -> Patience {
        let (spent, lost) = (Duration::ZERO, Duration::ZERO);
        Patience { limit, spent, lost }
    }

    /// Creates an empty budget: no waiting at all.
    #[must_use]
    pub fn none() -> Patience {
        Patience::new(Duration::ZERO)
    }

    /// Returns the initial budget.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns the remaining budget.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.spent)
    }

    /// Returns the time that waits took without being counted, because the process was stopped.
    #[must_use]
    pub fn lost(&self) -> Duration {
        self.lost
    }

    /// Adds time that a wait elsewhere took beyond its steps.
    pub fn lose(&mut self, lost: Duration) {
        self.lost = self.lost.saturating_add(lost);
    }

    /// Returns whether the budget is spent. The caller checks its condition once more before it
    /// reports a timeout.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Charges a wait that took place elsewhere.
    pub fn charge(&mut self, spent: Duration) {
        self.spent = self.spent.saturating_add(spent);
    }

    /// Returns the longest time that one wait may take.
    #[must_use]
    pub fn step(&self) -> Duration {
        // Rounded up; otherwise the steps of a very short limit would be zero.
        let step = (self.limit / STEPS).max(Duration::from_micros(1));
        step.min(self.left())
    }

    /// Waits once: calls `wait` with the longest time that it may take.
    pub fn spend<T>(&mut self, wait: impl FnOnce(Duration) -> T) -> T {
        let step = self.step();
        let start = Instant::now();
        let outcome = wait(step);
        let took = start.elapsed();
        self.spent += took.min(step);
        self.lost += took.saturating_sub(step);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(80);

    #[test]
    fn a_wait_that_is_far_too_long_counts_as_one_step() {
        let mut patience = Patience::new(LIMIT);
        patience.spend(|step| {
            assert_eq!(step, LIMIT / 8);
            std::thread::sleep(2 * LIMIT);
        });
        assert_eq!(patience.left(), LIMIT - LIMIT / 8);
        assert!(patience.lost() >= (2 * LIMIT) - LIMIT / 8);
    }

    #[test]
    fn it_is_over_after_its_limit() {
        let (start, mut patience) = (Instant::now(), Patience::new(LIMIT));
        let mut waits = 0;
        while !patience.is_over() {
            patience.spend(std::thread::sleep);
            waits += 1;
        }
        assert!(start.elapsed() >= LIMIT);
        assert_eq!(waits, 8);
        assert!(Patience::new(Duration::ZERO).is_over());
    }
}
