//! The longest value of the format, in every structure that names it.

use super::{ID, Numbers, OwnedEntry};
use crate::*;

/// The header of the longest value: the longest key and metadata, and as many slots as a value can
/// have, scattered over the larger class of [`superblock`].
pub(crate) fn longest() -> SlotHeader {
    let mut numbers = Numbers(256);
    let mut bytes = |len| -> Box<[u8]> { (0..len).map(|_| numbers.next() as u8).collect() };
    let (key, metadata) = (bytes(KEY_LEN_MAX), bytes(METADATA_LEN_MAX));
    // 389 and 1000 have no common factor, so no slot repeats.
    let slot = |n: u32| 40_000 + n * 389 % 1000;
    SlotHeader {
        generation: Generation::new(3, 99).unwrap(),
        slot: slot(0),
        more: (1..256).map(slot).collect(),
        key_hash: key_hash(&ID.uuid, &key),
        payload_len: (255 << 20) + 12_345,
        payload_checksum: 0x0102_0304,
        placement: 2,
        policy: 0xffff,
        expiry: u32::MAX,
        key,
        metadata,
    }
}

/// The headers of its further slots, in order.
pub(crate) fn longest_continuations() -> Vec<Continuation> {
    let first = longest();
    (1..=u8::MAX)
        .zip(first.more.iter())
        .map(|(number, &slot)| Continuation {
            generation: first.generation,
            slot,
            first_slot: first.slot,
            number,
            more_slots: 255,
        })
        .collect()
}

/// Its record in the log.
pub(crate) fn longest_record(header: &SlotHeader) -> Record<'_> {
    Record::Put {
        key: &header.key,
        slot: header.slot,
        more: MoreSlots::from(&*header.more),
        generation: header.generation,
        payload_len: header.payload_len,
        payload_checksum: header.payload_checksum,
        placement: header.placement,
        policy: header.policy,
        expiry: header.expiry,
        metadata: &header.metadata,
    }
}

/// Its entry in a base.
pub(crate) fn longest_entry(header: &SlotHeader) -> OwnedEntry {
    OwnedEntry::of(BaseEntry {
        key: &header.key,
        metadata: &header.metadata,
        key_hash: header.key_hash,
        slot: header.slot,
        more: MoreSlots::from(&*header.more),
        generation: header.generation,
        payload_len: header.payload_len,
        payload_checksum: header.payload_checksum,
        placement: header.placement,
        policy: header.policy,
        expiry: header.expiry,
        recency: 4,
    })
}
