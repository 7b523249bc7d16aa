//! How large a base can become.

use super::columns::PLANES;
use super::directory::ENTRY_LEN;
use super::section::{SECTION_ENTRIES_MAX, SECTION_RAW_MAX, SectionBytes};
use crate::{BLOCK, padded_len};

/// Hash ranges whose last section may be nearly empty: the most shards that the size allows for.
const SHARDS: u64 = 64;
/// A base is fuzzy: a slot that changes hands while the base is taken is in it twice. One in
/// this many slots may do so; it is far more at worst than keys of the full declared length,
/// incompressible, are less in practice.
const DOUBLE_CLAIMS: u64 = 16;

/// Bytes of a base region that holds an index of every slot at the declared lengths, even if
/// nothing of it compresses.
///
/// That is: the header block, every entry at `key_len_max` and `metadata_len_max`, one entry in
/// 16 twice (a base is fuzzy), the padding of all sections, a nearly empty last section for each
/// of 64 shards, and the directory. The header has room for
/// [`BAD_SLOTS_MAX`](crate::BAD_SLOTS_MAX) bad slots. The result is whole format blocks; it
/// saturates where no device could hold it.
pub fn base_region_bytes(slots: u64, key_len_max: u32, metadata_len_max: u32) -> u64 {
    let entry_len = (PLANES as u64)
        .saturating_add(key_len_max.into())
        .saturating_add(metadata_len_max.into());
    let entries = slots.saturating_add(slots / DOUBLE_CLAIMS);
    let raw = entries.saturating_mul(entry_len);
    // A section is full when it has all its entries, or when one more of any length might not
    // fit, so full ones are at least this large.
    let full_raw = (SECTION_RAW_MAX as u64).saturating_sub(entry_len).max(1);
    let sections = (entries / SECTION_ENTRIES_MAX as u64)
        .saturating_add(raw / full_raw)
        .saturating_add(SHARDS);
    let per_section = size_of::<SectionBytes>() as u64 + (BLOCK - 1);
    let directory = padded_len(sections.saturating_mul(ENTRY_LEN));
    padded_len(
        raw.saturating_add(sections.saturating_mul(per_section))
            .saturating_add(directory)
            .saturating_add(BLOCK),
    )
}
