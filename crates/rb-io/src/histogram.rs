//! Histograms of durations: what takes how long, counted by any number of threads.
//!
//! A bucket is an eighth of a power of two of nanoseconds, so that a quantile is exact to an eighth.
//! Recording is a few atomic additions; nothing is allocated and no lock is taken.

use std::fmt::{self, Debug, Formatter};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of a power of two, as a power of two.
const PARTS_LOG2: u32 = 3;
/// Durations below this power of two of nanoseconds share the first bucket: no call is so short.
const FIRST_LOG2: u32 = 8;
/// Durations of this power of two of nanoseconds, 73 minutes, and longer share the last bucket.
const LAST_LOG2: u32 = 42;
/// Number of buckets.
const BUCKETS: usize = (((LAST_LOG2 - FIRST_LOG2) << PARTS_LOG2) + 2) as usize;

/// A histogram that threads add to.
///
/// ```
/// use std::time::Duration;
///
/// let histogram = rb_io::Histogram::new();
/// for millis in 1..=100 {
///     histogram.record(Duration::from_millis(millis));
/// }
/// let latency = histogram.latency();
/// assert_eq!((latency.count(), latency.max()), (100, Duration::from_millis(100)));
/// let median = latency.quantile(0.5);
/// assert!(median >= Duration::from_millis(50) && median <= Duration::from_millis(57));
/// ```
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
    longest: AtomicU64,
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub const fn new() -> Histogram {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }

    /// Counts a duration.
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        // Nearly always false, and a load is cheaper than an update.
        if nanos > self.longest.load(Ordering::Relaxed) {
            self.longest.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    /// Returns what was recorded until now. Durations that are recorded meanwhile may be in some of
    /// its figures and not in others.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Latency {
            buckets: self.buckets.iter().map(load).collect(),
            nanos: load(&self.nanos),
            longest: load(&self.longest),
        }
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Debug for Histogram {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.latency(), f)
    }
}

/// The bucket of a duration.
fn bucket(nanos: u64) -> usize {
    let power = nanos.max(1).ilog2();
    if power < FIRST_LOG2 {
        return 0;
    }
    if power >= LAST_LOG2 {
        return BUCKETS - 1;
    }
    let part = (nanos >> (power - PARTS_LOG2)) & ((1 << PARTS_LOG2) - 1);
    let number = ((power - FIRST_LOG2) << PARTS_LOG2) as usize;
    number + part as usize + 1
}

/// The shortest duration in nanoseconds that is longer than those of a bucket.
fn end_of(bucket: usize) -> u64 {
    let number = bucket as u64;
    let power = number >> PARTS_LOG2;
    let part = number & ((1 << PARTS_LOG2) - 1);
    ((1 << PARTS_LOG2) + part) << (power + u64::from(FIRST_LOG2 - PARTS_LOG2))
}

/// Durations that were recorded: their number, sum, maximum and distribution.
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
pub struct Latency {
    /// By bucket; empty if nothing was ever recorded.
    #[cfg_attr(feature = "serde", serde(deserialize_with = "wire::buckets"))]
    buckets: Vec<u64>,
    nanos: u64,
    longest: u64,
}

impl Latency {
    /// Number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Sum of the durations.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// Longest duration. After [`since`](Self::since) an upper bound, exact to an eighth.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// The duration that a share `q`, between 0 and 1, of the durations does not exceed, rounded up
    /// by at most an eighth; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        let count = self.count();
        let rank = ((count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut sum = 0;
        for (number, in_bucket) in self.buckets.iter().enumerate() {
            sum += in_bucket;
            if sum >= rank {
                return Duration::from_nanos(end_of(number).min(self.longest));
            }
        }
        self.max()
    }

    /// The buckets that hold durations, in ascending order: the shortest duration above the bucket, and
    /// the number of durations in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let held = self.buckets.iter().enumerate().filter(|held| *held.1 > 0);
        held.map(|(number, count)| (Duration::from_nanos(end_of(number)), *count))
    }

    /// Number of durations that were shorter than `limit`, exact to a bucket.
    #[must_use]
    pub fn below(&self, limit: Duration) -> u64 {
        let below = self.buckets().take_while(|(end, _)| *end <= limit);
        below.map(|(_, count)| count).sum()
    }

    /// Those of the durations that `earlier` did not have.
    #[must_use]
    pub fn since(&self, earlier: &Latency) -> Latency {
        let before = earlier.buckets.iter().copied().chain(std::iter::repeat(0));
        let buckets = self.buckets.iter().zip(before);
        let buckets: Vec<u64> = buckets
            .map(|(now, then)| now.saturating_sub(then))
            .collect();
        let last = buckets.iter().rposition(|count| *count > 0);
        Latency {
            longest: last.map_or(0, |last| end_of(last).min(self.longest)),
            nanos: self.nanos.saturating_sub(earlier.nanos),
            buckets,
        }
    }
}

impl std::ops::AddAssign<&Latency> for Latency {
    fn add_assign(&mut self, other: &Latency) {
        self.buckets
            .resize(self.buckets.len().max(other.buckets.len()), 0);
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
        self.longest = self.longest.max(other.longest);
    }
}

impl Debug for Latency {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

/// Buckets that another process sent.
#[cfg(feature = "serde")]
mod wire {
    use serde::de::{Deserialize, Deserializer, Error};

    use super::BUCKETS;

    /// Refuses numbers with which a figure could not be computed.
    pub(super) fn buckets<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
        let buckets = Vec::<u64>::deserialize(from)?;
        let sum = buckets
            .iter()
            .try_fold(0_u64, |sum, &more| sum.checked_add(more));
        match buckets.len() <= BUCKETS && sum.is_some() {
            true => Ok(buckets),
            false => Err(D::Error::custom("impossible buckets of a histogram")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each bucket begins where the one before it ends, and is at most an eighth wide.
    #[test]
    fn buckets_are_contiguous() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for number in 0..BUCKETS - 1 {
            let end = end_of(number);
            assert_eq!(bucket(end - 1), number, "the last of {number}");
            assert_eq!(bucket(end), number + 1, "the first after {number}");
            if number > 0 {
                let start = end_of(number - 1);
                assert!(8 * (end - start) <= start, "{number} is too wide");
            }
        }
    }

    #[test]
    fn quantiles_are_exact_to_an_eighth() {
        let histogram = Histogram::new();
        assert_eq!(histogram.latency().quantile(0.99), Duration::ZERO);
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        let latency = histogram.latency();
        for (q, micros) in [
            (0.0, 1),
            (0.5, 5000),
            (0.9, 9000),
            (0.99, 9900),
            (1.0, 10_000),
        ] {
            let (exact, found) = (Duration::from_micros(micros), latency.quantile(q));
            assert!(found >= exact && found <= exact * 9 / 8, "{q}: {found:?}");
        }
        assert_eq!(latency.total(), Duration::from_millis(50_005));
        assert_eq!(latency.below(Duration::from_secs(1)), 10_000);
    }

    #[test]
    fn a_difference_has_the_later_durations_only() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_secs(9));
        let earlier = histogram.latency();
        histogram.record(Duration::from_millis(3));
        let since = histogram.latency().since(&earlier);
        assert_eq!(
            (since.count(), since.total()),
            (1, Duration::from_millis(3))
        );
        assert!(since.max() >= Duration::from_millis(3) && since.max() < Duration::from_millis(4));
        let mut sum = earlier;
        sum += &since;
        assert_eq!(sum.count(), 2);
        assert_eq!(sum.max(), Duration::from_secs(9));
    }
}
