//! What a reader holds: a copy of what the index knows, and a lease on the slot.

use crate::slots::SlotId;

/// What the index knows of a live entry: plain copies, valid for the moment they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The slot with the value.
    pub slot: SlotId,
    /// The slot's class.
    pub class: u8,
    /// The generation of the put that made the entry.
    pub generation: u64,
    /// Length of the value in bytes.
    pub payload_len: u32,
    /// Checksum of the value. Version 1 is CRC32, so the upper 32 bits are 0.
    pub payload_checksum: u64,
    /// The placement id the value was written with.
    pub placement: u16,
    /// Whether header and payload were verified since the entry was recovered, or written here.
    pub verified: bool,
}

/// The right to read one slot: until it is given to [`crate::ShardGuard::release`], the slot is neither
/// evicted nor reused, even if the key is removed or replaced.
///
/// It cannot release itself, because that takes the shard's lock.
#[must_use = "a lease that is dropped without `release` keeps its slot out of use for ever"]
#[derive(Debug)]
pub struct Lease {
    pub(crate) located: Located,
    pub(crate) shard: u32,
    pub(crate) entry: u32,
}

impl Lease {
    /// The entry as it was when the lease began.
    #[must_use]
    pub fn located(&self) -> &Located {
        &self.located
    }

    /// The shard whose guard must release the lease.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard as usize
    }
}
