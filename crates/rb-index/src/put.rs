//! Types of writers: reservations of keys, and outcomes of publishing.

use crate::lease::Located;
use crate::place::Place;
use crate::slots::SlotId;

/// Behaviour of a put whose key is live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutMode {
    /// The new value replaces the old one.
    Replace,
    /// The old value stays and the put does nothing.
    KeepExisting,
}

/// A put that needs slots, for [`crate::Index::admits`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The hash of its key.
    pub hash: u64,
    /// The class of its slots.
    pub class: u8,
    /// Number of slots.
    pub slots: u32,
}

/// The result of [`crate::ShardGuard::reserve`].
#[derive(Debug)]
pub enum Reserve {
    /// The key is reserved for this put.
    Reserved(Reservation),
    /// [`PutMode::KeepExisting`], and the key is live.
    Exists(Located),
}

/// A put in progress, through which a later remove of the key can reach it. Other puts of the key
/// may be in progress at the same time; the highest generation wins.
#[must_use = "a reservation must be published or cancelled, or its key stays reserved"]
#[derive(Debug)]
pub struct Reservation {
    pub(crate) hash: u64,
    pub(crate) generation: u64,
    pub(crate) ticket: u64,
    pub(crate) mode: PutMode,
    pub(crate) place: Place,
}

impl Reservation {
    /// Returns the generation of the put.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the hash of the key.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// The properties of a value that has been written or, at recovery, that a record describes.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// The slot with the value, or its first one; reserved by the caller.
    pub slot: SlotId,
    /// The further slots of a value that takes several, in the order of its bytes; reserved by the
    /// caller, all different and of the first one's class. At most [`crate::MAX_VALUE_SLOTS`] - 1.
    pub more: &'a [SlotId],
    /// Length of the value in bytes.
    pub payload_len: u32,
    /// CRC32 of the value; at most `u32::MAX`.
    pub payload_checksum: u64,
    /// The placement id that the value was written with.
    pub placement: u16,
    /// Expiry time as the caller counts it; 0 for never. See [`crate::ShardGuard::expire`].
    pub expiry: u32,
    /// Metadata, at most [`crate::MAX_METADATA_BYTES`].
    pub metadata: &'a [u8],
    /// True if the slot is known to hold these bytes.
    pub verified: bool,
}

impl NewEntry<'_> {
    /// Returns all slots of the value, its first one first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = SlotId> {
        std::iter::once(self.slot).chain(self.more.iter().copied())
    }
}

/// The outcome of [`crate::ShardGuard::publish`]. If nothing was published, the slots are free
/// again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// The key was not live and now is.
    Inserted,
    /// The key was live with an older generation, which is gone.
    Replaced {
        /// The first slot of the displaced entry; free, or retired until its last lease ends.
        slot: SlotId,
        /// The generation of the displaced entry.
        generation: u64,
        /// The length of its value in bytes.
        payload_len: u32,
    },
    /// A put of a later generation was published in the meantime.
    Superseded,
    /// A remove of a later generation was applied in the meantime.
    Removed,
    /// [`PutMode::KeepExisting`], and the key is live.
    Exists,
}

/// An evicted entry. Its slots are reserved and belong to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// The slot, or the first of several, now reserved for the caller.
    pub slot: SlotId,
    /// The further slots, now reserved for the caller; empty for most entries.
    pub more: Box<[SlotId]>,
    /// The slots' class.
    pub class: u8,
    /// Length of the value in bytes.
    pub payload_len: u32,
    /// The hash of the key.
    pub hash: u64,
    /// The key that is no longer live.
    pub key: Box<[u8]>,
    /// The generation that was evicted.
    pub generation: u64,
}

impl Evicted {
    /// Returns all slots of the entry, its first one first.
    pub fn slots(&self) -> impl Iterator<Item = SlotId> {
        std::iter::once(self.slot).chain(self.more.iter().copied())
    }
}

/// An evicted entry that snapshots still include.
#[derive(Debug)]
pub(crate) struct KeptEviction {
    pub(crate) hash: u64,
    pub(crate) key: Box<[u8]>,
    pub(crate) metadata: Box<[u8]>,
    /// The further slots, 4 bytes each.
    pub(crate) more: Box<[u8]>,
    pub(crate) located: Located,
    pub(crate) recency: u32,
}

/// The result of [`crate::Loader::load`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loaded {
    /// The key was not known and now is.
    Inserted,
    /// The key was known with an older generation.
    Replaced(Located),
    /// The claim was refused: the key is known with the same or a later generation, or the claim is
    /// invalid (no such slot, a slot in use, lengths over the limits).
    Older,
}
