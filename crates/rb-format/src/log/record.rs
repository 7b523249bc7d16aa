//! Encodes and decodes the records of the delta log.
//!
//! Records are packed without gaps, so their structs are unaligned. The first byte is the kind;
//! zero is not a kind, so the zeros after the last record cannot be mistaken for a record.

use std::mem::size_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::bytes::{LOG_BLOCK_PAYLOAD, WHAT};
use crate::corruption::in_range;
use crate::more_slots::{MORE_SLOT_LEN, MORE_SLOTS_LEN_MAX};
use crate::{
    Corruption, Generation, KEY_LEN_MAX, METADATA_LEN_MAX, MoreSlots, VALUE_LEN_MAX, block,
};

const KIND_PUT: u8 = 1;
const KIND_REMOVE: u8 = 2;
const KIND_BAD_SLOT: u8 = 3;
const KIND_CLOSE: u8 = 4;

/// Bytes of a put record before its key.
pub(crate) const PUT_HEAD_LEN: usize = size_of::<PutBytes>();
/// The longest record in bytes: a put with the longest key and metadata and the most slots.
pub const RECORD_LEN_MAX: usize =
    PUT_HEAD_LEN + KEY_LEN_MAX + METADATA_LEN_MAX + MORE_SLOTS_LEN_MAX;

/// The bytes of a put record; key, metadata and further slots follow.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct PutBytes {
    pub(crate) kind: u8,
    pub(crate) more_slots: u8,
    pub(crate) key_len: U16,
    pub(crate) slot: U32,
    pub(crate) generation: U64,
    pub(crate) payload_len: U32,
    pub(crate) payload_checksum: U64,
    pub(crate) expiry: U32,
    pub(crate) placement: U16,
    pub(crate) policy: U16,
    pub(crate) metadata_len: U16,
}

/// The bytes of a remove record; the key follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RemoveBytes {
    pub(crate) kind: u8,
    pub(crate) reserved: u8,
    pub(crate) key_len: U16,
    pub(crate) generation: U64,
}

/// The bytes of a bad-slot record.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct BadSlotBytes {
    pub(crate) kind: u8,
    pub(crate) reserved: [u8; 3],
    pub(crate) slot: U32,
}

/// The bytes of a close record.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CloseBytes {
    pub(crate) kind: u8,
    pub(crate) reserved: [u8; 3],
}

const _: () = {
    assert!(size_of::<PutBytes>() == 38);
    assert!(size_of::<RemoveBytes>() == 12);
    assert!(size_of::<BadSlotBytes>() == 8);
    assert!(size_of::<CloseBytes>() == 4);
    // Otherwise a record could exist that fits no block.
    assert!(RECORD_LEN_MAX <= LOG_BLOCK_PAYLOAD);
};

/// One event of the delta log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// `key` is in `slot` since `generation`. Displaces the previous owner of the slot, so an
    /// eviction needs no record.
    Put {
        /// The key, 1 to [`KEY_LEN_MAX`] bytes.
        key: &'a [u8],
        /// The slot, or the first of several.
        slot: u32,
        /// The further slots, none for most values.
        more: MoreSlots<'a>,
        /// The generation of the put.
        generation: Generation,
        /// Payload length in bytes, 1 to [`VALUE_LEN_MAX`].
        payload_len: u32,
        /// [`payload_checksum`](crate::payload_checksum); below 2^32 in version 1.
        payload_checksum: u64,
        /// Placement id of the write, 0 for none.
        placement: u16,
        /// For the eviction policy; 0 until one uses it.
        policy: u16,
        /// Expiry time in seconds since format, 0 for never.
        expiry: u32,
        /// Opaque bytes, at most [`METADATA_LEN_MAX`].
        metadata: &'a [u8],
    },
    /// Removes every generation of `key` up to and including this one.
    Remove {
        /// The key, 1 to [`KEY_LEN_MAX`] bytes.
        key: &'a [u8],
        /// The generation of the remove.
        generation: Generation,
    },
    /// The slot failed repeatedly and must not be used again.
    BadSlot {
        /// The slot.
        slot: u32,
    },
    /// The store was closed cleanly.
    Close,
}

impl<'a> Record<'a> {
    /// Returns the bytes of this record in a log block, at most [`RECORD_LEN_MAX`].
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Record::Put {
                key,
                metadata,
                more,
                ..
            } => Record::put_len(key.len(), metadata.len(), 1 + more.len()),
            Record::Remove { key, .. } => size_of::<RemoveBytes>() + key.len(),
            Record::BadSlot { .. } => size_of::<BadSlotBytes>(),
            Record::Close => size_of::<CloseBytes>(),
        }
    }

    /// Returns the bytes of a put record with this key length, metadata length and number of slots.
    #[must_use]
    pub const fn put_len(key_len: usize, metadata_len: usize, slots: usize) -> usize {
        PUT_HEAD_LEN + key_len + metadata_len + slots.saturating_sub(1) * MORE_SLOT_LEN
    }

    /// Appends the record to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Record::Put {
                key,
                slot,
                more,
                generation,
                payload_len,
                payload_checksum,
                placement,
                policy,
                expiry,
                metadata,
            } => {
                let head = PutBytes {
                    kind: KIND_PUT,
                    more_slots: more.count(),
                    key_len: (key.len() as u16).into(),
                    slot: slot.into(),
                    generation: generation.0.into(),
                    payload_len: payload_len.into(),
                    payload_checksum: payload_checksum.into(),
                    expiry: expiry.into(),
                    placement: placement.into(),
                    policy: policy.into(),
                    metadata_len: (metadata.len() as u16).into(),
                };
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(key);
                out.extend_from_slice(metadata);
                more.append(out);
            }
            Record::Remove { key, generation } => {
                let head = RemoveBytes {
                    kind: KIND_REMOVE,
                    reserved: 0,
                    key_len: (key.len() as u16).into(),
                    generation: generation.0.into(),
                };
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(key);
            }
            Record::BadSlot { slot } => {
                let head = BadSlotBytes {
                    kind: KIND_BAD_SLOT,
                    reserved: [0; 3],
                    slot: slot.into(),
                };
                out.extend_from_slice(head.as_bytes());
            }
            Record::Close => {
                let head = CloseBytes {
                    kind: KIND_CLOSE,
                    reserved: [0; 3],
                };
                out.extend_from_slice(head.as_bytes());
            }
        }
    }

    /// Decodes the first record of `bytes`; also returns the bytes after it.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<(Record<'a>, &'a [u8]), Corruption> {
        match bytes.first().copied().unwrap_or(0) {
            KIND_PUT => decode_put(bytes),
            KIND_REMOVE => {
                let (head, rest) = head::<RemoveBytes>(bytes)?;
                block::zero("remove record", 1, &[head.reserved])?;
                let (key, rest) = take_key(rest, head.key_len)?;
                Ok((
                    Record::Remove {
                        key,
                        generation: Generation(head.generation.get()),
                    },
                    rest,
                ))
            }
            KIND_BAD_SLOT => {
                let (head, rest) = head::<BadSlotBytes>(bytes)?;
                block::zero("bad slot record", 1, &head.reserved)?;
                Ok((
                    Record::BadSlot {
                        slot: head.slot.get(),
                    },
                    rest,
                ))
            }
            KIND_CLOSE => {
                let (head, rest) = head::<CloseBytes>(bytes)?;
                block::zero("close record", 1, &head.reserved)?;
                Ok((Record::Close, rest))
            }
            kind => Err(Corruption::Field {
                what: WHAT,
                field: "record kind",
                found: kind.into(),
                min: KIND_PUT.into(),
                max: KIND_CLOSE.into(),
            }),
        }
    }
}

fn decode_put(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), Corruption> {
    const PUT: &str = "put record";
    let (head, rest) = head::<PutBytes>(bytes)?;
    in_range(
        PUT,
        "payload length",
        head.payload_len.get().into(),
        1,
        VALUE_LEN_MAX,
    )?;
    in_range(
        PUT,
        "payload checksum",
        head.payload_checksum.get(),
        0,
        u32::MAX.into(),
    )?;
    let metadata_len = head.metadata_len.get();
    in_range(
        PUT,
        "metadata length",
        metadata_len.into(),
        0,
        METADATA_LEN_MAX as u64,
    )?;
    let (key, rest) = take_key(rest, head.key_len)?;
    let (metadata, rest) = take(rest, metadata_len.into())?;
    let (more, rest) = take(rest, usize::from(head.more_slots) * MORE_SLOT_LEN)?;
    let more = MoreSlots::stored(more);
    more.check_distinct(PUT, head.slot.get())?;
    let record = Record::Put {
        key,
        slot: head.slot.get(),
        more,
        generation: Generation(head.generation.get()),
        payload_len: head.payload_len.get(),
        payload_checksum: head.payload_checksum.get(),
        placement: head.placement.get(),
        policy: head.policy.get(),
        expiry: head.expiry.get(),
        metadata,
    };
    Ok((record, rest))
}

fn head<T: FromBytes + Immutable + KnownLayout + Unaligned>(
    bytes: &[u8],
) -> Result<(&T, &[u8]), Corruption> {
    T::ref_from_prefix(bytes).map_err(|_| truncated(size_of::<T>(), bytes))
}

fn take_key(bytes: &[u8], key_len: U16) -> Result<(&[u8], &[u8]), Corruption> {
    let key_len = key_len.get();
    in_range(WHAT, "key length", key_len.into(), 1, KEY_LEN_MAX as u64)?;
    take(bytes, key_len.into())
}

fn take(bytes: &[u8], len: usize) -> Result<(&[u8], &[u8]), Corruption> {
    bytes
        .split_at_checked(len)
        .ok_or_else(|| truncated(len, bytes))
}

fn truncated(needed: usize, bytes: &[u8]) -> Corruption {
    let (needed, found) = (needed as u64, bytes.len() as u64);
    Corruption::Truncated {
        what: "log record",
        needed,
        found,
    }
}
