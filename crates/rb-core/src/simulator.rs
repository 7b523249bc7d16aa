//! Hooks for a simulator that runs operations inside one another, and for an oracle that must know in
//! which order changes took effect.
//!
//! A store without a simulator pays one comparison at each point.

use std::fmt::Debug;

/// Watches and schedules the operations of a store; see [`StoreOptions::simulator`](crate::StoreOptions::simulator).
pub trait Simulator: Send + Sync + Debug {
    /// Called in the thread of an operation, between two of its steps. Other operations may run here, in this
    /// thread or in others: no lock is held but those that [`SwitchPoint::holds`] names.
    fn switch(&self, point: SwitchPoint);

    /// Called again and again while an operation waits for what another has: a lock that it holds over I/O, or, to
    /// close the store, its end. Must let that other one run.
    fn blocked(&self, lock: HeldLock);

    /// Called where a change takes effect, under the lock of the key's shard, so that the calls for one key are in the
    /// order of its changes. Must not call the store.
    fn changed(&self, change: &Change<'_>);
}

/// A lock that is held over I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HeldLock {
    /// One commit at a time.
    Committer,
    /// One checkpoint at a time.
    Checkpointer,
    /// One flush at a time.
    Flush,
    /// One step of discards at a time.
    Discards,
    /// One step of the validator at a time.
    Validator,
    /// One step of the scrubber at a time.
    Scrubber,
    /// One close at a time; later ones share its result.
    Close,
    /// No lock: the operations in progress, whose end a close waits for.
    Gate,
}

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident [$($lock:ident),*],)*) => {
        /// Where an operation stands when it calls [`Simulator::switch`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum SwitchPoint { $($(#[$doc])* $name,)* }

        impl SwitchPoint {
            /// All points.
            pub const ALL: &[SwitchPoint] = &[$(SwitchPoint::$name,)*];

            /// The locks that the operation holds there. A checkpoint that commits holds its own as well, and so does
            /// a close that commits or writes a checkpoint.
            #[must_use]
            pub const fn holds(self) -> &'static [HeldLock] {
                match self { $(SwitchPoint::$name => &[$(HeldLock::$lock),*],)* }
            }
        }
    };
}

points! {
    /// A put is planned; nothing is taken yet.
    PutPlanned [],
    /// A batch of a put has log space and buffers.
    PutAdmitted [],
    /// A put has taken free slots, and may have to evict for more.
    SlotsTaken [],
    /// Entries were evicted, and the observer has not been notified.
    Evicted [],
    /// The observer has been notified of evictions.
    EvictionsNotified [],
    /// A put has its slots and its generation, and nothing was written.
    Reserved [],
    /// A batch's requests are about to be sent.
    Sending [],
    /// The writes of a put have completed, and nothing is published.
    Arrived [],
    /// A put has published its entries in one shard.
    Published [],
    /// A batch of a put is done.
    PutPartDone [],
    /// A remove has log space.
    RemoveAdmitted [],
    /// A remove has removed its keys in one shard.
    Removed [],
    /// A remove has removed all its keys, and none is durable.
    RemovesDone [],
    /// A get holds its leases.
    Leased [],
    /// A get has verified what it has read, and holds its leases.
    Verified [],
    /// A get has ended its leases.
    Released [],
    /// A commit begins.
    CommitBegins [],
    /// A commit has taken what is queued.
    CommitTaken [Committer],
    /// A commit's log blocks are written and not flushed.
    CommitWritten [Committer],
    /// A commit's log blocks are flushed, and nothing is marked durable.
    CommitFlushed [Committer],
    /// A commit is durable, and those who wait for it have not been notified.
    CommitDone [],
    /// A checkpoint begins.
    CheckpointBegins [Checkpointer],
    /// A checkpoint has copied some entries of a shard.
    CheckpointCopied [Checkpointer],
    /// A checkpoint has written its sections.
    CheckpointSections [Checkpointer],
    /// A checkpoint's sections and directory are flushed.
    CheckpointFlushed [Checkpointer],
    /// A checkpoint's header is durable, and the log keeps what it kept before.
    CheckpointHeader [Checkpointer],
    /// A checkpoint is done.
    CheckpointDone [],
    /// Slots have been taken to be discarded.
    DiscardTaken [Discards],
    /// Discards have ended, and their slots are not free.
    DiscardEnded [Discards],
    /// Entries have been copied to be validated.
    ValidateCopied [Validator],
    /// Entries have been copied to be scrubbed.
    ScrubCopied [Scrubber],
    /// A store that closes takes no more operations.
    CloseDrained [Close],
    /// A store that closes has written its last checkpoint.
    CloseCheckpointed [Close],
    /// A store that closes has queued its close record.
    CloseQueued [Close],
}

/// A change that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change<'a> {
    /// A put became its key's value.
    Put {
        /// The key.
        key: &'a [u8],
        /// The put's generation.
        generation: u64,
        /// The first slot.
        slot: u32,
    },
    /// A key was removed, or was not there.
    Removed {
        /// The key.
        key: &'a [u8],
        /// The remove's generation.
        generation: u64,
    },
    /// An entry was evicted. Called by the put that takes its slot, in which no lock is held: a put of the same
    /// key may have come in between.
    Evicted {
        /// The key.
        key: &'a [u8],
        /// The generation of the entry.
        generation: u64,
        /// Its slot.
        slot: u32,
    },
    /// An entry was dropped because its bytes on the device are not what was put.
    Dropped {
        /// The key.
        key: &'a [u8],
        /// The generation of the entry.
        generation: u64,
    },
    /// A put took a free slot. No lock is held.
    Taken {
        /// The slot.
        slot: u32,
        /// The record of the change that freed it is not durable: a crash may lose both the slot's former value and
        /// what replaced it.
        early: bool,
    },
}
