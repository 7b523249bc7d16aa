//! Reads the rings of the log ahead, in large pieces.

use rb_format::{FORMAT_BLOCK, Superblock};
use rb_io::Buffer;

use crate::error::Error;
use crate::io::meta_io::MetaIo;

/// Blocks per request.
const CHUNK_BLOCKS: u64 = 256;
/// Requests in flight once the log turns out to be longer than one request.
const CHUNKS: usize = 8;

pub(crate) struct LogReader<'a> {
    superblock: &'a Superblock,
    ring: u64,
    /// Requests of the next read. Starts at one, because most restarts find a short log.
    ahead: usize,
}

/// Consecutive blocks of one ring, valid or not.
pub(crate) struct Chunk {
    first: u64,
    bytes: Bytes,
    count: usize,
}

enum Bytes {
    Read(Buffer),
    /// Assembled block by block, with zeros for unreadable blocks.
    Pieced {
        bytes: Vec<u8>,
        unreadable: Vec<usize>,
    },
}

impl Chunk {
    /// Sequence of the block that belongs in the first place.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Returns whether this block was unreadable.
    pub(crate) fn is_unreadable(&self, number: usize) -> bool {
        matches!(&self.bytes, Bytes::Pieced { unreadable, .. } if unreadable.contains(&number))
    }

    /// Returns whether every block was readable.
    pub(crate) fn is_whole(&self) -> bool {
        !matches!(&self.bytes, Bytes::Pieced { unreadable, .. } if !unreadable.is_empty())
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = match &self.bytes {
            Bytes::Read(buffer) => &buffer[..],
            Bytes::Pieced { bytes, .. } => &bytes[..],
        };
        bytes.chunks_exact(FORMAT_BLOCK).take(self.count)
    }

    /// The block at this index; empty past the last.
    pub(crate) fn block(&self, number: usize) -> &[u8] {
        self.blocks().nth(number).unwrap_or_default()
    }

    /// Replaces a block by the other ring's copy.
    pub(crate) fn patch(&mut self, number: usize, copy: &[u8]) {
        let bytes = match &mut self.bytes {
            Bytes::Read(buffer) => &mut buffer[..],
            Bytes::Pieced { bytes, .. } => &mut bytes[..],
        };
        if let Some(block) = bytes.chunks_exact_mut(FORMAT_BLOCK).nth(number) {
            block.copy_from_slice(&copy[..FORMAT_BLOCK]);
        }
    }
}

impl<'a> LogReader<'a> {
    pub(crate) fn new(superblock: &'a Superblock) -> LogReader<'a> {
        LogReader {
            superblock,
            ring: superblock.log_blocks(),
            ahead: 1,
        }
    }

    /// Blocks per ring.
    pub(crate) fn ring(&self) -> u64 {
        self.ring
    }

    /// Reads the next blocks of one ring from `sequence`, up to `limit`; empty if `limit` is
    /// reached.
    pub(crate) fn read(
        &mut self,
        io: &mut MetaIo,
        ring: usize,
        sequence: u64,
        limit: u64,
    ) -> Result<Vec<Chunk>, Error> {
        let mut wanted = Vec::with_capacity(self.ahead);
        let mut next = sequence;
        while wanted.len() < self.ahead && next < limit {
            let count = self.in_one_piece(next, limit);
            wanted.push((next, count));
            next += count as u64;
        }
        self.ahead = CHUNKS;
        let reads: Vec<_> = wanted
            .iter()
            .map(|&(at, count)| (self.offset(ring, at), count * FORMAT_BLOCK))
            .collect();
        let answers = io.read_many(&reads)?;
        let mut chunks = Vec::with_capacity(answers.len());
        for ((first, count), answer) in wanted.into_iter().zip(answers) {
            let bytes = match answer {
                Ok(buffer) => Bytes::Read(buffer),
                // One bad sector must not hide its neighbours.
                Err(_) => self.piece_together(io, ring, first, count)?,
            };
            chunks.push(Chunk {
                first,
                bytes,
                count,
            });
        }
        Ok(chunks)
    }

    /// Reads blocks of one ring in one request: at least one, at most up to `limit`.
    pub(crate) fn read_piece(
        &self,
        io: &mut MetaIo,
        ring: usize,
        first: u64,
        limit: u64,
    ) -> Result<Chunk, Error> {
        let count = self.in_one_piece(first, limit);
        let bytes = match io.read(self.offset(ring, first), count * FORMAT_BLOCK) {
            Ok(buffer) => Bytes::Read(buffer),
            Err(error) if error.is_answer_for_place() => {
                self.piece_together(io, ring, first, count)?
            }
            Err(error) => return Err(error),
        };
        Ok(Chunk {
            first,
            bytes,
            count,
        })
    }

    fn in_one_piece(&self, first: u64, limit: u64) -> usize {
        let to_end = self.ring - first % self.ring;
        CHUNK_BLOCKS.min(limit - first).min(to_end) as usize
    }

    fn offset(&self, ring: usize, sequence: u64) -> u64 {
        self.superblock.log_block_offsets(sequence)[ring]
    }

    fn piece_together(
        &self,
        io: &mut MetaIo,
        ring: usize,
        first: u64,
        count: usize,
    ) -> Result<Bytes, Error> {
        let mut bytes = vec![0; count * FORMAT_BLOCK];
        let mut unreadable = Vec::new();
        for (number, block) in bytes.chunks_exact_mut(FORMAT_BLOCK).enumerate() {
            match io.read(self.offset(ring, first + number as u64), FORMAT_BLOCK) {
                Ok(read) => block.copy_from_slice(&read[..FORMAT_BLOCK]),
                Err(error) if error.is_damage() => unreadable.push(number),
                Err(error) => return Err(error),
            }
        }
        Ok(Bytes::Pieced { bytes, unreadable })
    }
}
