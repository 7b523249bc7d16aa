//! The in-memory index of a store: maps keys to slots, tracks leases and free slots, and chooses
//! what to evict.
//!
//! * **Sharded.** A key's hash, keyed with a secret, selects its shard and its place there
//!   ([`Index::hash`]), so colliding keys cannot be chosen on purpose. Each shard has one lock, and
//!   a batch takes each touched shard's lock once per phase ([`Index::lock`]).
//! * **Leases.** A slot being read is neither evicted nor reused, even if its key is removed or
//!   replaced ([`ShardGuard::lease`]).
//! * **One owner per slot.** A slot is free, reserved, live, retired, quarantined, bad or
//!   discarding. Each transition has one owner, and the counters change in the same step;
//!   [`Index::audit`] checks the whole index.
//! * **Free lists.** One per slot class, FIFO, many slots per call; a slot cannot be freed twice.
//! * **Durability.** A slot freed by a change is not used again before the record of that change is
//!   durable ([`ShardGuard::recorded`], [`Index::set_durable`]), unless the caller has no other
//!   ([`Index::take_early`]).
//! * **Eviction.** A [`Policy`] per shard chooses victims; the shards compare the values of their
//!   next victims. The default is least recently used ([`Lru`]), exact with one shard.
//! * **Recovery.** [`Loader`] takes the claims of a fuzzy base and its log, in any order and from
//!   several threads, and resolves them: the highest generation wins for a key and for a slot.
//!
//! This crate is *not* a cache: it holds no values, does no I/O, knows no device, starts no
//! threads, and never waits for a reader.
//!
//! # Generations
//!
//! The caller assigns a number to each put and remove; numbers never repeat. **Draw a number while
//! holding the guard of the key's shard**, in the same hold as [`ShardGuard::reserve`] or
//! [`ShardGuard::remove`]: then the numbers of a key are in the order of its operations, and "the
//! later one wins" means the same in the index, in the log, and at recovery. A put draws its number
//! after it has taken its slot: the former owner drew before it freed the slot, so the numbers of a
//! slot's owners ascend, too, published or not.
//!
//! # Example
//!
//! ```
//! use rb_index::{Index, IndexOptions, NewEntry, Published, PutMode, Reserve, LockPurpose};
//!
//! // One class of 100 slots.
//! let index = Index::new(IndexOptions { shards: 4, classes: vec![vec![0..100]], secret: [0x5E; 16] })?;
//! let key = b"layer 0, block 17";
//! let hash = index.hash(key);
//! let shard = index.shard_of(hash);
//!
//! // Put: take a slot, announce the key, write the value there (not shown), publish.
//! let place = index.begin_batch(1).at(0);
//! let mut slots = Vec::new();
//! assert_eq!(index.take_free(0, 1, &mut slots), 1);
//! let reserved = index.lock(shard, LockPurpose::Operation).reserve(hash, key, &slots, 1, PutMode::Replace, place);
//! let Reserve::Reserved(reservation) = reserved else { unreachable!("Replace always reserves") };
//! let entry = NewEntry {
//!     slot: slots[0],
//!     more: &[],
//!     payload_len: 65_536,
//!     payload_checksum: 0x1234_5678,
//!     placement: 0,
//!     expiry: 0,
//!     metadata: b"bf16",
//!     verified: true,
//! };
//! let published = index.lock(shard, LockPurpose::Operation).publish(reservation, key, entry);
//! assert_eq!(published, Published::Inserted);
//!
//! // Get: lease, read and verify the slot without the lock, release.
//! let place = index.begin_batch(1).at(0);
//! let lease = index.lock(shard, LockPurpose::Operation).lease(hash, key, place).expect("just published");
//! assert_eq!(lease.located().slot, slots[0]);
//! // A remove under the lease succeeds, and the slot waits for the reader.
//! assert!(index.lock(shard, LockPurpose::Operation).remove(hash, key, 2).is_some());
//! assert_eq!(index.stats().classes[0].retired, 1);
//! index.lock(shard, LockPurpose::Operation).release(lease);
//! assert_eq!(index.stats().classes[0].free, 100);
//! # index.audit()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Memory
//!
//! At most 72 bytes per entry, without its key and metadata: 48 in the slab, 8 of order, 6 of entry
//! number and placement id in its key cell, 6.4 of table (8 after it had to grow), 1.1 of slot
//! state; and 4 more for each slot after the first of a value that takes several. Cells of keys and metadata are padded to an even length, and there may be a quarter as
//! many free cells as cells in use. A lookup makes three dependent memory accesses: table, slab
//! entry, key cell; a batch can overlap them for all its keys ([`Index::prefetch`]). Tables have
//! room for an even share of all slots from the start, so they do not grow under a lock.
//!
//! The memory that an index allocates up front is known in advance ([`IndexOptions::bytes`]); if it
//! cannot be allocated, an error is returned.

#![forbid(unsafe_code)]

mod audit;
mod bits;
mod budget;
mod by_shard;
mod chosen;
mod chunked;
mod entries;
mod entry;
mod error;
mod evict;
mod fingerprint;
mod free_list;
mod guard;
mod guard_put;
mod index;
mod key_pool;
mod key_store;
mod learned;
mod lease;
mod loader;
mod lru;
mod memory;
mod more_slots;
mod need;
mod note;
mod pending;
mod place;
mod policy;
mod prefetch;
mod put;
mod shard;
mod slots;
mod snapshot;
mod stats;
mod store;
mod sync;
mod table;
mod unrecorded;

pub use budget::Budget;
pub use entries::Entries;
pub use entry::{MAX_KEY_BYTES, MAX_METADATA_BYTES, MAX_VALUE_SLOTS};
pub use error::IndexError;
pub use guard::ShardGuard;
pub use index::{Index, IndexOptions};
pub use learned::Learned;
pub use lease::{Lease, Located};
pub use loader::{LoadEntry, LoadReport, Loader};
pub use lru::Lru;
pub use more_slots::MoreSlots;
pub use note::Note;
pub use place::{Batch, Hints, Place};
pub use policy::{
    Admitted, Gone, Judged, LIFETIMES, Lookup, Origin, Policies, Policy, PolicyFactory, Purpose,
    Resident, Room, SharedPolicy,
};
pub use put::{Evicted, Loaded, NewEntry, Published, PutMode, Reservation, Reserve, Wanted};
pub use slots::{Fate, SlotId};
pub use snapshot::{Cursor, SnapshotEntry};
pub use stats::{ClassStats, IndexStats, LockPurpose};

#[cfg(all(test, rb_loom))]
mod loom_tests;
#[cfg(test)]
mod tests;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
