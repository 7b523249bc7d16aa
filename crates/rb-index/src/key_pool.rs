//! The key cells of one length, in memory that shrinks as cells are freed.
//!
//! Cells are numbered from 0. A freed cell joins a list and is reused first, so a store whose keys
//! keep their lengths moves nothing. If more than a quarter as many are free as are in use, each
//! removal also releases up to two cells at the end: a cell in use moves into a free one, and its
//! owner is updated. That is bounded work under the shard's lock, and cells beyond the last one in
//! use are returned to the allocator chunk by chunk.
//!
//! Chunks grow with the pool, by an eighth to a quarter of it, up to 16 KiB: a shard with one key
//! of each of 500 lengths does not pay for 500 large chunks.

/// Bytes of the number of the entry that owns a cell.
pub(crate) const OWNER_BYTES: usize = 4;
/// A free cell holds [`NONE`] as its owner, and the numbers of the next and the previous free one.
pub(crate) const CELL_BYTES_MIN: usize = 12;
const CHUNK_BYTES: usize = 16 << 10;
const NONE: u32 = u32::MAX;
/// Largest number of cells released per freed cell. Two, so that the pool catches up.
const STEPS: usize = 2;
/// Once caught up, free cells are at most the number in use divided by this.
const FREE_SHARE: u32 = 4;

const NEXT: usize = OWNER_BYTES;
const FORMER: usize = 2 * OWNER_BYTES;

#[derive(Debug)]
pub(crate) struct Pool {
    cell_bytes: u32,
    /// The largest chunks have `1 << shift` cells.
    shift: u32,
    chunks: Vec<Box<[u8]>>,
    /// Cells below this number are in use or free.
    end: u32,
    free: u32,
    first_free: u32,
}

impl Pool {
    /// Creates an empty pool. `cell_bytes` is at least [`CELL_BYTES_MIN`].
    pub(crate) fn new(cell_bytes: usize) -> Pool {
        Pool {
            cell_bytes: cell_bytes as u32,
            shift: (CHUNK_BYTES / cell_bytes).max(1).ilog2(),
            chunks: Vec::new(),
            end: 0,
            free: 0,
            first_free: NONE,
        }
    }

    pub(crate) fn cell(&self, cell: u32) -> &[u8] {
        let (chunk, start) = self.place(cell);
        &self.chunks[chunk][start..start + self.cell_bytes as usize]
    }

    pub(crate) fn cell_mut(&mut self, cell: u32) -> &mut [u8] {
        let (chunk, start) = self.place(cell);
        &mut self.chunks[chunk][start..start + self.cell_bytes as usize]
    }

    pub(crate) fn owner(&self, cell: u32) -> u32 {
        self.number(cell, 0)
    }

    /// Takes a cell for an entry.
    pub(crate) fn take(&mut self, owner: u32) -> u32 {
        let cell = match self.first_free {
            NONE => self.extend(),
            free => self.unlist(free),
        };
        self.set_number(cell, 0, owner);
        cell
    }

    /// Frees a cell. `moved` receives the owner and the new cell of each cell that had to move.
    pub(crate) fn give_back(&mut self, cell: u32, mut moved: impl FnMut(u32, u32)) {
        self.list(cell);
        for _ in 0..STEPS {
            if self.free <= (self.end - self.free) / FREE_SHARE {
                return;
            }
            self.give_back_last(&mut moved);
        }
    }

    /// Removes the last cell from the pool. Some cell is free, so if the last one is in use, there
    /// is room for it.
    fn give_back_last(&mut self, moved: &mut impl FnMut(u32, u32)) {
        let last = self.end - 1;
        let owner = self.owner(last);
        if owner == NONE {
            self.unlist(last);
        } else {
            let to = self.unlist(self.first_free);
            self.copy(last, to);
            moved(owner, to);
        }
        self.end = last;
        let chunks = match last.checked_sub(1) {
            Some(cell) => self.place(cell).0 + 1,
            None => 0,
        };
        if chunks < self.chunks.len() {
            self.chunks.truncate(chunks);
            self.chunks.shrink_to(2 * chunks);
        }
    }

    /// Returns a cell that was never used.
    fn extend(&mut self) -> u32 {
        let cell = self.end;
        let (chunk, _) = self.place(cell);
        if chunk == self.chunks.len() {
            let shift = (chunk as u32 / 4).saturating_sub(1).min(self.shift);
            let bytes = (self.cell_bytes as usize) << shift;
            self.chunks.push(vec![0; bytes].into_boxed_slice());
        }
        self.end += 1;
        cell
    }

    /// Puts a cell at the head of the free list.
    fn list(&mut self, cell: u32) {
        let next = std::mem::replace(&mut self.first_free, cell);
        self.set_number(cell, 0, NONE);
        self.set_number(cell, NEXT, next);
        self.set_number(cell, FORMER, NONE);
        if next != NONE {
            self.set_number(next, FORMER, cell);
        }
        self.free += 1;
    }

    /// Takes a free cell out of the free list.
    fn unlist(&mut self, cell: u32) -> u32 {
        let (next, former) = (self.number(cell, NEXT), self.number(cell, FORMER));
        match former {
            NONE => self.first_free = next,
            former => self.set_number(former, NEXT, next),
        }
        if next != NONE {
            self.set_number(next, FORMER, former);
        }
        self.free -= 1;
        cell
    }

    fn copy(&mut self, from: u32, to: u32) {
        let bytes = self.cell_bytes as usize;
        let ((from, start), (to, to_start)) = (self.place(from), self.place(to));
        if from == to {
            self.chunks[from].copy_within(start..start + bytes, to_start);
        } else if let Ok([from, to]) = self.chunks.get_disjoint_mut([from, to]) {
            to[to_start..to_start + bytes].copy_from_slice(&from[start..start + bytes]);
        }
    }

    /// Returns the chunk of a cell, and its offset there. The first eight chunks have 1 cell, then
    /// there are four each of 2, 4, 8 … cells, then all have `1 << shift`.
    fn place(&self, cell: u32) -> (usize, usize) {
        let shift = ((cell | 4).ilog2() - 2).min(self.shift);
        let in_chunk = cell & ((1 << shift) - 1);
        let chunk = 4 * shift + (cell >> shift);
        (chunk as usize, in_chunk as usize * self.cell_bytes as usize)
    }

    fn number(&self, cell: u32, at: usize) -> u32 {
        let bytes = &self.cell(cell)[at..at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn set_number(&mut self, cell: u32, at: usize, number: u32) {
        self.cell_mut(cell)[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }

    /// Returns the bytes of all chunks.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }
}
