//! Leases, and copies of index entries.

use crate::note::Note;
use crate::slots::SlotId;

/// A copy of the index's data on a live entry, valid at the time it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The slot with the value, or its first one.
    pub slot: SlotId,
    /// Number of slots after the first; see [`crate::ShardGuard::more_slots`].
    pub more_slots: u8,
    /// The slots' class.
    pub class: u8,
    /// The generation of the put that made the entry.
    pub generation: u64,
    /// Length of the value in bytes.
    pub payload_len: u32,
    /// Checksum of the value. Version 1 is CRC32, so the upper 32 bits are 0.
    pub payload_checksum: u64,
    /// The placement id that the value was written with.
    pub placement: u16,
    /// Expiry time as the caller counts it; 0 for never.
    pub expiry: u32,
    /// True if header and payload were verified since the entry was recovered, or were written by
    /// this session.
    pub verified: bool,
}

/// The right to read one value: until it is passed to [`crate::ShardGuard::release`], its slots are
/// neither evicted nor reused, even if the key is removed or replaced.
///
/// Not released on drop, because releasing takes the shard's lock.
#[must_use = "a lease that is dropped without `release` keeps its slots out of use permanently"]
#[derive(Debug)]
pub struct Lease {
    pub(crate) located: Located,
    pub(crate) shard: u32,
    pub(crate) entry: u32,
    /// The key's position in its batch.
    pub(crate) position: u32,
    pub(crate) note: Note,
}

impl Lease {
    /// Returns the entry as it was when the lease began.
    #[must_use]
    pub fn located(&self) -> &Located {
        &self.located
    }

    /// Returns what the policy noted of the key.
    #[must_use]
    pub fn note(&self) -> Note {
        self.note
    }

    /// Sets what [`Index::judge`](crate::Index::judge) has noted; the policy gets it when the lease ends.
    pub fn set_note(&mut self, note: Note) {
        self.note = note;
    }

    /// Returns the shard whose guard must release the lease.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard as usize
    }
}
