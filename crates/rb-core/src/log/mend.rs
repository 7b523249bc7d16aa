//! Restores metadata that a writing session found in only one of its two places, before the session
//! writes anything else.
//!
//! After a crash before their flush, the last blocks of the log are in one ring only. The next
//! block to be written will name them as durable, so they must be in both rings by then; hence the
//! flush at the end.

use std::ops::Range;

use rb_format::{FORMAT_BLOCK, LogBlock, Superblock};

use crate::error::Error;
use crate::io::meta_io::MetaIo;
use crate::log::chain::Copies;

/// Blocks copied together.
const PIECE_BLOCKS: u64 = 256;
/// After this many write failures the rest of a ring is skipped: the ring is gone.
const FAILURES_MAX: u64 = 64;

/// Offset and bytes of a base header to rewrite.
pub(crate) type HeaderCopy = (u64, Box<[u8; FORMAT_BLOCK]>);

/// Outcome of [`mend`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mended {
    pub(crate) rewritten: u64,
    /// Blocks that could not be written, or were skipped because of those.
    pub(crate) failed: u64,
}

/// Restores metadata that is in one place only. A place that cannot be written is counted; the
/// other copy serves.
pub(crate) fn mend(
    io: &mut MetaIo,
    superblock: &Superblock,
    copies: &Copies,
    headers: &[HeaderCopy],
) -> Result<Mended, Error> {
    let mut mended = Mended::default();
    for (offset, block) in headers {
        let failed = io.write_each(&[(*offset, &block[..])])?;
        mended.count(1, failed.len() as u64);
    }
    for (ring, ranges) in copies.lacking.iter().enumerate() {
        let before = mended.failed;
        for range in ranges {
            let mut first = range.start;
            while first < range.end {
                let piece = first..range.end.min(first + PIECE_BLOCKS);
                first = piece.end;
                if mended.failed - before >= FAILURES_MAX {
                    mended.failed += piece.end - piece.start;
                } else {
                    copy(io, superblock, ring, piece, &mut mended)?;
                }
            }
        }
    }
    if mended.rewritten > 0 {
        io.flush()?;
    }
    Ok(mended)
}

/// Copies a range of blocks into `ring` from the other one.
fn copy(
    io: &mut MetaIo,
    superblock: &Superblock,
    ring: usize,
    piece: Range<u64>,
    mended: &mut Mended,
) -> Result<(), Error> {
    let places = |ring: usize| {
        let offset = move |sequence| superblock.log_block_offsets(sequence)[ring];
        piece.clone().map(offset)
    };
    let reads: Vec<_> = places(1 - ring).map(|at| (at, FORMAT_BLOCK)).collect();
    let answers = io.read_many(&reads)?;
    let mut writes = Vec::with_capacity(answers.len());
    for ((sequence, to), answer) in piece.clone().zip(places(ring)).zip(&answers) {
        let whole = answer.as_ref().ok().map(|bytes| &bytes[..FORMAT_BLOCK]);
        // Damaged since it was read last: do not spread it.
        let whole = whole.filter(|bytes| {
            LogBlock::decode(bytes, &superblock.identity)
                .is_ok_and(|block| block.sequence == sequence)
        });
        match whole {
            Some(bytes) => writes.push((to, bytes)),
            None => mended.failed += 1,
        }
    }
    let failed = io.write_each(&writes)?;
    mended.count(writes.len() as u64, failed.len() as u64);
    Ok(())
}

impl Mended {
    fn count(&mut self, tried: u64, failed: u64) {
        self.rewritten += tried - failed;
        self.failed += failed;
    }
}
