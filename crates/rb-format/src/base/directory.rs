//! The directory of a checkpoint base: position and checksum of each section.
//!
//! It contains every section's checksum, so that a lost section write is detected even if the place
//! still holds a complete section of an older base.

use std::mem::size_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::codec::stored_len_max;
use super::header::BaseHeader;
use super::ranges::{section_hashes, section_range};
use super::section::bytes::{SECTION_ENTRIES_MAX, SECTION_RAW_MAX, SectionBytes};
use crate::corruption::{equals, in_range, whole_blocks};
use crate::magic::MAGIC_DIRECTORY;
use crate::{BLOCK, Corruption, Identity, SEQUENCE_MAX, block, padded_len};

const WHAT: &str = "base directory";

/// The bytes of a directory entry.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct EntryBytes {
    pub(crate) offset: U64,
    pub(crate) stored_len: U64,
    pub(crate) raw_len: U64,
    pub(crate) hash_first: U64,
    pub(crate) hash_last: U64,
    pub(crate) log_sequence: U64,
    pub(crate) checksum: U64,
    pub(crate) entries: U32,
    pub(crate) reserved: [u8; 4],
}

const _: () = assert!(size_of::<EntryBytes>() == 64);

/// Bytes of one directory entry.
pub(super) const ENTRY_LEN: u64 = size_of::<EntryBytes>() as u64;

/// Position and contents of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Bytes from the region's start, whole blocks. [`SectionBuilder`](crate::SectionBuilder)
    /// leaves it 0 for the caller to set.
    pub offset: u64,
    /// Stored bytes, without padding.
    pub stored_len: u64,
    /// Bytes of the entries before compression.
    pub raw_len: u64,
    /// Number of entries, at least 1.
    pub entries: u32,
    /// The lowest key hash of the section's hash range.
    pub hash_first: u64,
    /// The highest key hash of the section's hash range.
    pub hash_last: u64,
    /// Sequence of the open log block when the first of the section's entries was read: earlier
    /// changes are in the section, later ones are in this block or after it.
    pub log_sequence: u64,
    /// Checksum of the stored bytes and their identity.
    pub checksum: u64,
}

impl DirectoryEntry {
    /// Returns the bytes that the section occupies on the device.
    #[must_use]
    pub fn padded_len(&self) -> u64 {
        padded_len(self.stored_len)
    }
}

/// An encoded directory, with the values that go into the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedDirectory {
    /// The bytes to write, padded with zeros to whole format blocks; empty without sections.
    pub bytes: Vec<u8>,
    /// The value for [`BaseHeader::directory_len`].
    pub len: u64,
    /// The value for [`BaseHeader::directory_checksum`].
    pub checksum: u64,
}

/// Encodes the directory of a base.
#[must_use]
pub fn encode_directory(
    entries: &[DirectoryEntry],
    identity: &Identity,
    base_sequence: u64,
) -> EncodedDirectory {
    let len = entries.len() as u64 * ENTRY_LEN;
    let mut bytes = Vec::with_capacity(padded_len(len) as usize);
    for entry in entries {
        let raw = EntryBytes {
            offset: entry.offset.into(),
            stored_len: entry.stored_len.into(),
            raw_len: entry.raw_len.into(),
            hash_first: entry.hash_first.into(),
            hash_last: entry.hash_last.into(),
            log_sequence: entry.log_sequence.into(),
            checksum: entry.checksum.into(),
            entries: entry.entries.into(),
            reserved: [0; 4],
        };
        bytes.extend_from_slice(raw.as_bytes());
    }
    let checksum = checksum(identity, base_sequence, &bytes);
    bytes.resize(padded_len(len) as usize, 0);
    EncodedDirectory {
        bytes,
        len,
        checksum,
    }
}

/// Decodes a directory. Checks that every section lies inside the region of `region_bytes`, between
/// its two headers, in order and without overlapping another section or the directory, and that
/// each covers one of the fixed hash ranges.
///
/// `bytes` are those read at `header.directory_offset`; bytes beyond the padded directory are
/// ignored.
///
/// # Errors
/// Any [`Corruption`].
pub fn decode_directory(
    bytes: &[u8],
    header: &BaseHeader,
    region_bytes: u64,
) -> Result<Vec<DirectoryEntry>, Corruption> {
    let len = header.directory_len;
    equals(WHAT, "length", u64::from(header.sections) * ENTRY_LEN, len)?;
    // The last block of the region belongs to the second header.
    let region_bytes = region_bytes.saturating_sub(BLOCK);
    let room = region_bytes.saturating_sub(header.directory_offset);
    in_range(WHAT, "padded length", padded_len(len), 0, room)?;
    let (entries, padding) = split_padded(WHAT, bytes, len)?;
    block::zero(WHAT, entries.len(), padding)?;
    let expected = checksum(&header.identity, header.base_sequence, entries);
    if header.directory_checksum != expected {
        let found = header.directory_checksum;
        return Err(Corruption::Checksum {
            what: WHAT,
            expected,
            found,
        });
    }
    let mut directory = Vec::with_capacity(header.sections as usize);
    for raw in entries.chunks_exact(size_of::<EntryBytes>()) {
        directory.push(decode_entry(raw)?);
    }
    check_places(&directory, header, region_bytes)?;
    let sum = directory.iter().map(|entry| u64::from(entry.entries)).sum();
    equals(WHAT, "entries of all sections", header.entries, sum)?;
    Ok(directory)
}

/// Splits `bytes` into `len` bytes and the padding that fills their last format block.
pub(super) fn split_padded<'a>(
    what: &'static str,
    bytes: &'a [u8],
    len: u64,
) -> Result<(&'a [u8], &'a [u8]), Corruption> {
    let (needed, found) = (padded_len(len), bytes.len() as u64);
    let truncated = || Corruption::Truncated {
        what,
        needed,
        found,
    };
    let padded = usize::try_from(needed)
        .ok()
        .and_then(|needed| bytes.get(..needed));
    // The padded length fits a usize, so the length does.
    Ok(padded.ok_or_else(truncated)?.split_at(len as usize))
}

fn checksum(identity: &Identity, base_sequence: u64, bytes: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&MAGIC_DIRECTORY);
    hasher.update(&identity.uuid.0);
    hasher.update(&identity.epoch.to_le_bytes());
    hasher.update(&base_sequence.to_le_bytes());
    hasher.update(bytes);
    u64::from(hasher.finalize())
}

fn decode_entry(bytes: &[u8]) -> Result<DirectoryEntry, Corruption> {
    let raw = EntryBytes::ref_from_bytes(bytes).map_err(|_| Corruption::Truncated {
        what: WHAT,
        needed: ENTRY_LEN,
        found: bytes.len() as u64,
    })?;
    block::zero(
        WHAT,
        size_of::<EntryBytes>() - raw.reserved.len(),
        &raw.reserved,
    )?;
    in_range(
        WHAT,
        "entries",
        raw.entries.get().into(),
        1,
        SECTION_ENTRIES_MAX as u64,
    )?;
    let raw_len = raw.raw_len.get();
    in_range(WHAT, "raw length", raw_len, 1, SECTION_RAW_MAX as u64)?;
    let stored_min = size_of::<SectionBytes>() as u64 + 1;
    in_range(
        WHAT,
        "stored length",
        raw.stored_len.get(),
        stored_min,
        stored_len_max(raw_len),
    )?;
    let hashes = section_hashes(section_range(raw.hash_first.get()));
    equals(WHAT, "first hash", *hashes.start(), raw.hash_first.get())?;
    equals(WHAT, "last hash", *hashes.end(), raw.hash_last.get())?;
    whole_blocks(WHAT, "section offset", raw.offset.get())?;
    Ok(DirectoryEntry {
        offset: raw.offset.get(),
        stored_len: raw.stored_len.get(),
        raw_len,
        entries: raw.entries.get(),
        hash_first: raw.hash_first.get(),
        hash_last: raw.hash_last.get(),
        log_sequence: raw.log_sequence.get(),
        checksum: raw.checksum.get(),
    })
}

fn check_places(
    directory: &[DirectoryEntry],
    header: &BaseHeader,
    region_bytes: u64,
) -> Result<(), Corruption> {
    let directory_start = header.directory_offset;
    let directory_end = directory_start + padded_len(header.directory_len);
    let mut free_from = BLOCK;
    for entry in directory {
        let room = region_bytes.saturating_sub(entry.padded_len());
        in_range(WHAT, "section offset", entry.offset, free_from, room)?;
        free_from = entry.offset + entry.padded_len();
        if entry.offset < directory_end && directory_start < free_from {
            return Err(Corruption::Overlap {
                what: WHAT,
                first: "a section",
                end: free_from,
                second: "the directory",
                start: directory_start,
            });
        }
        let position = header.position.sequence;
        in_range(
            WHAT,
            "log sequence",
            entry.log_sequence,
            position,
            SEQUENCE_MAX,
        )?;
    }
    Ok(())
}
