//! A growable array in chunks.
//!
//! A plain vector doubles: just after growing, half of it is waste, and growing copies everything
//! under the shard's lock. Chunks of a fixed size waste at most one chunk and never copy.

use std::ops::{Index, IndexMut};

const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

#[derive(Debug)]
pub(crate) struct Chunked<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
}

impl<T> Chunked<T> {
    pub(crate) fn new() -> Chunked<T> {
        Chunked {
            chunks: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Appends a value and returns its position.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let position = self.len;
        if position as usize & (CHUNK - 1) == 0 {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(last) = self.chunks.last_mut() {
            last.push(value);
            self.len += 1;
        }
        position
    }
}

impl<T> Chunked<T> {
    #[inline]
    pub(crate) fn get(&self, position: u32) -> Option<&T> {
        let chunk = self.chunks.get((position >> CHUNK_BITS) as usize)?;
        chunk.get(position as usize & (CHUNK - 1))
    }
}

impl<T> Index<u32> for Chunked<T> {
    type Output = T;

    fn index(&self, position: u32) -> &T {
        &self.chunks[(position >> CHUNK_BITS) as usize][position as usize & (CHUNK - 1)]
    }
}

impl<T> IndexMut<u32> for Chunked<T> {
    fn index_mut(&mut self, position: u32) -> &mut T {
        &mut self.chunks[(position >> CHUNK_BITS) as usize][position as usize & (CHUNK - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_growth() {
        let mut numbers = Chunked::new();
        for n in 0..1000_u32 {
            assert_eq!(numbers.push(n), n);
        }
        numbers[511] += 1;
        assert_eq!(numbers.len(), 1000);
        assert_eq!(
            (numbers[255], numbers[256], numbers[511], numbers[999]),
            (255, 256, 512, 999)
        );
    }
}
