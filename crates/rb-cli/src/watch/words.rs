//! Figures as people read them.

use std::time::Duration;

use indicatif::HumanCount;

/// `1,234,567`, rounded.
pub(super) fn number(number: f64) -> String {
    HumanCount(number.round() as u64).to_string()
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

/// `12ms`, `3m 20s` or `5h 12m`; `-` for 0. Of a long time only the two largest units.
pub(super) fn time(seconds: f64) -> String {
    let millis = (seconds.clamp(0.0, 1e12) * 1e3).round() as u64;
    let shown = match millis {
        0 => return "-".into(),
        1..1000 => Duration::from_millis(millis),
        _ => Duration::from_secs(millis / 1000),
    };
    let text = humantime::format_duration(shown).to_string();
    let units: Vec<&str> = text.split(' ').take(2).collect();
    units.join(" ")
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
        assert_eq!(time(0.012), "12ms");
        assert_eq!(time(200.0), "3m 20s");
        assert_eq!(time(18_720.0), "5h 12m");
        assert_eq!(time(273_600.0), "3days 4h");
        assert_eq!(time(0.0), "-");
    }
}
