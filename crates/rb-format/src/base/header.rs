//! The header of a checkpoint base: written last, it makes the base exist.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut, transmute_ref,
};

use crate::block::{self, Block, CHECKSUM_OFFSET};
use crate::corruption::{in_range, whole_blocks};
use crate::magic::MAGIC_BASE_HEADER;
use crate::{
    BLOCK, Corruption, FORMAT_BLOCK, FORMAT_VERSION, Generation, Identity, LogPosition,
    SEQUENCE_MAX,
};

/// How error messages call this structure.
pub(super) const WHAT: &str = "base header";

/// Bad slots that a base remembers. A device that loses more should be replaced.
pub const BAD_SLOTS_MAX: usize = 992;

/// The bytes of a base header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct BaseHeaderBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) incarnation: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: U64,
    pub(crate) base_sequence: U64,
    pub(crate) log_sequence: U64,
    pub(crate) log_anchor: U64,
    pub(crate) generation_floor: U64,
    pub(crate) entries: U64,
    pub(crate) directory_offset: U64,
    pub(crate) directory_len: U64,
    pub(crate) directory_checksum: U64,
    pub(crate) recency_now: U32,
    pub(crate) sections: U32,
    pub(crate) bad_slot_count: U32,
    pub(crate) reserved: [u8; 4],
    pub(crate) bad_slots: [U32; BAD_SLOTS_MAX],
    pub(crate) checksum: U64,
}

const _: () = {
    assert!(size_of::<BaseHeaderBytes>() == size_of::<Block>());
    assert!(offset_of!(BaseHeaderBytes, log_sequence) == 48);
    assert!(offset_of!(BaseHeaderBytes, bad_slots) == 120);
    assert!(offset_of!(BaseHeaderBytes, checksum) == CHECKSUM_OFFSET);
};

/// What a checkpoint base is and where replay starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseHeader {
    /// The store and epoch.
    pub identity: Identity,
    /// Counts the bases of the epoch; the higher of two usable ones is the newer.
    pub base_sequence: u64,
    /// The opening that wrote it.
    pub incarnation: u32,
    /// Replay starts here, checked against its anchor.
    pub position: LogPosition,
    /// The highest generation given out when the base was taken.
    pub generation_floor: Generation,
    /// The recency clock when the base was taken.
    pub recency_now: u32,
    /// Entries of all sections.
    pub entries: u64,
    /// Number of sections.
    pub sections: u32,
    /// Where the directory starts, in bytes from the region's start; whole blocks.
    pub directory_offset: u64,
    /// Its length in bytes without padding.
    pub directory_len: u64,
    /// Its checksum, as [`encode_directory`](crate::encode_directory) gave it.
    pub directory_checksum: u64,
    /// Bad slots, ascending, each once, at most [`BAD_SLOTS_MAX`]. The decoder does not know how
    /// many slots there are: the caller ignores numbers beyond them.
    pub bad_slots: Vec<u32>,
}

impl BaseHeader {
    /// The block as it is written.
    ///
    /// Bad slots are stored ascending and each once; those beyond the [`BAD_SLOTS_MAX`] lowest
    /// are left out, which costs no more than finding them bad again.
    pub fn encode(&self) -> Box<[u8; FORMAT_BLOCK]> {
        let mut bad_slots = self.bad_slots.clone();
        bad_slots.sort_unstable();
        bad_slots.dedup();
        bad_slots.truncate(BAD_SLOTS_MAX);
        let mut block = block::zeroed();
        let raw: &mut BaseHeaderBytes = transmute_mut!(&mut *block);
        raw.magic = MAGIC_BASE_HEADER;
        raw.version = FORMAT_VERSION.into();
        raw.incarnation = self.incarnation.into();
        raw.uuid = self.identity.uuid.0;
        raw.epoch = self.identity.epoch.into();
        raw.base_sequence = self.base_sequence.into();
        raw.log_sequence = self.position.sequence.into();
        raw.log_anchor = self.position.anchor.into();
        raw.generation_floor = self.generation_floor.0.into();
        raw.entries = self.entries.into();
        raw.directory_offset = self.directory_offset.into();
        raw.directory_len = self.directory_len.into();
        raw.directory_checksum = self.directory_checksum.into();
        raw.recency_now = self.recency_now.into();
        raw.sections = self.sections.into();
        raw.bad_slot_count = (bad_slots.len() as u32).into();
        for (out, slot) in raw.bad_slots.iter_mut().zip(bad_slots) {
            *out = slot.into();
        }
        block::seal(&mut block);
        block
    }

    /// Reads the first format block of `bytes`.
    ///
    /// # Errors
    /// Any [`Corruption`]; another store or epoch than `identity` is among them.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<BaseHeader, Corruption> {
        let mut header = BaseHeader::decode_without_bad_slots(bytes, identity)?;
        let raw: &BaseHeaderBytes = transmute_ref!(block::open(WHAT, MAGIC_BASE_HEADER, bytes)?);
        header.bad_slots = decode_bad_slots(raw)?;
        Ok(header)
    }

    /// Everything but the list of bad slots, which is not looked at.
    pub(crate) fn decode_without_bad_slots(
        bytes: &[u8],
        identity: &Identity,
    ) -> Result<BaseHeader, Corruption> {
        let raw: &BaseHeaderBytes = transmute_ref!(block::open(WHAT, MAGIC_BASE_HEADER, bytes)?);
        identity.check(WHAT, raw.uuid, raw.epoch.get())?;
        block::zero(WHAT, offset_of!(BaseHeaderBytes, reserved), &raw.reserved)?;
        let incarnation = raw.incarnation.get();
        in_range(
            WHAT,
            "incarnation",
            incarnation.into(),
            0,
            Generation::INCARNATION_MAX.into(),
        )?;
        let sequence = raw.log_sequence.get();
        in_range(WHAT, "log sequence", sequence, 1, SEQUENCE_MAX)?;
        let base_sequence = raw.base_sequence.get();
        in_range(WHAT, "base sequence", base_sequence, 0, SEQUENCE_MAX)?;
        whole_blocks(WHAT, "directory offset", raw.directory_offset.get())?;
        in_range(
            WHAT,
            "directory offset",
            raw.directory_offset.get(),
            BLOCK,
            i64::MAX as u64,
        )?;
        Ok(BaseHeader {
            identity: *identity,
            base_sequence,
            incarnation,
            position: LogPosition {
                sequence,
                anchor: raw.log_anchor.get(),
            },
            generation_floor: Generation(raw.generation_floor.get()),
            recency_now: raw.recency_now.get(),
            entries: raw.entries.get(),
            sections: raw.sections.get(),
            directory_offset: raw.directory_offset.get(),
            directory_len: raw.directory_len.get(),
            directory_checksum: raw.directory_checksum.get(),
            bad_slots: Vec::new(),
        })
    }
}

fn decode_bad_slots(raw: &BaseHeaderBytes) -> Result<Vec<u32>, Corruption> {
    let count = raw.bad_slot_count.get();
    in_range(WHAT, "bad slots", count.into(), 0, BAD_SLOTS_MAX as u64)?;
    let (used, unused) = raw.bad_slots.split_at(count as usize);
    let unused_offset = offset_of!(BaseHeaderBytes, bad_slots) + size_of_val(used);
    block::zero(WHAT, unused_offset, unused.as_bytes())?;
    let slots: Vec<u32> = used.iter().map(|slot| slot.get()).collect();
    for pair in slots.windows(2) {
        in_range(
            WHAT,
            "bad slot",
            pair[1].into(),
            u64::from(pair[0]) + 1,
            u32::MAX.into(),
        )?;
    }
    Ok(slots)
}
