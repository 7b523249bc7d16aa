//! What the store tells an observer: everything that makes an entry vanish without being asked.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why an entry was dropped although nobody removed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// Header or payload on the device did not prove the entry, read twice.
    FailedVerification,
    /// The validator found another header in the slot.
    FailedValidation,
    /// The scrubber found header or payload rotten, read twice.
    FailedScrub,
}

/// Something that happened to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An entry gave its slot to a put.
    Evicted {
        /// Its key.
        key: &'a [u8],
        /// Its generation.
        generation: u64,
    },
    /// An entry was dropped because its bytes on the device are not what was put.
    Dropped {
        /// Its key.
        key: &'a [u8],
        /// Its generation.
        generation: u64,
        /// What was found.
        reason: DropReason,
    },
    /// A slot failed writes repeatedly and is not used any more.
    BadSlot {
        /// Its number.
        slot: u32,
    },
    /// The device failed to write a block of metadata of which another copy was written, or which was then
    /// written elsewhere. Nothing is lost. Said once for each place in an opening.
    MetadataWriteFailed {
        /// What was being written.
        what: &'static str,
        /// Its first byte on the device.
        offset: u64,
    },
    /// There was no space for a write of metadata. It is tried again; until there is space puts and removes fail with an
    /// error whose [`is_out_of_space`](crate::Error::is_out_of_space) holds. Said once for each time that space runs out.
    OutOfSpace {
        /// What was being written.
        what: &'static str,
    },
    /// Writing stopped (C7).
    Poisoned {
        /// The failure that stopped it.
        reason: &'a str,
    },
}

/// An observer. Called in the thread that did the work, with no lock of the store held; it should
/// be quick and may call the store, except to close it, and must not wait for an async operation: the thread
/// that it runs in may be the one that would finish it. A panic in it ends there, reported by the
/// panic hook: the operation that it was told of goes on.
pub trait Events: Send + Sync + Debug {
    /// Called for each event.
    fn event(&self, event: &Event<'_>);
}

/// Calls code of the store's user that the store does not depend on: an observer, a waker. Unwinding on would
/// lose what is in the hands of whoever tells them: slots and reservations of a put, or a thread of the store.
pub(crate) fn shielded(call: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(call)));
}
