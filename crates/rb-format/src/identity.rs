//! The identity that every record is bound to: the store, and the epoch of its format.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The 16 random bytes that identify a store. Printed as the usual 8-4-4-4-12 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreUuid(pub [u8; 16]);

impl fmt::Display for StoreUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoreUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The identity that every record is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The store.
    pub uuid: StoreUuid,
    /// Changes at every format and every start-empty, so that older records are recognisably old.
    pub epoch: u64,
}

/// Returns the stable 64-bit hash of a key: XXH3-64, seeded with the first 8 bytes of the UUID as a
/// little-endian number.
///
/// Part of the format: slot headers store it and checkpoint sections are ranges of it. The seed
/// prevents one crafted set of colliding keys from working on every store. Source: the XXH3
/// specification, <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.
///
/// ```
/// use rb_format::{StoreUuid, key_hash};
///
/// let (one, other) = (StoreUuid([1; 16]), StoreUuid([2; 16]));
/// assert_eq!(key_hash(&one, b"key"), key_hash(&one, b"key"));
/// assert_ne!(key_hash(&one, b"key"), key_hash(&other, b"key"));
/// ```
#[must_use]
pub fn key_hash(uuid: &StoreUuid, key: &[u8]) -> u64 {
    let mut seed = [0; 8];
    seed.copy_from_slice(&uuid.0[..8]);
    xxh3_64_with_seed(key, u64::from_le_bytes(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_reads_as_usual() {
        let uuid = StoreUuid(core::array::from_fn(|i| i as u8 * 0x11));
        assert_eq!(uuid.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(format!("{uuid:?}"), uuid.to_string());
    }

    #[test]
    fn key_hash_is_stable() {
        // These numbers are part of the format and must never change.
        assert_eq!(key_hash(&StoreUuid([0; 16]), b""), 0x2d06_8005_38d3_94c2);
        let seeded = StoreUuid([1, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]);
        assert_eq!(key_hash(&seeded, b""), 0x4dc5_b0cc_826f_6703);
        assert_ne!(
            key_hash(&seeded, b"key"),
            key_hash(&StoreUuid([0; 16]), b"key")
        );
    }
}
