//! The incarnation block pair: identifies the current writer of the store.
//!
//! Each time the store is opened for writing, a new number and a random nonce are made durable here
//! before any other write. Number n goes to block A if n is even, to B if odd, so the predecessor
//! survives a torn write. The nonce is read again with every group commit: a foreign nonce means
//! that another host opened the store, and poisons writing.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut, transmute_ref,
};

use crate::block::{self, Block, CHECKSUM_OFFSET};
use crate::corruption::in_range;
use crate::magic::MAGIC_INCARNATION;
use crate::{
    Corruption, FORMAT_VERSION, Generation, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, Identity,
};

const WHAT: &str = "incarnation block";

/// The bytes of an incarnation block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct IncarnationBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) number: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: U64,
    pub(crate) nonce: [u8; 16],
    pub(crate) reserved: [u8; 4032],
    pub(crate) checksum: U64,
}

const _: () = {
    assert!(size_of::<IncarnationBytes>() == size_of::<Block>());
    assert!(offset_of!(IncarnationBytes, nonce) == 40);
    assert!(offset_of!(IncarnationBytes, checksum) == CHECKSUM_OFFSET);
};

/// One session in which a store is open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// The store and epoch.
    pub identity: Identity,
    /// The number of the session, 0 to [`Generation::INCARNATION_MAX`].
    pub number: u32,
    /// Random bytes, unique to this session.
    pub nonce: [u8; 16],
}

impl Incarnation {
    /// Encodes the block.
    #[must_use]
    pub fn encode(&self) -> Box<Block> {
        let mut block = block::zeroed();
        let raw: &mut IncarnationBytes = transmute_mut!(&mut *block);
        raw.magic = MAGIC_INCARNATION;
        raw.version = FORMAT_VERSION.into();
        raw.number = self.number.into();
        raw.uuid = self.identity.uuid.0;
        raw.epoch = self.identity.epoch.into();
        raw.nonce = self.nonce;
        block::seal(&mut block);
        block
    }

    /// Decodes the first format block of `bytes`.
    ///
    /// # Errors
    /// Any [`Corruption`], including a store or epoch other than `identity`.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<Incarnation, Corruption> {
        let raw: &IncarnationBytes = transmute_ref!(block::open(WHAT, MAGIC_INCARNATION, bytes)?);
        identity.check(WHAT, raw.uuid, raw.epoch.get())?;
        block::zero(WHAT, offset_of!(IncarnationBytes, reserved), &raw.reserved)?;
        let number = raw.number.get();
        in_range(
            WHAT,
            "number",
            number.into(),
            0,
            Generation::INCARNATION_MAX.into(),
        )?;
        Ok(Incarnation {
            identity: *identity,
            number,
            nonce: raw.nonce,
        })
    }

    /// Returns the device offset of this block: A for even numbers, B for odd ones.
    #[must_use]
    pub fn offset(&self) -> u64 {
        if self.number.is_multiple_of(2) {
            INCARNATION_A_OFFSET
        } else {
            INCARNATION_B_OFFSET
        }
    }
}
