//! Replays the delta log after a base.
//!
//! The chain ends where neither ring has its next block: the block is invalid, or has another
//! sequence number or predecessor. A crash leaves exactly that. But a *later* block that names the
//! missing one as durable proves that it existed: then the device lost both copies, which is damage
//! (C3) and not an end.
//!
//! One thread reads and follows the chain; several apply the records. Their order does not matter:
//! for each key and each slot the highest generation wins.

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

/// Result of the replay.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) blocks: u64,
    pub(crate) records: u64,
    /// Position of the next block.
    pub(crate) end: LogPosition,
    /// True if the last record was a close.
    pub(crate) clean: bool,
    /// The highest incarnation that wrote to the log.
    pub(crate) incarnation: u32,
    /// Evidence that the log continues behind its apparent end, or an impossible record.
    pub(crate) damage: Option<Damage>,
    /// Blocks that are in one ring only.
    pub(crate) copies: Copies,
    pub(crate) bad_slots: Vec<u32>,
    /// The index's recency clock after the last replayed put.
    pub(crate) recency: u32,
    /// The first slot whose generations do not ascend, if that was checked.
    pub(crate) disorder: Option<Violation>,
}

/// Start and options of the replay.
#[derive(Clone, Copy)]
pub(crate) struct ReplayFrom<'a> {
    pub(crate) start: LogPosition,
    /// Recency clock of the base; replayed puts count as more recent.
    pub(crate) recency: u32,
    /// Checksums of blocks that do not belong to the log although they fit its chain.
    pub(crate) refuted: &'a [u64],
    /// True if the log's order is checked, which slows the restart down.
    pub(crate) check_order: bool,
}

/// Replays the log into the loader. The inner error is the checksum of a block that was applied
/// although a later session had replaced it: the loader must then be thrown away.
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
            // Frees the memory into which more is read.
            links.catch_up();
            if let Some(unreadable) = unreadable {
                break End::Damaged(unreadable);
            }
            let end = chain.settle(io, &mut reader, limit)?;
            // A writer may have continued next to this read-only session: accept an end as damaged
            // only if it has not moved on the second look.
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
        recency: recency.wrapping_add(stamps),
        disorder,
    }))
}

/// Checks that there is memory for the records of this many blocks and of the chunks not applied
/// yet.
fn has_room(blocks: usize) -> Result<(), Error> {
    let blocks = blocks as u64 * (2 * workers() as u64 + 1);
    let records = blocks * records_in_block();
    check_entries(records, blocks * LOG_BLOCK_PAYLOAD as u64)
}

/// Returns the highest sequence that a block of either ring can have, and the highest incarnation
/// of any block, for starting a new log after damage.
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
        // Blocks that are unreadable now may be readable later, and are at most a ring ahead.
        sequence += superblock.log_blocks();
    }
    Ok((sequence, incarnation))
}

/// Returns whether the log has grown, or its end has changed, since it was recovered.
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
    // Damage that was there before has been reported by recovery.
    let end_now = chain.settle(io, &mut reader, limit)?;
    let is_damaged = matches!(end_now, End::Damaged(_));
    Ok(is_damaged && recovered.report.lost_metadata.is_none())
}

/// Calls `each` for every valid block of both rings, whether or not it still belongs to the log.
/// Returns whether all could be read.
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
