//! The superblock: what the store is and where its parts lie.
//!
//! Two copies, A at byte 0 and B at 1 MiB. Written only by format and start-empty, in the order
//! B, flush, A, flush, so at every moment one of the two is whole; the higher sequence wins. A
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
    /// The block as both copies are written.
    ///
    /// # Panics
    /// If there are more than [`RUNS_MAX`](crate::RUNS_MAX) runs or the rings of the log differ in
    /// length, which neither [`plan`](crate::plan) nor [`Superblock::decode`] ever gives.
    #[must_use]
    pub fn encode(&self) -> Box<[u8; FORMAT_BLOCK]> {
        bytes::encode(self)
    }

    /// Reads the first format block of `bytes` and checks that everything in it fits together:
    /// whole blocks, all areas inside `device_bytes` and disjoint, none in an unused area, classes
    /// numbered densely from 0 in increasing capacity, slot numbers within 32 bits.
    ///
    /// A feature that this crate does not know is no error here, so that a tool can say what the
    /// store is. Opening a store asks [`Features`](crate::Features).
    ///
    /// # Errors
    /// Any [`Corruption`].
    pub fn decode(bytes: &[u8]) -> Result<Superblock, Corruption> {
        let superblock = bytes::decode(bytes)?;
        validate::validate(&superblock)?;
        Ok(superblock)
    }
}
