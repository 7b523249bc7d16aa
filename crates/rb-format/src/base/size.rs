//! Computes the largest size of a base.

use super::columns::PLANES;
use super::directory::ENTRY_LEN;
use super::ranges::SECTION_RANGES;
use super::section::bytes::{SECTION_RAW_MIN, SectionBytes};
use crate::{BLOCK, padded_len};

/// A base is fuzzy: a slot that changes owner while the base is taken appears twice. Room is
/// reserved for one slot in this many. At worst more slots change owner, but in practice keys are
/// shorter than the declared length and compressible.
const DOUBLE_CLAIMS: u64 = 16;

// A further slot of a value takes less space in a base than an entry, so values of several slots
// make no base larger.
const _: () = assert!(crate::more_slots::MORE_SLOT_LEN <= PLANES);

/// One in this many bytes is slack, for sections that cannot be written at their intended position.
const SLACK: u64 = 16;

/// Returns the bytes of a base region that holds an index of every slot at the declared lengths,
/// even if nothing is compressible.
///
/// The sum of: a header block at each end, every entry at `key_len_max` and `metadata_len_max`, one
/// entry in 16 twice (a base is fuzzy), headers and padding of sections of only [`SECTION_RAW_MIN`]
/// bytes each and of one nearly empty section for each of the [`SECTION_RANGES`] ranges, the
/// directory, and slack: a sixteenth of all that, and at least one section of [`SECTION_RAW_MIN`]
/// bytes and an entry. A value of several slots adds 4 bytes for each further one, which is less
/// than the entry that the slot could have had. The header has room for
/// [`BAD_SLOTS_MAX`](crate::BAD_SLOTS_MAX) bad slots. The result is whole format blocks; it
/// saturates if no device could hold it.
#[must_use]
pub fn base_region_bytes(slots: u64, key_len_max: u32, metadata_len_max: u32) -> u64 {
    let entry_len = (PLANES as u64)
        .saturating_add(key_len_max.into())
        .saturating_add(metadata_len_max.into());
    let entries = slots.saturating_add(slots / DOUBLE_CLAIMS);
    let raw = entries.saturating_mul(entry_len);
    // Every section except the last of its range holds at least this much.
    let sections = (raw / SECTION_RAW_MIN as u64).saturating_add(SECTION_RANGES as u64);
    let head = size_of::<SectionBytes>() as u64;
    let content = raw
        .saturating_add(sections.saturating_mul(head + (BLOCK - 1)))
        .saturating_add(padded_len(sections.saturating_mul(ENTRY_LEN)));
    let section = raw.min((SECTION_RAW_MIN as u64).saturating_add(entry_len));
    let slack = (content / SLACK).max(padded_len(head.saturating_add(section)));
    padded_len(content.saturating_add(slack).saturating_add(2 * BLOCK))
}
