//! The byte layout of the superblock.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut, transmute_ref,
};

use super::fields::{LABEL_LEN, Run, Superblock};
use super::region::Region;
use crate::block::{self, Block, CHECKSUM_OFFSET};
use crate::corruption::{equals, in_range};
use crate::magic::MAGIC_SUPERBLOCK;
use crate::{
    BLOCK, Corruption, FORMAT_BLOCK, FORMAT_VERSION, Features, Identity, RUNS_MAX, StoreUuid,
};

/// The name of this structure in error messages.
pub(super) const WHAT: &str = "superblock";
/// The only checksum kind of version 1: CRC32 in the lower half of an 8-byte field.
const CHECKSUM_KIND_CRC32: u32 = 1;

/// The bytes of a superblock.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SuperblockBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    pub(crate) checksum_kind: U32,
    pub(crate) sequence: U64,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: U64,
    pub(crate) set_uuid: [u8; 16],
    pub(crate) member_index: U32,
    pub(crate) member_count: U32,
    pub(crate) key_len_max: U32,
    pub(crate) metadata_len_max: U32,
    pub(crate) device_bytes: U64,
    pub(crate) base_a_offset: U64,
    pub(crate) base_a_bytes: U64,
    pub(crate) base_b_offset: U64,
    pub(crate) base_b_bytes: U64,
    pub(crate) policy_offset: U64,
    pub(crate) policy_bytes: U64,
    pub(crate) log_offset: U64,
    pub(crate) log_2_offset: U64,
    pub(crate) log_bytes: U64,
    pub(crate) formatted_at: U64,
    pub(crate) features_compatible: U64,
    pub(crate) features_read_only: U64,
    pub(crate) features_incompatible: U64,
    pub(crate) run_count: U32,
    pub(crate) format_block: U32,
    pub(crate) label: [u8; LABEL_LEN],
    pub(crate) runs: [RunBytes; RUNS_MAX],
    pub(crate) reserved: [u8; 1584],
    pub(crate) checksum: U64,
}

/// The bytes of one run.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct RunBytes {
    pub(crate) first_byte: U64,
    pub(crate) stride: U64,
    pub(crate) count: U64,
    pub(crate) class: u8,
    pub(crate) reserved: [u8; 7],
}

const _: () = {
    assert!(size_of::<RunBytes>() == 32);
    assert!(size_of::<SuperblockBytes>() == size_of::<Block>());
    assert!(offset_of!(SuperblockBytes, device_bytes) == 80);
    assert!(offset_of!(SuperblockBytes, runs) == 456);
    assert!(offset_of!(SuperblockBytes, checksum) == CHECKSUM_OFFSET);
};

pub(super) fn encode(sb: &Superblock) -> Box<Block> {
    assert_eq!(
        sb.log.bytes, sb.log_2.bytes,
        "the rings of the log are of one length"
    );
    assert!(
        sb.runs.len() <= RUNS_MAX,
        "{} runs, a superblock holds {RUNS_MAX}",
        sb.runs.len()
    );
    let mut block = block::zeroed();
    let raw: &mut SuperblockBytes = transmute_mut!(&mut *block);
    raw.magic = MAGIC_SUPERBLOCK;
    raw.version = FORMAT_VERSION.into();
    raw.checksum_kind = CHECKSUM_KIND_CRC32.into();
    raw.sequence = sb.sequence.into();
    raw.uuid = sb.identity.uuid.0;
    raw.epoch = sb.identity.epoch.into();
    raw.set_uuid = sb.set_uuid.0;
    raw.member_index = sb.member_index.into();
    raw.member_count = sb.member_count.into();
    raw.key_len_max = sb.key_len_max.into();
    raw.metadata_len_max = sb.metadata_len_max.into();
    raw.device_bytes = sb.device_bytes.into();
    raw.base_a_offset = sb.base_a.offset.into();
    raw.base_a_bytes = sb.base_a.bytes.into();
    raw.base_b_offset = sb.base_b.offset.into();
    raw.base_b_bytes = sb.base_b.bytes.into();
    raw.policy_offset = sb.policy.offset.into();
    raw.policy_bytes = sb.policy.bytes.into();
    raw.log_offset = sb.log.offset.into();
    raw.log_2_offset = sb.log_2.offset.into();
    raw.log_bytes = sb.log.bytes.into();
    raw.formatted_at = sb.formatted_at.into();
    raw.features_compatible = sb.features.compatible.into();
    raw.features_read_only = sb.features.read_only_compatible.into();
    raw.features_incompatible = sb.features.incompatible.into();
    raw.label = sb.label;
    raw.run_count = (sb.runs.len() as u32).into();
    raw.format_block = (FORMAT_BLOCK as u32).into();
    for (out, run) in raw.runs.iter_mut().zip(&sb.runs) {
        out.first_byte = run.first_byte.into();
        out.stride = run.stride.into();
        out.count = run.count.into();
        out.class = run.class;
    }
    block::seal(&mut block);
    block
}

/// Decodes the fields; [`super::validate`] checks that they are consistent.
pub(super) fn decode(bytes: &[u8]) -> Result<Superblock, Corruption> {
    let raw: &SuperblockBytes = transmute_ref!(block::open(WHAT, MAGIC_SUPERBLOCK, bytes)?);
    block::zero(WHAT, offset_of!(SuperblockBytes, reserved), &raw.reserved)?;
    equals(
        WHAT,
        "checksum kind",
        CHECKSUM_KIND_CRC32.into(),
        raw.checksum_kind.get().into(),
    )?;
    equals(WHAT, "format block", BLOCK, raw.format_block.get().into())?;
    Ok(Superblock {
        sequence: raw.sequence.get(),
        identity: Identity {
            uuid: StoreUuid(raw.uuid),
            epoch: raw.epoch.get(),
        },
        set_uuid: StoreUuid(raw.set_uuid),
        member_index: raw.member_index.get(),
        member_count: raw.member_count.get(),
        key_len_max: raw.key_len_max.get(),
        metadata_len_max: raw.metadata_len_max.get(),
        device_bytes: raw.device_bytes.get(),
        base_a: region(raw.base_a_offset, raw.base_a_bytes),
        base_b: region(raw.base_b_offset, raw.base_b_bytes),
        policy: region(raw.policy_offset, raw.policy_bytes),
        log: region(raw.log_offset, raw.log_bytes),
        log_2: region(raw.log_2_offset, raw.log_bytes),
        formatted_at: raw.formatted_at.get(),
        features: Features {
            compatible: raw.features_compatible.get(),
            read_only_compatible: raw.features_read_only.get(),
            incompatible: raw.features_incompatible.get(),
        },
        label: raw.label,
        runs: decode_runs(raw)?,
    })
}

fn region(offset: U64, bytes: U64) -> Region {
    Region {
        offset: offset.get(),
        bytes: bytes.get(),
    }
}

fn decode_runs(raw: &SuperblockBytes) -> Result<Vec<Run>, Corruption> {
    let count = raw.run_count.get();
    in_range(WHAT, "run count", count.into(), 1, RUNS_MAX as u64)?;
    let (used, unused) = raw.runs.split_at(count as usize);
    let unused_offset = offset_of!(SuperblockBytes, runs) + size_of_val(used);
    block::zero(WHAT, unused_offset, unused.as_bytes())?;
    let mut runs = Vec::with_capacity(used.len());
    for (i, run) in used.iter().enumerate() {
        let start = offset_of!(SuperblockBytes, runs) + i * size_of::<RunBytes>();
        block::zero(WHAT, start + offset_of!(RunBytes, reserved), &run.reserved)?;
        runs.push(Run {
            class: run.class,
            first_byte: run.first_byte.get(),
            stride: run.stride.get(),
            count: run.count.get(),
        });
    }
    Ok(runs)
}
