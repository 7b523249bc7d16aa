//! Buckets of the exported histograms.

use rb_io::Latency;

/// Powers of two of nanoseconds, from 8 µs to 17 s. Each is also a bound of the finer buckets of [`Latency`], so the counts
/// are exact.
const POWERS: std::ops::RangeInclusive<u32> = 13..=34;

/// Returns the bounds in seconds, each with the number of durations above the former bound and not above this one; the
/// last one is infinite.
///
/// A bucket of `Latency` ends before its power of two, and Prometheus counts durations up to the bound (`le`). Durations are
/// whole nanoseconds, so the bound is one nanosecond less than the power.
pub(super) fn buckets(latency: &Latency) -> Vec<(f64, u64)> {
    let mut fine = latency.buckets().peekable();
    let mut buckets = Vec::with_capacity(POWERS.count() + 1);
    for power in POWERS {
        let end = 1_u64 << power;
        let mut count = 0;
        while let Some((_, more)) = fine.next_if(|(fine_end, _)| fine_end.as_nanos() <= end.into())
        {
            count += more;
        }
        buckets.push(((end - 1) as f64 / 1e9, count));
    }
    buckets.push((f64::INFINITY, fine.map(|(_, count)| count).sum()));
    buckets
}
