//! Buckets of ages, in units of lookups.

/// Number of buckets.
pub(super) const BUCKETS: usize = 26;

/// The first bucket ends at this part of the capacity; each further one is half a doubling wide.
const FIRST: u64 = 256;

/// Fraction bits of an age in units of the first bucket: enough to see halves of doublings.
const FRACTION_BITS: u32 = 4;

/// sqrt(2) with four fraction bits, rounded.
const SQRT_2: u64 = 23;

/// Maps ages in lookups to buckets.
#[derive(Clone, Debug)]
pub(super) struct Ages {
    capacity: u64,
    /// The least age of each bucket.
    starts: [u64; BUCKETS],
    /// The bucket of each power of two.
    of_powers: [u8; u32::BITS as usize],
}

impl Ages {
    pub(super) fn new(capacity: u64) -> Ages {
        let capacity = capacity.max(1);
        let mut starts = [0; BUCKETS];
        for (bucket, start) in starts.iter_mut().enumerate().skip(1) {
            // The first bucket is below one unit; the second begins where the first doubling is half over.
            let units = match bucket % 2 {
                0 => 1 << FRACTION_BITS,
                _ => SQRT_2,
            };
            *start = ((units << (bucket / 2)) * capacity).div_ceil(FIRST << FRACTION_BITS);
        }
        let of_power = |power: usize| match power {
            // Of the ages 0 and 1.
            0 => 0,
            _ => starts.partition_point(|&start| start <= 1 << power) - 1,
        };
        let of_powers = std::array::from_fn(|power| of_power(power) as u8);
        Ages {
            capacity,
            starts,
            of_powers,
        }
    }

    /// Returns the bucket of an age.
    #[inline]
    pub(super) fn bucket(&self, age: u32) -> usize {
        // A doubling has a few buckets: without a division.
        let mut bucket = usize::from(self.of_powers[(age | 1).ilog2() as usize]);
        while bucket + 1 < BUCKETS && self.starts[bucket + 1] <= u64::from(age) {
            bucket += 1;
        }
        bucket
    }

    /// Returns the width of a bucket in lookups. The last one is open: its width is that of its start.
    pub(super) fn width(&self, bucket: usize) -> f64 {
        let start = |bucket: usize| match bucket {
            0 => 0.0,
            bucket => (bucket as f64 / 2.0).exp2(),
        };
        let width = match bucket {
            bucket if bucket == BUCKETS - 1 => start(bucket),
            bucket => start(bucket + 1) - start(bucket),
        };
        width * self.capacity as f64 / FIRST as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ages ascend through all buckets, and a bucket is as wide as it claims, within the rounding of sqrt(2).
    #[test]
    fn buckets_are_half_a_doubling_wide() {
        let ages = Ages::new(1 << 20);
        let mut starts = [0_u32; BUCKETS];
        let mut last = 0;
        for step in 0..=1 << 16 {
            let age = step << 8;
            let bucket = ages.bucket(age);
            assert!(bucket == last || bucket == last + 1, "{age}");
            if bucket > last {
                starts[bucket] = age;
                last = bucket;
            }
        }
        assert_eq!(last, 24, "16 capacities");
        assert_eq!(ages.bucket(u32::MAX), BUCKETS - 1);
        for bucket in 2..24 {
            let width = f64::from(starts[bucket + 1] - starts[bucket]);
            let claimed = ages.width(bucket);
            assert!(
                (width / claimed - 1.0).abs() < 0.1,
                "{bucket}: {width}, {claimed}"
            );
        }
        assert_eq!(Ages::new(0).bucket(0), 0);
    }

    /// The same as with a division.
    #[test]
    fn buckets_are_exact() {
        let divided = |age: u32, capacity: u64| {
            let units = (u64::from(age) * (FIRST << FRACTION_BITS)) / capacity;
            let doublings = units
                .checked_ilog2()
                .map_or(0, |log| log.saturating_sub(FRACTION_BITS));
            let half = units >> doublings >= SQRT_2;
            ((2 * doublings + u32::from(half)) as usize).min(BUCKETS - 1)
        };
        for capacity in [1, 2, 33, 256, 3417, 170_899, 1 << 30] {
            let ages = Ages::new(capacity);
            for age in (0..5_000).chain((0..32).map(|power| u32::MAX >> power)) {
                for age in [age, age ^ age >> 2] {
                    assert_eq!(
                        ages.bucket(age),
                        divided(age, capacity),
                        "{age} of {capacity}"
                    );
                }
            }
        }
    }
}
