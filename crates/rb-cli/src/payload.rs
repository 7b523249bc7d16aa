//! Payloads that are derived from a number, so that a check needs no second copy.
//!
//! Word `i` of block `id` is `mix(id) + i * STEP` modulo 2^64, little-endian. `mix` is the finalizer
//! of `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA
//! 2014), a bijection, so two blocks differ in every word; `STEP` is odd, so no word of a block
//! repeats, and a sector at a wrong place of the block is detected. Both directions run at memory
//! speed: four additions per 32 bytes, no table.

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
/// Bytes compared before the result is tested: enough to vectorise, few enough to stop early.
const CHUNK: usize = 4096;

/// Fills `bytes` with the payload of `id`.
pub fn fill(id: u64, bytes: &mut [u8]) {
    let mut word = mix(id);
    let mut words = bytes.chunks_exact_mut(8);
    for piece in &mut words {
        piece.copy_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(STEP);
    }
    let rest = words.into_remainder();
    rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
}

/// Returns whether all of `bytes` are the payload of `id`.
#[must_use]
pub fn is_payload(id: u64, bytes: &[u8]) -> bool {
    let mut word = mix(id);
    for chunk in bytes.chunks(CHUNK) {
        let mut difference = 0;
        let mut words = chunk.chunks_exact(8);
        for piece in &mut words {
            let mut found = [0; 8];
            found.copy_from_slice(piece);
            difference |= u64::from_le_bytes(found) ^ word;
            word = word.wrapping_add(STEP);
        }
        let rest = words.remainder();
        if difference != 0 || rest != &word.to_le_bytes()[..rest.len()] {
            return false;
        }
    }
    true
}

/// Returns word `at` of the payload of `id`.
#[must_use]
pub fn word(id: u64, at: u64) -> u64 {
    mix(id).wrapping_add(at.wrapping_mul(STEP))
}

/// Maps 64-bit numbers to 64-bit numbers that look random. It is a bijection.
#[must_use]
pub fn mix(id: u64) -> u64 {
    let x = id.wrapping_add(STEP);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_payload_is_recognised() {
        for len in [1, 7, 8, 9, 4095, 4096, 4097, 4104, 50_001] {
            let mut bytes = vec![0; len];
            fill(len as u64, &mut bytes);
            assert!(is_payload(len as u64, &bytes), "{len}");
            assert!(!is_payload(len as u64 + 1, &bytes), "{len}");
        }
    }

    #[test]
    fn every_single_wrong_byte_is_seen() {
        let mut bytes = vec![0; 4096 + 13];
        fill(3, &mut bytes);
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert!(!is_payload(3, &bytes), "byte {at}");
            bytes[at] ^= 0x10;
        }
    }

    #[test]
    fn a_swapped_sector_is_seen() {
        let mut bytes = vec![0; 8192];
        fill(9, &mut bytes);
        bytes.rotate_left(4096);
        assert!(!is_payload(9, &bytes));
    }

    #[test]
    fn the_mix_is_splitmix64() {
        // The first two outputs of SplitMix64 with seed 0, from its reference implementation.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(STEP), 0x6E78_9E6A_A1B9_65F4);
    }
}
