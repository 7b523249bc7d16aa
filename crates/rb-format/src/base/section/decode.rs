//! Decodes sections, streaming: only one section's raw bytes are in memory.

use std::mem::size_of;

use zerocopy::FromBytes;

use super::super::codec::{CODEC_PLAIN, CODEC_ZSTD, SectionScratch};
use super::super::columns::{self, Planes, ROWS, Rows};
use super::super::directory::{DirectoryEntry, split_padded};
use super::super::header::BaseHeader;
use super::bytes::{SECTION_ENTRIES_MAX, SECTION_RAW_MAX, SectionBytes, WHAT};
use super::entry::{BaseEntry, KeyLimits};
use crate::corruption::{equals, in_range};
use crate::magic::MAGIC_SECTION;
use crate::more_slots::MORE_SLOT_LEN;
use crate::{Corruption, FORMAT_VERSION, Generation, Geometry, MoreSlots, block, key_hash};

/// Calls [`decode_section_with`] with new scratch memory, and passes on one entry at a time.
///
/// # Errors
/// Those of [`decode_section_with`].
pub fn decode_section(
    bytes: &[u8],
    entry: &DirectoryEntry,
    section: u32,
    header: &BaseHeader,
    geometry: &Geometry,
    limits: KeyLimits,
    each: &mut dyn FnMut(BaseEntry<'_>),
) -> Result<(), Corruption> {
    let mut scratch = SectionScratch::default();
    decode_section_with(
        &mut scratch,
        bytes,
        entry,
        section,
        header,
        geometry,
        limits,
        &mut |entries| entries.iter().copied().for_each(&mut *each),
    )
}

/// Decodes one section and calls `each` for its entries, several at a time, in the order they were
/// pushed.
///
/// `bytes` are those read at `entry.offset`; `entry` comes from
/// [`decode_directory`](crate::decode_directory), `section` is its number there. Before the first
/// call the checksum over the stored bytes, which name store, epoch, base and section, has been
/// verified. Every entry is checked before it is passed on: its slots exist and hold its payload
/// ([`Geometry::check_slots`]), key and metadata are within `limits`, the generation was issued
/// before the base was taken, the key's hash is in the section's range. Memory: the raw length, at
/// most [`SECTION_RAW_MAX`], in `scratch`, in addition to `bytes`.
///
/// # Errors
/// Any [`Corruption`]. If an entry is wrong although the checksum matches (a bug of the writer),
/// some of the entries before it have been passed on: the caller drops everything it built from the
/// base.
#[expect(
    clippy::too_many_arguments,
    reason = "everything that a section is checked against"
)]
pub fn decode_section_with<'a>(
    scratch: &'a mut SectionScratch,
    bytes: &'a [u8],
    entry: &DirectoryEntry,
    section: u32,
    header: &BaseHeader,
    geometry: &Geometry,
    limits: KeyLimits,
    each: &mut dyn FnMut(&[BaseEntry<'a>]),
) -> Result<(), Corruption> {
    let (stored, padding) = split_padded(WHAT, bytes, entry.stored_len)?;
    block::zero(WHAT, stored.len(), padding)?;
    let expected = u64::from(crc32fast::hash(stored));
    if entry.checksum != expected {
        return Err(Corruption::Checksum {
            what: WHAT,
            expected,
            found: entry.checksum,
        });
    }
    let (codec, body) = check_header(stored, entry, section, header)?;
    let raw = raw_bytes(scratch, codec, body, entry)?;
    walk(raw, entry, header, geometry, limits, each)
}

/// Checks the section header against directory and base; returns codec and body.
fn check_header<'a>(
    stored: &'a [u8],
    entry: &DirectoryEntry,
    section: u32,
    base: &BaseHeader,
) -> Result<(u32, &'a [u8]), Corruption> {
    let (header, body) =
        SectionBytes::ref_from_prefix(stored).map_err(|_| Corruption::Truncated {
            what: WHAT,
            needed: size_of::<SectionBytes>() as u64,
            found: stored.len() as u64,
        })?;
    if header.magic != MAGIC_SECTION {
        return Err(Corruption::Magic {
            what: WHAT,
            found: header.magic,
        });
    }
    let found = header.version.get();
    if found != FORMAT_VERSION {
        return Err(Corruption::Version {
            what: WHAT,
            found,
            supported: FORMAT_VERSION,
        });
    }
    base.identity.check(WHAT, header.uuid, header.epoch.get())?;
    equals(
        WHAT,
        "base sequence",
        base.base_sequence,
        header.base_sequence.get(),
    )?;
    equals(
        WHAT,
        "section number",
        section.into(),
        header.section.get().into(),
    )?;
    equals(WHAT, "raw length", entry.raw_len, header.raw_len.get())?;
    equals(
        WHAT,
        "entries",
        entry.entries.into(),
        header.entries.get().into(),
    )?;
    // A directory entry constructed by the caller has not passed `decode_directory`.
    in_range(WHAT, "raw length", entry.raw_len, 1, SECTION_RAW_MAX as u64)?;
    in_range(
        WHAT,
        "entries",
        entry.entries.into(),
        1,
        SECTION_ENTRIES_MAX as u64,
    )?;
    Ok((header.codec.get(), body))
}

fn raw_bytes<'a>(
    scratch: &'a mut SectionScratch,
    codec: u32,
    body: &'a [u8],
    entry: &DirectoryEntry,
) -> Result<&'a [u8], Corruption> {
    match codec {
        CODEC_PLAIN => {
            equals(WHAT, "plain length", entry.raw_len, body.len() as u64)?;
            Ok(body)
        }
        // The raw length is at most `SECTION_RAW_MAX`: `check_header` has verified it.
        CODEC_ZSTD => scratch.decompress(body, entry.raw_len as usize),
        found => Err(Corruption::Field {
            what: WHAT,
            field: "codec",
            found: found.into(),
            min: CODEC_PLAIN.into(),
            max: CODEC_ZSTD.into(),
        }),
    }
}

/// Iterates over the columns and, in step, the keys and metadata after them.
fn walk<'a>(
    raw: &'a [u8],
    entry: &DirectoryEntry,
    header: &BaseHeader,
    geometry: &Geometry,
    limits: KeyLimits,
    each: &mut dyn FnMut(&[BaseEntry<'a>]),
) -> Result<(), Corruption> {
    let entries = entry.entries as usize;
    let short = |needed: usize| Corruption::Truncated {
        what: WHAT,
        needed: needed as u64,
        found: raw.len() as u64,
    };
    let (planes, mut rest) =
        Planes::split(raw, entries).ok_or_else(|| short(columns::PLANES * entries))?;
    // At most `SECTION_ENTRIES_MAX` times 65,535.
    let keys_len = planes.sum(columns::KEY_LEN, columns::METADATA_LEN - columns::KEY_LEN) as usize;
    let metadata_len = columns::SLOT - columns::METADATA_LEN;
    let metadata_len = planes.sum(columns::METADATA_LEN, metadata_len) as usize;
    let (mut keys, mut metadata_left);
    (keys, rest) = rest
        .split_at_checked(keys_len)
        .ok_or_else(|| short(keys_len))?;
    (metadata_left, rest) = rest
        .split_at_checked(metadata_len)
        .ok_or_else(|| short(metadata_len))?;
    let mut rows = Rows::new();
    let mut together = Vec::with_capacity(ROWS);
    for first in (0..entries).step_by(ROWS) {
        rows.read(&planes, first);
        together.clear();
        for row in 0..ROWS.min(entries - first) {
            let [
                key_len,
                metadata_len,
                slot,
                generation,
                payload_len,
                payload_checksum,
                placement,
                recency,
                policy,
                expiry,
                more_slots,
            ] = rows.get(row);
            let (key, metadata, more);
            // The keys area is as long as all key lengths together.
            (key, keys) = keys
                .split_at_checked(key_len as usize)
                .ok_or_else(|| short(keys_len))?;
            (metadata, metadata_left) = metadata_left
                .split_at_checked(metadata_len as usize)
                .ok_or_else(|| short(metadata_len as usize))?;
            let more_len = more_slots as usize * MORE_SLOT_LEN;
            (more, rest) = rest
                .split_at_checked(more_len)
                .ok_or_else(|| short(more_len))?;
            // The casts are lossless: no number is longer than its planes.
            let entry_found = BaseEntry {
                key,
                metadata,
                key_hash: key_hash(&header.identity.uuid, key),
                slot: slot as u32,
                more: MoreSlots::stored(more),
                generation: Generation(generation),
                payload_len: payload_len as u32,
                payload_checksum,
                placement: placement as u16,
                policy: policy as u16,
                expiry: expiry as u32,
                recency: recency as u32,
            };
            check_entry(
                &entry_found,
                entry,
                header.generation_floor,
                geometry,
                limits,
            )?;
            together.push(entry_found);
        }
        each(&together);
    }
    equals(WHAT, "bytes after the last entry", 0, rest.len() as u64)
}

fn check_entry(
    found: &BaseEntry<'_>,
    entry: &DirectoryEntry,
    floor: Generation,
    geometry: &Geometry,
    limits: KeyLimits,
) -> Result<(), Corruption> {
    let KeyLimits {
        key_len_max,
        metadata_len_max,
    } = limits;
    in_range(
        WHAT,
        "key length",
        found.key.len() as u64,
        1,
        key_len_max.into(),
    )?;
    in_range(
        WHAT,
        "metadata length",
        found.metadata.len() as u64,
        0,
        metadata_len_max.into(),
    )?;
    geometry.check_slots(WHAT, found.slot, found.more, found.payload_len)?;
    in_range(
        WHAT,
        "payload checksum",
        found.payload_checksum,
        0,
        u32::MAX.into(),
    )?;
    // A higher one would win over every later put of its key.
    in_range(WHAT, "generation", found.generation.0, 1, floor.0)?;
    in_range(
        WHAT,
        "key hash",
        found.key_hash,
        entry.hash_first,
        entry.hash_last,
    )
}
