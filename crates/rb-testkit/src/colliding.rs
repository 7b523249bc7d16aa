//! Keys with the same XXH3 hash, as an attacker who knows the seed would choose them.

/// Length of each key in bytes.
pub const KEY_LEN: usize = 256;

/// Returns key `number` of a set of keys with the same XXH3-64 hash under `seed`.
///
/// For an input of more than 240 bytes, XXH3 multiplies, for each word of a stripe, the two halves
/// of `word ^ secret`, and adds the word itself to the next lane. If the lower half equals that of
/// the secret, the product is 0, and only the sum of the words remains: an increment of one upper
/// half is offset by a decrement of another. Source: the XXH3 specification, section "Long inputs",
/// and its default secret.
#[must_use]
pub fn key(seed: u64, number: u32) -> [u8; KEY_LEN] {
    /// The first words of the default secret; a seed is added to even ones and subtracted from odd
    /// ones.
    const SECRET: [u64; 2] = [0xbe4b_a423_396c_feb8, 0x1cad_21f7_2c81_017c];
    /// The first word of the second stripe, whose secret begins one word later.
    const SECOND: usize = 64;
    let secrets = [SECRET[0].wrapping_add(seed), SECRET[1].wrapping_sub(seed)];
    let upper = [number, number.wrapping_neg()];
    let mut key = [0x5A; KEY_LEN];
    for ((at, secret), upper) in [0, SECOND].into_iter().zip(secrets).zip(upper) {
        let word = u64::from(upper) << 32 | secret & 0xFFFF_FFFF;
        key[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn they_differ_and_have_one_hash() {
        for seed in [0, 1, 0x0123_4567_89AB_CDEF, u64::MAX] {
            let keys: HashSet<_> = (0..1000).map(|number| key(seed, number)).collect();
            assert_eq!(keys.len(), 1000);
            let hash = |key: &[u8; KEY_LEN]| xxhash_rust::xxh3::xxh3_64_with_seed(key, seed);
            let hashes: HashSet<_> = keys.iter().map(hash).collect();
            assert_eq!(hashes.len(), 1, "seed {seed}");
        }
    }
}
