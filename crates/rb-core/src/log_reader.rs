//! Reading the log's ring ahead, in large pieces.

use rb_format::{FORMAT_BLOCK, Superblock, log_block_offset};
use rb_io::Buffer;

use crate::error::Error;
use crate::meta_io::MetaIo;

/// Blocks read in one request.
const CHUNK_BLOCKS: u64 = 256;
/// Requests in flight, once the log has shown to be longer than one.
const CHUNKS: usize = 8;

pub(crate) struct LogReader<'a> {
    superblock: &'a Superblock,
    ring: u64,
    /// Requests of the next read: most restarts find a short log.
    ahead: usize,
}

/// Some successive blocks, whether or not they are valid.
pub(crate) struct Chunk {
    bytes: Bytes,
    count: usize,
}

enum Bytes {
    Read(Buffer),
    /// Put together block by block, with zeros for those that could not be read.
    Pieced {
        bytes: Vec<u8>,
        unreadable: Vec<usize>,
    },
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether the device could not read this block.
    pub(crate) fn is_unreadable(&self, number: usize) -> bool {
        matches!(&self.bytes, Bytes::Pieced { unreadable, .. } if unreadable.contains(&number))
    }

    /// Whether the device could read every block.
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
}

impl<'a> LogReader<'a> {
    pub(crate) fn new(superblock: &'a Superblock) -> LogReader<'a> {
        let ring = superblock.log.bytes / FORMAT_BLOCK as u64;
        LogReader {
            superblock,
            ring,
            ahead: 1,
        }
    }

    /// Blocks of the ring.
    pub(crate) fn ring(&self) -> u64 {
        self.ring
    }

    /// Reads the next blocks from `sequence`, not beyond `limit`; none if there are none.
    pub(crate) fn read(
        &mut self,
        io: &mut MetaIo,
        sequence: u64,
        limit: u64,
    ) -> Result<Vec<Chunk>, Error> {
        let mut wanted = Vec::with_capacity(self.ahead);
        let mut next = sequence;
        while wanted.len() < self.ahead && next < limit {
            let to_end = self.ring - next % self.ring;
            let count = CHUNK_BLOCKS.min(limit - next).min(to_end);
            wanted.push((next, count as usize));
            next += count;
        }
        self.ahead = CHUNKS;
        let offset = |sequence| log_block_offset(&self.superblock.log, sequence);
        let reads: Vec<_> = wanted
            .iter()
            .map(|&(at, count)| (offset(at), count * FORMAT_BLOCK))
            .collect();
        let answers = io.read_many(&reads)?;
        let mut chunks = Vec::with_capacity(answers.len());
        for ((at, count), answer) in wanted.into_iter().zip(answers) {
            let bytes = match answer {
                Ok(buffer) => Bytes::Read(buffer),
                // One bad sector must not hide its neighbours.
                Err(_) => self.piece_together(io, at, count)?,
            };
            chunks.push(Chunk { bytes, count });
        }
        Ok(chunks)
    }

    fn piece_together(&self, io: &mut MetaIo, first: u64, count: usize) -> Result<Bytes, Error> {
        let mut bytes = vec![0; count * FORMAT_BLOCK];
        let mut unreadable = Vec::new();
        for (number, block) in bytes.chunks_exact_mut(FORMAT_BLOCK).enumerate() {
            let offset = log_block_offset(&self.superblock.log, first + number as u64);
            match io.read(offset, FORMAT_BLOCK) {
                Ok(read) => block.copy_from_slice(&read[..FORMAT_BLOCK]),
                Err(error) if error.is_damage() => unreadable.push(number),
                Err(error) => return Err(error),
            }
        }
        Ok(Bytes::Pieced { bytes, unreadable })
    }
}
