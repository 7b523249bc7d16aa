//! Events that an observer of a store is notified of: entries that disappear without a remove, and failures.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The reason why the store dropped an entry without a remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// A get read header and payload twice, and both times verification failed.
    FailedVerification,
    /// The validator found another header in the slot.
    FailedValidation,
    /// The scrubber read header and payload twice, and both times verification failed.
    FailedScrub,
    /// Its expiry was over when an operation looked it up.
    Expired,
}

/// An event of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An entry was evicted to make room for a put.
    Evicted {
        /// Its key.
        key: &'a [u8],
        /// Its generation.
        generation: u64,
        /// Length of its value in bytes.
        len: u32,
        /// Its slot class.
        class: u8,
    },
    /// An entry was dropped because its bytes on the device are not those that were put, or because it has expired.
    Dropped {
        /// Its key.
        key: &'a [u8],
        /// Number of its first slot.
        slot: u32,
        /// Its generation.
        generation: u64,
        /// Length of its value in bytes.
        len: u32,
        /// Its slot class.
        class: u8,
        /// The reason.
        reason: DropReason,
    },
    /// Writes to a slot failed repeatedly; it is no longer used.
    BadSlot {
        /// Number of the slot.
        slot: u32,
    },
    /// The device failed to write a block of metadata of which another copy was written, or which was then
    /// written elsewhere. Nothing is lost. Reported once per place and session.
    MetadataWriteFailed {
        /// Name of the block.
        what: &'static str,
        /// Its first byte on the device.
        offset: u64,
    },
    /// There was no space for a write of metadata. The store retries it; until there is space, puts and removes fail with
    /// an error for which [`is_out_of_space`](crate::Error::is_out_of_space) returns true. Reported once each time that
    /// space runs out.
    OutOfSpace {
        /// Name of the block.
        what: &'static str,
    },
    /// The store is poisoned: writing has stopped until it is reopened (C7).
    Poisoned {
        /// The failure that stopped it.
        reason: &'a str,
    },
}

/// An observer of a store.
///
/// The store calls it in the thread that did the work, with no lock held. It should be quick. It may call the store, but
/// must neither close it nor wait for an async operation, which its own thread may have to complete. A panic in it is
/// caught after the panic hook has reported it, and the store continues.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use rb_core::{Event, Events};
///
/// #[derive(Debug, Default)]
/// struct Evicted(Mutex<Vec<Vec<u8>>>);
/// impl Events for Evicted {
///     fn event(&self, event: &Event<'_>) {
///         if let Event::Evicted { key, .. } = event {
///             self.0.lock().unwrap().push(key.to_vec());
///         }
///     }
/// }
///
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// let evicted = Arc::new(Evicted::default());
/// let observed = StoreOptions { events: Some(evicted.clone()), ..StoreOptions::default() };
/// let store = Store::open_or_create(&options, observed)?;
/// for number in 0..17 {
///     store.put(&[number], b"value")?;
/// }
/// assert_eq!(*evicted.0.lock().unwrap(), [[0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Events: Send + Sync + Debug {
    /// Called once for each event.
    fn event(&self, event: &Event<'_>);
}

/// Calls an observer or a waker and catches its panic, which would otherwise unwind through a put that holds slots and
/// reservations, or end a thread of the store.
pub(crate) fn shielded(call: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(call)));
}
