//! Collects entries of a hash range and encodes them as a section.

use std::mem::size_of;
use std::ops::RangeInclusive;

use zerocopy::IntoBytes;

use super::super::codec::{CODEC_PLAIN, CODEC_ZSTD, Compression, compress};
use super::super::columns::{self, PLANES};
use super::super::directory::DirectoryEntry;
use super::super::ranges::section_hashes;
use super::bytes::{SECTION_ENTRIES_MAX, SECTION_RAW_MAX, SectionBytes};
use super::entry::{BaseEntry, KeyLimits};
use crate::magic::MAGIC_SECTION;
use crate::more_slots::MORE_SLOT_LEN;
use crate::{FORMAT_VERSION, Identity, KEY_LEN_MAX, LogPosition, METADATA_LEN_MAX, padded_len};

/// The numbers of an entry.
#[derive(Clone, Copy, Debug)]
struct Row {
    key_len: u16,
    metadata_len: u16,
    slot: u32,
    generation: u64,
    payload_len: u32,
    payload_checksum: u64,
    placement: u16,
    recency: u32,
    policy: u16,
    expiry: u32,
    more_slots: u8,
}

/// Collects entries of one hash range until a section is full.
#[derive(Debug)]
pub struct SectionBuilder {
    hashes: RangeInclusive<u64>,
    position: LogPosition,
    rows: Vec<Row>,
    keys: Vec<u8>,
    metadata: Vec<u8>,
    more_slots: Vec<u8>,
}

impl SectionBuilder {
    /// Creates a builder for the hash range `range` (see [`section_range`](crate::section_range));
    /// `position` is the log position, read under the lock of the shard that the first entry comes
    /// from.
    #[must_use]
    pub fn new(range: usize, position: LogPosition) -> SectionBuilder {
        SectionBuilder {
            hashes: section_hashes(range),
            position,
            rows: Vec::new(),
            keys: Vec::new(),
            metadata: Vec::new(),
            more_slots: Vec::new(),
        }
    }

    /// Reserves memory for `entries` more entries whose keys and metadata are within `limits`, up
    /// to the capacity of a section, so that adding them never moves memory.
    pub fn reserve(&mut self, entries: usize, limits: KeyLimits) {
        let left = SECTION_RAW_MAX.saturating_sub(self.raw_len());
        let bytes = |longest: u32| entries.saturating_mul(longest as usize).min(left);
        self.rows.reserve(entries.min(SECTION_ENTRIES_MAX));
        self.keys.reserve(bytes(limits.key_len_max));
        self.metadata.reserve(bytes(limits.metadata_len_max));
    }

    /// Adds an entry. Returns false if the section is full and the entry was not added.
    ///
    /// # Panics
    /// If the key is empty or longer than [`KEY_LEN_MAX`], the metadata is longer than
    /// [`METADATA_LEN_MAX`] or the value has more than [`VALUE_SLOTS_MAX`](crate::VALUE_SLOTS_MAX)
    /// slots: the index holds no such entry. In debug builds also if the key hash is outside the
    /// range.
    pub fn push(&mut self, e: &BaseEntry<'_>) -> bool {
        assert!(
            (1..=KEY_LEN_MAX).contains(&e.key.len()),
            "key of {} bytes",
            e.key.len()
        );
        assert!(
            e.metadata.len() <= METADATA_LEN_MAX,
            "metadata of {} bytes",
            e.metadata.len()
        );
        debug_assert!(
            self.hashes.contains(&e.key_hash),
            "key hash outside the section"
        );
        let more_slots = e.more.count();
        let more_len = e.more.len() * MORE_SLOT_LEN;
        let raw_len = self.raw_len() + PLANES + e.key.len() + e.metadata.len() + more_len;
        if self.rows.len() == SECTION_ENTRIES_MAX || raw_len > SECTION_RAW_MAX {
            return false;
        }
        self.rows.push(Row {
            key_len: e.key.len() as u16,
            metadata_len: e.metadata.len() as u16,
            slot: e.slot,
            generation: e.generation.0,
            payload_len: e.payload_len,
            payload_checksum: e.payload_checksum,
            placement: e.placement,
            recency: e.recency,
            policy: e.policy,
            expiry: e.expiry,
            more_slots,
        });
        self.keys.extend_from_slice(e.key);
        self.metadata.extend_from_slice(e.metadata);
        e.more.append(&mut self.more_slots);
        true
    }

    /// Returns the number of entries added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if no entry was added. An empty section cannot be decoded and must be omitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Encodes the section, padded with zeros to whole format blocks, and its directory entry,
    /// whose `offset` the caller sets. `section` is its number in the directory, from 0.
    #[must_use]
    pub fn finish(
        self,
        identity: &Identity,
        base_sequence: u64,
        section: u32,
        compression: Compression,
    ) -> (DirectoryEntry, Vec<u8>) {
        let raw = self.columns();
        let compressed = compress(&raw, compression);
        let codec = if compressed.is_some() {
            CODEC_ZSTD
        } else {
            CODEC_PLAIN
        };
        let body = compressed.as_ref().unwrap_or(&raw);
        let header = SectionBytes {
            magic: MAGIC_SECTION,
            version: FORMAT_VERSION.into(),
            section: section.into(),
            uuid: identity.uuid.0,
            epoch: identity.epoch.into(),
            base_sequence: base_sequence.into(),
            raw_len: (raw.len() as u64).into(),
            entries: (self.rows.len() as u32).into(),
            codec: codec.into(),
        };
        let stored_len = size_of::<SectionBytes>() + body.len();
        let mut bytes = Vec::with_capacity(padded_len(stored_len as u64) as usize);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(body);
        let entry = DirectoryEntry {
            offset: 0,
            stored_len: stored_len as u64,
            raw_len: raw.len() as u64,
            entries: self.rows.len() as u32,
            hash_first: *self.hashes.start(),
            hash_last: *self.hashes.end(),
            log_sequence: self.position.sequence,
            checksum: u64::from(crc32fast::hash(&bytes)),
        };
        bytes.resize(padded_len(stored_len as u64) as usize, 0);
        (entry, bytes)
    }

    /// Returns the bytes of the added entries, before compression.
    #[must_use]
    pub fn raw_len(&self) -> usize {
        let behind_planes = self.keys.len() + self.metadata.len() + self.more_slots.len();
        self.rows.len() * PLANES + behind_planes
    }

    /// Builds the raw form. The order is that of the offsets in [`columns`].
    fn columns(&self) -> Vec<u8> {
        let mut raw = Vec::with_capacity(self.raw_len());
        let rows = || self.rows.iter();
        columns::write(&mut raw, rows().map(|row| row.key_len.to_le_bytes()));
        columns::write(&mut raw, rows().map(|row| row.metadata_len.to_le_bytes()));
        columns::write(&mut raw, rows().map(|row| row.slot.to_le_bytes()));
        columns::write(&mut raw, rows().map(|row| row.generation.to_le_bytes()));
        columns::write(&mut raw, rows().map(|row| row.payload_len.to_le_bytes()));
        columns::write(
            &mut raw,
            rows().map(|row| row.payload_checksum.to_le_bytes()),
        );
        columns::write(&mut raw, rows().map(|row| row.placement.to_le_bytes()));
        columns::write(&mut raw, rows().map(|row| row.recency.to_le_bytes()));
        columns::write(&mut raw, rows().map(|row| row.policy.to_le_bytes()));
        columns::write(&mut raw, rows().map(|row| row.expiry.to_le_bytes()));
        columns::write(&mut raw, rows().map(|row| [row.more_slots]));
        raw.extend_from_slice(&self.keys);
        raw.extend_from_slice(&self.metadata);
        raw.extend_from_slice(&self.more_slots);
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generation, MoreSlots};

    /// A section grew under the lock of a shard, moving up to two megabytes.
    #[test]
    fn what_was_reserved_moves_no_memory() {
        let position = LogPosition {
            sequence: 1,
            anchor: 0,
        };
        let limits = KeyLimits {
            key_len_max: 512,
            metadata_len_max: 32,
        };
        let mut section = SectionBuilder::new(0, position);
        let (key, metadata) = ([1; 512], [2; 32]);
        let entry = BaseEntry {
            key: &key,
            metadata: &metadata,
            key_hash: 0,
            slot: 0,
            more: MoreSlots::NONE,
            generation: Generation(1),
            payload_len: 1,
            payload_checksum: 0,
            placement: 0,
            policy: 0,
            expiry: 0,
            recency: 0,
        };
        let mut more = true;
        while more {
            section.reserve(64, limits);
            let room = |s: &SectionBuilder| {
                let bytes = (s.keys.capacity(), s.metadata.capacity());
                (s.rows.capacity(), bytes)
            };
            let before = room(&section);
            more = (0..64).all(|_| section.push(&entry));
            assert_eq!(room(&section), before, "{} entries", section.len());
        }
        assert!(section.len() > 6000, "{} entries", section.len());
        assert!(section.keys.capacity() <= 2 * SECTION_RAW_MAX);
    }
}
