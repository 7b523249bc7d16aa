//! Ages of entries: translates the clock of the index, which counts uses, into time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::core::entry_scan::EntryScan;
use crate::core::inner::Inner;

/// Most moments that are remembered. If there are more, every second one is forgotten.
const MOMENTS_MAX: usize = 128;

/// Least time between two moments, until half of them are forgotten for the first time.
const SPACING_MIN: Duration = Duration::from_secs(1);

/// Index positions looked at under one lock.
const POSITIONS: usize = 256;

/// Time for which the oldest entry that was found counts as the oldest one.
const OLDEST_SERVES: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Ages {
    moments: Mutex<Moments>,
    oldest: Mutex<Option<Oldest>>,
}

/// Uses until some moments.
#[derive(Debug, Default)]
struct Moments {
    of: Vec<(Instant, u64)>,
    spacing: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Oldest {
    found: Instant,
    used: Instant,
}

impl Ages {
    /// Remembers the number of uses until now, unless it did so a moment ago.
    pub(crate) fn note(&self, uses: u64) {
        self.moments.lock().note(Instant::now(), uses);
    }

    /// Remembers it in any case: the last uses of a store that is idle now were before this moment.
    fn note_now(&self, uses: u64) {
        self.moments.lock().add(Instant::now(), uses);
    }

    /// The least time since the last use of the least recently used entry: too short by 1/32 of the session at most, and no
    /// longer than the session. `None` without entries.
    pub(crate) fn oldest(&self, inner: &Inner) -> Option<Duration> {
        let now = Instant::now();
        let mut oldest = self.oldest.lock();
        let is_recent = |found: &Oldest| now.saturating_duration_since(found.found) < OLDEST_SERVES;
        let find = || {
            let used = self.find(inner)?;
            Some(Oldest { found: now, used })
        };
        *oldest = oldest.filter(is_recent).or_else(find);
        oldest.map(|oldest| now.saturating_duration_since(oldest.used))
    }

    /// Looks at every entry.
    fn find(&self, inner: &Inner) -> Option<Instant> {
        let index = &inner.index;
        self.note_now(index.uses());
        let (mut scan, mut more, mut first) = (EntryScan::default(), true, None);
        while more {
            more = scan.step(index, POSITIONS, &mut |entry| {
                let used = index.uses().saturating_sub(index.uses_since(entry.recency));
                first = Some(first.map_or(used, |first: u64| first.min(used)));
            });
        }
        let moments = self.moments.lock();
        first.map(|first| moments.after(first).unwrap_or_else(Instant::now))
    }
}

impl Moments {
    fn note(&mut self, at: Instant, uses: u64) {
        let last = self.of.last().map(|(last, _)| *last);
        let spacing = self.spacing.max(SPACING_MIN);
        if last.is_none_or(|last| at.saturating_duration_since(last) >= spacing) {
            self.add(at, uses);
        }
    }

    /// Adds a moment, unless there were no uses since the last one.
    fn add(&mut self, at: Instant, uses: u64) {
        if self.of.last().is_some_and(|(_, last)| *last == uses) {
            return;
        }
        if self.of.len() == MOMENTS_MAX {
            let mut number = 0_usize;
            // The first one is the session's start, and stays.
            self.of.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.spacing = 2 * self.spacing.max(SPACING_MIN);
        }
        self.of.push((at, uses));
    }

    /// The first moment until which there were so many uses; `None` if that is yet to come.
    fn after(&self, uses: u64) -> Option<Instant> {
        let passed = |moment: &&(Instant, u64)| moment.1 >= uses;
        self.of.iter().find(passed).map(|moment| moment.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_use_was_before_the_first_moment_that_counts_it() {
        let (start, mut moments) = (Instant::now(), Moments::default());
        for second in 0..100 {
            moments.note(start + seconds(second), 500 + 10 * second);
        }
        assert_eq!(moments.after(1491), None);
        assert_eq!(moments.after(1490), Some(start + seconds(99)));
        assert_eq!(moments.after(1390), Some(start + seconds(89)));
        assert_eq!(moments.after(505), Some(start + seconds(1)));
        // Recovered from an earlier session.
        assert_eq!(moments.after(7), Some(start));
    }

    /// The age of the oldest entry of an idle store began at 0 every 10 s.
    #[test]
    fn the_last_uses_of_an_idle_store_grow_old() {
        let (start, mut moments) = (Instant::now(), Moments::default());
        moments.note(start, 0);
        moments.note(start + seconds(1) / 2, 7);
        assert_eq!(moments.after(7), None, "it was a moment ago");
        moments.add(start + seconds(1), 7);
        moments.add(start + seconds(30), 7);
        assert_eq!(moments.after(7), Some(start + seconds(1)));
    }

    /// The moments cover any time with the same number of them, and the session's start stays.
    #[test]
    fn few_moments_are_remembered() {
        let (start, mut moments) = (Instant::now(), Moments::default());
        for second in 0..100_000 {
            moments.note(start + seconds(second), second);
        }
        assert!(moments.of.len() <= MOMENTS_MAX && moments.of.len() >= MOMENTS_MAX / 2);
        assert_eq!(moments.of[0], (start, 0));
        let gaps = moments.of.windows(2).map(|two| two[1].0 - two[0].0);
        let longest = gaps.max().expect("there are several");
        assert!(longest <= seconds(100_000 / 32), "{longest:?}");
    }
}
