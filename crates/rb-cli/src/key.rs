//! Keys on the command line and in listings. Keys are bytes; most are text.

use crate::terminal::is_plain;

/// Length of the longest key of any store in bytes. A store may be formatted for less.
const LONGEST: usize = rb_format::KEY_LEN_MAX;

/// Reason why a key was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// `hex:` is not followed by pairs of hexadecimal digits.
    #[error("{given:?} is not a key: after hex: an even number of hexadecimal digits is expected")]
    Hex {
        /// The argument.
        given: String,
    },
    /// The length is invalid for every store.
    #[error("a key of {len} bytes: keys have 1 to {LONGEST} bytes")]
    Length {
        /// Length in bytes.
        len: usize,
    },
}

/// Parses a key: the bytes of the text, or after `hex:` the bytes of the digits. The store checks the
/// length against its limit.
///
/// # Errors
/// [`KeyError::Hex`].
pub fn parse_key(given: &str) -> Result<Vec<u8>, KeyError> {
    let Some(digits) = given.strip_prefix("hex:") else {
        return Ok(given.as_bytes().to_vec());
    };
    let error = || KeyError::Hex {
        given: given.to_owned(),
    };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) || !digits.len().is_multiple_of(2) {
        return Err(error());
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| error()))
        .collect()
}

/// Parses a key, and checks that its length is valid for some store.
///
/// # Errors
/// [`KeyError::Hex`] and [`KeyError::Length`].
pub fn parse_valid_key(given: &str) -> Result<Vec<u8>, KeyError> {
    let key = parse_key(given)?;
    match key.len() {
        1..=LONGEST => Ok(key),
        len => Err(KeyError::Length { len }),
    }
}

/// Formats bytes so that [`parse_key`] reads them back: as text, or as `hex:` and hexadecimal digits if they
/// are not text, have characters that act on a terminal, or start with `hex:`.
#[must_use]
pub fn show_key(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text)
            if !text.starts_with("hex:")
                && text.chars().all(is_plain)
                && !text.contains(['\t', '\n']) =>
        {
            text.to_owned()
        }
        _ => key.iter().fold(String::from("hex:"), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text_or_hex() {
        assert_eq!(parse_key("abc").unwrap(), b"abc");
        assert_eq!(parse_key("hex:00fF").unwrap(), [0, 255]);
        assert_eq!(parse_key("hex:").unwrap(), b"");
        for given in ["hex:0", "hex:zz", "hex:0x00", "hex:é"] {
            assert!(parse_key(given).is_err(), "{given}");
        }
    }

    #[test]
    fn what_is_not_plain_text_is_shown_in_hex() {
        assert_eq!(show_key("chat/é 7".as_bytes()), "chat/é 7");
        assert_eq!(show_key(&[0xff, 1]), "hex:ff01");
        assert_eq!(show_key(b"a\nb"), "hex:610a62");
        assert_eq!(show_key("a\u{202e}".as_bytes()), "hex:61e280ae");
        assert_eq!(show_key(b"0x61"), "0x61");
        assert_eq!(show_key(b"hex:61"), "hex:6865783a3631");
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for key in [
            &b"chat/1"[..],
            b"0x61",
            b"hex:61",
            b"a\nb",
            &[0, 0xff],
            &[0x80],
        ] {
            assert_eq!(parse_key(&show_key(key)).unwrap(), key);
        }
    }

    #[test]
    fn keys_of_invalid_lengths_are_refused() {
        let longest = "k".repeat(1024);
        assert_eq!(parse_valid_key(&longest).unwrap(), longest.as_bytes());
        for (given, len) in [("", 0), ("hex:", 0), (&*format!("{longest}k"), 1025)] {
            assert_eq!(parse_valid_key(given), Err(KeyError::Length { len }));
        }
    }
}
