//! Replaying the delta log after a base.
//!
//! The chain ends at the first block that is not the next one in either ring: not valid, another sequence
//! number, or another predecessor. A crash leaves exactly that. But a *later* block that names the missing
//! one as durable proves that it was there once: then the device lost both copies, and that is damage (C3),
//! not an end.
//!
//! One thread reads and follows the chain; the records are applied on as many threads as there are.
//! Their order does not matter: for each key and for each slot the highest generation wins.

use parking_lot::Mutex;
use rb_format::{Geometry, LOG_BLOCK_PAYLOAD, LogBlock, LogPosition, Superblock};
use rb_index::Loader;

use crate::error::Error;
use crate::io::meta_io::MetaIo;
use crate::log::chain::{Chain, Copies, Damage, End};
use crate::log::delta::LOOKAHEAD_BLOCKS;
use crate::log::order::{LogOrder, Violation};
use crate::log::reader::LogReader;
use crate::memory::check_entries;
use crate::open::apply::{Applier, Found, STAMPS_PER_BLOCK};
use crate::open::base_load::records_in_block;
use crate::open::crew::{Crew, workers};
use crate::open::recovered::Recovered;

/// What the log held.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) blocks: u64,
    pub(crate) records: u64,
    /// Where the next block goes.
    pub(crate) end: LogPosition,
    /// The last record was a close.
    pub(crate) clean: bool,
    /// The highest opening that wrote to it.
    pub(crate) incarnation: u32,
    /// Proof that the log goes on after its apparent end, or a record that cannot be.
    pub(crate) damage: Option<Damage>,
    /// Which blocks are in one ring only.
    pub(crate) copies: Copies,
    pub(crate) bad_slots: Vec<u32>,
    /// A record names a value of several slots, which this program does not read.
    pub(crate) several_slots: bool,
    /// The index's clock after the last replayed put.
    pub(crate) recency: u32,
    /// The first slot whose generations do not ascend, if that was looked at.
    pub(crate) disorder: Option<Violation>,
}

/// What to start from, and what to look at.
#[derive(Clone, Copy)]
pub(crate) struct ReplayFrom<'a> {
    pub(crate) start: LogPosition,
    /// Puts are stamped as more recent.
    pub(crate) recency: u32,
    /// Checksums of blocks that are not part of the log, though they are next in its chain.
    pub(crate) refuted: &'a [u64],
    /// Whether the log's order is checked, which costs a restart time.
    pub(crate) check_order: bool,
}

/// Replays the log into the loader. The inner error is the checksum of a block that was taken, and in whose
/// place a later opening put another: then the loader holds what never was.
pub(crate) fn replay(
    io: &mut MetaIo,
    superblock: &Superblock,
    geometry: &Geometry,
    from: ReplayFrom<'_>,
    loader: &Loader<'_>,
) -> Result<Result<Replayed, u64>, Error> {
    let ReplayFrom { start, recency, .. } = from;
    let applier = Applier {
        superblock,
        geometry,
        loader,
        recency,
        start,
        found: Mutex::default(),
    };
    let mut chain = Chain::new(superblock, start, from.refuted);
    chain.order = from.check_order.then(LogOrder::default);
    let mut reader = LogReader::new(superblock);
    let limit = start.sequence + reader.ring();
    let end = std::thread::scope(|scope| {
        let mut links = Crew::new(scope, workers(), || applier.work());
        let mut suspected = None;
        let end = loop {
            let link = |chunk, count| {
                has_room(count)?;
                links.send((chunk, count))
            };
            let unreadable = chain.follow(io, &mut reader, limit, link)?;
            // In its memory more is read.
            links.catch_up();
            if let Some(unreadable) = unreadable {
                break End::Damaged(unreadable);
            }
            let end = chain.settle(io, &mut reader, limit)?;
            // The writer next to a read-only opening may have gone on since: only an end that has not moved
            // when it is looked at again is one.
            if !matches!(end, End::Damaged(_)) || suspected == Some(chain.at.sequence) {
                break end;
            }
            suspected = Some(chain.at.sequence);
        };
        links.end();
        Ok::<_, Error>(end)
    })?;
    let end_damage = match end {
        End::Whole => None,
        End::Damaged(damage) => Some(damage),
        End::Fork(refuted) => return Ok(Err(refuted)),
    };
    let Found {
        records,
        closed_after,
        bad_slots,
        several_slots,
        damage,
    } = applier.found.into_inner();
    let blocks = chain.at.sequence - start.sequence;
    let stamps = u32::try_from(blocks)
        .unwrap_or(u32::MAX)
        .saturating_mul(STAMPS_PER_BLOCK);
    let disorder = chain
        .order
        .and_then(|order| order.violations.into_iter().next());
    Ok(Ok(Replayed {
        blocks,
        records,
        end: chain.at,
        clean: closed_after == Some(chain.at.sequence),
        incarnation: chain.incarnation,
        damage: damage.or(end_damage),
        copies: chain.copies,
        bad_slots,
        several_slots,
        recency: recency.wrapping_add(stamps),
        disorder,
    }))
}

/// Whether there is memory for the records of so many blocks, those of pieces that are not applied yet included.
fn has_room(blocks: usize) -> Result<(), Error> {
    let blocks = blocks as u64 * (2 * workers() as u64 + 1);
    let records = blocks * records_in_block();
    check_entries(records, blocks * LOG_BLOCK_PAYLOAD as u64)
}

/// The highest sequence that a block of either ring can have, and the highest opening of any; for starting a
/// new log after damage.
pub(crate) fn highest_sequence(
    io: &mut MetaIo,
    superblock: &Superblock,
) -> Result<(u64, u32), Error> {
    let (mut sequence, mut incarnation) = (0, 0);
    let all_read = each_block_of_rings(io, superblock, |block| {
        sequence = sequence.max(block.sequence);
        incarnation = incarnation.max(block.incarnation);
    })?;
    if !all_read {
        // What cannot be read now may be there later, and is at most the rest of a round further on.
        sequence += superblock.log_blocks();
    }
    Ok((sequence, incarnation))
}

/// Whether the log has grown since it was recovered, or its end has changed.
pub(crate) fn log_went_on(
    io: &mut MetaIo,
    superblock: &Superblock,
    recovered: &Recovered,
) -> Result<bool, Error> {
    let end = recovered.end;
    let mut chain = Chain::new(superblock, end, &recovered.refuted);
    let mut reader = LogReader::new(superblock);
    let limit = end.sequence + 1 + LOOKAHEAD_BLOCKS.min(reader.ring() - 1);
    chain.follow(io, &mut reader, limit, |_, _| Ok(()))?;
    if chain.at.sequence != end.sequence {
        return Ok(true);
    }
    // Damage there was there before, or recovery would have said so.
    let end_now = chain.settle(io, &mut reader, limit)?;
    let is_damaged = matches!(end_now, End::Damaged(_));
    Ok(is_damaged && recovered.report.lost_metadata.is_none())
}

/// Shows every valid block of both rings, whether or not it belongs to the log any more. Answers
/// whether all could be read.
pub(crate) fn each_block_of_rings(
    io: &mut MetaIo,
    superblock: &Superblock,
    mut each: impl FnMut(&LogBlock<'_>),
) -> Result<bool, Error> {
    let mut reader = LogReader::new(superblock);
    let (limit, mut all_read) = (reader.ring(), true);
    for ring in [0, 1] {
        let mut place = 0;
        while place < limit {
            for chunk in reader.read(io, ring, place, limit)? {
                for bytes in chunk.blocks() {
                    if let Ok(block) = LogBlock::decode(bytes, &superblock.identity) {
                        each(&block);
                    }
                }
                all_read &= chunk.is_whole();
                place += chunk.len() as u64;
            }
        }
    }
    Ok(all_read)
}
