//! Statistics of the index.

use std::time::Duration;

/// The purpose for which a shard's lock is taken; counted separately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockPurpose {
    /// A phase of a batch, in one of the batch's own shards.
    Operation,
    /// A visit to another shard because its own had nothing to evict.
    Eviction,
    /// Checkpoint, validation, scrub and the like.
    Background,
}

/// The slots of one class by state. At rest, the seven states add up to `capacity`; under
/// concurrent changes each number is correct, but they are not from the same instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
pub struct ClassStats {
    /// Slots of the class.
    pub capacity: u64,
    /// Slots without an owner.
    pub free: u64,
    /// Slots owned by a put in progress.
    pub reserved: u64,
    /// Slots with a live entry.
    pub live: u64,
    /// Slots whose entry is gone but that a lease still holds.
    pub retired: u64,
    /// Slots on which a failed write may still land.
    pub quarantined: u64,
    /// Slots marked as bad.
    pub bad: u64,
    /// Slots whose discard has not completed.
    pub discarding: u64,
    /// How often a slot was taken before the change that freed it was durable
    /// ([`crate::Index::take_early`]).
    pub taken_early: u64,
}

/// Statistics of an index since it was created.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct IndexStats {
    /// Slots by state, one element per class.
    pub classes: Vec<ClassStats>,
    /// Live entries.
    pub entries: u64,
    /// Entries evicted.
    pub evictions: u64,
    /// Shard locks taken for [`LockPurpose::Operation`].
    pub operation_locks: u64,
    /// Shard locks taken for [`LockPurpose::Eviction`].
    pub eviction_locks: u64,
    /// Shard locks taken for [`LockPurpose::Background`].
    pub background_locks: u64,
    /// Shard locks that another thread held at the first attempt.
    pub contended_locks: u64,
    /// The longest time that an operation waited for a shard's lock.
    pub longest_wait: Duration,
    /// Victims of the eviction policy that were refused ([`crate::Policy`]). Not 0 means a bug in
    /// the policy.
    pub refused_victims: u64,
    /// State changes refused because the slot was not in the expected state. Not 0 means a bug.
    pub illegal_transitions: u64,
    /// Slots that a free list refused as already free or foreign. Not 0 means a bug.
    pub free_list_rejections: u64,
}
