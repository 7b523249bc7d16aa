//! Key and metadata bytes, without one heap allocation per entry.
//!
//! A cell is `number of its entry (4 bytes) | placement id (2) | key | metadata | further slots`,
//! little-endian, padded to an even length. Cells of one length share a pool. Compared to one allocation per
//! entry, an entry stores a 4-byte cell number instead of a 16-byte fat pointer and the allocator's
//! header, and loading half a million entries makes half a million fewer allocations. Lengths are
//! stored in the entry, not here.
//!
//! Memory usage follows the live bytes, independent of earlier key lengths ([`crate::key_pool`]).

use crate::key_pool::{CELL_BYTES_MIN, OWNER_BYTES, Pool};
use crate::slots::SlotId;

const PLACEMENT_BYTES: usize = 2;
const HEAD_BYTES: usize = OWNER_BYTES + PLACEMENT_BYTES;

/// The key cells of one shard.
#[derive(Debug, Default)]
pub(crate) struct KeyStore {
    /// One pool per even cell length, the shortest first.
    pools: Vec<Pool>,
}

impl KeyStore {
    /// Takes a cell for the entry with number `owner`.
    pub(crate) fn insert(
        &mut self,
        owner: u32,
        placement: u16,
        key: &[u8],
        metadata: &[u8],
        more: &[SlotId],
    ) -> u32 {
        let number = pool_of(key.len() + metadata.len() + size_of_val(more));
        while self.pools.len() <= number {
            let cell_bytes = CELL_BYTES_MIN + 2 * self.pools.len();
            self.pools.push(Pool::new(cell_bytes));
        }
        let pool = &mut self.pools[number];
        let cell = pool.take(owner);
        let (head, tail) = pool.cell_mut(cell).split_at_mut(HEAD_BYTES);
        head[OWNER_BYTES..].copy_from_slice(&placement.to_le_bytes());
        tail[..key.len()].copy_from_slice(key);
        let (metadata_at, more_at) = (key.len(), key.len() + metadata.len());
        tail[metadata_at..more_at].copy_from_slice(metadata);
        for (out, slot) in tail[more_at..].chunks_exact_mut(4).zip(more) {
            out.copy_from_slice(&slot.0.to_le_bytes());
        }
        cell
    }

    /// Returns the bytes of a cell after its head: key, metadata and further slots, `len` together.
    pub(crate) fn bytes(&self, cell: u32, len: usize) -> &[u8] {
        &self.pools[pool_of(len)].cell(cell)[HEAD_BYTES..HEAD_BYTES + len]
    }

    pub(crate) fn placement(&self, cell: u32, len: usize) -> u16 {
        let bytes = self.pools[pool_of(len)].cell(cell);
        u16::from_le_bytes([bytes[OWNER_BYTES], bytes[OWNER_BYTES + 1]])
    }

    /// Returns the number of the entry that owns a cell.
    pub(crate) fn owner(&self, cell: u32, len: usize) -> u32 {
        self.pools[pool_of(len)].owner(cell)
    }

    /// Frees a cell. Up to two others move; `moved` receives the entry and its new cell.
    pub(crate) fn remove(&mut self, cell: u32, len: usize, moved: impl FnMut(u32, u32)) {
        self.pools[pool_of(len)].give_back(cell, moved);
    }
}

/// Returns the pool for `len` bytes of key, metadata and further slots.
fn pool_of(len: usize) -> usize {
    (len + HEAD_BYTES)
        .saturating_sub(CELL_BYTES_MIN)
        .div_ceil(2)
}

#[cfg(test)]
#[path = "key_store_tests.rs"]
mod tests;
