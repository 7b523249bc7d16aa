//! Finds and shows the superblock, incarnation, base and slot structures.

use rb_format::magic::MAGIC_CONTINUATION;
use rb_format::{
    AnyHeader, BaseHeader, Corruption, DirectoryEntry, FORMAT_BLOCK, INCARNATION_A_OFFSET,
    INCARNATION_B_OFFSET, Incarnation, Structure, Superblock, base_header_offsets, decode_section,
    describe, padded_len,
};
use rb_index::{Index, LockPurpose};

use super::structure::{Inspected, Look, Side};
use crate::core::entry_scan::LiveEntry;
use crate::core::verify::{EntryCheck, piece_header_matches};
use crate::error::OpenError;
use crate::error::error_chain;
use crate::io::block_at::BlockAt;
use crate::io::headers::PLACE_NAMES;
use crate::io::headers::limits_of;
use crate::open::base_load::{read_directory, stored};
use crate::open::recover_options::RecoverOptions;
use crate::report::counted;

const SIDES: [Side; 2] = [Side::A, Side::B];

pub(super) fn superblocks(
    copies: &[BlockAt<Superblock>; 2],
    wanted: Option<Side>,
) -> Vec<Inspected> {
    let chosen = copies
        .iter()
        .zip(SIDES)
        .filter(|(_, side)| is_wanted(*side, wanted));
    chosen
        .map(|(copy, side)| Inspected {
            fields: copy.bytes.as_ref().map_or_else(Vec::new, |bytes| {
                describe(Structure::Superblock, &bytes[..FORMAT_BLOCK])
            }),
            refused: match (&copy.unreadable, &copy.decoded) {
                (Some(error), _) => Some(error_chain(error)),
                (None, decoded) => decoded.as_ref().err().map(Corruption::reason),
            },
            ..Inspected::new(format!("superblock copy {side:?}"), copy.offset)
        })
        .collect()
}

fn is_wanted(side: Side, wanted: Option<Side>) -> bool {
    wanted.is_none_or(|wanted| wanted == side)
}

impl Look<'_> {
    pub(super) fn incarnations(
        &mut self,
        wanted: Option<Side>,
    ) -> Result<Vec<Inspected>, OpenError> {
        let identity = self.superblock.identity;
        let places = [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET];
        let chosen = places
            .into_iter()
            .zip(SIDES)
            .filter(|(_, side)| is_wanted(*side, wanted));
        chosen
            .map(|(offset, side)| {
                let title = format!("incarnation block {side:?}");
                let decode = |bytes: &[u8]| Incarnation::decode(bytes, &identity);
                self.block(title, offset, Structure::Incarnation, decode)
            })
            .collect()
    }

    pub(super) fn bases(&mut self, wanted: Option<Side>) -> Result<Vec<Inspected>, OpenError> {
        let mut shown = Vec::new();
        for side in SIDES.into_iter().filter(|side| is_wanted(*side, wanted)) {
            self.base(side, &mut shown)?;
        }
        Ok(shown)
    }

    fn base(&mut self, side: Side, shown: &mut Vec<Inspected>) -> Result<(), OpenError> {
        let superblock = self.superblock;
        let region = match side {
            Side::A => &superblock.base_a,
            Side::B => &superblock.base_b,
        };
        let mut header: Option<BaseHeader> = None;
        let title = |part: String| format!("checkpoint base {side:?}, {part}");
        for (offset, place) in base_header_offsets(region).into_iter().zip(PLACE_NAMES) {
            let name = title(format!("{place} header"));
            let block = self.block(name, offset, Structure::BaseHeader, |bytes| {
                let decoded = BaseHeader::decode(bytes, &superblock.identity)?;
                let age = |header: &BaseHeader| (header.incarnation, header.base_sequence);
                if header.as_ref().is_none_or(|best| age(best) < age(&decoded)) {
                    header = Some(decoded);
                }
                Ok(())
            })?;
            shown.push(block);
        }
        // Only a valid header locates the rest.
        let Some(header) = header else {
            return Ok(());
        };
        let mut part = Inspected::new(
            title("directory".into()),
            region.offset + header.directory_offset,
        );
        let directory = match read_directory(&mut self.io, region.offset, region.bytes, &header) {
            Ok(directory) => directory,
            Err(why) => {
                part.refused = Some(why.to_string());
                shown.push(part);
                return Ok(());
            }
        };
        if header.directory_len > 0 {
            let padded = padded_len(header.directory_len) as usize;
            if let Ok(bytes) = self.io.read(part.offset, padded) {
                let entries = &bytes[..header.directory_len as usize];
                part.fields = describe(Structure::DirectoryEntry, entries);
            }
        }
        shown.push(part);
        for (number, entry) in (0..).zip(&directory) {
            let title = title(format!("section {number}"));
            let offset = region.offset + entry.offset;
            let len = stored(entry);
            shown.push(match self.io.read(offset, len) {
                Ok(bytes) => {
                    let bytes = &bytes[..len];
                    let decoded = self.decode_section(bytes, number, entry, &header);
                    Inspected::of(title, offset, Structure::SectionHeader, bytes, decoded)
                }
                Err(error) => Inspected {
                    refused: Some(error_chain(&error)),
                    ..Inspected::new(title, offset)
                },
            });
        }
        Ok(())
    }

    fn decode_section(
        &self,
        bytes: &[u8],
        number: u32,
        entry: &DirectoryEntry,
        header: &BaseHeader,
    ) -> Result<(), Corruption> {
        let (geometry, limits) = (self.geometry, limits_of(self.superblock));
        decode_section(bytes, entry, number, header, geometry, limits, &mut |_| {})
    }

    pub(super) fn slot(&mut self, slot: u32) -> Result<Inspected, OpenError> {
        let Some(offset) = self.geometry.slot_offset(slot) else {
            let slots = self.geometry.slots();
            return Err(OpenError::NoSuchSlot { slot, slots });
        };
        let identity = self.superblock.identity;
        let (mut found, mut further, mut is_zero) = (None, None, false);
        let title = format!("slot {slot}");
        let mut shown = self.block(title, offset, Structure::SlotHeader, |bytes| {
            is_zero = bytes.iter().all(|byte| *byte == 0);
            if bytes.starts_with(&MAGIC_CONTINUATION) {
                further = Some(describe(Structure::ContinuationHeader, bytes));
            }
            AnyHeader::decode(bytes, &identity)?;
            found = Some(bytes[..FORMAT_BLOCK].to_vec());
            Ok(())
        })?;
        if let Some(fields) = further {
            shown.fields = fields;
        }
        let owner = self.recovered().map(|index| owner_of(&index, slot));
        shown.notes.push(match owner {
            Err(why) => format!("whether it is live is not known: {}", error_chain(&why)),
            Ok(None) if self.is_cut(offset, FORMAT_BLOCK) => "not live".into(),
            Ok(None) if is_zero => {
                "not live: its header is zero, as before the first write or after a discard".into()
            }
            Ok(None) if found.is_none() => "not live: it holds no header of this store".into(),
            Ok(None) => "not live: its content is old".into(),
            Ok(Some(entry)) if self.is_entry_cut(&entry) => format!(
                "live: key {}: part of the value lies behind the end of the device, at byte {}; the store does not open until all of it is there",
                entry.key.escape_ascii(),
                self.capacity
            ),
            Ok(Some(entry)) => {
                let number = entry.slots.iter().position(|own| own.0 == slot);
                let number = number.unwrap_or_default();
                let agreed = found
                    .is_some_and(|header| piece_header_matches(&identity, &header, &entry, number));
                let state = match (agreed, self.payload_matches(&entry)) {
                    (false, _) => {
                        "the header is not that of the entry: a read is a miss".to_owned()
                    }
                    (true, Ok(true)) => "header and payload match".to_owned(),
                    (true, Ok(false)) => "the payload does not match: a read is a miss".to_owned(),
                    (true, Err(why)) => format!("the payload could not be read: {why}"),
                };
                let part = match entry.slots.len() {
                    1 => String::new(),
                    count => format!(", part {} of {count}", number + 1),
                };
                format!(
                    "live: key {}, generation {}, {}{part}; {state}",
                    entry.key.escape_ascii(),
                    entry.located.generation,
                    counted(entry.located.payload_len.into(), "byte")
                )
            }
        });
        Ok(shown)
    }

    pub(super) fn key(&mut self, key: &[u8]) -> Result<Inspected, OpenError> {
        let index = self.recovered()?;
        let hash = index.hash(key);
        let found = index
            .lock(index.shard_of(hash), LockPurpose::Background)
            .get(hash, key);
        match found {
            Some(located) => self.slot(located.slot.0),
            None => Err(OpenError::Option {
                option: "key",
                value: key.escape_ascii().to_string(),
                why: "it is not in the store",
            }),
        }
    }

    /// Returns whether a part of a value lies behind the end of the device.
    fn is_entry_cut(&self, entry: &LiveEntry) -> bool {
        entry.pieces(self.geometry).any(|piece| {
            let len = FORMAT_BLOCK + piece.padded_len();
            self.is_cut(piece.header_offset(self.geometry), len)
        })
    }

    /// Builds the index like an open.
    fn recovered(&mut self) -> Result<Index, OpenError> {
        let how = RecoverOptions::look(self.geometry)?;
        let recovered = how.recover(&mut self.io, self.superblock, self.geometry)?;
        Ok(recovered.index)
    }

    fn payload_matches(&mut self, entry: &LiveEntry) -> Result<bool, String> {
        let (identity, mut check) = (self.superblock.identity, EntryCheck::new(entry, true));
        for piece in entry.pieces(self.geometry) {
            let offset = piece.header_offset(self.geometry);
            let len = FORMAT_BLOCK + piece.padded_len();
            let bytes = self.io.read(offset, len);
            let bytes = bytes.map_err(|error| error_chain(&error))?;
            check.piece(&identity, entry, &piece, &bytes);
        }
        Ok(check.payload_matches(&identity, entry))
    }
}

/// Returns the live entry that has a slot.
fn owner_of(index: &Index, slot: u32) -> Option<LiveEntry> {
    let mut owner = None;
    for shard in 0..index.shards() {
        let guard = index.lock(shard, LockPurpose::Background);
        guard.snapshot(&mut rb_index::Cursor::default(), usize::MAX, &mut |entry| {
            let entry = LiveEntry::new(index, &entry);
            if entry.slots.iter().any(|own| own.0 == slot) {
                owner = Some(entry);
            }
        });
    }
    owner
}
