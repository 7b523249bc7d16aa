//! Which entry is worth least: what an eviction policy is given, and what it answers.
//!
//! [`Lru`](crate::Lru) is the default. Another one is a [`Policy`] and a [`PolicyFactory`] that makes it for each shard; the
//! example `policies` has two of them.

use std::fmt;

use crate::entries::Entries;
use crate::entry::Entry;
use crate::place::Place;

/// The eviction policy of one shard: it is notified of all that happens to the shard's keys, and chooses what to evict.
///
/// # Entries
///
/// The index names entries by numbers. They are dense, from 0, so that a policy may keep what it knows in an array. The
/// number of an entry that was removed is given to another one. A policy that remembers keys that are gone (ghosts) keeps their hashes.
///
/// # Protocol
///
/// Of one entry, in this order:
///
/// 1. [`Policy::insert`], once.
/// 2. Any number of [`Policy::lookup`]s that found it, and of [`Policy::pin`] and [`Policy::unpin`], which alternate, `pin` first.
///    Between the two, leases hold the entry, and it must not be a victim.
/// 3. [`Policy::remove`], once, whether it is pinned or not; `unpin` does not follow. This holds for evictions, too: a victim
///    is not gone before `remove` says so.
///
/// A replaced value is removed, and then its successor is inserted under another number and the same hash. Hash, class and length of an entry
/// do not change. The entries that a restart recovers are inserted in the order of their last use, the one used longest ago first,
/// before anything else happens.
///
/// Every lookup of a key is reported once, by its shard's policy. What a policy wants to know of a whole batch, whose keys lie in many
/// shards, its factory can have the policies share: [`Place::batch`] says what belongs together. A lookup is reported before what it leads
/// to (`pin`, or a later put of what was missing).
///
/// # Locks and time
///
/// Every method is called with the shard's lock held, by the thread of an operation. It must be quick (tens of nanoseconds; `victim` may look at several
/// entries), must not call the store or the index, and must not wait: all other operations on the shard wait for it. A policy that shares
/// state with those of other shards uses atomics, or a lock that is never held for long and under which nothing else is locked.
///
/// It must not panic: the operation that called it would end in the middle of a change.
///
/// # What a wrong policy can do
///
/// Evict badly, but no harm: the index looks at each victim. One that is pinned, of another class or not there is refused: it is counted in
/// [`IndexStats::refused_victims`](crate::IndexStats::refused_victims), [`Index::audit`](crate::Index::audit) says so, and the shard evicts nothing in that visit. A put
/// that finds no slot then fails as it does when everything is leased.
///
/// # Debug
///
/// `Debug` is to show everything that decides what the policy does next, and nothing that does not: a search through the states of a
/// store tells them apart by it.
pub trait Policy: fmt::Debug + Send {
    /// There is a new entry; it is not pinned. `place` is that of its put; none if it was recovered.
    fn insert(&mut self, new: &Resident, place: Option<Place>);

    /// A key was looked up and found, or not.
    fn lookup(&mut self, lookup: &Lookup);

    /// The entry is leased, and must not be a victim until `unpin`.
    fn pin(&mut self, entry: &Resident);

    /// The last lease has ended. The entry may be a victim again, and counts as used now.
    fn unpin(&mut self, entry: &Resident);

    /// The entry is gone, and its number means nothing any more.
    fn remove(&mut self, gone: &Resident, why: Gone);

    /// Chooses the entry of a class to evict next: any that is not pinned, or none if all are. Called only when a slot is needed;
    /// [`Policy::remove`] follows at once.
    fn victim(&mut self, class: u8, entries: &Entries<'_>) -> Option<u32>;

    /// What the next victim of a class is worth; none if [`Policy::victim`] would find none. The less it is worth, the sooner it is evicted.
    ///
    /// This is how shards are compared: eviction goes to the shard that says the least, and stays there until another one says less.
    /// With one shard it decides nothing, as long as it is some value while there is something to evict. It is a hint: a rough
    /// answer costs an order that is a little worse. [`Lru`](crate::Lru) answers [`Entries::last_use`] of its victim, which makes the
    /// order over all shards that of use. The index publishes the last answer of each shard.
    ///
    /// Asked for every class each time that the shard's lock is given back after an entry came, went or was used, so it must cost
    /// next to nothing.
    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64>;

    /// Shows each entry of a class that may become a victim: exactly those that are not pinned. For [`Index::audit`](crate::Index::audit).
    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32));
}

/// Makes the policies of an index, one for each shard.
pub trait PolicyFactory: fmt::Debug + Send + Sync {
    /// The policy of one shard, which has no entries yet. Called once for each shard, in ascending order, with no lock held.
    fn policy(&self, room: &Room<'_>) -> Box<dyn Policy>;
}

/// What a policy is made for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Room<'a> {
    /// The number of the shard, from 0.
    pub shard: usize,
    /// The number of shards, among which keys are spread evenly.
    pub shards: usize,
    /// The slots of each class, in all shards together.
    pub slots: &'a [u64],
}

/// An entry that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resident {
    /// Its number.
    pub entry: u32,
    /// Its slot class; below the number of [`Room::slots`].
    pub class: u8,
    /// Whether leases hold it now: in a lookup, before that begins; in `pin` true and in `unpin` false.
    pub pinned: bool,
    /// Length of the value in bytes. It takes one slot.
    pub payload_len: u32,
    /// The hash of its key. Keys of the same hash are so rare that a policy may take them for one.
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
            hash: entry.hash,
        }
    }
}

/// One key that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lookup {
    /// The hash of the key.
    pub hash: u64,
    /// Which batch it came in, and where in it.
    pub place: Place,
    /// What for.
    pub purpose: Purpose,
    /// The entry, or none: a miss.
    pub found: Option<Resident>,
}

/// What a key is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To read or lock the value: the entry that is found is leased.
    Lease,
    /// To say that the key was used elsewhere.
    Touch,
    /// To know whether it is there, which is not a use.
    Probe,
}

impl Purpose {
    /// Whether a lookup for this that finds its key is a use of it.
    #[must_use]
    pub fn is_use(self) -> bool {
        self != Purpose::Probe
    }
}

/// Why an entry is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was the victim.
    Evicted,
    /// Another value of the key is inserted next.
    Replaced,
    /// Its key was removed, or its bytes turned out to be wrong.
    Removed,
}
