//! The checksum of a payload, bound to its slot and its put.

use crate::{Generation, Identity};

/// Returns the CRC32 over the identity of a payload and then the payload itself, so that a valid
/// payload in the wrong place is rejected.
///
/// The identity is 52 bytes, little-endian: UUID (16), epoch (8), generation (8), slot (4), key
/// hash (8), payload length (8). The upper 32 bits of the result are zero in version 1. Use
/// [`PayloadChecksum`] if the payload is in pieces.
///
/// Source of the polynomial: IEEE 802.3 (the CRC-32 of zlib), from the `crc32fast` crate.
///
/// ```
/// use rb_format::{Generation, Identity, StoreUuid, payload_checksum};
///
/// let identity = Identity { uuid: StoreUuid([7; 16]), epoch: 1 };
/// let generation = Generation::new(1, 5).expect("in range");
/// let checksum = |slot| payload_checksum(&identity, generation, slot, 0xAB, b"payload");
/// assert_eq!(checksum(3), checksum(3));
/// // The same bytes in another slot are wrong.
/// assert_ne!(checksum(3), checksum(4));
/// ```
#[must_use]
pub fn payload_checksum(
    identity: &Identity,
    generation: Generation,
    slot: u32,
    key_hash: u64,
    payload: &[u8],
) -> u64 {
    let len = payload.len() as u64;
    let mut checksum = PayloadChecksum::new(identity, generation, slot, key_hash, len);
    checksum.update(payload);
    checksum.finish()
}

/// Computes [`payload_checksum`] piece by piece.
#[derive(Clone, Debug)]
pub struct PayloadChecksum(crc32fast::Hasher);

impl PayloadChecksum {
    /// Starts with the identity; `payload_len` is the total length in bytes of all pieces.
    #[must_use]
    pub fn new(
        identity: &Identity,
        generation: Generation,
        slot: u32,
        key_hash: u64,
        payload_len: u64,
    ) -> PayloadChecksum {
        let mut prefix = [0; 52];
        prefix[..16].copy_from_slice(&identity.uuid.0);
        prefix[16..24].copy_from_slice(&identity.epoch.to_le_bytes());
        prefix[24..32].copy_from_slice(&generation.0.to_le_bytes());
        prefix[32..36].copy_from_slice(&slot.to_le_bytes());
        prefix[36..44].copy_from_slice(&key_hash.to_le_bytes());
        prefix[44..].copy_from_slice(&payload_len.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&prefix);
        PayloadChecksum(hasher)
    }

    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Adds the next piece, of which the checksum was computed alone.
    pub fn append(&mut self, piece: &PieceChecksum) {
        self.0.combine(&piece.0);
    }

    /// Returns the checksum of everything added.
    #[must_use]
    pub fn finish(self) -> u64 {
        u64::from(self.0.finalize())
    }
}

/// The checksum of a piece of a payload, computed without the pieces before it: in any order, or on
/// several threads.
///
/// ```
/// use rb_format::{Generation, Identity, PayloadChecksum, PieceChecksum, StoreUuid, payload_checksum};
///
/// let identity = Identity { uuid: StoreUuid([7; 16]), epoch: 1 };
/// let generation = Generation::new(1, 5).expect("in range");
/// let second = PieceChecksum::new(b"load");
/// let first = PieceChecksum::new(b"pay");
/// let mut all = PayloadChecksum::new(&identity, generation, 3, 0xAB, 7);
/// all.append(&first);
/// all.append(&second);
/// assert_eq!(all.finish(), payload_checksum(&identity, generation, 3, 0xAB, b"payload"));
/// ```
#[derive(Clone, Debug)]
pub struct PieceChecksum(crc32fast::Hasher);

impl PieceChecksum {
    /// Computes the checksum of a piece.
    #[must_use]
    pub fn new(piece: &[u8]) -> PieceChecksum {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(piece);
        PieceChecksum(hasher)
    }

    /// The checksum of a piece of `len` bytes whose CRC-32 (IEEE 802.3) is known.
    ///
    /// ```
    /// use rb_format::{Generation, Identity, PayloadChecksum, PieceChecksum, StoreUuid, payload_checksum};
    ///
    /// let identity = Identity { uuid: StoreUuid([7; 16]), epoch: 1 };
    /// let generation = Generation::new(1, 5).expect("in range");
    /// let mut sum = PayloadChecksum::new(&identity, generation, 3, 0xAB, 9);
    /// sum.append(&PieceChecksum::from_crc32(0xCBF4_3926, 9));
    /// assert_eq!(sum.finish(), payload_checksum(&identity, generation, 3, 0xAB, b"123456789"));
    /// ```
    #[must_use]
    pub fn from_crc32(crc32: u32, len: u64) -> PieceChecksum {
        PieceChecksum(crc32fast::Hasher::new_with_initial_len(crc32, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreUuid;

    #[test]
    fn every_part_of_the_identity_counts() {
        let id = Identity {
            uuid: StoreUuid([1; 16]),
            epoch: 2,
        };
        let sum = |id: &Identity, generation, slot, hash, payload: &[u8]| {
            payload_checksum(id, Generation(generation), slot, hash, payload)
        };
        let right = sum(&id, 3, 4, 5, b"payload");
        let other_store = Identity {
            uuid: StoreUuid([9; 16]),
            ..id
        };
        let other_epoch = Identity { epoch: 9, ..id };
        let wrong = [
            sum(&other_store, 3, 4, 5, b"payload"),
            sum(&other_epoch, 3, 4, 5, b"payload"),
            sum(&id, 9, 4, 5, b"payload"),
            sum(&id, 3, 9, 5, b"payload"),
            sum(&id, 3, 4, 9, b"payload"),
            sum(&id, 3, 4, 5, b"payloaD"),
            sum(&id, 3, 4, 5, b"payload\0"),
        ];
        for (i, other) in wrong.into_iter().enumerate() {
            assert_ne!(other, right, "case {i}");
        }
    }

    #[test]
    fn pieces_give_the_same_sum() {
        let id = Identity {
            uuid: StoreUuid([1; 16]),
            epoch: 2,
        };
        let mut pieces = PayloadChecksum::new(&id, Generation(3), 4, 5, 7);
        pieces.update(b"pay");
        pieces.update(b"load");
        assert_eq!(
            pieces.finish(),
            payload_checksum(&id, Generation(3), 4, 5, b"payload")
        );
    }
}
