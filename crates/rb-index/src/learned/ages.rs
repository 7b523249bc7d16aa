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
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    capacity: u64,
}

impl Ages {
    pub(super) fn new(capacity: u64) -> Ages {
        Ages {
            capacity: capacity.max(1),
        }
    }

    /// Returns the bucket of an age.
    #[inline]
    pub(super) fn bucket(self, age: u32) -> usize {
        let units = (u64::from(age) * (FIRST << FRACTION_BITS)) / self.capacity;
        if units < 1 << FRACTION_BITS {
            return 0;
        }
        let doublings = units.ilog2() - FRACTION_BITS;
        let half = units >> doublings >= SQRT_2;
        // The first bucket is below one unit; the second begins there.
        ((2 * doublings + u32::from(half)) as usize).min(BUCKETS - 1)
    }

    /// Returns the width of a bucket in lookups. The last one is open: its width is that of its start.
    pub(super) fn width(self, bucket: usize) -> f64 {
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
}
