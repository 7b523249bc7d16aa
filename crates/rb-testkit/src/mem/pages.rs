//! Sparse bytes: bytes never written are zero and take no memory. Copies share their pages, so that
//! a test can hold thousands of images of one device.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(super) const PAGE: usize = 4096;

/// The smallest unit that a crash keeps or loses as a whole, in bytes.
pub(super) const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pages: HashMap<u64, Arc<[u8; PAGE]>>,
}

impl Pages {
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) {
        for (range, bytes) in self.pieces(offset, out.len()) {
            out[range].copy_from_slice(bytes);
        }
    }

    /// Iterates over the bytes of a range, piece by piece, each with its position in the range.
    pub(super) fn pieces(
        &self,
        offset: u64,
        len: usize,
    ) -> impl Iterator<Item = (std::ops::Range<usize>, &[u8])> {
        const ZERO: &[u8; PAGE] = &[0; PAGE];
        pieces(offset, len).map(|(page, at, range)| {
            let bytes = self.pages.get(&page).map_or(ZERO, |bytes| bytes);
            let len = range.len();
            (range, &bytes[at..at + len])
        })
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, at, range) in pieces(offset, bytes.len()) {
            let bytes = &bytes[range];
            let page = self
                .pages
                .entry(page)
                .or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Writes, and returns by how much [`hash`](Self::hash) changes.
    pub(super) fn write_hashed(&mut self, offset: u64, bytes: &[u8]) -> u64 {
        let sectors = offset / SECTOR as u64..(offset + bytes.len() as u64).div_ceil(SECTOR as u64);
        let before = self.hash_of(sectors.clone());
        self.write(offset, bytes);
        before ^ self.hash_of(sectors)
    }

    /// Returns a hash of the contents: the XOR of the hashes of all sectors.
    pub(super) fn hash(&self) -> u64 {
        const SECTORS: u64 = (PAGE / SECTOR) as u64;
        self.pages
            .keys()
            .map(|page| self.hash_of(page * SECTORS..(page + 1) * SECTORS))
            .fold(0, |sum, hash| sum ^ hash)
    }

    /// Returns the contribution of these sectors to [`hash`](Self::hash).
    pub(super) fn hash_of(&self, sectors: std::ops::Range<u64>) -> u64 {
        let mut bytes = [0; SECTOR];
        sectors.fold(0, |sum, sector| {
            self.read(sector * SECTOR as u64, &mut bytes);
            // A zero sector contributes nothing, whether its page exists or not.
            match bytes == [0; SECTOR] {
                true => sum,
                false => sum ^ xxh3_64_with_seed(&bytes, sector),
            }
        })
    }
}

/// Iterates over the pages that `len` bytes at `offset` touch: page number, first byte in it, range
/// of the bytes.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let position = offset + done as u64;
        let at = (position % PAGE as u64) as usize;
        let count = (PAGE - at).min(len - done);
        let piece = (position / PAGE as u64, at, done..done + count);
        done += count;
        Some(piece)
    })
}
