//! The header of a continuation: the format block in front of a further slot of a value.
//!
//! A value of several slots has its slot header in the first of them and a continuation header in
//! each other. So payload is never at a position where a header is expected, and every slot
//! identifies the value that it belongs to. A continuation header alone verifies nothing: the first
//! slot's header lists all slots, and the payload checksum covers the payload of all of them.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut, transmute_ref,
};

use crate::block::{self, Block, CHECKSUM_OFFSET};
use crate::corruption::in_range;
use crate::magic::MAGIC_CONTINUATION;
use crate::{Corruption, FORMAT_BLOCK, FORMAT_VERSION, Generation, Identity, SlotHeaderRef};

const WHAT: &str = "continuation header";

/// The bytes of a continuation header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ContinuationBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) slot: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: U64,
    pub(crate) generation: U64,
    pub(crate) first_slot: U32,
    pub(crate) number: u8,
    pub(crate) more_slots: u8,
    pub(crate) reserved: [u8; 4034],
    pub(crate) checksum: U64,
}

const _: () = {
    assert!(size_of::<ContinuationBytes>() == size_of::<Block>());
    assert!(offset_of!(ContinuationBytes, generation) == 40);
    assert!(offset_of!(ContinuationBytes, checksum) == CHECKSUM_OFFSET);
};

/// The header of a further slot of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The generation of the put that wrote the slot.
    pub generation: Generation,
    /// The slot that it was meant for.
    pub slot: u32,
    /// The first slot of the value, which has the slot header.
    pub first_slot: u32,
    /// The part of the value in this slot, 1 to `more_slots`: part 0 is in the first slot.
    pub number: u8,
    /// Number of slots of the value after the first, 1 to 255.
    pub more_slots: u8,
}

impl Continuation {
    /// Encodes the header into the first format block of `out` (all 4096 bytes of it).
    ///
    /// # Panics
    /// If `out` is shorter than a format block.
    pub fn encode_into(&self, identity: &Identity, out: &mut [u8]) {
        let len = out.len();
        let Some(block) = out.first_chunk_mut::<FORMAT_BLOCK>() else {
            panic!("a continuation header needs 4096 bytes, got {len}")
        };
        // Clear the buffer: its previous contents are user data and must not reach the device.
        block.fill(0);
        let raw: &mut ContinuationBytes = transmute_mut!(block);
        raw.magic = MAGIC_CONTINUATION;
        raw.version = FORMAT_VERSION.into();
        raw.slot = self.slot.into();
        raw.uuid = identity.uuid.0;
        raw.epoch = identity.epoch.into();
        raw.generation = self.generation.0.into();
        raw.first_slot = self.first_slot.into();
        raw.number = self.number;
        raw.more_slots = self.more_slots;
        block::seal(transmute_mut!(raw));
    }

    /// Decodes the first format block of `bytes`.
    ///
    /// # Errors
    /// Any [`Corruption`], including a store or epoch other than `identity` and a slot that is its
    /// own first slot.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<Continuation, Corruption> {
        let raw: &ContinuationBytes = transmute_ref!(block::open(WHAT, MAGIC_CONTINUATION, bytes)?);
        identity.check(WHAT, raw.uuid, raw.epoch.get())?;
        block::zero(WHAT, offset_of!(ContinuationBytes, reserved), &raw.reserved)?;
        in_range(
            WHAT,
            "further slots",
            raw.more_slots.into(),
            1,
            u8::MAX.into(),
        )?;
        in_range(WHAT, "number", raw.number.into(), 1, raw.more_slots.into())?;
        let (slot, first_slot) = (raw.slot.get(), raw.first_slot.get());
        if slot == first_slot {
            return Err(Corruption::SlotTwice { what: WHAT, slot });
        }
        Ok(Continuation {
            generation: Generation(raw.generation.get()),
            slot,
            first_slot,
            number: raw.number,
            more_slots: raw.more_slots,
        })
    }
}

/// The header in front of a slot's payload, for any part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyHeader<'a> {
    /// The slot is the first of its value, and usually the only one.
    First(SlotHeaderRef<'a>),
    /// The slot is a further one of its value.
    Continuation(Continuation),
}

impl<'a> AnyHeader<'a> {
    /// Decodes the first format block of `bytes`, whose magic selects the kind of header. A block
    /// with neither magic is rejected as a slot header would be.
    ///
    /// # Errors
    /// Those of [`SlotHeaderRef::decode`] and [`Continuation::decode`].
    pub fn decode(bytes: &'a [u8], identity: &Identity) -> Result<AnyHeader<'a>, Corruption> {
        if bytes.starts_with(&MAGIC_CONTINUATION) {
            Continuation::decode(bytes, identity).map(AnyHeader::Continuation)
        } else {
            SlotHeaderRef::decode(bytes, identity).map(AnyHeader::First)
        }
    }

    /// Returns the slot that it was meant for.
    #[must_use]
    pub fn slot(&self) -> u32 {
        match self {
            AnyHeader::First(header) => header.slot,
            AnyHeader::Continuation(header) => header.slot,
        }
    }

    /// Returns the generation of the put that wrote the slot.
    #[must_use]
    pub fn generation(&self) -> Generation {
        match self {
            AnyHeader::First(header) => header.generation,
            AnyHeader::Continuation(header) => header.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::samples::{self, ID};

    fn forged(change: impl FnOnce(&mut [u8])) -> Corruption {
        let mut bytes = [0; FORMAT_BLOCK];
        samples::continuation().encode_into(&ID, &mut bytes);
        change(&mut bytes);
        block::seal(&mut bytes);
        Continuation::decode(&bytes, &ID).expect_err("the change is not noticed")
    }

    #[test]
    fn forged_fields_are_refused_by_name() {
        let field = |change: fn(&mut [u8])| match forged(change) {
            Corruption::Field { field, .. } => field,
            other => panic!("{other}"),
        };
        assert_eq!(field(|b| b[52] = 0), "number");
        assert_eq!(field(|b| b[52] = b[53] + 1), "number");
        assert_eq!(field(|b| b[53] = 0), "further slots");
        let itself = forged(|b| b.copy_within(12..16, 48));
        assert!(matches!(itself, Corruption::SlotTwice { .. }), "{itself}");
        for at in [54, 4087] {
            let offset = at as u64;
            let error = forged(|b| b[at] = 1);
            assert_eq!(error, Corruption::Reserved { what: WHAT, offset });
        }
    }

    #[test]
    fn either_header_is_known_by_its_magic() {
        let mut bytes = [0xff; FORMAT_BLOCK + 1];
        let part = samples::continuation();
        part.encode_into(&ID, &mut bytes);
        assert_eq!(bytes[FORMAT_BLOCK], 0xff, "what follows is not touched");
        let found = AnyHeader::decode(&bytes, &ID).unwrap();
        assert_eq!(found, AnyHeader::Continuation(part));
        assert_eq!(
            (found.slot(), found.generation()),
            (part.slot, part.generation)
        );

        let first = samples::slot_header();
        first.encode_into(&ID, &mut bytes);
        let found = AnyHeader::decode(&bytes, &ID).unwrap();
        assert_eq!(found, AnyHeader::First(first.borrowed()));
        assert_eq!(
            (found.slot(), found.generation()),
            (first.slot, first.generation)
        );

        let nothing = AnyHeader::decode(&[0; FORMAT_BLOCK], &ID).unwrap_err();
        assert!(nothing.is_absent(), "{nothing}");
    }
}
