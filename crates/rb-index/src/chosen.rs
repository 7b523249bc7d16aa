//! The policy of a shard: the default without indirection, or a trait object.
//!
//! A lease and its release on the hot path make five calls of the policy. As virtual calls they
//! added 16 ns to 79, so LRU is called directly.

use crate::entries::Entries;
use crate::lru::Lru;
use crate::note::Note;
use crate::policy::{Gone, Lookup, Origin, Policy, Purpose, Resident};

#[derive(Debug)]
pub(crate) enum Chosen {
    Lru(Lru),
    Other(Box<dyn Policy>),
}

/// Calls the method of the active variant.
macro_rules! either {
    ($chosen:expr, $policy:ident => $call:expr) => {
        match $chosen {
            Chosen::Lru($policy) => $call,
            Chosen::Other($policy) => $call,
        }
    };
}

impl Chosen {
    /// Returns whether the policy reacts to a lookup. LRU ignores a lease: it counts as a use when
    /// it ends.
    #[inline]
    pub(crate) fn heeds(&self, purpose: Purpose) -> bool {
        purpose == Purpose::Touch || matches!(self, Chosen::Other(_))
    }
}

impl Policy for Chosen {
    #[inline]
    fn insert(&mut self, new: &Resident, origin: Origin) {
        either!(self, policy => policy.insert(new, origin));
    }

    #[inline]
    fn lookup(&mut self, lookup: &Lookup) -> Note {
        either!(self, policy => policy.lookup(lookup))
    }

    #[inline]
    fn mark(&mut self, entry: &Resident, position: u32, note: Note) {
        either!(self, policy => policy.mark(entry, position, note));
    }

    #[inline]
    fn pin(&mut self, entry: &Resident) {
        either!(self, policy => policy.pin(entry));
    }

    #[inline]
    fn unpin(&mut self, entry: &Resident) {
        either!(self, policy => policy.unpin(entry));
    }

    #[inline]
    fn remove(&mut self, gone: &Resident, why: Gone) {
        either!(self, policy => policy.remove(gone, why));
    }

    #[inline]
    fn victim(&mut self, class: u8, entries: &Entries<'_>) -> Option<u32> {
        either!(self, policy => policy.victim(class, entries))
    }

    #[inline]
    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64> {
        either!(self, policy => policy.worth(class, entries))
    }

    fn saved(&self, entry: u32) -> Note {
        either!(self, policy => policy.saved(entry))
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        either!(self, policy => policy.evictable(class, each));
    }
}
