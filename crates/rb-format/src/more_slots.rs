//! The further slots of a value that takes several.
//!
//! A value larger than the largest slot takes several slots of the largest class. The first is
//! stored in the slot field that every value has; the further ones follow as a list of 4 bytes
//! each, in the slot header, in the put record and in the section of a checkpoint base.

use std::fmt;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use crate::Corruption;

/// The largest number of slots of one value.
pub const VALUE_SLOTS_MAX: usize = 256;

/// Bytes of one further slot in a list.
pub(crate) const MORE_SLOT_LEN: usize = size_of::<U32>();
/// The longest list in bytes.
pub(crate) const MORE_SLOTS_LEN_MAX: usize = (VALUE_SLOTS_MAX - 1) * MORE_SLOT_LEN;

/// The slots of a value after its first, in the order of the value's bytes; most values have none.
///
/// Decoders return them without copying. Encoders accept these, or a slice of numbers from the
/// caller:
///
/// ```
/// use rb_format::MoreSlots;
///
/// let more = MoreSlots::from(&[7, 5][..]);
/// assert_eq!((more.len(), more.get(1)), (2, Some(5)));
/// assert!(more.iter().eq([7, 5]) && MoreSlots::NONE.is_empty());
/// ```
#[derive(Clone, Copy)]
pub struct MoreSlots<'a>(Numbers<'a>);

#[derive(Clone, Copy)]
enum Numbers<'a> {
    Own(&'a [u32]),
    /// Slot numbers as stored: little-endian, not aligned.
    Stored(&'a [U32]),
}

impl<'a> MoreSlots<'a> {
    /// The value has one slot.
    pub const NONE: MoreSlots<'static> = MoreSlots(Numbers::Own(&[]));

    /// Returns the number of further slots: the value has one more.
    #[must_use]
    pub fn len(self) -> usize {
        match self.0 {
            Numbers::Own(slots) => slots.len(),
            Numbers::Stored(slots) => slots.len(),
        }
    }

    /// Returns true if the value has one slot.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the slot at `index`, counted from 0; it holds part `index + 1` of the value.
    #[must_use]
    pub fn get(self, index: usize) -> Option<u32> {
        match self.0 {
            Numbers::Own(slots) => slots.get(index).copied(),
            Numbers::Stored(slots) => slots.get(index).map(|slot| slot.get()),
        }
    }

    /// Iterates over all of them in order.
    #[must_use]
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + Clone + 'a {
        (0..self.len()).map(move |index| self.get(index).unwrap_or_default())
    }

    /// Returns their number as structures store it.
    ///
    /// # Panics
    /// If there are more than a value can have, which the caller checked when it accepted the put.
    pub(crate) fn count(self) -> u8 {
        match u8::try_from(self.len()) {
            Ok(count) => count,
            Err(std::num::TryFromIntError { .. }) => panic!("a value of {} slots", self.len() + 1),
        }
    }

    /// Reads a list that is exactly `bytes`.
    pub(crate) fn stored(bytes: &'a [u8]) -> MoreSlots<'a> {
        // The cast fails only if the length is not a multiple of 4, which no caller passes.
        MoreSlots(Numbers::Stored(
            <[U32]>::ref_from_bytes(bytes).unwrap_or(&[]),
        ))
    }

    /// Writes the list to the front of `out`, which has room for it.
    pub(crate) fn write(self, out: &mut [u8]) {
        for (out, slot) in out.chunks_exact_mut(MORE_SLOT_LEN).zip(self.iter()) {
            out.copy_from_slice(&slot.to_le_bytes());
        }
    }

    /// Appends the list to `out`.
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        out.extend(self.iter().flat_map(u32::to_le_bytes));
    }

    /// Checks that no slot is named twice, including the first one.
    pub(crate) fn check_distinct(self, what: &'static str, first: u32) -> Result<(), Corruption> {
        if self.is_empty() {
            return Ok(());
        }
        let mut all = [0; VALUE_SLOTS_MAX];
        let all = &mut all[..=self.len()];
        all[0] = first;
        for (out, slot) in all[1..].iter_mut().zip(self.iter()) {
            *out = slot;
        }
        all.sort_unstable();
        match all.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => Err(Corruption::SlotTwice {
                what,
                slot: pair[0],
            }),
        }
    }
}

impl Default for MoreSlots<'_> {
    fn default() -> Self {
        MoreSlots::NONE
    }
}

impl<'a> From<&'a [u32]> for MoreSlots<'a> {
    fn from(slots: &'a [u32]) -> MoreSlots<'a> {
        MoreSlots(Numbers::Own(slots))
    }
}

/// Compares the slot numbers, regardless of representation.
impl PartialEq for MoreSlots<'_> {
    fn eq(&self, other: &MoreSlots<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for MoreSlots<'_> {}

impl fmt::Debug for MoreSlots<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_and_own_numbers_are_the_same_list() {
        let own = MoreSlots::from(&[1, 0x0203_0405, u32::MAX][..]);
        let mut bytes = vec![9];
        own.append(&mut bytes);
        assert_eq!(bytes.len(), 1 + 3 * MORE_SLOT_LEN);
        let stored = MoreSlots::stored(&bytes[1..]);
        assert_eq!(stored, own);
        assert_eq!((stored.get(1), stored.get(3)), (Some(0x0203_0405), None));
        let mut written = [0; 13];
        own.write(&mut written);
        assert_eq!(written[..12], bytes[1..]);
        assert_ne!(own, MoreSlots::NONE);
        assert_eq!(format!("{own:?}"), "[1, 33752069, 4294967295]");
    }

    #[test]
    fn a_slot_named_twice_is_found_at_any_position() {
        let mut slots: Vec<u32> = (1000..1255).rev().collect();
        let check = |slots: &[u32], first| MoreSlots::from(slots).check_distinct("list", first);
        assert_eq!(check(&slots, 7), Ok(()));
        let twice = |slot| Err(Corruption::SlotTwice { what: "list", slot });
        assert_eq!(check(&slots, 1000), twice(1000));
        assert_eq!(check(&slots, 1254), twice(1254));
        slots[254] = slots[0];
        assert_eq!(check(&slots, 7), twice(1254));
        assert_eq!(check(&[], 7), Ok(()));
    }

    #[test]
    #[should_panic(expected = "a value of 257 slots")]
    fn too_many_slots_are_a_fault_of_the_program() {
        MoreSlots::from(&[0; 256][..]).count();
    }
}
