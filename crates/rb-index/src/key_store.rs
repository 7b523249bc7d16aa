//! Key and metadata bytes, without one heap allocation per entry.
//!
//! A cell is `placement id (2 bytes, little-endian) | key | metadata`, padded to an even length.
//! Cells of one length live together in chunks; a freed cell holds the number of the next free one.
//! This costs an entry a 4-byte cell number instead of a 16-byte fat pointer and the allocator's
//! own header, and a load of half a million entries half a million allocations less. Lengths are
//! not kept here: the entry has them.
//!
//! Space freed by keys of one length is reused by keys of that length only. Stores use keys of
//! one or a few lengths, so that is a good bargain; with many lengths the peaks add up.

const PLACEMENT_BYTES: usize = 2;
/// A free cell must hold a 4-byte link.
const CELL_BYTES_MIN: usize = 4;
/// Chunks stay near this size, so that a shard with three entries does not pay for a thousand.
const CHUNK_BYTES: usize = 16 << 10;
const NONE: u32 = u32::MAX;

/// The cells of one length.
#[derive(Debug)]
struct Pool {
    cell_bytes: usize,
    /// Cells per chunk is `1 << shift`.
    shift: u32,
    chunks: Vec<Box<[u8]>>,
    /// Cells below this number have been used at least once.
    used: u32,
    first_free: u32,
}

impl Pool {
    fn new(cell_bytes: usize) -> Pool {
        let shift = (CHUNK_BYTES / cell_bytes).max(1).ilog2();
        Pool {
            cell_bytes,
            shift,
            chunks: Vec::new(),
            used: 0,
            first_free: NONE,
        }
    }

    fn cell(&self, cell: u32) -> &[u8] {
        let start = (cell & ((1 << self.shift) - 1)) as usize * self.cell_bytes;
        &self.chunks[(cell >> self.shift) as usize][start..start + self.cell_bytes]
    }

    fn cell_mut(&mut self, cell: u32) -> &mut [u8] {
        let start = (cell & ((1 << self.shift) - 1)) as usize * self.cell_bytes;
        &mut self.chunks[(cell >> self.shift) as usize][start..start + self.cell_bytes]
    }

    fn take(&mut self) -> u32 {
        if self.first_free != NONE {
            let cell = self.first_free;
            let bytes = self.cell(cell);
            self.first_free = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            return cell;
        }
        let cell = self.used;
        if (cell >> self.shift) as usize == self.chunks.len() {
            self.chunks
                .push(vec![0; self.cell_bytes << self.shift].into_boxed_slice());
        }
        self.used += 1;
        cell
    }

    fn give_back(&mut self, cell: u32) {
        let link = self.first_free.to_le_bytes();
        self.cell_mut(cell)[..CELL_BYTES_MIN].copy_from_slice(&link);
        self.first_free = cell;
    }
}

/// The key cells of one shard.
#[derive(Debug, Default)]
pub(crate) struct KeyStore {
    /// One pool per even cell length; the position is half the length.
    pools: Vec<Pool>,
}

impl KeyStore {
    pub(crate) fn insert(&mut self, placement: u16, key: &[u8], metadata: &[u8]) -> u32 {
        let number = pool_of(key.len() + metadata.len());
        while self.pools.len() <= number {
            self.pools
                .push(Pool::new((self.pools.len() * 2).max(CELL_BYTES_MIN)));
        }
        let pool = &mut self.pools[number];
        let cell = pool.take();
        let bytes = pool.cell_mut(cell);
        let (head, tail) = bytes.split_at_mut(PLACEMENT_BYTES);
        head.copy_from_slice(&placement.to_le_bytes());
        tail[..key.len()].copy_from_slice(key);
        tail[key.len()..key.len() + metadata.len()].copy_from_slice(metadata);
        cell
    }

    /// The key and metadata bytes of a cell, `len` bytes together.
    pub(crate) fn bytes(&self, cell: u32, len: usize) -> &[u8] {
        &self.pools[pool_of(len)].cell(cell)[PLACEMENT_BYTES..PLACEMENT_BYTES + len]
    }

    pub(crate) fn placement(&self, cell: u32, len: usize) -> u16 {
        let bytes = self.pools[pool_of(len)].cell(cell);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    pub(crate) fn remove(&mut self, cell: u32, len: usize) {
        self.pools[pool_of(len)].give_back(cell);
    }
}

/// The pool for `len` bytes of key and metadata.
fn pool_of(len: usize) -> usize {
    (len + PLACEMENT_BYTES).max(CELL_BYTES_MIN).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_many_lengths_keep_their_bytes_through_reuse() {
        let mut store = KeyStore::default();
        let mut kept: Vec<(u32, Vec<u8>, u16)> = Vec::new();
        for round in 0..3000_u32 {
            let len = 1 + (round as usize * 37) % 300;
            let bytes: Vec<u8> = (0..len).map(|at| (at as u32 ^ round) as u8).collect();
            let split = len / 2;
            let placement = round as u16;
            let cell = store.insert(placement, &bytes[..split], &bytes[split..]);
            kept.push((cell, bytes, placement));
            if round % 3 == 0 {
                let (cell, bytes, _) = kept.swap_remove((round as usize * 7) % kept.len());
                store.remove(cell, bytes.len());
            }
        }
        for (cell, bytes, placement) in &kept {
            assert_eq!(store.bytes(*cell, bytes.len()), &bytes[..]);
            assert_eq!(store.placement(*cell, bytes.len()), *placement);
        }
    }

    #[test]
    fn a_freed_cell_is_used_again() {
        let mut store = KeyStore::default();
        let first = store.insert(1, b"key", b"");
        store.remove(first, 3);
        assert_eq!(store.insert(2, b"abc", b""), first);
    }
}
