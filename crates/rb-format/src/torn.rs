//! Decides whether a block rejected by its decoder may result from a write torn by a crash.
//!
//! A crash tears a block at sector boundaries: each sector is either the old or the new one. So the
//! contents of one sector still agree with each other, and everything that both states have in
//! common is still there. Anything else is damage. These results are for an audit, which must not
//! report the traces of a crash as damage; recovery rejects both alike.
//!
//! "May be torn" is no evidence of a crash: rot in the checksum looks the same.

use crate::block::{self, Block};
use crate::magic::MAGIC_CONTINUATION;
use crate::{
    AnyHeader, BaseHeader, Continuation, Corruption, FORMAT_BLOCK, Identity, Incarnation,
    SlotHeaderRef, Superblock,
};

/// The smallest unit that a device writes atomically, in bytes.
const SECTOR: usize = 512;

impl Superblock {
    /// Returns whether a crash during format or start-empty may leave `bytes` in one of the two
    /// positions, given the valid copy in the other. Every sector must then be zero, or from the
    /// valid copy, or from the superblock that start-empty derives from it or derived it from.
    #[must_use]
    pub fn may_be_torn(&self, bytes: &[u8]) -> bool {
        let neighbour = |step: i64| {
            let mut other = self.clone();
            other.sequence = other.sequence.wrapping_add_signed(step);
            other.identity.epoch = other.identity.epoch.wrapping_add_signed(step);
            other.encode()
        };
        let states = [block::zeroed(), self.encode(), neighbour(1), neighbour(-1)];
        bytes.len() >= FORMAT_BLOCK
            && (0..FORMAT_BLOCK).step_by(SECTOR).all(|at| {
                let sector = at..at + SECTOR;
                states
                    .iter()
                    .any(|state| state[sector.clone()] == bytes[sector.clone()])
            })
    }
}

impl Incarnation {
    /// Returns whether a crash while a store is opened may leave `bytes` in the position of an
    /// incarnation block.
    #[must_use]
    pub fn may_be_torn(bytes: &[u8], identity: &Identity) -> bool {
        is_valid_except_checksum(bytes, |block| Incarnation::decode(block, identity).err())
    }

    /// Returns the number in a torn block of this epoch: either that of the session whose block was
    /// being written, or that of the previous block.
    #[must_use]
    pub fn torn_number(bytes: &[u8], identity: &Identity) -> Option<u32> {
        let torn = Incarnation::decode(&resealed(bytes)?[..], identity);
        torn.ok().map(|torn| torn.number)
    }
}

impl BaseHeader {
    /// Returns whether a crash during a checkpoint may leave `bytes` in the position of a base
    /// header.
    #[must_use]
    pub fn may_be_torn(bytes: &[u8], identity: &Identity) -> bool {
        is_valid_except_checksum(bytes, |block| {
            // The lists of bad blocks and slots span sectors and may be a mixture of two lists.
            BaseHeader::decode_without_lists(block, identity).err()
        })
    }
}

impl SlotHeaderRef<'_> {
    /// Returns whether a crash may leave `bytes` in front of slot `slot`. Format does not clear
    /// slots, so only a first sector of this epoch can be inconsistent.
    #[must_use]
    pub fn may_be_torn(bytes: &[u8], identity: &Identity, slot: u32) -> bool {
        let Some(resealed) = resealed(bytes) else {
            return true;
        };
        match SlotHeaderRef::decode(&resealed[..], identity) {
            Ok(header) => header.slot == slot,
            Err(Corruption::Reserved { offset, .. }) => offset >= SECTOR as u64,
            Err(Corruption::Mismatch { .. }) => !SlotHeaderRef::key_ends_within(&resealed, SECTOR),
            Err(Corruption::Field { .. }) => false,
            Err(_) => true,
        }
    }
}

impl Continuation {
    /// Returns whether a crash may leave `bytes` in front of slot `slot`, a further one of a value.
    /// The previous contents may be anything, including a slot header.
    #[must_use]
    pub fn may_be_torn(bytes: &[u8], identity: &Identity, slot: u32) -> bool {
        let Some(resealed) = resealed(bytes) else {
            return true;
        };
        // All its fields are in the first sector, so they agree with each other.
        match Continuation::decode(&resealed[..], identity) {
            Ok(header) => header.slot == slot,
            Err(Corruption::Reserved { offset, .. }) => offset >= SECTOR as u64,
            Err(Corruption::Field { .. } | Corruption::SlotTwice { .. }) => false,
            Err(_) => true,
        }
    }
}

impl AnyHeader<'_> {
    /// Returns whether a crash may leave `bytes` in front of slot `slot`, for any part of a value.
    #[must_use]
    pub fn may_be_torn(bytes: &[u8], identity: &Identity, slot: u32) -> bool {
        if bytes.starts_with(&MAGIC_CONTINUATION) {
            Continuation::may_be_torn(bytes, identity, slot)
        } else {
            SlotHeaderRef::may_be_torn(bytes, identity, slot)
        }
    }
}

/// Returns whether a block's fields are valid, of this epoch or an earlier one, although its
/// checksum is not: the first sector holds all of them, so a torn write leaves either the old or
/// the new fields.
fn is_valid_except_checksum(bytes: &[u8], refusal: impl Fn(&[u8]) -> Option<Corruption>) -> bool {
    let Some(resealed) = resealed(bytes) else {
        return true;
    };
    match refusal(&resealed[..]) {
        None | Some(Corruption::WrongEpoch { .. }) => true,
        Some(_) => resealed[..SECTOR].iter().all(|byte| *byte == 0),
    }
}

/// Returns the block with the checksum that its bytes should have; `None` if it is short.
fn resealed(bytes: &[u8]) -> Option<Box<Block>> {
    let mut block = block::zeroed();
    block.copy_from_slice(bytes.get(..FORMAT_BLOCK)?);
    block::seal(&mut block);
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::samples::{self, ID};

    /// Combines some sectors of `old` with the others of `new`, in all 256 ways.
    fn mixtures(old: &[u8], new: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        (0..256_u32).map(move |kept| {
            let mut bytes = old.to_vec();
            for sector in (0..8).filter(|sector| kept >> sector & 1 == 1) {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                bytes[range.clone()].copy_from_slice(&new[range]);
            }
            bytes
        })
    }

    /// Returns the offsets, among all fields of the first sector, where a flipped byte cannot be
    /// explained by a torn write.
    fn detectable(bytes: &[u8], may_be_torn: impl Fn(&[u8]) -> bool) -> Vec<usize> {
        let flipped = |at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 0x55;
            bytes
        };
        (0..FORMAT_BLOCK)
            .filter(|at| !may_be_torn(&flipped(*at)))
            .collect()
    }

    #[test]
    fn every_torn_superblock_may_be_torn_and_no_flipped_one() {
        let old = samples::superblock_of_three_runs();
        let mut new = old.clone();
        new.sequence += 1;
        new.identity.epoch += 1;
        let zeros = [0; FORMAT_BLOCK];
        for (a, b) in [(&old, &new), (&new, &old)] {
            for bytes in mixtures(&a.encode()[..], &b.encode()[..]) {
                assert!(a.may_be_torn(&bytes) && b.may_be_torn(&bytes));
            }
            for bytes in mixtures(&a.encode()[..], &zeros) {
                assert!(a.may_be_torn(&bytes));
            }
        }
        let found = detectable(&old.encode()[..], |bytes| old.may_be_torn(bytes));
        assert_eq!(found.len(), FORMAT_BLOCK);
    }

    #[test]
    fn every_torn_incarnation_may_be_torn() {
        let new = Incarnation {
            identity: ID,
            number: 7,
            nonce: [9; 16],
        };
        let before = Identity {
            epoch: ID.epoch - 1,
            ..ID
        };
        let old = [
            Incarnation {
                number: 5,
                nonce: [3; 16],
                ..new
            }
            .encode()
            .to_vec(),
            Incarnation {
                identity: before,
                number: 5,
                nonce: [3; 16],
            }
            .encode()
            .to_vec(),
            vec![0; FORMAT_BLOCK],
        ];
        for old in old {
            for bytes in mixtures(&old, &new.encode()[..]) {
                assert!(Incarnation::may_be_torn(&bytes, &ID));
                let number = Incarnation::torn_number(&bytes, &ID);
                let is_new = bytes[..SECTOR] == new.encode()[..SECTOR];
                let old = Incarnation::decode(&old, &ID).ok();
                let expected = if is_new {
                    Some(7)
                } else {
                    old.map(|old| old.number)
                };
                assert_eq!(number, expected);
            }
        }
        let found = detectable(&new.encode()[..], |bytes| {
            Incarnation::may_be_torn(bytes, &ID)
        });
        // Rot in number, epoch, nonce and checksum looks like a torn write; elsewhere it does not.
        let hidden = |at: &usize| matches!(at, 12..14 | 32..56 | 4088..);
        assert!((0..FORMAT_BLOCK).filter(|at| !hidden(at)).eq(found));
    }

    #[test]
    fn every_torn_base_header_may_be_torn() {
        let sample = samples::base(&samples::varied_entries(), crate::Compression::Plain);
        let mut old = sample.header;
        old.bad_slots = (0..800).collect();
        old.bad_blocks = (600..660).collect();
        let mut new = old.clone();
        new.base_sequence += 2;
        new.bad_slots = (100..200).collect();
        new.bad_blocks = (700..710).collect();
        new.lifetime.puts += 7;
        for old in [old.encode().to_vec(), vec![0; FORMAT_BLOCK]] {
            for bytes in mixtures(&old, &new.encode()[..]) {
                assert!(BaseHeader::may_be_torn(&bytes, &ID));
            }
        }
        let mut flipped = new.encode();
        flipped[3] ^= 1;
        assert!(!BaseHeader::may_be_torn(&flipped[..], &ID));
    }

    #[test]
    fn every_torn_slot_header_may_be_torn() {
        let new = samples::slot_header();
        let mut long = new.clone();
        long.key = vec![b'k'; 1000].into();
        long.key_hash = crate::key_hash(&ID.uuid, &long.key);
        let mut bytes = [vec![0; FORMAT_BLOCK], vec![0; FORMAT_BLOCK]];
        new.encode_into(&ID, &mut bytes[0]);
        long.encode_into(&ID, &mut bytes[1]);
        let foreign = vec![0xA5; FORMAT_BLOCK];
        let may = |bytes: &[u8]| SlotHeaderRef::may_be_torn(bytes, &ID, new.slot);
        for (a, b) in [
            (&bytes[0], &bytes[1]),
            (&foreign, &bytes[0]),
            (&foreign, &bytes[1]),
        ] {
            for bytes in mixtures(a, b).chain(mixtures(b, a)) {
                assert!(may(&bytes));
            }
        }
        // Slot, key hash, key and reserved bytes of the first sector reveal rot.
        let found = detectable(&bytes[0], may);
        for at in [12, 48, 81, 88, 300] {
            assert!(found.contains(&at), "{at}: {found:?}");
        }
    }

    #[test]
    fn every_torn_continuation_may_be_torn() {
        let new = samples::continuation();
        let mut bytes = [0; 4].map(|byte| vec![byte; FORMAT_BLOCK]);
        new.encode_into(&ID, &mut bytes[0]);
        let earlier = Continuation {
            generation: crate::Generation(new.generation.0 - 5),
            first_slot: 9,
            number: 1,
            more_slots: 200,
            ..new
        };
        earlier.encode_into(&ID, &mut bytes[1]);
        let mut first = samples::longest();
        first.slot = new.slot;
        first.encode_into(&ID, &mut bytes[2]);
        bytes[3].fill(0xA5);
        let may = |bytes: &[u8]| AnyHeader::may_be_torn(bytes, &ID, new.slot);
        for old in &bytes[1..] {
            for mixed in mixtures(old, &bytes[0]).chain(mixtures(&bytes[0], old)) {
                assert!(may(&mixed));
            }
        }
        // Within the first sector, rot in fields that a put may have changed looks like a torn
        // write; elsewhere it does not.
        let found = detectable(&bytes[0], may);
        for at in [12, 52, 54, 300] {
            assert!(found.contains(&at), "{at}: {found:?}");
        }
        assert!(!found.contains(&40) && !found.contains(&4000));
    }
}
