//! The slot header: the format block in front of every payload.
//!
//! It is written together with the payload in one submission, so a crash can leave any mixture of
//! old and new sectors of both. The header is verified by its own checksum. It verifies the payload
//! by the payload checksum, which covers store, epoch, generation, slot, key hash and length. A
//! valid header alone does not make a value live: only index and log decide that.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut, transmute_ref,
};

use crate::block::{self, Block, CHECKSUM_OFFSET};
use crate::corruption::{equals, in_range};
use crate::magic::MAGIC_SLOT_HEADER;
use crate::more_slots::{MORE_SLOT_LEN, MORE_SLOTS_LEN_MAX};
use crate::{
    Corruption, FORMAT_BLOCK, FORMAT_VERSION, Generation, Identity, KEY_LEN_MAX, METADATA_LEN_MAX,
    MoreSlots, VALUE_LEN_MAX, key_hash,
};

const WHAT: &str = "slot header";

/// The bytes of a slot header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SlotHeaderBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) slot: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: U64,
    pub(crate) generation: U64,
    pub(crate) key_hash: U64,
    pub(crate) payload_checksum: U64,
    pub(crate) payload_len: U32,
    pub(crate) expiry: U32,
    pub(crate) placement: U16,
    pub(crate) policy: U16,
    pub(crate) key_len: U16,
    pub(crate) metadata_len: U16,
    pub(crate) more_slots: u8,
    pub(crate) reserved: [u8; 7],
    /// Key, then metadata, then further slots, then zeros.
    pub(crate) body: [u8; BODY_LEN],
    pub(crate) checksum: U64,
}

const BODY_LEN: usize = 4000;

const _: () = {
    assert!(size_of::<SlotHeaderBytes>() == size_of::<Block>());
    assert!(offset_of!(SlotHeaderBytes, generation) == 40);
    assert!(offset_of!(SlotHeaderBytes, body) == 88);
    assert!(offset_of!(SlotHeaderBytes, checksum) == CHECKSUM_OFFSET);
    assert!(KEY_LEN_MAX + METADATA_LEN_MAX + MORE_SLOTS_LEN_MAX <= BODY_LEN);
};

/// A slot header that owns its key and metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotHeader {
    /// The generation of the put that wrote the slot.
    pub generation: Generation,
    /// The slot that it was meant for: the first of its value.
    pub slot: u32,
    /// The value's further slots, none for most.
    pub more: Box<[u32]>,
    /// [`key_hash`] of the key.
    pub key_hash: u64,
    /// Payload length in bytes, 1 to [`VALUE_LEN_MAX`].
    pub payload_len: u32,
    /// [`payload_checksum`](crate::payload_checksum) of the payload; below 2^32 in version 1.
    pub payload_checksum: u64,
    /// Placement id of the write, 0 for none.
    pub placement: u16,
    /// For the eviction policy; 0 until one uses it.
    pub policy: u16,
    /// Expiry time in seconds since [`Superblock::formatted_at`](crate::Superblock::formatted_at),
    /// 0 for never.
    pub expiry: u32,
    /// The full key, 1 to [`KEY_LEN_MAX`] bytes.
    pub key: Box<[u8]>,
    /// Opaque bytes, at most [`METADATA_LEN_MAX`].
    pub metadata: Box<[u8]>,
}

/// A slot header that borrows key and metadata, so that the put path does not allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotHeaderRef<'a> {
    /// The generation of the put that wrote the slot.
    pub generation: Generation,
    /// The slot that it was meant for: the first of its value.
    pub slot: u32,
    /// The value's further slots, none for most.
    pub more: MoreSlots<'a>,
    /// [`key_hash`] of the key.
    pub key_hash: u64,
    /// Payload length in bytes, 1 to [`VALUE_LEN_MAX`].
    pub payload_len: u32,
    /// [`payload_checksum`](crate::payload_checksum) of the payload; below 2^32 in version 1.
    pub payload_checksum: u64,
    /// Placement id of the write, 0 for none.
    pub placement: u16,
    /// For the eviction policy; 0 until one uses it.
    pub policy: u16,
    /// Expiry time in seconds since [`Superblock::formatted_at`](crate::Superblock::formatted_at),
    /// 0 for never.
    pub expiry: u32,
    /// The full key, 1 to [`KEY_LEN_MAX`] bytes.
    pub key: &'a [u8],
    /// Opaque bytes, at most [`METADATA_LEN_MAX`].
    pub metadata: &'a [u8],
}

impl SlotHeader {
    /// Encodes the header into the first format block of `out`.
    ///
    /// # Panics
    /// Under the conditions of [`SlotHeaderRef::encode_into`].
    pub fn encode_into(&self, identity: &Identity, out: &mut [u8]) {
        self.borrowed().encode_into(identity, out);
    }

    /// Decodes the first format block of `bytes`.
    ///
    /// # Errors
    /// Those of [`SlotHeaderRef::decode`].
    ///
    /// ```
    /// use rb_format::{FORMAT_BLOCK, Generation, Identity, SlotHeader, StoreUuid, key_hash};
    ///
    /// let identity = Identity { uuid: StoreUuid([7; 16]), epoch: 1 };
    /// let header = SlotHeader {
    ///     generation: Generation::new(1, 5).expect("in range"),
    ///     slot: 3,
    ///     more: Box::new([]),
    ///     key_hash: key_hash(&identity.uuid, b"key"),
    ///     payload_len: 70_000,
    ///     payload_checksum: 0x1234,
    ///     placement: 0,
    ///     policy: 0,
    ///     expiry: 0,
    ///     key: (*b"key").into(),
    ///     metadata: Box::new([]),
    /// };
    /// let mut block = [0; FORMAT_BLOCK];
    /// header.encode_into(&identity, &mut block);
    /// assert_eq!(SlotHeader::decode(&block, &identity)?, header);
    ///
    /// // The header of another store is refused, and so is a damaged one.
    /// let other = Identity { uuid: StoreUuid([8; 16]), ..identity };
    /// assert!(SlotHeader::decode(&block, &other).is_err());
    /// block[200] ^= 1;
    /// assert!(SlotHeader::decode(&block, &identity).is_err());
    /// # Ok::<(), rb_format::Corruption>(())
    /// ```
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<SlotHeader, Corruption> {
        SlotHeaderRef::decode(bytes, identity).map(|header| header.to_owned())
    }

    /// Borrows the header.
    #[must_use]
    pub fn borrowed(&self) -> SlotHeaderRef<'_> {
        SlotHeaderRef {
            generation: self.generation,
            slot: self.slot,
            more: MoreSlots::from(&*self.more),
            key_hash: self.key_hash,
            payload_len: self.payload_len,
            payload_checksum: self.payload_checksum,
            placement: self.placement,
            policy: self.policy,
            expiry: self.expiry,
            key: &self.key,
            metadata: &self.metadata,
        }
    }
}

impl<'a> SlotHeaderRef<'a> {
    /// Encodes the header into the first format block of `out` (all 4096 bytes of it).
    ///
    /// # Panics
    /// If `out` is shorter than a format block, the key is longer than [`KEY_LEN_MAX`], the
    /// metadata is longer than [`METADATA_LEN_MAX`] or the value has more than
    /// [`VALUE_SLOTS_MAX`](crate::VALUE_SLOTS_MAX) slots: the caller checked those when it accepted
    /// the put.
    pub fn encode_into(&self, identity: &Identity, out: &mut [u8]) {
        assert!(
            out.len() >= FORMAT_BLOCK,
            "a slot header needs 4096 bytes, got {}",
            out.len()
        );
        assert!(
            self.key.len() <= KEY_LEN_MAX,
            "key of {} bytes",
            self.key.len()
        );
        assert!(
            self.metadata.len() <= METADATA_LEN_MAX,
            "metadata of {}",
            self.metadata.len()
        );
        let more_slots = self.more.count();
        let Some(block) = out.first_chunk_mut::<FORMAT_BLOCK>() else {
            return;
        };
        // Clear the buffer: its previous contents are user data and must not reach the device.
        block.fill(0);
        let raw: &mut SlotHeaderBytes = transmute_mut!(block);
        raw.magic = MAGIC_SLOT_HEADER;
        raw.version = FORMAT_VERSION.into();
        raw.slot = self.slot.into();
        raw.uuid = identity.uuid.0;
        raw.epoch = identity.epoch.into();
        raw.generation = self.generation.0.into();
        raw.key_hash = self.key_hash.into();
        raw.payload_checksum = self.payload_checksum.into();
        raw.payload_len = self.payload_len.into();
        raw.expiry = self.expiry.into();
        raw.placement = self.placement.into();
        raw.policy = self.policy.into();
        raw.key_len = (self.key.len() as u16).into();
        raw.metadata_len = (self.metadata.len() as u16).into();
        raw.more_slots = more_slots;
        let (key, rest) = raw.body.split_at_mut(self.key.len());
        key.copy_from_slice(self.key);
        let (metadata, rest) = rest.split_at_mut(self.metadata.len());
        metadata.copy_from_slice(self.metadata);
        self.more.write(rest);
        block::seal(transmute_mut!(raw));
    }

    /// Decodes the first format block of `bytes` without copying.
    ///
    /// # Errors
    /// Any [`Corruption`], including a store or epoch other than `identity`, a key hash that does
    /// not match the key, and a slot that is named twice.
    pub fn decode(bytes: &'a [u8], identity: &Identity) -> Result<SlotHeaderRef<'a>, Corruption> {
        let raw: &SlotHeaderBytes = transmute_ref!(block::open(WHAT, MAGIC_SLOT_HEADER, bytes)?);
        identity.check(WHAT, raw.uuid, raw.epoch.get())?;
        block::zero(WHAT, offset_of!(SlotHeaderBytes, reserved), &raw.reserved)?;
        let key_len = usize::from(raw.key_len.get());
        let metadata_len = usize::from(raw.metadata_len.get());
        in_range(WHAT, "key length", key_len as u64, 1, KEY_LEN_MAX as u64)?;
        in_range(
            WHAT,
            "metadata length",
            metadata_len as u64,
            0,
            METADATA_LEN_MAX as u64,
        )?;
        in_range(
            WHAT,
            "payload length",
            raw.payload_len.get().into(),
            1,
            VALUE_LEN_MAX,
        )?;
        in_range(
            WHAT,
            "payload checksum",
            raw.payload_checksum.get(),
            0,
            u32::MAX.into(),
        )?;
        let (key, rest) = raw.body.split_at(key_len);
        let (metadata, rest) = rest.split_at(metadata_len);
        let (more, tail) = rest.split_at(usize::from(raw.more_slots) * MORE_SLOT_LEN);
        let more = MoreSlots::stored(more);
        block::zero(WHAT, CHECKSUM_OFFSET - tail.len(), tail)?;
        equals(
            WHAT,
            "key hash",
            key_hash(&identity.uuid, key),
            raw.key_hash.get(),
        )?;
        more.check_distinct(WHAT, raw.slot.get())?;
        Ok(SlotHeaderRef {
            generation: Generation(raw.generation.get()),
            slot: raw.slot.get(),
            more,
            key_hash: raw.key_hash.get(),
            payload_len: raw.payload_len.get(),
            payload_checksum: raw.payload_checksum.get(),
            placement: raw.placement.get(),
            policy: raw.policy.get(),
            expiry: raw.expiry.get(),
            key,
            metadata,
        })
    }

    /// Returns whether the key named by a header's bytes lies within their first `len` bytes.
    pub(crate) fn key_ends_within(block: &Block, len: usize) -> bool {
        let raw: &SlotHeaderBytes = transmute_ref!(block);
        offset_of!(SlotHeaderBytes, body) + usize::from(raw.key_len.get()) <= len
    }

    /// Copies the header with its key and metadata.
    #[must_use]
    pub fn to_owned(&self) -> SlotHeader {
        SlotHeader {
            generation: self.generation,
            slot: self.slot,
            more: self.more.iter().collect(),
            key_hash: self.key_hash,
            payload_len: self.payload_len,
            payload_checksum: self.payload_checksum,
            placement: self.placement,
            policy: self.policy,
            expiry: self.expiry,
            key: self.key.into(),
            metadata: self.metadata.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::samples::{self, ID};

    /// Decodes the sample header after `change`, with a correct checksum, and returns the error.
    fn forged(change: impl FnOnce(&mut [u8])) -> Corruption {
        let mut bytes = [0; FORMAT_BLOCK];
        samples::slot_header().encode_into(&ID, &mut bytes);
        change(&mut bytes);
        block::seal(&mut bytes);
        SlotHeader::decode(&bytes, &ID).expect_err("the change is not noticed")
    }

    #[test]
    fn forged_fields_are_refused_by_name() {
        let field = |change: fn(&mut [u8])| match forged(change) {
            Corruption::Field { field, .. } | Corruption::Mismatch { field, .. } => field,
            other => panic!("{other}"),
        };
        assert_eq!(field(|b| b[48] ^= 1), "key hash");
        assert_eq!(field(|b| b[88] ^= 1), "key hash");
        assert_eq!(field(|b| b[60] = 1), "payload checksum");
        assert_eq!(field(|b| b[64..68].fill(0)), "payload length");
        assert_eq!(field(|b| b[64..68].fill(0xff)), "payload length");
        assert_eq!(field(|b| b[76..78].fill(0)), "key length");
        assert_eq!(field(|b| b[77] = 0x7f), "key length");
        assert_eq!(field(|b| b[79] = 2), "metadata length");
    }

    #[test]
    fn a_slot_that_is_named_twice_is_refused() {
        let list = 88 + 26 + 14;
        let twice = |b: &mut [u8]| {
            b[80] = 1;
            b.copy_within(12..16, list);
        };
        let slot = samples::slot_header().slot;
        assert_eq!(forged(twice), Corruption::SlotTwice { what: WHAT, slot });
    }

    #[test]
    fn stray_bytes_are_refused() {
        for at in [81, 87, 88 + 26 + 14, 4087] {
            let error = forged(|b| b[at] = 1);
            let offset = at as u64;
            assert_eq!(error, Corruption::Reserved { what: WHAT, offset });
        }
    }
}
