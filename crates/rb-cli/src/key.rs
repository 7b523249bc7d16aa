//! Keys on the command line and in listings. Keys are bytes; most are text.

use rb_core::Superblock;

use crate::size::counted;
use crate::terminal::is_plain;

/// Reason why a key was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// `hex:` is not followed by pairs of hexadecimal digits.
    #[error("{what} {given:?}: after hex: an even number of hexadecimal digits is expected")]
    Hex {
        /// Name of the argument.
        what: &'static str,
        /// The argument.
        given: String,
    },
    /// It has no bytes.
    #[error("a key of 0 bytes: keys have at least 1 byte")]
    Empty,
    /// The store does not take a key of this length.
    #[error("a key of {}: keys of this store have 1 to {}", counted(*len as u64, "byte"), counted(*max as u64, "byte"))]
    Length {
        /// Length in bytes.
        len: usize,
        /// Length of the longest key of the store in bytes.
        max: usize,
    },
}

/// Parses a key: the bytes of the text, or after `hex:` the bytes of the digits.
///
/// # Errors
/// [`KeyError::Hex`].
pub fn parse_key(given: &str) -> Result<Vec<u8>, KeyError> {
    parse_bytes("the key", given)
}

/// Parses a key that is not empty. [`check_key`] compares its length with the limit of the store.
///
/// # Errors
/// [`KeyError::Hex`] and [`KeyError::Empty`].
pub fn parse_valid_key(given: &str) -> Result<Vec<u8>, KeyError> {
    match parse_key(given)? {
        key if key.is_empty() => Err(KeyError::Empty),
        key => Ok(key),
    }
}

/// Parses an argument in the form of a key. `what` names it in the error.
///
/// # Errors
/// [`KeyError::Hex`].
pub fn parse_bytes(what: &'static str, given: &str) -> Result<Vec<u8>, KeyError> {
    let Some(digits) = given.strip_prefix("hex:") else {
        return Ok(given.as_bytes().to_vec());
    };
    let error = || KeyError::Hex {
        what,
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

/// Checks the length of a key against the limit of a store.
///
/// # Errors
/// [`KeyError::Length`].
pub fn check_key(key: &[u8], store: &Superblock) -> Result<(), KeyError> {
    let (len, max) = (key.len(), store.key_len_max as usize);
    match (1..=max).contains(&len) {
        true => Ok(()),
        false => Err(KeyError::Length { len, max }),
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
    fn an_empty_key_is_refused_before_any_store_is_opened() {
        for given in ["", "hex:"] {
            assert_eq!(parse_valid_key(given), Err(KeyError::Empty));
        }
        assert_eq!(parse_valid_key("k").unwrap(), b"k");
    }

    #[test]
    fn the_error_names_the_argument() {
        for what in ["the key", "--label", "--prefix"] {
            let error = parse_bytes(what, "hex:0").unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{what} \"hex:0\": after")),
                "{error}"
            );
        }
    }
}
