//! Verifies entries: the bytes in the slot must match the index (C1). Gets, the validator, the
//! scrubber and the audit use only these checks.

use rb_format::{
    Continuation, FORMAT_BLOCK, Generation, Identity, PayloadChecksum, PieceChecksum, SlotHeader,
    key_hash,
};
use rb_index::{Located, SlotId};
use rb_io::PartSum;

use crate::core::entry_scan::LiveEntry;
use crate::core::pieces::Piece;

/// Returns whether these bytes are the slot header of exactly this entry.
pub(crate) fn header_matches(
    identity: &Identity,
    header: &[u8],
    key: &[u8],
    entry: &Located,
    slots: &[SlotId],
) -> bool {
    SlotHeader::decode(header, identity).is_ok_and(|header| agrees(&header, key, entry, slots))
}

/// Returns whether a decoded slot header is that of exactly this entry.
pub(crate) fn agrees(header: &SlotHeader, key: &[u8], entry: &Located, slots: &[SlotId]) -> bool {
    *header.key == *key
        && header.generation == Generation(entry.generation)
        && header.slot == entry.slot.0
        && header.more.iter().eq(slots[1..].iter().map(|slot| &slot.0))
        && header.payload_len == entry.payload_len
        && header.payload_checksum == entry.payload_checksum
}

/// Starts the checksum of the payload of this entry.
fn payload_sum(identity: &Identity, key: &[u8], entry: &Located) -> PayloadChecksum {
    let hash = key_hash(&identity.uuid, key);
    let (generation, slot) = (Generation(entry.generation), entry.slot.0);
    let len = entry.payload_len.into();
    PayloadChecksum::new(identity, generation, slot, hash, len)
}

/// Returns whether a payload is that of exactly this entry: its checksum covers key, generation, slot
/// and length. Its bytes from `first` of their memory on were checksummed when they arrived, or none
/// were, and `rest` follows them.
///
/// # Panics
/// If these are not all bytes of the payload: a read that succeeded has brought all of it.
pub(crate) fn payload_matches(
    identity: &Identity,
    (first, sums): (usize, &[PartSum]),
    rest: &[u8],
    key: &[u8],
    entry: &Located,
) -> bool {
    let mut sum = payload_sum(identity, key, entry);
    let mut at = first;
    for part in sums {
        assert_eq!(part.at, at, "the parts of a read are contiguous");
        sum.append(&PieceChecksum::from_crc32(part.crc32, part.len as u64));
        at += part.len;
    }
    let len = entry.payload_len as usize;
    assert_eq!(
        at - first + rest.len(),
        len,
        "a payload is checksummed whole"
    );
    sum.update(rest);
    sum.finish() == entry.payload_checksum
}

/// Returns whether these bytes are the header of this piece of exactly this entry.
pub(crate) fn piece_header_matches(
    identity: &Identity,
    header: &[u8],
    entry: &LiveEntry,
    number: usize,
) -> bool {
    let LiveEntry {
        key,
        located,
        slots,
        ..
    } = entry;
    match number {
        0 => header_matches(identity, header, key, located, slots),
        _ => Continuation::decode(header, identity)
            .is_ok_and(|header| continues(&header, entry, number)),
    }
}

/// Returns whether a decoded continuation header is that of this piece of exactly this entry.
pub(crate) fn continues(header: &Continuation, entry: &LiveEntry, number: usize) -> bool {
    header.generation == Generation(entry.located.generation)
        && header.slot == entry.slots[number].0
        && header.first_slot == entry.slots[0].0
        && usize::from(header.number) == number
        && usize::from(header.more_slots) == entry.slots.len() - 1
}

/// The check of an entry whose pieces arrive in any order: all headers and, if asked for, the
/// payload.
pub(crate) struct EntryCheck {
    missing: usize,
    refuted: bool,
    unreadable: bool,
    /// By piece; empty if the payload is not checked.
    payload: Vec<Option<PieceChecksum>>,
}

impl EntryCheck {
    pub(crate) fn new(entry: &LiveEntry, with_payload: bool) -> EntryCheck {
        let pieces = entry.slots.len();
        EntryCheck {
            missing: pieces,
            refuted: false,
            unreadable: false,
            payload: vec![None; if with_payload { pieces } else { 0 }],
        }
    }

    /// Takes a piece that could not be read. Returns whether it was the last one.
    pub(crate) fn unreadable(&mut self) -> bool {
        self.unreadable = true;
        self.arrived()
    }

    /// Takes a piece: its header and, if the payload is checked, its part of the payload. Returns
    /// whether it was the last one.
    pub(crate) fn piece(
        &mut self,
        identity: &Identity,
        entry: &LiveEntry,
        piece: &Piece,
        bytes: &[u8],
    ) -> bool {
        let (header, part) = bytes.split_at(FORMAT_BLOCK);
        self.refuted |= !piece_header_matches(identity, header, entry, piece.number);
        if let Some(sum) = self.payload.get_mut(piece.number) {
            *sum = Some(PieceChecksum::new(&part[..piece.len]));
        }
        self.arrived()
    }

    /// Returns whether every header that arrived is that of the entry, and all could be read.
    pub(crate) fn all_headers_match(&self) -> bool {
        !self.refuted && !self.unreadable
    }

    fn arrived(&mut self) -> bool {
        self.missing -= 1;
        self.missing == 0
    }

    /// Returns whether all pieces are those of the entry; `None` if one could not be read and none
    /// is wrong.
    pub(crate) fn verdict(&self, identity: &Identity, entry: &LiveEntry) -> Option<bool> {
        assert_eq!(
            self.missing, 0,
            "an entry is judged when all pieces are there"
        );
        match (self.refuted, self.unreadable) {
            (true, _) => Some(false),
            (false, true) => None,
            (false, false) => {
                Some(self.payload.is_empty() || self.payload_matches(identity, entry))
            }
        }
    }

    /// Returns whether the payload is that of the entry, even if a header is not.
    pub(crate) fn payload_matches(&self, identity: &Identity, entry: &LiveEntry) -> bool {
        let located = &entry.located;
        let mut sum = payload_sum(identity, &entry.key, located);
        for piece in self.payload.iter().flatten() {
            sum.append(piece);
        }
        sum.finish() == located.payload_checksum
    }
}
