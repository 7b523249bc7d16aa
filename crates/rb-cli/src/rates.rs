//! Rates and ratios.

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

/// Sums figures that another process gave, which may be any numbers.
pub(crate) fn sum(figures: impl IntoIterator<Item = u64>) -> u64 {
    figures.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_no_rate() {
        assert_eq!(bytes_per_second(5, Duration::ZERO), 0.0);
        assert_eq!(bytes_per_second(3_000, Duration::from_secs(2)), 1500.0);
        assert_eq!(ratio(1, 0), 0.0);
    }
}
