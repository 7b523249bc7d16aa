//! What proves an entry: the bytes of its slot say what the index says (C1). Gets, the validator and the
//! scrubber judge by this and by nothing else.

use rb_format::{Generation, SlotHeader, payload_checksum};
use rb_index::Located;

use crate::inner::Inner;

/// Whether a slot's header is that of exactly this entry.
pub(crate) fn header_proves(inner: &Inner, header: &[u8], key: &[u8], entry: &Located) -> bool {
    SlotHeader::decode(header, &inner.identity).is_ok_and(|header| {
        *header.key == *key
            && header.generation == Generation(entry.generation)
            && header.slot == entry.slot.0
            && header.payload_len == entry.payload_len
            && header.payload_checksum == entry.payload_checksum
    })
}

/// Whether a payload is that of exactly this entry: its checksum covers key, generation, slot and length.
pub(crate) fn payload_proves(inner: &Inner, payload: &[u8], hash: u64, entry: &Located) -> bool {
    let (generation, slot) = (Generation(entry.generation), entry.slot.0);
    payload_checksum(&inner.identity, generation, slot, hash, payload) == entry.payload_checksum
}
