//! Figures as people read them.

use std::time::Duration;

/// `1,234,567`, rounded.
pub(super) fn number(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `3.21 GB/s` or `12.3 MB/s`.
pub(super) fn rate(bytes_per_second: f64) -> String {
    match bytes_per_second {
        0.0 => "0".into(),
        rate if rate >= 1e9 => format!("{:.2} GB/s", rate / 1e9),
        rate => format!("{:.2} MB/s", rate / 1e6),
    }
}

/// `120 us`, `1.2 ms` or `3.4 s`; `-` for none.
pub(super) fn micros(micros: Option<f64>) -> String {
    match micros {
        None => "-".into(),
        Some(us) if us < 999.5 => format!("{us:.0} us"),
        Some(us) if us < 999_500.0 => format!("{:.1} ms", us / 1e3),
        Some(us) => format!("{:.1} s", us / 1e6),
    }
}

/// `12 s`, `3 min 20 s`, `5 h 12 min` or `3 d 4 h`; `-` for 0.
pub(super) fn time(seconds: f64) -> String {
    if seconds == 0.0 {
        return "-".into();
    }
    if seconds < 1.0 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    let seconds = Duration::from_secs_f64(seconds.min(1e15)).as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(number(0.4), "0");
        assert_eq!(number(999.0), "999");
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(3.21e9), "3.21 GB/s");
        assert_eq!(rate(12_340.0), "0.01 MB/s");
        assert_eq!(micros(None), "-");
        assert_eq!(micros(Some(999.4)), "999 us");
        assert_eq!(micros(Some(999.6)), "1.0 ms");
        assert_eq!(micros(Some(2_500_000.0)), "2.5 s");
        assert_eq!(time(0.012), "12 ms");
        assert_eq!(time(200.0), "3 min 20 s");
        assert_eq!(time(18_720.0), "5 h 12 min");
        assert_eq!(time(273_600.0), "3 d 4 h");
    }
}
