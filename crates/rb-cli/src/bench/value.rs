//! Values that are cheap to make, and of which every byte can be checked.
//!
//! A bench that fills every value measures itself. So all values share one pattern, and only their first
//! and last words depend on their number. A buffer that the store gives out again still has the pattern,
//! which a few sampled words show. The full check after the measurement finds what the samples miss.

use crate::payload::{fill, is_payload, mix, word};

/// The shared pattern is the payload of this number.
const PATTERN: u64 = 0x52_42;
const WORD: usize = 8;
/// Length of the shortest value: its first and its last word.
pub(super) const LEN_MIN: usize = 2 * WORD;
/// Words sampled in a reused buffer.
const LOOKS: usize = 8;

/// Makes `buffer` the value of `id`.
pub(super) fn make(id: u64, buffer: &mut [u8]) {
    let (_, pattern, _) = parts(buffer);
    if !looks_filled(pattern) {
        fill(PATTERN, pattern);
    }
    let (first, _, last) = parts(buffer);
    first.copy_from_slice(&mix(id).to_le_bytes());
    last.copy_from_slice(&mix(!id).to_le_bytes());
}

/// Returns whether the first and the last word are those of `id`: cheap enough for the measurement.
pub(super) fn looks_right(id: u64, value: &[u8]) -> bool {
    value.starts_with(&mix(id).to_le_bytes()) && value.ends_with(&mix(!id).to_le_bytes())
}

/// Returns whether every byte is that of `id`.
pub(super) fn is_right(id: u64, value: &[u8]) -> bool {
    value.len() >= LEN_MIN
        && looks_right(id, value)
        && is_payload(PATTERN, &value[WORD..value.len() - WORD])
}

fn parts(buffer: &mut [u8]) -> (&mut [u8], &mut [u8], &mut [u8]) {
    let end = buffer.len() - WORD;
    let (rest, last) = buffer.split_at_mut(end);
    let (first, pattern) = rest.split_at_mut(WORD);
    (first, pattern, last)
}

fn looks_filled(pattern: &[u8]) -> bool {
    let words = pattern.len() / WORD;
    let is_there =
        |at: usize| pattern[at * WORD..(at + 1) * WORD] == word(PATTERN, at as u64).to_le_bytes();
    words > 0 && (0..LOOKS).all(|look| is_there((words - 1) * look / (LOOKS - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_filled_once_and_every_byte_is_checked() {
        for len in [LEN_MIN, 17, 24, 4096, 4101] {
            let mut value = vec![0xEE; len];
            make(1, &mut value);
            assert!(is_right(1, &value) && !is_right(2, &value), "{len}");
            make(2, &mut value);
            assert!(is_right(2, &value), "{len}");
            for at in 0..len {
                value[at] ^= 4;
                assert!(!is_right(2, &value), "byte {at} of {len}");
                value[at] ^= 4;
            }
        }
    }

    #[test]
    fn a_buffer_of_something_else_is_filled() {
        let mut value = vec![0; 8192];
        make(1, &mut value);
        value.rotate_left(4096);
        make(1, &mut value);
        assert!(is_right(1, &value));
    }
}
