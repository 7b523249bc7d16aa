//! The superblock: identity of the store, and the positions of its parts.
//!
//! Two copies, A at byte 0 and B at 1 MiB. Written only by format and start-empty, in the order B,
//! flush, A, flush, so at any moment at least one of the two is whole; the higher sequence wins. A
//! copy that differs is repaired before any other write.

mod bytes;
mod fields;
pub(crate) mod region;
mod validate;

#[cfg(test)]
mod tests;

pub(crate) use bytes::{RunBytes, SuperblockBytes};
pub use fields::{LABEL_LEN, Run, Superblock};
pub use region::Region;
pub(crate) use validate::LOG_BLOCKS_MIN;

use crate::{Corruption, FORMAT_BLOCK};

impl Superblock {
    /// Encodes the block, which is the same for both copies.
    ///
    /// # Panics
    /// If there are more than [`RUNS_MAX`](crate::RUNS_MAX) runs or the rings of the log differ in
    /// length. Neither [`plan`](crate::plan) nor [`Superblock::decode`] returns such a superblock.
    #[must_use]
    pub fn encode(&self) -> Box<[u8; FORMAT_BLOCK]> {
        bytes::encode(self)
    }

    /// Decodes the first format block of `bytes` and checks that it is consistent: whole blocks,
    /// all areas inside `device_bytes` and disjoint, none in an unused area, classes numbered
    /// densely from 0 by increasing capacity, slot numbers within 32 bits.
    ///
    /// An unknown feature is not an error here, so that a tool can identify the store. Opening a
    /// store checks [`Features`](crate::Features).
    ///
    /// # Errors
    /// Any [`Corruption`].
    pub fn decode(bytes: &[u8]) -> Result<Superblock, Corruption> {
        let superblock = bytes::decode(bytes)?;
        validate::validate(&superblock)?;
        Ok(superblock)
    }
}
