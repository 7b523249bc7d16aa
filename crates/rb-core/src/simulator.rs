//! Hooks for a simulator that interleaves operations, and for an oracle that must know the order in which changes took
//! effect.
//!
//! A store without a simulator pays one comparison at each switch point.

use std::fmt::Debug;

use rb_index::SlotId;

/// Observes and schedules the operations of a store; see [`StoreOptions::simulator`](crate::StoreOptions::simulator).
pub trait Simulator: Send + Sync + Debug {
    /// Called in the thread of an operation, between two of its steps. Other operations may run here, in this
    /// thread or in others: only the locks that [`SwitchPoint::holds`] names are held.
    fn switch(&self, point: SwitchPoint);

    /// Called repeatedly while an operation waits for another one: for a lock that it holds over I/O, or, in a close, for
    /// its end. Must let the other operation run.
    fn blocked(&self, lock: HeldLock);

    /// Called when a change takes effect, under the lock of the key's shard, so that the calls for a key are in the
    /// order of its changes. Must not call the store.
    fn changed(&self, change: &Change<'_>);
}

/// A lock that is held over I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HeldLock {
    /// Held by a commit.
    Committer,
    /// Held by a checkpoint.
    Checkpointer,
    /// Held by a flush.
    Flush,
    /// Held by a step of discards.
    Discards,
    /// Held by a step of the validator.
    Validator,
    /// Held by a step of the scrubber.
    Scrubber,
    /// Held by a close; later closes return its result.
    Close,
    /// Not a lock: the operations in progress that a close waits for.
    Gate,
}

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident [$($lock:ident),*],)*) => {
        /// A place in an operation at which it calls [`Simulator::switch`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum SwitchPoint { $($(#[$doc])* $name,)* }

        impl SwitchPoint {
            /// All points.
            pub const ALL: &[SwitchPoint] = &[$(SwitchPoint::$name,)*];

            /// The locks that the operation holds at the point. A checkpoint that commits also holds its own, and so does
            /// a close that commits or writes a checkpoint.
            #[must_use]
            pub const fn holds(self) -> &'static [HeldLock] {
                match self { $(SwitchPoint::$name => &[$(HeldLock::$lock),*],)* }
            }
        }
    };
}

points! {
    /// A put is planned and holds no resources.
    PutPlanned [],
    /// A batch of a put has log space and buffers.
    PutAdmitted [],
    /// A put knows which of its keys the policy may refuse.
    PutJudged [],
    /// A put has taken free slots, and may have to evict for more.
    SlotsTaken [],
    /// Entries were evicted, and the observer has not been notified.
    Evicted [],
    /// The observer has been notified of evictions.
    EvictionsNotified [],
    /// A put has its slots and its generation and has not written yet.
    Reserved [],
    /// A batch's requests are about to be sent.
    Sending [],
    /// The writes of a put have completed and are not published.
    Arrived [],
    /// A put has published its entries in one shard.
    Published [],
    /// A batch of a put is done.
    PutPartDone [],
    /// A remove has log space.
    RemoveAdmitted [],
    /// A remove has removed its keys in one shard.
    Removed [],
    /// A remove has removed all its keys, and none of it is durable.
    RemovesDone [],
    /// A get holds its leases.
    Leased [],
    /// A get has verified its reads and holds its leases.
    Verified [],
    /// A get has released its leases.
    Released [],
    /// A commit begins.
    CommitBegins [],
    /// A commit has taken the queued records.
    CommitTaken [Committer],
    /// A commit's log blocks are written and not flushed.
    CommitWritten [Committer],
    /// A commit's log blocks are flushed and not yet marked durable.
    CommitFlushed [Committer],
    /// A commit is durable, and its waiters have not been notified.
    CommitDone [],
    /// A checkpoint begins.
    CheckpointBegins [Checkpointer],
    /// A checkpoint has copied some entries of a shard.
    CheckpointCopied [Checkpointer],
    /// A checkpoint has written its sections.
    CheckpointSections [Checkpointer],
    /// A checkpoint's sections and directory are flushed.
    CheckpointFlushed [Checkpointer],
    /// A checkpoint's header is durable, and no log space has been released.
    CheckpointHeader [Checkpointer],
    /// A checkpoint is done.
    CheckpointDone [],
    /// Slots have been taken for a discard.
    DiscardTaken [Discards],
    /// Discards have ended, and their slots are not free yet.
    DiscardEnded [Discards],
    /// Entries have been copied for validation.
    ValidateCopied [Validator],
    /// Entries have been copied for scrubbing.
    ScrubCopied [Scrubber],
    /// A closing store takes no more operations.
    CloseDrained [Close],
    /// A closing store has written its last checkpoint.
    CloseCheckpointed [Close],
    /// A closing store has queued its close record.
    CloseQueued [Close],
}

/// A change that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change<'a> {
    /// A put became the value of its key.
    Put {
        /// The key.
        key: &'a [u8],
        /// The put's generation.
        generation: u64,
        /// The slots of its value, in order.
        slots: &'a [SlotId],
    },
    /// A remove of a key, which may have had no entry.
    Removed {
        /// The key.
        key: &'a [u8],
        /// The remove's generation.
        generation: u64,
    },
    /// An entry was evicted. Reported by the put that takes its slots, with no lock held: another put of the same
    /// key may have taken effect in between.
    Evicted {
        /// The key.
        key: &'a [u8],
        /// The generation of the entry.
        generation: u64,
        /// Its slots.
        slots: &'a [SlotId],
    },
    /// An entry was dropped because its bytes on the device are not those that were put, or because it has expired.
    Dropped {
        /// The key.
        key: &'a [u8],
        /// The generation of the entry.
        generation: u64,
    },
    /// A put took a free slot, one of those that it needs. No lock is held.
    Taken {
        /// The slot.
        slot: u32,
        /// True if the record of the change that freed it is not durable: a crash may lose both the slot's former value
        /// and its replacement.
        early: bool,
    },
}
