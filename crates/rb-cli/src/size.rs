//! Sizes and slot classes on the command line.

use rb_core::{ClassRequest, Share};

/// Reason why a size or a class was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// It does not start with a digit.
    #[error("{given:?} is not a size: digits are expected first, as in 4096, 64KiB or 1MiB")]
    NoNumber {
        /// The argument.
        given: String,
    },
    /// The text after the digits is not a unit.
    #[error(
        "{given:?} is not a size: the unit {unit:?} is unknown; known are none (bytes), B, K/KiB, M/MiB, G/GiB, T/TiB, all powers of 1024"
    )]
    Unit {
        /// The argument.
        given: String,
        /// The text.
        unit: String,
    },
    /// A point without digits after it, or a fraction of a byte.
    #[error(
        "{given:?} is not a size: a fraction has digits after the point and a unit of more than a byte, as in 1.5GiB"
    )]
    Fraction {
        /// The argument.
        given: String,
    },
    /// The number of bytes does not fit 64 bits.
    #[error("{given:?} is more than 2^64 - 1 bytes")]
    TooLarge {
        /// The argument.
        given: String,
    },
    /// The share of a class is not a percentage.
    #[error(
        "{given:?} is not a slot class: the share {share:?} is not a whole number of percent from 1 to 100, as in 64KiB:30%"
    )]
    Share {
        /// The argument.
        given: String,
        /// The text after the colon.
        share: String,
    },
}

/// Parses a number of bytes: `4096`, `64k`, `64KiB`, `1.5GiB`, `1T`. Units are powers of 1024, in upper or lower
/// case. The result is rounded down to whole bytes.
///
/// # Errors
/// [`SizeError`] if the text is not a size.
pub fn parse_size(given: &str) -> Result<u64, SizeError> {
    let text = given.trim();
    let given = || given.to_owned();
    let (whole, rest) = digits(text);
    if whole.is_empty() {
        return Err(SizeError::NoNumber { given: given() });
    }
    let (fraction, unit) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    let is_fraction = rest.starts_with('.');
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
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
    if is_fraction && (fraction.is_empty() || shift == 0) {
        return Err(SizeError::Fraction { given: given() });
    }
    bytes(whole, fraction, shift).ok_or_else(|| SizeError::TooLarge { given: given() })
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Bytes of `whole.fraction` units of `1 << shift` bytes; `None` if they do not fit.
fn bytes(whole: &str, fraction: &str, shift: u32) -> Option<u64> {
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    // Further digits are less than a byte, even of the largest unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(fraction.len() as u32);
    let part = match fraction {
        "" => 0,
        digits => (digits.parse::<u128>().ok()? << shift) / scale,
    };
    whole.checked_add(u64::try_from(part).ok()?)
}

/// Parses one slot class: `SIZE:SHARE%`, or `SIZE` for a part of the rest.
///
/// # Errors
/// [`SizeError`] if the text is not a class. A valid class may still not fit the device.
pub fn parse_class(given: &str) -> Result<ClassRequest, SizeError> {
    let Some((size, share)) = given.split_once(':') else {
        let slot_bytes = parse_size(given)?;
        return Ok(ClassRequest {
            slot_bytes,
            share: Share::Rest,
        });
    };
    let number = share.strip_suffix('%');
    match number.map(str::parse::<u32>) {
        Some(Ok(percent)) if (1..=100).contains(&percent) => Ok(ClassRequest {
            slot_bytes: parse_size(size)?,
            share: Share::Percent(percent),
        }),
        _ => Err(SizeError::Share {
            given: given.to_owned(),
            share: share.to_owned(),
        }),
    }
}

/// Formats a number of bytes for people: in the largest unit, as a whole number if that is exact, else with
/// one decimal.
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

/// Formats a number with its noun: `1 entry`, `2 entries`, `3 days`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let start = noun.strip_suffix('y').filter(|start| !start.ends_with('a'));
    match (number, start) {
        (1, _) => format!("{number} {noun}"),
        (_, Some(start)) => format!("{number} {start}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
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
            ("1.5GiB", 3 << 29),
            ("0.5k", 512),
            ("1.0001 MiB", 1_048_680),
            ("2.00000000000000000000000001T", 2 << 40),
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
            ("1.5", "as in 1.5GiB"),
            ("1.GiB", "as in 1.5GiB"),
            // It was taken for 1 byte.
            ("1.5b", "as in 1.5GiB"),
            (".5GiB", "digits are expected"),
            ("1.5.5GiB", "unit \".5GiB\""),
            ("16777216.5TiB", "2^64"),
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
        // A share without `%` looked like a number of slots, and was taken for percent.
        for given in ["4k:5", "4k:0%", "4k:101%", "4k:", "4k:x%", "4k:-3%"] {
            assert!(
                matches!(parse_class(given), Err(SizeError::Share { .. })),
                "{given}"
            );
        }
    }

    #[test]
    fn nouns_follow_their_numbers() {
        let counted =
            [0, 1, 2].map(|number| [counted(number, "entry"), counted(number, "log block")]);
        assert_eq!(
            counted.as_flattened(),
            [
                "0 entries",
                "0 log blocks",
                "1 entry",
                "1 log block",
                "2 entries",
                "2 log blocks"
            ]
        );
    }

    #[test]
    fn shown_sizes_are_short() {
        assert_eq!(show_size(17), "17 B");
        assert_eq!(show_size(64 << 10), "64 KiB");
        assert_eq!(show_size(1 << 30), "1 GiB");
        assert_eq!(show_size((3 << 30) / 2), "1.5 GiB");
    }
}
