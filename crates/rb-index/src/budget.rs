//! A budget of bytes to write in any day, and how it is kept.
//!
//! A ledger of half hours has what was spent in the last 24 hours. It is a hard limit: what it has no bytes for is not
//! written. A cache that ran into it every day would take everything in the morning and nothing in the evening, so a
//! controller raises a floor under the worth of what is written, from what puts would have liked to write and from what is
//! left.

use std::time::Duration;

/// Time of an entry of the ledger.
const BIN: Duration = Duration::from_mins(30);
/// Entries: those of 24 hours, and the current one.
const BINS: usize = 49;
/// The floor rises while the puts of a day would write more than this part of the budget.
const WANTED: f64 = 1.05;
/// The most that a half hour lowers and raises the level, in steps of `STEP`.
const FALL: f64 = -0.5;
const RISE: f64 = 1.0;
const STEP: f64 = 0.05;
const LEVEL_MAX: f64 = 8.0;
/// The floor rises further once less than this part of the budget is left, to the level `PRESSED` above when nothing is: not
/// at all if the puts of the last day wanted up to `ENOUGH` of the budget, and in full from `SCARCE` on.
const EASE: f64 = 0.7;
const PRESSED: f64 = 5.0;
const ENOUGH: f64 = 1.0;
const SCARCE: f64 = 1.2;
/// The level at which a block must be read once in the time of as many lookups as the cache has blocks.
const ONCE: f64 = 4.0;
/// The most that a budget believes of the time between two sessions, which only the wall clock knows.
const BELIEVED: Duration = Duration::from_hours(1);

/// A budget of bytes to write in any 24 hours. Time passes only by [`Budget::pass`].
///
/// ```
/// use std::time::Duration;
/// use rb_index::Budget;
///
/// let mut budget = Budget::new(1000);
/// assert!(budget.take(900));
/// assert!(!budget.take(200));
/// budget.pass(Duration::from_hours(25));
/// assert!(budget.take(200));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    per_day: u64,
    /// By number of the half hour, which counts up from the start.
    spent: [u64; BINS],
    wanted: [u64; BINS],
    bin: usize,
    /// Time in the current half hour.
    passed: Duration,
    level: f64,
}

impl Budget {
    /// A budget of `per_day` bytes, of which nothing is spent.
    #[must_use]
    pub fn new(per_day: u64) -> Budget {
        Budget {
            per_day,
            spent: [0; BINS],
            wanted: [0; BINS],
            bin: 0,
            passed: Duration::ZERO,
            level: 0.0,
        }
    }

    /// Bytes of any 24 hours.
    #[must_use]
    pub fn per_day(&self) -> u64 {
        self.per_day
    }

    /// Bytes spent in the last 24 hours, up to half an hour more.
    #[must_use]
    pub fn spent(&self) -> u64 {
        sum(&self.spent)
    }

    /// Bytes that are left now.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.per_day.saturating_sub(self.spent())
    }

    /// Takes bytes, if as many are left.
    pub fn take(&mut self, bytes: u64) -> bool {
        let takes = bytes <= self.left();
        if takes {
            self.charge(bytes);
        }
        takes
    }

    /// Charges bytes that were written in any case.
    pub fn charge(&mut self, bytes: u64) {
        let spent = &mut self.spent[self.bin];
        *spent = spent.saturating_add(bytes);
    }

    /// Pays back bytes that were taken and wanted, and not written after all.
    pub fn pay_back(&mut self, bytes: u64) {
        for bins in [&mut self.spent, &mut self.wanted] {
            bins[self.bin] = bins[self.bin].saturating_sub(bytes);
        }
    }

    /// Notes bytes that would have been written without a budget.
    pub fn want(&mut self, bytes: u64) {
        let wanted = &mut self.wanted[self.bin];
        *wanted = wanted.saturating_add(bytes);
    }

    /// Time passes, by a clock that never jumps.
    pub fn pass(&mut self, time: Duration) {
        self.passed = self.passed.saturating_add(time);
        for _ in 0..2 * BINS {
            if self.passed < BIN {
                return;
            }
            self.passed -= BIN;
            self.control();
            self.bin = (self.bin + 1) % BINS;
            (self.spent[self.bin], self.wanted[self.bin]) = (0, 0);
        }
        // More than two days: what they had no part in is forgotten.
        self.passed = Duration::ZERO;
    }

    fn control(&mut self) {
        let step = (self.wanted() - WANTED).clamp(FALL, RISE);
        self.level = (self.level + STEP * step).clamp(0.0, LEVEL_MAX);
    }

    /// Bytes that puts of the last day would have written, as a part of the budget.
    fn wanted(&self) -> f64 {
        sum(&self.wanted) as f64 / self.per_day.max(1) as f64
    }

    /// Returns the least worth of a block that is written, as the number of times that it is read in the time of as many
    /// lookups as the cache has blocks. 0 if the budget is enough for all.
    #[must_use]
    pub fn floor(&self) -> f64 {
        let left = self.left() as f64 / self.per_day.max(1) as f64;
        let needed = ((self.wanted() - ENOUGH) / (SCARCE - ENOUGH)).clamp(0.0, 1.0);
        let level = self.level + PRESSED * needed * (1.0 - left / EASE).max(0.0);
        match level > 0.0 {
            true => (level - ONCE).exp2(),
            false => 0.0,
        }
    }

    /// Returns its state for a later session. `wall` is the time by the wall clock, in seconds since the epoch.
    #[must_use]
    pub fn save(&self, wall: u64) -> Vec<u8> {
        let head = [wall, self.passed.as_nanos() as u64, self.level.to_bits()];
        // The oldest half hour first.
        let bins = (1..=BINS).map(|age| (self.bin + age) % BINS);
        let bins = bins.flat_map(|bin| [self.spent[bin], self.wanted[bin]]);
        let words = head.into_iter().chain(bins);
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// Continues with the state that an earlier session saved. At most an hour of the time in between is believed, since
    /// the wall clock may have been set. Returns false, and changes nothing, if `saved` is no such state.
    pub fn restore(&mut self, saved: &[u8], wall: u64) -> bool {
        let (words, rest) = saved.as_chunks();
        if !rest.is_empty() {
            return false;
        }
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let [saved_wall, passed, level, ref bins @ ..] = words[..] else {
            return false;
        };
        let level = f64::from_bits(level);
        let passed = Duration::from_nanos(passed);
        if bins.len() != 2 * BINS || passed >= BIN || !(0.0..=LEVEL_MAX).contains(&level) {
            return false;
        }
        for (bin, both) in bins.chunks_exact(2).enumerate() {
            (self.spent[bin], self.wanted[bin]) = (both[0], both[1]);
        }
        (self.bin, self.passed, self.level) = (BINS - 1, passed, level);
        let between = Duration::from_secs(wall.saturating_sub(saved_wall));
        self.pass(between.min(BELIEVED));
        true
    }
}

fn sum(bins: &[u64; BINS]) -> u64 {
    bins.iter().fold(0, |sum, &bin| sum.saturating_add(bin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Random;

    const DAY: u64 = 1_000_000;

    /// With all that is wanted, and with all steps of time, restarts and clock jumps, no 24 hours have more than the budget.
    #[test]
    fn no_day_has_more_than_the_budget() {
        for seed in 1..=20 {
            let mut random = Random::new(seed);
            let mut budget = Budget::new(DAY);
            let (mut now, mut wall, mut writes) = (Duration::ZERO, 1_000_000_u64, Vec::new());
            while now < Duration::from_hours(24 * 6) {
                let step = Duration::from_secs(random.below(900));
                (now, wall) = (now + step, wall + step.as_secs());
                budget.pass(step);
                let bytes = random.below(DAY / 30);
                if budget.take(bytes) {
                    writes.push((now, bytes));
                }
                if random.below(50) == 0 {
                    let saved = budget.save(wall);
                    // The clock is set, forwards or back, while the store is closed.
                    wall = wall.saturating_sub(500_000) + random.below(1_000_000);
                    budget = Budget::new(DAY);
                    assert!(budget.restore(&saved, wall));
                    // At most an hour is believed, so as much time must have passed for the claim below.
                    now += BELIEVED;
                }
            }
            for (at, &(start, _)) in writes.iter().enumerate() {
                let end = start + Duration::from_hours(24);
                let of_day = writes[at..].iter().take_while(|(time, _)| *time < end);
                let spent: u64 = of_day.map(|(_, bytes)| bytes).sum();
                assert!(spent <= DAY, "seed {seed}: {spent} from {start:?}");
            }
            assert!(budget.spent() > DAY / 2, "it is used");
        }
    }

    /// The floor rises while more is wanted than the budget has, and falls when less is.
    #[test]
    fn the_floor_follows_what_is_wanted() {
        let mut budget = Budget::new(DAY);
        assert_eq!(budget.floor(), 0.0);
        let mut day = |wanted: u64| {
            for _ in 0..48 {
                budget.want(wanted / 48);
                budget.pass(BIN);
            }
            budget.floor()
        };
        assert_eq!(day(DAY), 0.0);
        let (first, second) = (day(3 * DAY), day(3 * DAY));
        assert!(0.0 < first && first < second, "{first}, {second}");
        let floors: Vec<f64> = (0..8).map(|_| day(0)).collect();
        assert!(floors.is_sorted_by(|before, after| before >= after));
        assert_eq!(floors.last(), Some(&0.0));
    }

    /// With little left the floor is high, if more is wanted than that.
    #[test]
    fn the_floor_rises_when_little_is_left() {
        let mut budget = Budget::new(DAY);
        assert!(budget.take(DAY * 3 / 10));
        assert_eq!(budget.floor(), 0.0);
        budget.charge(DAY / 2);
        assert_eq!(budget.floor(), 0.0, "it was enough until now");
        budget.want(2 * DAY);
        let some = budget.floor();
        budget.charge(DAY);
        assert_eq!(budget.left(), 0);
        assert!(0.0 < some && some < budget.floor());
        assert_eq!(budget.floor(), 2.0);
    }

    #[test]
    fn a_damaged_state_changes_nothing() {
        let mut budget = Budget::new(DAY);
        budget.charge(77);
        let saved = budget.save(0);
        let mut level = saved.clone();
        level[16..24].copy_from_slice(&f64::NAN.to_bits().to_le_bytes());
        for wrong in [&[][..], &saved[..saved.len() - 8], &level] {
            let mut other = Budget::new(5);
            assert!(!other.restore(wrong, 0));
            assert_eq!(other, Budget::new(5));
        }
        let mut other = Budget::new(DAY);
        assert!(other.restore(&saved, 0));
        assert_eq!(other.spent(), 77);
    }
}
