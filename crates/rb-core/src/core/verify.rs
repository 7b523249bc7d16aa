//! Verifies entries: the bytes in the slot must match the index (C1). Gets, the validator, the
//! scrubber and the audit use only these checks.

use rb_format::{Generation, Identity, SlotHeader, key_hash, payload_checksum};
use rb_index::Located;

/// Returns whether these bytes are the slot header of exactly this entry.
pub(crate) fn header_matches(
    identity: &Identity,
    header: &[u8],
    key: &[u8],
    entry: &Located,
) -> bool {
    SlotHeader::decode(header, identity).is_ok_and(|header| agrees(&header, key, entry))
}

/// Returns whether a decoded slot header is that of exactly this entry.
pub(crate) fn agrees(header: &SlotHeader, key: &[u8], entry: &Located) -> bool {
    *header.key == *key
        && header.generation == Generation(entry.generation)
        && header.slot == entry.slot.0
        && header.payload_len == entry.payload_len
        && header.payload_checksum == entry.payload_checksum
}

/// Returns whether a payload is that of exactly this entry: its checksum covers key, generation,
/// slot and length. `payload` may be followed by padding; a payload shorter than the entry's never
/// matches.
pub(crate) fn payload_matches(
    identity: &Identity,
    payload: &[u8],
    key: &[u8],
    entry: &Located,
) -> bool {
    let hash = key_hash(&identity.uuid, key);
    let (generation, slot) = (Generation(entry.generation), entry.slot.0);
    payload
        .get(..entry.payload_len as usize)
        .is_some_and(|payload| {
            payload_checksum(identity, generation, slot, hash, payload) == entry.payload_checksum
        })
}
