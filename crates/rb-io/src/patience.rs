//! How long a call may wait.

use std::time::{Duration, Instant};

/// Steps in which a limit is spent.
const STEPS: u32 = 8;

/// The time that one call may spend on waiting, however many waits it needs.
///
/// It is spent in steps of an eighth, and each counts as an eighth at most: a process that is stopped in the middle of a
/// wait (a paused container, a suspended virtual machine, a debugger) has lost one step, and not its patience.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    limit: Duration,
    spent: Duration,
    /// What waits took beyond their steps.
    lost: Duration,
}

impl Patience {
    /// Patience for waits of `limit` together.
    #[must_use]
    pub fn new(limit: Duration) -> Patience {
        let (spent, lost) = (Duration::ZERO, Duration::ZERO);
        Patience { limit, spent, lost }
    }

    /// Patience for no wait at all.
    #[must_use]
    pub fn none() -> Patience {
        Patience::new(Duration::ZERO)
    }

    /// What it was at first.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// What of it is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.spent)
    }

    /// Time that its waits took and that was not counted: the process was stopped.
    #[must_use]
    pub fn lost(&self) -> Duration {
        self.lost
    }

    /// Counts as lost what a wait elsewhere took beyond its steps.
    pub fn lose(&mut self, lost: Duration) {
        self.lost = self.lost.saturating_add(lost);
    }

    /// Whether it is spent. The caller looks once more for what it waited for before it says that it was late.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Counts a wait that took place elsewhere.
    pub fn charge(&mut self, spent: Duration) {
        self.spent = self.spent.saturating_add(spent);
    }

    /// The longest that one wait may take.
    #[must_use]
    pub fn step(&self) -> Duration {
        // Rounded up, or the steps of a very short limit would be none.
        let step = (self.limit / STEPS).max(Duration::from_micros(1));
        step.min(self.left())
    }

    /// Waits once: calls `wait` with the time that it may take at most.
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
