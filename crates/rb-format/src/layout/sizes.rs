//! Computes the sizes and positions of all areas from slot counts.

use super::request::Wishes;
use crate::log::{LOG_BLOCK_PAYLOAD, PUT_HEAD_LEN};
use crate::superblock::LOG_BLOCKS_MIN;
use crate::{
    BLOCK, Features, Identity, LABEL_LEN, METADATA_START, Region, Run, Superblock, UNUSED_END,
    base_region_bytes, padded_len,
};

/// The first slot starts at a multiple of this, so that slots of whole megabytes stay aligned with
/// erase units and RAID stripes as well as their headers allow.
const SLOTS_ALIGN: u64 = 1 << 20;
/// The key length assumed by the default log size.
const LOG_KEY_LEN: usize = 64;
/// Put records per slot that the default log has room for. A checkpoint starts at a quarter of the
/// ring at the latest, so with one record per slot a restart replays at most about a quarter of a
/// record per slot, and a checkpoint has some 40 bytes per entry.
const LOG_RECORDS_PER_SLOT: u64 = 1;
const LOG_BYTES_MIN: u64 = 1 << 20;
const LOG_BYTES_MAX: u64 = 1 << 30;

const _: () = assert!(LOG_BYTES_MIN >= LOG_BLOCKS_MIN * BLOCK);

/// Policy state per slot, in bytes.
const POLICY_BYTES_PER_SLOT: u64 = 8;
/// Lower bound of the policy state of all slots, in bytes.
const POLICY_SLOTS_MIN: u64 = 64 << 10;
/// Additional bytes for tables that a policy learns.
const POLICY_TABLES: u64 = 64 << 10;

/// Returns the bytes of the policy region of a store with this many slots: 8 bytes per slot in
/// whole format blocks, at least 64 KiB, and 64 KiB for tables. Saturates if no device could hold
/// it.
#[must_use]
pub fn policy_region_bytes(slots: u64) -> u64 {
    let of_slots = slots.saturating_mul(POLICY_BYTES_PER_SLOT);
    padded_len(of_slots.max(POLICY_SLOTS_MIN).saturating_add(POLICY_TABLES))
}

/// The positions of the metadata areas. Sums saturate: a size too large for 64 bits is too large
/// for any device and is refused as such.
pub(super) struct Areas {
    base_bytes: u64,
    policy_bytes: u64,
    /// Bytes of each ring.
    log_bytes: u64,
}

impl Areas {
    pub(super) fn of(wishes: &Wishes, counts: &[u64]) -> Areas {
        let slots = counts
            .iter()
            .fold(0_u64, |sum, &count| sum.saturating_add(count));
        Areas {
            base_bytes: base_region_bytes(slots, wishes.key_len_max, wishes.metadata_len_max),
            policy_bytes: policy_region_bytes(slots),
            log_bytes: wishes.log_bytes.unwrap_or_else(|| default_log_bytes(slots)),
        }
    }

    /// Returns the device offset of the first slot.
    pub(super) fn slots_start(&self) -> u64 {
        self.base_bytes
            .saturating_mul(2)
            .saturating_add(self.policy_bytes)
            .saturating_add(self.log_bytes)
            .saturating_add(METADATA_START)
            .checked_next_multiple_of(SLOTS_ALIGN)
            .unwrap_or(u64::MAX)
    }

    /// Returns the bytes of the areas after the slots.
    pub(super) fn behind_slots(&self) -> u64 {
        self.log_bytes.saturating_add(UNUSED_END)
    }

    /// Returns the first byte past the layout; `None` above 2^63.
    pub(super) fn end(&self, wishes: &Wishes, counts: &[u64]) -> Option<u64> {
        let around = u128::from(self.slots_start()) + u128::from(self.behind_slots());
        let end = around + slot_space(wishes, counts);
        i64::try_from(end).ok().map(i64::cast_unsigned)
    }

    /// Builds the superblock of these areas. The caller has checked that they fit a device.
    pub(super) fn superblock(
        &self,
        wishes: &Wishes,
        counts: &[u64],
        identity: Identity,
    ) -> Superblock {
        let base_a = Region {
            offset: METADATA_START,
            bytes: self.base_bytes,
        };
        let base_b = Region {
            offset: METADATA_START + self.base_bytes,
            bytes: self.base_bytes,
        };
        let policy = Region {
            offset: base_b.offset + self.base_bytes,
            bytes: self.policy_bytes,
        };
        let log = Region {
            offset: policy.offset + self.policy_bytes,
            bytes: self.log_bytes,
        };
        let mut next = self.slots_start();
        let mut runs = Vec::with_capacity(counts.len());
        for (class, (wish, &count)) in wishes.classes.iter().zip(counts).enumerate() {
            let stride = wish.slot_bytes + BLOCK;
            runs.push(Run {
                class: class as u8,
                first_byte: next,
                stride,
                count,
            });
            next += stride * count;
        }
        Superblock {
            sequence: 1,
            identity,
            set_uuid: identity.uuid,
            member_index: 0,
            member_count: 1,
            key_len_max: wishes.key_len_max,
            metadata_len_max: wishes.metadata_len_max,
            device_bytes: next + self.behind_slots(),
            base_a,
            base_b,
            policy,
            log,
            log_2: Region {
                offset: next,
                bytes: self.log_bytes,
            },
            formatted_at: 0,
            features: Features::default(),
            label: [0; LABEL_LEN],
            runs,
        }
    }
}

/// Returns the bytes of all slots.
pub(super) fn slot_space(wishes: &Wishes, counts: &[u64]) -> u128 {
    let each = wishes.classes.iter().zip(counts);
    each.map(|(wish, &count)| u128::from(wish.slot_bytes + BLOCK) * u128::from(count))
        .sum()
}

fn default_log_bytes(slots: u64) -> u64 {
    let records_per_block = (LOG_BLOCK_PAYLOAD / (PUT_HEAD_LEN + LOG_KEY_LEN)) as u64;
    let blocks = slots
        .saturating_mul(LOG_RECORDS_PER_SLOT)
        .div_ceil(records_per_block);
    blocks
        .saturating_mul(BLOCK)
        .clamp(LOG_BYTES_MIN, LOG_BYTES_MAX)
}
