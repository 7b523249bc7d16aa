//! The header of a checkpoint base. It is written last; without it the base does not exist.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut, transmute_ref,
};

use crate::block::{self, Block, CHECKSUM_OFFSET};
use crate::corruption::{in_range, whole_blocks};
use crate::magic::MAGIC_BASE_HEADER;
use crate::{
    BLOCK, Corruption, FORMAT_BLOCK, FORMAT_VERSION, Generation, Identity, LogPosition, Region,
    SEQUENCE_MAX,
};

/// The name of this structure in error messages.
pub(super) const WHAT: &str = "base header";

/// Number of bad slots that a base can record. A device with more should be replaced.
pub const BAD_SLOTS_MAX: usize = 832;
/// Number of bad metadata blocks that a base can record.
pub const BAD_BLOCKS_MAX: usize = 64;

/// Returns the device offsets of the two headers of a base region: its first block and its last.
#[must_use]
pub fn base_header_offsets(region: &Region) -> [u64; 2] {
    [
        region.offset,
        region.offset + region.bytes.saturating_sub(BLOCK),
    ]
}

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
    pub(crate) bad_block_count: U32,
    pub(crate) lifetime_slot_bytes: U64,
    pub(crate) lifetime_log_bytes: U64,
    pub(crate) lifetime_base_bytes: U64,
    pub(crate) lifetime_discarded_bytes: U64,
    pub(crate) lifetime_puts: U64,
    pub(crate) lifetime_removes: U64,
    pub(crate) lifetime_evictions: U64,
    pub(crate) lifetime_openings: U64,
    pub(crate) lifetime_errors: U64,
    pub(crate) reserved: [u8; 56],
    pub(crate) bad_blocks: [U64; BAD_BLOCKS_MAX],
    pub(crate) bad_slots: [U32; BAD_SLOTS_MAX],
    pub(crate) checksum: U64,
}

const _: () = {
    assert!(size_of::<BaseHeaderBytes>() == size_of::<Block>());
    assert!(offset_of!(BaseHeaderBytes, log_sequence) == 48);
    assert!(offset_of!(BaseHeaderBytes, bad_slots) == 760);
    assert!(offset_of!(BaseHeaderBytes, checksum) == CHECKSUM_OFFSET);
};

/// Lifetime counters of a store, up to the time the base was taken. Each counts from the format and
/// saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
pub struct LifetimeCounters {
    /// Bytes written to slots, headers and padding included.
    pub slot_bytes: u64,
    /// Bytes written to the log, both rings.
    pub log_bytes: u64,
    /// Bytes written to checkpoint bases.
    pub base_bytes: u64,
    /// Bytes discarded.
    pub discarded_bytes: u64,
    /// Values put.
    pub puts: u64,
    /// Keys removed.
    pub removes: u64,
    /// Entries evicted.
    pub evictions: u64,
    /// Number of times the store was opened for writing.
    pub openings: u64,
    /// Requests that the device failed.
    pub errors: u64,
}

/// The header of a checkpoint base: its contents and the position where replay starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseHeader {
    /// The store and epoch.
    pub identity: Identity,
    /// Numbers the bases of the epoch; of two usable bases the higher is newer.
    pub base_sequence: u64,
    /// Incarnation of the writer.
    pub incarnation: u32,
    /// Replay starts here, checked against its anchor.
    pub position: LogPosition,
    /// The highest generation issued when the base was taken.
    pub generation_floor: Generation,
    /// The recency clock when the base was taken.
    pub recency_now: u32,
    /// Number of entries in all sections.
    pub entries: u64,
    /// Number of sections.
    pub sections: u32,
    /// Offset of the directory, in bytes from the region's start; whole blocks.
    pub directory_offset: u64,
    /// Length of the directory in bytes, without padding.
    pub directory_len: u64,
    /// Checksum of the directory, as returned by [`encode_directory`](crate::encode_directory).
    pub directory_checksum: u64,
    /// Lifetime counters of the store.
    pub lifetime: LifetimeCounters,
    /// Metadata blocks that could not be written, as format block numbers on the device, ascending,
    /// each once, at most [`BAD_BLOCKS_MAX`].
    pub bad_blocks: Vec<u64>,
    /// Bad slots, ascending, each once, at most [`BAD_SLOTS_MAX`]. The decoder does not know the
    /// number of slots: the caller ignores numbers beyond it.
    pub bad_slots: Vec<u32>,
}

impl BaseHeader {
    /// Encodes the block.
    ///
    /// Bad slots and blocks are stored ascending and each once; those beyond the lowest
    /// [`BAD_SLOTS_MAX`] and [`BAD_BLOCKS_MAX`] are omitted and have to be detected again.
    #[must_use]
    pub fn encode(&self) -> Box<[u8; FORMAT_BLOCK]> {
        let bad_blocks = lowest(&self.bad_blocks, BAD_BLOCKS_MAX);
        let bad_slots = lowest(&self.bad_slots, BAD_SLOTS_MAX);
        let lifetime = &self.lifetime;
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
        raw.bad_block_count = (bad_blocks.len() as u32).into();
        raw.lifetime_slot_bytes = lifetime.slot_bytes.into();
        raw.lifetime_log_bytes = lifetime.log_bytes.into();
        raw.lifetime_base_bytes = lifetime.base_bytes.into();
        raw.lifetime_discarded_bytes = lifetime.discarded_bytes.into();
        raw.lifetime_puts = lifetime.puts.into();
        raw.lifetime_removes = lifetime.removes.into();
        raw.lifetime_evictions = lifetime.evictions.into();
        raw.lifetime_openings = lifetime.openings.into();
        raw.lifetime_errors = lifetime.errors.into();
        for (out, block) in raw.bad_blocks.iter_mut().zip(bad_blocks) {
            *out = block.into();
        }
        for (out, slot) in raw.bad_slots.iter_mut().zip(bad_slots) {
            *out = slot.into();
        }
        block::seal(&mut block);
        block
    }

    /// Decodes the first format block of `bytes`.
    ///
    /// # Errors
    /// Any [`Corruption`], including a store or epoch other than `identity`.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<BaseHeader, Corruption> {
        let mut header = BaseHeader::decode_without_lists(bytes, identity)?;
        let raw: &BaseHeaderBytes = transmute_ref!(block::open(WHAT, MAGIC_BASE_HEADER, bytes)?);
        header.bad_blocks = decode_bad_blocks(raw)?;
        header.bad_slots = decode_bad_slots(raw)?;
        Ok(header)
    }

    /// Decodes everything except the lists of bad blocks and slots, which are not checked. All of
    /// it is in the first sector.
    pub(crate) fn decode_without_lists(
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
            lifetime: LifetimeCounters {
                slot_bytes: raw.lifetime_slot_bytes.get(),
                log_bytes: raw.lifetime_log_bytes.get(),
                base_bytes: raw.lifetime_base_bytes.get(),
                discarded_bytes: raw.lifetime_discarded_bytes.get(),
                puts: raw.lifetime_puts.get(),
                removes: raw.lifetime_removes.get(),
                evictions: raw.lifetime_evictions.get(),
                openings: raw.lifetime_openings.get(),
                errors: raw.lifetime_errors.get(),
            },
            bad_blocks: Vec::new(),
            bad_slots: Vec::new(),
        })
    }
}

/// Returns the `max` lowest of some numbers, ascending and each once.
fn lowest<T: Copy + Ord>(numbers: &[T], max: usize) -> Vec<T> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.truncate(max);
    numbers
}

fn decode_bad_blocks(raw: &BaseHeaderBytes) -> Result<Vec<u64>, Corruption> {
    let count = raw.bad_block_count.get();
    in_range(WHAT, "bad blocks", count.into(), 0, BAD_BLOCKS_MAX as u64)?;
    let (used, unused) = raw.bad_blocks.split_at(count as usize);
    let unused_offset = offset_of!(BaseHeaderBytes, bad_blocks) + size_of_val(used);
    block::zero(WHAT, unused_offset, unused.as_bytes())?;
    let blocks: Vec<u64> = used.iter().map(|block| block.get()).collect();
    ascending("bad block", blocks.iter().copied(), i64::MAX as u64 / BLOCK)?;
    Ok(blocks)
}

fn decode_bad_slots(raw: &BaseHeaderBytes) -> Result<Vec<u32>, Corruption> {
    let count = raw.bad_slot_count.get();
    in_range(WHAT, "bad slots", count.into(), 0, BAD_SLOTS_MAX as u64)?;
    let (used, unused) = raw.bad_slots.split_at(count as usize);
    let unused_offset = offset_of!(BaseHeaderBytes, bad_slots) + size_of_val(used);
    block::zero(WHAT, unused_offset, unused.as_bytes())?;
    let slots: Vec<u32> = used.iter().map(|slot| slot.get()).collect();
    ascending(
        "bad slot",
        slots.iter().map(|&slot| slot.into()),
        u32::MAX.into(),
    )?;
    Ok(slots)
}

/// Checks that the numbers ascend strictly and that none is above `max`.
fn ascending(
    field: &'static str,
    numbers: impl Iterator<Item = u64>,
    max: u64,
) -> Result<(), Corruption> {
    let mut least = 0;
    for number in numbers {
        in_range(WHAT, field, number, least, max)?;
        least = number + 1;
    }
    Ok(())
}
