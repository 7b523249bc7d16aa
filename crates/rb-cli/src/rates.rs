//! Rates, ratios and percentiles.

use std::time::Duration;

/// Bytes per second; 0 if no time was spent.
pub(crate) fn bytes_per_second(bytes: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        bytes as f64 / time.as_secs_f64()
    }
}

/// `part` by `whole`, 0 to 1; 0 if `whole` is 0.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// The percentile by nearest rank of sorted times, in microseconds; 0 if there are none.
pub(crate) fn percentile_us(sorted: &[Duration], percent: f64) -> f64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile_us(&times, 50.0), 100_000.0);
        assert_eq!(percentile_us(&times, 99.0), 198_000.0);
        assert_eq!(percentile_us(&times[..1], 99.0), 1000.0);
        assert_eq!(percentile_us(&[], 99.0), 0.0);
    }

    #[test]
    fn no_time_is_no_rate() {
        assert_eq!(bytes_per_second(5, Duration::ZERO), 0.0);
        assert_eq!(bytes_per_second(3_000, Duration::from_secs(2)), 1500.0);
        assert_eq!(ratio(1, 0), 0.0);
    }
}
