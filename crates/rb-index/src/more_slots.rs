//! The further slots of an entry, as its key cell stores them.

use crate::slots::SlotId;

/// Iterates over the slots of a value after its first, in the order of the value's bytes. Most
/// values have none.
#[derive(Clone, Debug, Default)]
pub struct MoreSlots<'a>(&'a [u8]);

impl<'a> MoreSlots<'a> {
    /// Reads a list of 4 bytes a slot, little-endian.
    pub(crate) fn stored(bytes: &'a [u8]) -> MoreSlots<'a> {
        MoreSlots(bytes)
    }
}

impl Iterator for MoreSlots<'_> {
    type Item = SlotId;

    fn next(&mut self) -> Option<SlotId> {
        let (slot, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(SlotId(u32::from_le_bytes(*slot)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.len() / size_of::<u32>();
        (left, Some(left))
    }
}

impl ExactSizeIterator for MoreSlots<'_> {}
