//! The learned policy: it learns which blocks are read again and when, and keeps those that are worth their slots.
//!
//! ```text
//! lookup of a chain   shard.rs   what each shard knows of its keys
//!                     shared.rs  what the ghosts know of the others; a class for each key of the chain
//!                     class.rs   class = reuse count x last gap, or the reuse of what precedes a new block
//!                     sample.rs  one key in 16: references and time by class and age
//! 1/16 capacity       value.rs   values = the best rate of references, by class and age
//!                     duel.rs    which of four arms drives, by shadows over the sample
//! put                 shared.rs  admits the keys that are worth at least theta times the next victim
//! eviction            tails.rs   the shard whose tail is worth least
//! restart             saved.rs   what was learned
//! ```
//!
//! Every list of a class is in the order of use, so its tail has the highest age, and only tails are compared.

mod ages;
mod class;
mod duel;
mod ghost;
mod lifetime;
mod note;
mod sample;
mod saved;
mod shard;
mod shared;
mod tails;
#[cfg(test)]
mod tests;
mod value;

use crate::error::IndexError;
use crate::memory::NoMemory;
use crate::policy::{Policies, Policy, PolicyFactory, Room};
use crate::sync::Arc;
use shard::OfShard;
use shared::Shared;

/// Makes the learned policy: eviction and admission by what was learned from the lookups. It takes 24 bytes per slot, and
/// 8 bytes per entry more than [`Lru`](crate::Lru).
///
/// Four ways to drive the cache compete over a sample of the keys, LRU among them: the one with the most hits, less a
/// price for its writes, drives, and none does that has fewer hits than LRU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Learned {
    driver: Option<usize>,
}

impl Learned {
    /// Learns, without a duel: everything is admitted that is worth at least as much as what it replaces.
    #[must_use]
    pub fn alone() -> Learned {
        Learned { driver: Some(1) }
    }
}

impl PolicyFactory for Learned {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        let shared = Shared::new(room, self.driver).map_err(|NoMemory| IndexError::Memory {
            what: "memory for the eviction policy",
            need: Shared::bytes(room),
        })?;
        let shared = Arc::new(shared);
        let of_shard = |shard| -> Box<dyn Policy> {
            Box::new(OfShard::new(Arc::clone(&shared), shard, room.slots.len()))
        };
        Ok(Policies {
            of_shards: (0..room.shards).map(of_shard).collect(),
            shared: Some(shared.clone()),
        })
    }
}
