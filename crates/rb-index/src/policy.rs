//! The interface of eviction policies.
//!
//! [`Lru`](crate::Lru) is the default, [`Learned`](crate::Learned) learns what is read again.
//! Another policy is a [`Policy`] for each shard, perhaps with a [`SharedPolicy`], and a
//! [`PolicyFactory`] that creates them; `rb simulate` has several for comparison.

use std::fmt;

use crate::entries::Entries;
use crate::entry::Entry;
use crate::error::IndexError;
use crate::note::Note;
use crate::place::Place;
use crate::sync::Arc;

/// The eviction policy of one shard: it is notified of all changes and lookups of the shard's keys,
/// and chooses what to evict.
///
/// # Entries
///
/// The index names entries by numbers. They are dense, from 0, so that a policy can keep its state
/// in an array. The number of a removed entry is reused. A policy that remembers removed keys
/// (ghosts) keeps their hashes.
///
/// # Protocol
///
/// For one entry, in this order:
///
/// 1. [`Policy::insert`], once.
/// 2. Any number of [`Policy::lookup`]s that found it, and of [`Policy::pin`] and
///    [`Policy::unpin`], which alternate, `pin` first. Between the two, leases hold the entry, and
///    it must not be a victim.
/// 3. [`Policy::remove`], once, whether it is pinned or not; `unpin` does not follow. This applies
///    to evictions, too: a victim stays until `remove` is called.
///
/// A replaced value is removed, and then its successor is inserted under another number and the
/// same hash. Hash, class, length and slots of an entry do not change. The entries recovered by a restart
/// are inserted in the order of their last use, least recently used first, before anything else
/// happens.
///
/// Every lookup of a key is reported once, to its shard's policy, before its consequence (`pin`, or
/// a later put of a missing key). What the policies of the shards know of the keys of a batch is
/// then passed to their [`SharedPolicy`], which sees the batch as a whole: it is the chain of a
/// request's blocks. Its verdict on a leased key comes back to the shard with [`Policy::mark`].
///
/// # Locks and time
///
/// Every method is called with the shard's lock held, by the thread of an operation. It must be
/// quick (tens of nanoseconds; `victim` may examine several entries), must not call the store or
/// the index, and must not block: all other operations on the shard wait for it. A policy that
/// shares state with those of other shards uses atomics, or a lock that is only held briefly and
/// under which no other lock is taken.
///
/// It must not panic: the operation that called it would end in the middle of a change.
///
/// # Effects of a wrong policy
///
/// A wrong policy evicts badly but cannot cause damage: the index checks each victim. One that is
/// pinned, of another class or missing is refused: it is counted in
/// [`IndexStats::refused_victims`](crate::IndexStats::refused_victims), reported by
/// [`Index::audit`](crate::Index::audit), and the shard evicts nothing in that visit. A put that
/// finds no slot then fails as it does when everything is leased.
///
/// # Debug
///
/// `Debug` must print everything that determines the next actions of the policy, and nothing else:
/// a state search distinguishes states of a store by it.
pub trait Policy: fmt::Debug + Send {
    /// Adds an entry; it is not pinned.
    fn insert(&mut self, new: &Resident, origin: Origin);

    /// Reports the lookup of a key, found or not. Returns what the policy knows of the key, for
    /// [`SharedPolicy::judge`].
    fn lookup(&mut self, lookup: &Lookup) -> Note;

    /// Passes on what [`SharedPolicy::judge`] has noted for an entry that is still pinned, and the
    /// position of its key in the batch. Called when the lease ends on which it was noted.
    fn mark(&mut self, entry: &Resident, position: u32, note: Note) {
        let _ = (entry, position, note);
    }

    /// Pins a leased entry: it must not be a victim until `unpin`.
    fn pin(&mut self, entry: &Resident);

    /// Unpins an entry whose last lease has ended. It may be a victim again, and counts as used
    /// now.
    fn unpin(&mut self, entry: &Resident);

    /// Removes an entry; its number becomes invalid.
    fn remove(&mut self, gone: &Resident, why: Gone);

    /// Chooses the entry of a class to evict next: any that is not pinned, or `None` if all are.
    /// Called only when a slot is needed; [`Policy::remove`] follows immediately.
    fn victim(&mut self, class: u8, entries: &Entries<'_>) -> Option<u32>;

    /// Returns the value of the next victim of a class; `None` if [`Policy::victim`] would find
    /// none. The lower the value, the sooner it is evicted.
    ///
    /// This is how shards are compared: eviction visits the shard with the lowest value, and stays
    /// there until another one is lower. With one shard it decides nothing, as long as it is some
    /// value while there is something to evict. It is a hint: a rough value costs a slightly worse
    /// order. [`Lru`](crate::Lru) returns [`Entries::last_use`] of its victim, which orders
    /// evictions over all shards by use. The index publishes the latest value of each shard.
    ///
    /// Called for every class each time the shard's lock is released after an entry was added,
    /// removed or used, so it must be very cheap.
    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64>;

    /// Returns what to save of an entry. It comes back with [`Origin::Saved`].
    fn saved(&self, entry: u32) -> Note {
        let _ = entry;
        Note::default()
    }

    /// Passes each entry of a class that may become a victim to `each`: exactly those that are not
    /// pinned. For [`Index::audit`](crate::Index::audit).
    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32));
}

/// The part of a policy that all shards share: it sees whole batches, which are chains of a
/// request's blocks, first block first.
///
/// Its methods are called with no shard locked, from any thread. They must not call the store or
/// the index, must not block for long, and must not panic.
pub trait SharedPolicy: fmt::Debug + Send + Sync {
    /// Judges the keys of a batch after each was looked up in its shard: what is known of one key
    /// says something about the others. The note that it leaves on a leased key is passed to
    /// [`Policy::mark`] when the lease ends.
    fn judge(&self, place: Place, purpose: Purpose, keys: &mut [Judged]);

    /// Passes the addresses of what is read when a key is judged to `fetch`, which starts to fetch their
    /// cache lines. It affects only the time.
    fn prefetch(&self, hash: u64, fetch: fn(*const u8)) {
        let _ = (hash, fetch);
    }

    /// Judges keys of a batch that have no entries, from the first one on; the first that is refused
    /// ends the chain. There are free slots for the first `free` of them, and for the others something
    /// is evicted.
    fn admits(&self, class: u8, hashes: &[u64], free: usize) -> Admitted;

    /// Sets the least worth of what is written, as the number of times that a block is read in the time
    /// of as many lookups as there are slots; 0, as at first, for none. See
    /// [`Budget`](crate::Budget::floor).
    fn set_floor(&self, floor: f64) {
        let _ = floor;
    }

    /// Returns the shard with the entry to evict next; `None` to compare the shards by [`Policy::worth`].
    fn next_shard(&self, class: u8) -> Option<usize>;

    /// Returns how long a key that is put next will stay, compared with others: 0 for the shortest, below
    /// [`LIFETIMES`]. Values that go together are best written together, with one placement handle. Call
    /// it before the put, after the lookup that missed the key.
    fn lifetime(&self, class: u8, hash: u64) -> u8 {
        let _ = (class, hash);
        0
    }

    /// Returns what was learned, in at most about `limit` bytes, for [`Room::saved`] of a later
    /// session; empty if there is nothing worth it.
    fn save(&self, limit: usize) -> Vec<u8> {
        let _ = limit;
        Vec::new()
    }
}

/// Keys of a batch that have no entries, from the first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The number of those that are worth what is evicted for them.
    pub worth: usize,
    /// The number of those that are worth a write, by the floor.
    pub written: usize,
}

/// Number of lifetimes that [`SharedPolicy::lifetime`] distinguishes.
pub const LIFETIMES: u8 = 4;

/// A key of a batch that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The hash of the key.
    pub hash: u64,
    /// True if it has an entry.
    pub found: bool,
    /// The note that [`Policy::lookup`] returned, and then the one that [`SharedPolicy::judge`] leaves.
    pub note: Note,
}

/// The origin of an entry that is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A put, with its place in its batch.
    Put(Place),
    /// An earlier session, or another policy.
    Saved {
        /// The note that [`Policy::saved`] returned for it; 0 if that is unknown.
        note: Note,
        /// About how many uses of any keys there were since its last use.
        uses_ago: u64,
    },
}

/// Creates the policies of an index.
pub trait PolicyFactory: fmt::Debug + Send + Sync {
    /// Creates the policies of all shards, which have no entries yet. Called once for each index,
    /// with no lock held.
    ///
    /// # Errors
    /// There is no memory for them.
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError>;
}

/// The policies of an index.
#[derive(Debug)]
pub struct Policies {
    /// One per shard, in the order of their numbers.
    pub of_shards: Vec<Box<dyn Policy>>,
    /// The part that they share, if they have one.
    pub shared: Option<Arc<dyn SharedPolicy>>,
}

impl Policies {
    /// Policies that share nothing, from a function that creates that of one shard.
    #[must_use]
    pub fn alone<P: Policy + 'static>(room: &Room<'_>, policy: impl Fn() -> P) -> Policies {
        let boxed = |_| -> Box<dyn Policy> { Box::new(policy()) };
        Policies {
            of_shards: (0..room.shards).map(boxed).collect(),
            shared: None,
        }
    }
}

/// The parameters of new policies.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Room<'a> {
    /// The number of shards, among which keys are spread evenly.
    pub shards: usize,
    /// The number of slots of each class, in all shards together.
    pub slots: &'a [u64],
    /// The state that [`SharedPolicy::save`] returned in an earlier session; empty if that is not known.
    /// It may be that of another policy, or damaged.
    pub saved: &'a [u8],
}

/// An existing entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resident {
    /// Its number.
    pub entry: u32,
    /// Its slot class, an index into [`Room::slots`].
    pub class: u8,
    /// True if leases hold it now: in a lookup, before the lease of that lookup begins; in `pin`
    /// true and in `unpin` false.
    pub pinned: bool,
    /// Length of the value in bytes.
    pub payload_len: u32,
    /// Number of slots that the value takes; evicting it frees all of them.
    pub slots: u16,
    /// The hash of its key. Keys with the same hash are so rare that a policy may treat them as
    /// one.
    pub hash: u64,
}

impl Resident {
    #[inline]
    pub(crate) fn new(number: u32, entry: &Entry) -> Resident {
        Resident {
            entry: number,
            class: entry.class(),
            pinned: entry.leases() > 0,
            payload_len: entry.payload_len,
            slots: entry.slots() as u16,
            hash: entry.hash,
        }
    }
}

/// A lookup of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lookup {
    /// The hash of the key.
    pub hash: u64,
    /// The batch of the key, and its position there.
    pub place: Place,
    /// The purpose of the lookup.
    pub purpose: Purpose,
    /// The entry, or `None` for a miss.
    pub found: Option<Resident>,
}

/// The purpose of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To read or lock the value: the entry that is found is leased.
    Lease,
    /// To report that the key was used elsewhere.
    Touch,
    /// To check whether it exists, which is not a use.
    Probe,
}

impl Purpose {
    /// Returns whether a lookup for this purpose that finds its key is a use of it.
    #[must_use]
    pub fn is_use(self) -> bool {
        self != Purpose::Probe
    }
}

/// Reason why an entry was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was the victim.
    Evicted,
    /// Another value of the key is inserted next.
    Replaced,
    /// Its key was removed, or its bytes turned out to be wrong.
    Removed,
}
