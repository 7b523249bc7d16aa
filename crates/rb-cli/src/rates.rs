//! Rates and percentiles of measured times.

use std::time::Duration;

/// 10^9 bytes per second; 0 if no time was spent.
pub(crate) fn gbps(bytes: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        bytes as f64 / time.as_secs_f64() / 1e9
    }
}

/// A part of a whole, 0 to 1; 0 if there is no whole.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// The smallest of the sorted times that `percent` of them do not exceed, in milliseconds.
pub(crate) fn percentile_ms(sorted: &[Duration], percent: f64) -> f64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile_ms(&times, 50.0), 100.0);
        assert_eq!(percentile_ms(&times, 99.0), 198.0);
        assert_eq!(percentile_ms(&times[..1], 99.0), 1.0);
        assert_eq!(percentile_ms(&[], 99.0), 0.0);
    }

    #[test]
    fn no_time_is_no_rate() {
        assert_eq!(gbps(5, Duration::ZERO), 0.0);
        assert_eq!(gbps(3_000_000_000, Duration::from_secs(2)), 1.5);
        assert_eq!(ratio(1, 0), 0.0);
    }
}
