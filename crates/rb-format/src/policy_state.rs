//! The policy region: what the eviction policy has learned, and what is spent of the write budget.
//!
//! It is a hint for the next session and no promise depends on it: without it, or with a damaged one, a session starts
//! to learn. Two places take turns, so a torn write leaves the state before it.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut, transmute_ref,
};

use crate::block::{self, Block, CHECKSUM_OFFSET};
use crate::corruption::in_range;
use crate::magic::MAGIC_POLICY_STATE;
use crate::{BLOCK, Corruption, FORMAT_BLOCK, FORMAT_VERSION, Identity, Region};

const WHAT: &str = "policy state";

/// The bytes of the header of a policy state.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct PolicyStateBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) budget_len: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: U64,
    pub(crate) sequence: U64,
    pub(crate) policy_len: U32,
    pub(crate) data_checksum: U32,
    pub(crate) reserved: [u8; 4032],
    pub(crate) checksum: U64,
}

const _: () = {
    assert!(size_of::<PolicyStateBytes>() == size_of::<Block>());
    assert!(offset_of!(PolicyStateBytes, sequence) == 40);
    assert!(offset_of!(PolicyStateBytes, checksum) == CHECKSUM_OFFSET);
};

/// The state in one of the two places of a policy region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyState {
    /// Counts the states of a store; the higher one of the two places is valid.
    pub sequence: u64,
    /// The state of the write budget; empty without one.
    pub budget: Vec<u8>,
    /// The state of the policy; empty if it saves none.
    pub policy: Vec<u8>,
}

impl PolicyState {
    /// Returns the most bytes of budget and policy together that one of the places of a region holds.
    #[must_use]
    pub fn room(region: &Region) -> u64 {
        places(region)[1] - region.offset - BLOCK
    }

    /// Returns the device offset of the place of the state with this sequence.
    #[must_use]
    pub fn offset(region: &Region, sequence: u64) -> u64 {
        places(region)[(sequence % 2) as usize]
    }

    /// Encodes header and data, in whole blocks.
    ///
    /// # Panics
    /// If the budget or the policy has 4 GiB or more.
    #[must_use]
    pub fn encode(&self, identity: &Identity) -> Vec<u8> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a state has less than 4 GiB");
        let mut data = [&self.budget[..], &self.policy].concat();
        let data_checksum = crc32fast::hash(&data);
        data.resize(data.len().next_multiple_of(FORMAT_BLOCK), 0);
        let mut header = block::zeroed();
        let raw: &mut PolicyStateBytes = transmute_mut!(&mut *header);
        raw.magic = MAGIC_POLICY_STATE;
        raw.version = FORMAT_VERSION.into();
        raw.budget_len = len(&self.budget).into();
        raw.uuid = identity.uuid.0;
        raw.epoch = identity.epoch.into();
        raw.sequence = self.sequence.into();
        raw.policy_len = len(&self.policy).into();
        raw.data_checksum = data_checksum.into();
        block::seal(&mut header);
        [&header[..], &data].concat()
    }

    /// Decodes header and data at the start of `bytes`, which is one of the places of a region.
    ///
    /// # Errors
    /// Any [`Corruption`], including another store. The epoch may be an older one: what was learned outlives the entries.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<PolicyState, Corruption> {
        let raw: &PolicyStateBytes = transmute_ref!(block::open(WHAT, MAGIC_POLICY_STATE, bytes)?);
        identity.check(WHAT, raw.uuid, identity.epoch)?;
        block::zero(WHAT, offset_of!(PolicyStateBytes, reserved), &raw.reserved)?;
        let data = &bytes[FORMAT_BLOCK..];
        let (budget_len, policy_len) = (raw.budget_len.get(), raw.policy_len.get());
        let len = u64::from(budget_len) + u64::from(policy_len);
        in_range(WHAT, "bytes of data", len, 0, data.len() as u64)?;
        let data = &data[..len as usize];
        let (expected, found) = (crc32fast::hash(data), raw.data_checksum.get());
        if expected != found {
            return Err(Corruption::Checksum {
                what: WHAT,
                expected: expected.into(),
                found: found.into(),
            });
        }
        let (budget, policy) = data.split_at(budget_len as usize);
        Ok(PolicyState {
            sequence: raw.sequence.get(),
            budget: budget.to_vec(),
            policy: policy.to_vec(),
        })
    }
}

fn places(region: &Region) -> [u64; 2] {
    let half = region.bytes / 2 / BLOCK * BLOCK;
    [region.offset, region.offset + half]
}
