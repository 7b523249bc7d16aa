//! Sizes and slot classes as they are written on a command line.

use rb_core::{ClassRequest, Share};

/// Why a size or a class was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// There are no digits in front.
    #[error("{given:?} is not a size: digits are expected first, as in 4096, 64KiB or 1MiB")]
    NoNumber {
        /// What was given.
        given: String,
    },
    /// The letters after the digits are no unit.
    #[error(
        "{given:?} is not a size: the unit {unit:?} is unknown; known are none (bytes), B, K/KiB, M/MiB, G/GiB, T/TiB, all powers of 1024"
    )]
    Unit {
        /// What was given.
        given: String,
        /// The letters.
        unit: String,
    },
    /// The number of bytes does not fit 64 bits.
    #[error("{given:?} is more than 2^64 - 1 bytes")]
    TooLarge {
        /// What was given.
        given: String,
    },
    /// The share of a class is not a percentage.
    #[error(
        "{given:?} is not a slot class: the share {share:?} is not a whole number of percent from 1 to 100, as in 64KiB:30%"
    )]
    Share {
        /// What was given.
        given: String,
        /// What stands after the colon.
        share: String,
    },
}

/// Reads a number of bytes: `4096`, `64k`, `64KiB`, `1MiB`, `2GiB`, `1T`. Units are powers of 1024
/// and may be written in any case.
///
/// # Errors
/// [`SizeError`] says what was not understood.
pub fn parse_size(given: &str) -> Result<u64, SizeError> {
    let text = given.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let given = || given.to_owned();
    if number.is_empty() {
        return Err(SizeError::NoNumber { given: given() });
    }
    let unit = unit.trim_start();
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => {
            let unit = unit.to_owned();
            return Err(SizeError::Unit {
                given: given(),
                unit,
            });
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(1 << shift))
        .ok_or_else(|| SizeError::TooLarge { given: given() })
}

/// Reads one slot class: `SIZE`, which takes what the others leave, or `SIZE:SHARE%`.
///
/// # Errors
/// [`SizeError`] says what was not understood. Whether a class can be laid out is decided later.
pub fn parse_class(given: &str) -> Result<ClassRequest, SizeError> {
    let Some((size, share)) = given.split_once(':') else {
        let slot_bytes = parse_size(given)?;
        return Ok(ClassRequest {
            slot_bytes,
            share: Share::Rest,
        });
    };
    let number = share.strip_suffix('%').unwrap_or(share);
    match number.parse::<u32>() {
        Ok(percent) if (1..=100).contains(&percent) => Ok(ClassRequest {
            slot_bytes: parse_size(size)?,
            share: Share::Percent(percent),
        }),
        _ => Err(SizeError::Share {
            given: given.to_owned(),
            share: share.to_owned(),
        }),
    }
}

/// A number of bytes for people: whole numbers of the largest unit where that is exact, else one
/// decimal.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    for (unit, size) in UNITS {
        if bytes >= size {
            return if bytes.is_multiple_of(size) {
                format!("{} {unit}", bytes / size)
            } else {
                format!("{:.1} {unit}", bytes as f64 / size as f64)
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_spelling() {
        for (given, bytes) in [
            ("4096", 4096),
            ("0", 0),
            ("512B", 512),
            ("64k", 64 << 10),
            ("64KiB", 64 << 10),
            ("64 kib", 64 << 10),
            ("1MiB", 1 << 20),
            ("3m", 3 << 20),
            ("2GiB", 2 << 30),
            ("1T", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(given), Ok(bytes), "{given}");
        }
    }

    #[test]
    fn bad_sizes_say_what_is_wrong() {
        for (given, words) in [
            ("", "digits are expected"),
            ("MiB", "digits are expected"),
            ("-1", "digits are expected"),
            ("1.5GiB", "unit \".5GiB\""),
            ("64KB", "unit \"KB\""),
            ("16777216TiB", "2^64"),
            ("99999999999999999999", "2^64"),
        ] {
            let error = parse_size(given).unwrap_err().to_string();
            assert!(error.contains(words), "{given}: {error}");
        }
    }

    #[test]
    fn classes_have_a_share_or_the_rest() {
        let class = |slot_bytes, share| Ok(ClassRequest { slot_bytes, share });
        assert_eq!(parse_class("64KiB"), class(65536, Share::Rest));
        assert_eq!(parse_class("1MiB:30%"), class(1 << 20, Share::Percent(30)));
        assert_eq!(parse_class("1MiB:30"), class(1 << 20, Share::Percent(30)));
        for given in ["4k:0%", "4k:101%", "4k:", "4k:x%", "4k:-3%"] {
            assert!(
                matches!(parse_class(given), Err(SizeError::Share { .. })),
                "{given}"
            );
        }
    }

    #[test]
    fn shown_sizes_are_short() {
        assert_eq!(show_size(17), "17 B");
        assert_eq!(show_size(64 << 10), "64 KiB");
        assert_eq!(show_size(1 << 30), "1 GiB");
        assert_eq!(show_size((3 << 30) / 2), "1.5 GiB");
    }
}
