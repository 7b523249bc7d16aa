//! Generates payloads from a seed and verifies them, at memory speed.
//!
//! Every 8-byte word depends on the seed and on its position, so bytes of another value, or of
//! another position in the same value, do not match.

/// Fills `out` with the payload of `seed`. A shorter payload of the same seed is a prefix of a
/// longer one.
pub fn fill(seed: u64, out: &mut [u8]) {
    let base = mix(seed);
    let mut words = out.chunks_exact_mut(8);
    let mut position = 0_u64;
    for word in &mut words {
        word.copy_from_slice(&word_at(base, position).to_le_bytes());
        position += 1;
    }
    let rest = words.into_remainder();
    let last = word_at(base, position).to_le_bytes();
    rest.copy_from_slice(&last[..rest.len()]);
}

/// Returns the first `len` bytes of the payload of `seed`.
#[must_use]
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(seed, &mut bytes);
    bytes
}

/// Returns whether `bytes` are exactly the output of [`fill`] for `seed`.
#[must_use]
pub fn matches(seed: u64, bytes: &[u8]) -> bool {
    /// Long enough that comparing is cheap per word, short enough to stop early.
    const WORDS: usize = 512;
    let base = mix(seed);
    let mut position = 0_u64;
    for chunk in bytes.chunks(WORDS * 8) {
        let mut words = chunk.chunks_exact(8);
        let mut difference = 0;
        for word in &mut words {
            let mut found = [0; 8];
            found.copy_from_slice(word);
            difference |= u64::from_le_bytes(found) ^ word_at(base, position);
            position += 1;
        }
        let rest = words.remainder();
        let last = word_at(base, position).to_le_bytes();
        if difference != 0 || rest != &last[..rest.len()] {
            return false;
        }
    }
    true
}

/// Returns the next number of a seeded sequence, for tests that need numbers rather than bytes
/// (`SplitMix64`, Steele, Lea and Flood, 2014).
pub fn next_number(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix(*state)
}

fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn word_at(base: u64, position: u64) -> u64 {
    let word = base
        .wrapping_add(position)
        .wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}

#[cfg(test)]
mod tests {
    use super::{bytes, matches};

    #[test]
    fn every_changed_byte_is_seen() {
        for len in [1, 7, 8, 9, 4096, 4099, 10_000] {
            let mut bytes = bytes(42, len);
            assert!(matches(42, &bytes), "{len}");
            assert!(!matches(43, &bytes), "{len}");
            for at in [0, len / 2, len - 1] {
                bytes[at] ^= 1;
                assert!(!matches(42, &bytes), "byte {at} of {len}");
                bytes[at] ^= 1;
            }
        }
    }

    #[test]
    fn moved_bytes_are_seen() {
        let mut bytes = bytes(1, 8192);
        bytes.rotate_left(4096);
        assert!(!matches(1, &bytes));
    }
}
