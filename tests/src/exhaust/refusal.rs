//! A policy that refuses a new key for which something would be evicted, and evicts as LRU does for the others.
//!
//! What it decides depends on the free slots alone, so the state that the search compares has all of it.

use std::sync::Arc;

use rb_core::policy::{
    Admitted, IndexError, Judged, Lru, Place, Policies, PolicyFactory, Purpose, Room, SharedPolicy,
};

#[derive(Debug)]
pub(super) struct Refusal;

impl PolicyFactory for Refusal {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        Ok(Policies {
            shared: Some(Arc::new(Refusal)),
            ..Policies::alone(room, || Lru::new(room.slots.len()))
        })
    }
}

impl SharedPolicy for Refusal {
    fn judge(&self, _: Place, _: Purpose, _: &mut [Judged]) {}

    fn admits(&self, _: u8, hashes: &[u64], free: usize) -> Admitted {
        Admitted {
            worth: free.min(hashes.len()),
            written: hashes.len(),
        }
    }

    fn next_shard(&self, _: u8) -> Option<usize> {
        None
    }
}
