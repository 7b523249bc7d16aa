//! Follows the chain of log blocks through the two rings.
//!
//! Every block is written to the same place of both rings before one flush. So the next block of
//! the chain is in both rings or, after a crash before that flush or damage to one place, in one of
//! them. Ring 1 is read; ring 2 only where ring 1 does not continue the chain, and once at the end.
//!
//! The log ends where neither ring has the next block and no later block of either ring names it as
//! durable. At the end, two questions are settled with ring 2:
//!
//! * Which of the last blocks are in one ring only? A writing session copies them before it
//!   continues (`mend.rs`). Otherwise a later commit would name a block as durable that a single
//!   bad block can still destroy.
//! * Does ring 2 hold *another* block in the place of one that was taken? A crash may leave a block
//!   in ring 1 only, and the next session may be unable to read it and continue without it. If that
//!   session's own block does not reach ring 1 either, both blocks fit the chain. The later session
//!   continued from where it saw the log end, so its block, with the higher incarnation, wins.

use std::collections::VecDeque;
use std::ops::Range;

use rb_format::{LogBlock, LogPosition, Superblock};

use crate::error::Error;
use crate::io::meta_io::MetaIo;
use crate::log::delta::LOOKAHEAD_BLOCKS;
use crate::log::order::LogOrder;
use crate::log::reader::{Chunk, LogReader};

/// Blocks of ring 2 read where ring 1 does not continue the chain; doubled on each further read.
const WINDOW_MIN: u64 = 8;

/// Position and description of damage in the log.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    /// Sequence of the damaged block.
    pub(crate) block: u64,
    pub(crate) why: String,
}

/// State of the log's end.
pub(crate) enum End {
    Whole,
    Damaged(Damage),
    /// The block with this checksum was taken, but a later session put another one in its place:
    /// the log must be followed again without it.
    Fork(u64),
}

/// Blocks of the log that one ring lacks and the other has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copies {
    /// By ring, ascending.
    pub(crate) lacking: [Vec<Range<u64>>; 2],
    /// The highest sequence known to have been durable. A copy missing up to it was lost; one
    /// missing after it may never have been written.
    pub(crate) durable: u64,
    /// Sequence and ring of a block at the end that one ring could not read and the other does not
    /// have.
    pub(crate) end_unreadable: Option<(u64, usize)>,
}

impl Copies {
    fn lacks(&mut self, ring: usize, sequence: u64) {
        let ranges = &mut self.lacking[ring];
        match ranges.last_mut() {
            Some(last) if last.end == sequence => last.end += 1,
            Some(last) if last.end > sequence => {}
            _ => ranges.push(sequence..sequence + 1),
        }
    }

    /// Describes the lost copies.
    pub(crate) fn lost(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (ring, ranges) in self.lacking.iter().enumerate() {
            for range in ranges {
                let last = (range.end - 1).min(self.durable);
                if last < range.start {
                    continue;
                }
                let blocks = match last - range.start {
                    0 => format!("log block {last} is"),
                    _ => format!("log blocks {}..={last} are", range.start),
                };
                words.push(format!(
                    "{blocks} damaged or missing in ring {}, and whole in ring {}",
                    ring + 1,
                    2 - ring
                ));
            }
        }
        if let Some((block, ring)) = self.end_unreadable {
            words.push(format!(
                "the place of log block {block} in ring {} cannot be read; ring {} shows that the log ends before it",
                ring + 1,
                2 - ring
            ));
        }
        words
    }
}

/// Walks the chain of blocks.
pub(crate) struct Chain<'a> {
    superblock: &'a Superblock,
    start: LogPosition,
    pub(crate) at: LogPosition,
    pub(crate) incarnation: u32,
    pub(crate) copies: Copies,
    /// Predecessor and checksum of the last blocks taken.
    recent: VecDeque<(u64, u64)>,
    /// Checksums of blocks that a later session replaced.
    refuted: &'a [u64],
    window: u64,
    /// Checks the order of generations; set only on request.
    pub(crate) order: Option<LogOrder>,
}

impl<'a> Chain<'a> {
    pub(crate) fn new(
        superblock: &'a Superblock,
        start: LogPosition,
        refuted: &'a [u64],
    ) -> Chain<'a> {
        Chain {
            superblock,
            start,
            at: start,
            incarnation: 0,
            copies: Copies {
                durable: start.sequence - 1,
                ..Copies::default()
            },
            recent: VecDeque::new(),
            refuted,
            window: WINDOW_MIN,
            order: None,
        }
    }

    /// Follows the chain to its end and passes each chunk to `each`, with the number of its blocks
    /// that belong to the chain. Returns damage if the chain ends at a block that neither ring can
    /// read.
    pub(crate) fn follow(
        &mut self,
        io: &mut MetaIo,
        reader: &mut LogReader<'_>,
        limit: u64,
        mut each: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<Option<Damage>, Error> {
        loop {
            let chunks = reader.read(io, 0, self.at.sequence, limit)?;
            if chunks.is_empty() {
                return Ok(None);
            }
            for mut chunk in chunks {
                let (count, unreadable) = self.take_chunk(io, reader, &mut chunk)?;
                let whole = count == chunk.len();
                each(chunk, count)?;
                if !whole {
                    return Ok(unreadable);
                }
            }
        }
    }

    /// Takes the blocks of a chunk of ring 1, with copies from ring 2 for those that ring 1 lacks.
    fn take_chunk(
        &mut self,
        io: &mut MetaIo,
        reader: &LogReader<'_>,
        chunk: &mut Chunk,
    ) -> Result<(usize, Option<Damage>), Error> {
        let limit = chunk.first() + chunk.len() as u64;
        let mut other: Option<Chunk> = None;
        for number in 0..chunk.len() {
            if self.take(chunk.block(number)) {
                continue;
            }
            let sequence = self.at.sequence;
            let second = match other.take() {
                Some(read) if sequence < read.first() + read.len() as u64 => read,
                _ => {
                    let until = limit.min(sequence + self.window);
                    self.window *= 2;
                    reader.read_piece(io, 1, sequence, until)?
                }
            };
            let place = (sequence - second.first()) as usize;
            if !self.take(second.block(place)) {
                let unreadable = [chunk.is_unreadable(number), second.is_unreadable(place)];
                self.copies.end_unreadable = match unreadable {
                    [true, false] => Some((sequence, 0)),
                    [false, true] => Some((sequence, 1)),
                    _ => None,
                };
                // The block may hold durable records. The chain ends only at a place that was read
                // and does not hold the next block.
                let damage = (unreadable == [true, true]).then(|| Damage {
                    block: sequence,
                    why: format!("log block {sequence} cannot be read, in neither ring"),
                });
                return Ok((number, damage));
            }
            // The chunk is replayed later, so it must contain the copy from ring 2.
            chunk.patch(number, second.block(place));
            self.copies.lacks(0, sequence);
            other = Some(second);
        }
        Ok((chunk.len(), None))
    }

    /// Takes the block if it is the next of the chain; returns whether it is.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> bool {
        let Ok(block) = LogBlock::decode(bytes, &self.superblock.identity) else {
            return false;
        };
        if !block.continues(&self.at) || self.refuted.contains(&block.checksum) {
            return false;
        }
        self.incarnation = self.incarnation.max(block.incarnation);
        self.copies.durable = self.copies.durable.max(block.durable);
        if self.recent.len() as u64 == LOOKAHEAD_BLOCKS {
            self.recent.pop_front();
        }
        self.recent.push_back((block.predecessor, block.checksum));
        if let Some(order) = &mut self.order {
            order.add(&block);
        }
        self.at = block.position();
        true
    }

    /// Takes the next block from either ring, like [`Chain::follow`], and records which ring lacks
    /// it.
    pub(crate) fn take_either(&mut self, first: &[u8], second: &[u8]) -> bool {
        let sequence = self.at.sequence;
        let ring_1 = self.take(first);
        if !ring_1 && !self.take(second) {
            return false;
        }
        if !ring_1 {
            self.copies.lacks(0, sequence);
        } else if first != second {
            self.copies.lacks(1, sequence);
        }
        true
    }

    /// Settles the end: checks the last blocks in ring 2, and the places behind the end in both
    /// rings.
    pub(crate) fn settle(
        &mut self,
        io: &mut MetaIo,
        reader: &mut LogReader<'_>,
        limit: u64,
    ) -> Result<End, Error> {
        let end = self.at.sequence;
        let first = (self.copies.durable + 1).max(end - self.recent.len() as u64);
        let until = (end + 1 + LOOKAHEAD_BLOCKS).min(limit);
        self.copies.lacking[1].clear();
        for (ring, first) in [(1, first), (0, end)] {
            let mut sequence = first;
            while sequence < until {
                for chunk in reader.read(io, ring, sequence, until)? {
                    for bytes in chunk.blocks() {
                        let block = LogBlock::decode(bytes, &self.superblock.identity).ok();
                        let judged = if sequence < end {
                            self.judge_taken(ring, sequence, block)
                        } else {
                            self.judge_past_end(sequence, block)
                        };
                        if let Some(judged) = judged {
                            return Ok(judged);
                        }
                        sequence += 1;
                    }
                }
            }
        }
        Ok(End::Whole)
    }

    /// Compares the content of `ring` at a place with the block that was taken.
    fn judge_taken(
        &mut self,
        ring: usize,
        sequence: u64,
        found: Option<LogBlock<'_>>,
    ) -> Option<End> {
        let back = (self.at.sequence - sequence) as usize;
        let (predecessor, checksum) = self.recent[self.recent.len() - back];
        match found {
            Some(found) if found.checksum == checksum => return None,
            _ => self.copies.lacks(ring, sequence),
        }
        let found = found?;
        if found.sequence > sequence {
            return Some(went_round(self.at.sequence, found.sequence, sequence));
        }
        let is_next = found.sequence == sequence && found.predecessor == predecessor;
        (is_next && found.incarnation > self.incarnation).then_some(End::Fork(checksum))
    }

    /// Looks for evidence that the log did not end here. Any of these blocks is one:
    ///
    /// * a block that names the one at the apparent end as durable;
    /// * a block that replaced a later one: the ring has wrapped since, and the base is older than
    ///   what the rings kept;
    /// * the next block of a later session that names a different last block as durable.
    fn judge_past_end(&self, sequence: u64, found: Option<LogBlock<'_>>) -> Option<End> {
        let (end, found) = (self.at.sequence, found?);
        let named = found.durable;
        if found.sequence > sequence {
            return Some(went_round(end, found.sequence, sequence));
        }
        if found.sequence < sequence {
            return None;
        }
        let why = if named >= end {
            format!(
                "log block {end} is missing or damaged, yet block {sequence} names all up to {named} as durable"
            )
        } else if sequence == end
            && end > self.start.sequence
            && named == end - 1
            && found.incarnation >= self.incarnation
            && !found.continues(&self.at)
        {
            format!(
                "log block {named} is missing or damaged: block {sequence} names another one as durable"
            )
        } else {
            return None;
        };
        Some(End::Damaged(Damage { block: end, why }))
    }
}

fn went_round(end: u64, found: u64, place: u64) -> End {
    End::Damaged(Damage {
        block: end,
        why: format!(
            "the log ends at block {end}, yet block {found} is in the place of block {place}"
        ),
    })
}
