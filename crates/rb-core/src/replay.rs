//! Replaying the delta log after a base.
//!
//! The chain ends at the first block that is not the next one: not valid, another sequence number,
//! or another predecessor. A crash leaves exactly that. But a *later* block that names the missing
//! one as durable proves that it was there once: then the device lost it, and that is damage (C3),
//! not an end.
//!
//! One thread reads and follows the chain; the records are applied on as many threads as there are.
//! Their order does not matter: for each key and for each slot the highest generation wins.

use parking_lot::Mutex;
use rb_format::{FORMAT_BLOCK, Geometry, LogBlock, LogPosition, Record, Superblock, key_hash};
use rb_index::{Loader, NewEntry, SlotId};

use crate::base_load::Crew;
use crate::error::Error;
use crate::log::LOOKAHEAD_BLOCKS;
use crate::log_reader::{Chunk, LogReader};
use crate::meta_io::MetaIo;

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
    pub(crate) bad_slots: Vec<u32>,
    /// A record names a value of several slots, which this program does not read.
    pub(crate) several_slots: bool,
    /// The index's clock after the last replayed put.
    pub(crate) recency: u32,
}

/// Where the log is damaged, and how.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    /// Sequence of the block.
    pub(crate) block: u64,
    pub(crate) why: String,
}

/// Steps of the recency clock per replayed block, so that puts keep the order of their blocks, and
/// within a block of its eighths. A step stands for 16 uses, and a block rarely has more than 100
/// records.
const STAMPS_PER_BLOCK: u32 = 8;

/// Replays the log from `start` into the loader. Puts are stamped as more recent than `recency`.
pub(crate) fn replay(
    io: &mut MetaIo,
    superblock: &Superblock,
    geometry: &Geometry,
    start: LogPosition,
    recency: u32,
    loader: &Loader<'_>,
) -> Result<Replayed, Error> {
    let applier = Applier {
        superblock,
        geometry,
        loader,
        recency,
        start,
        found: Mutex::default(),
    };
    let mut chain = Chain {
        superblock,
        at: start,
        incarnation: 0,
    };
    let mut reader = LogReader::new(superblock);
    let limit = start.sequence + reader.ring();
    let end_damage = std::thread::scope(|scope| {
        let applier = &applier;
        let mut links = Crew::new(scope, || applier.work());
        let mut suspected = None;
        let damage = loop {
            let link = |chunk, count| links.send((chunk, count));
            let unreadable = chain.follow(io, &mut reader, limit, link)?;
            links.catch_up();
            if unreadable.is_some() {
                break unreadable;
            }
            let damage = look_past_end(io, superblock, &mut reader, chain.at, limit)?;
            // The writer next to a read-only opening may have gone on since: only an end that has not moved
            // when it is looked at again is one.
            if damage.is_none() || suspected == Some(chain.at.sequence) {
                break damage;
            }
            suspected = Some(chain.at.sequence);
        };
        links.end();
        Ok::<_, Error>(damage)
    })?;
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
    Ok(Replayed {
        blocks,
        records,
        end: chain.at,
        clean: closed_after == Some(chain.at.sequence),
        incarnation: chain.incarnation,
        damage: damage.or(end_damage),
        bad_slots,
        several_slots,
        recency: recency.wrapping_add(stamps),
    })
}

/// Looks for a block that names the one at the apparent end as durable, or that took a later one's
/// place in the ring: then the log has gone round since, and the base is older than what the ring kept.
fn look_past_end(
    io: &mut MetaIo,
    superblock: &Superblock,
    reader: &mut LogReader<'_>,
    end: LogPosition,
    limit: u64,
) -> Result<Option<Damage>, Error> {
    let damaged = |why| {
        Ok(Some(Damage {
            block: end.sequence,
            why,
        }))
    };
    let until = (end.sequence + 1 + LOOKAHEAD_BLOCKS).min(limit);
    let mut sequence = end.sequence;
    while sequence < until {
        for chunk in reader.read(io, sequence, until)? {
            for bytes in chunk.blocks() {
                let block = LogBlock::decode(bytes, &superblock.identity).ok();
                let (found, named) = block.map_or((0, 0), |block| (block.sequence, block.durable));
                if found > sequence {
                    return damaged(format!(
                        "the log ends at block {}, yet block {found} is in the place of block {sequence}",
                        end.sequence
                    ));
                }
                if found == sequence && named >= end.sequence {
                    return damaged(format!(
                        "log block {} is missing or damaged, yet block {sequence} names all up to {named} as durable",
                        end.sequence
                    ));
                }
                sequence += 1;
            }
        }
    }
    Ok(None)
}

/// The highest sequence that a block of the ring can have, and the highest opening of any; for starting a
/// new log after damage.
pub(crate) fn highest_sequence(
    io: &mut MetaIo,
    superblock: &Superblock,
) -> Result<(u64, u32), Error> {
    let (mut sequence, mut incarnation) = (0, 0);
    let all_read = each_block_of_ring(io, superblock, |block| {
        sequence = sequence.max(block.sequence);
        incarnation = incarnation.max(block.incarnation);
    })?;
    if !all_read {
        // What cannot be read now may be there later, and is at most the rest of a round further on.
        sequence += superblock.log.bytes / FORMAT_BLOCK as u64;
    }
    Ok((sequence, incarnation))
}

/// Shows every valid block of the whole ring, whether or not it belongs to the log any more. Answers
/// whether all could be read.
pub(crate) fn each_block_of_ring(
    io: &mut MetaIo,
    superblock: &Superblock,
    mut each: impl FnMut(&LogBlock<'_>),
) -> Result<bool, Error> {
    let mut reader = LogReader::new(superblock);
    let (mut place, mut all_read) = (0, true);
    while place < reader.ring() {
        let limit = reader.ring();
        for chunk in reader.read(io, place, limit)? {
            for bytes in chunk.blocks() {
                if let Ok(block) = LogBlock::decode(bytes, &superblock.identity) {
                    each(&block);
                }
            }
            all_read &= chunk.is_whole();
            place += chunk.len() as u64;
        }
    }
    Ok(all_read)
}

/// Where the chain of blocks has come to.
struct Chain<'a> {
    superblock: &'a Superblock,
    at: LogPosition,
    incarnation: u32,
}

impl Chain<'_> {
    /// Moves on to the end, and hands out what is read, each piece with the number of its blocks that
    /// belong to the chain. Answers damage if the end is a block that cannot be read.
    fn follow(
        &mut self,
        io: &mut MetaIo,
        reader: &mut LogReader<'_>,
        limit: u64,
        mut link: impl FnMut(Chunk, usize) -> Result<(), Error>,
    ) -> Result<Option<Damage>, Error> {
        loop {
            let chunks = reader.read(io, self.at.sequence, limit)?;
            if chunks.is_empty() {
                return Ok(None);
            }
            for chunk in chunks {
                let count = chunk.blocks().take_while(|block| self.take(block)).count();
                let whole = count == chunk.len();
                // It may hold what was durable: an end is only what was read and is not the next.
                let unreadable = chunk.is_unreadable(count).then(|| Damage {
                    block: self.at.sequence,
                    why: format!("log block {} cannot be read", self.at.sequence),
                });
                link(chunk, count)?;
                if !whole {
                    return Ok(unreadable);
                }
            }
        }
    }

    /// Moves on if this is the next block.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let Ok(block) = LogBlock::decode(bytes, &self.superblock.identity) else {
            return false;
        };
        if !block.continues(&self.at) {
            return false;
        }
        self.incarnation = self.incarnation.max(block.incarnation);
        self.at = block.position();
        true
    }
}

/// Applies the records of blocks that belong to the chain, on several threads.
struct Applier<'a, 'b> {
    superblock: &'a Superblock,
    geometry: &'a Geometry,
    loader: &'a Loader<'b>,
    recency: u32,
    start: LogPosition,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    records: u64,
    /// The block after the last one that ends with a close.
    closed_after: Option<u64>,
    bad_slots: Vec<u32>,
    several_slots: bool,
    /// The first.
    damage: Option<Damage>,
}

impl Found {
    fn damaged(&mut self, damage: Damage) {
        let first = self.damage.as_ref();
        if first.is_none_or(|first| damage.block < first.block) {
            self.damage = Some(damage);
        }
    }
}

impl Applier<'_, '_> {
    /// Applies one piece after another: the first blocks of each, as many as are named.
    fn work(&self) -> impl FnMut((Chunk, usize)) + '_ {
        let mut hashes = Vec::new();
        move |(chunk, count)| {
            let (mut applied, mut closed_after) = (0, None);
            let mut records = Vec::new();
            for bytes in chunk.blocks().take(count) {
                // It was decoded before, or it would not be counted.
                let Ok(block) = LogBlock::decode(bytes, &self.superblock.identity) else {
                    continue;
                };
                let stamp = self.stamp(block.sequence);
                // The keys of a log are anywhere, and waiting for memory is most of what applying a record costs.
                records.clear();
                records.extend(block.records());
                hashes.clear();
                hashes.extend(records.iter().map(|record| self.hash(record)));
                self.loader.warm(&hashes);
                if let Some(Record::Close) = records.last() {
                    closed_after = Some(block.position().sequence);
                }
                applied += records.len() as u64;
                for ((number, record), &hash) in (0..).zip(&records).zip(&hashes) {
                    let eighth = (number / 16).min(STAMPS_PER_BLOCK - 1);
                    let stamp = stamp.wrapping_add(eighth);
                    if let Err(why) = self.apply(record, hash, block.incarnation, stamp) {
                        // The block is whole and ours, so this is no torn write.
                        self.found.lock().damaged(Damage {
                            block: block.sequence,
                            why: format!("log block {}: {why}", block.sequence),
                        });
                    }
                }
            }
            let mut found = self.found.lock();
            found.records += applied;
            found.closed_after = found.closed_after.max(closed_after);
        }
    }

    fn stamp(&self, sequence: u64) -> u32 {
        let block = (sequence - self.start.sequence) as u32;
        self.recency
            .wrapping_add(1)
            .wrapping_add(block.wrapping_mul(STAMPS_PER_BLOCK))
    }

    /// Of the record's key; 0 if it has none.
    fn hash(&self, record: &Record<'_>) -> u64 {
        match *record {
            Record::Put { key, .. } | Record::Remove { key, .. } => {
                key_hash(&self.superblock.identity.uuid, key)
            }
            Record::BadSlot { .. } | Record::Close => 0,
        }
    }

    fn apply(
        &self,
        record: &Record<'_>,
        hash: u64,
        incarnation: u32,
        recency: u32,
    ) -> Result<(), String> {
        if let Record::Put { generation, .. } | Record::Remove { generation, .. } = *record
            && generation.incarnation() != incarnation
        {
            // A higher one would outlive every later put of its key.
            return Err(format!(
                "generation {generation} was not given out by opening {incarnation}, which wrote it"
            ));
        }
        match *record {
            Record::Put {
                key,
                slot,
                more,
                generation,
                payload_len,
                payload_checksum,
                placement,
                metadata,
                ..
            } => {
                if !more.is_empty() {
                    self.found.lock().several_slots = true;
                    return Ok(());
                }
                self.check(key, metadata, slot, payload_len)?;
                let slot = SlotId(slot);
                let entry = NewEntry {
                    slot,
                    payload_len,
                    payload_checksum,
                    placement,
                    metadata,
                    proven: false,
                };
                self.loader.load(hash, key, entry, generation.0, recency);
            }
            Record::Remove { key, generation } => {
                self.loader.remove(hash, key, generation.0);
            }
            Record::BadSlot { slot } => {
                self.loader.bad_slot(SlotId(slot));
                self.found.lock().bad_slots.push(slot);
            }
            Record::Close => {}
        }
        Ok(())
    }

    fn check(
        &self,
        key: &[u8],
        metadata: &[u8],
        slot: u32,
        payload_len: u32,
    ) -> Result<(), String> {
        let class = self.geometry.class_of(slot);
        let capacity = class.map_or(0, |class| self.geometry.class_capacity(class));
        let limits = [
            (
                "slot",
                u64::from(slot),
                u64::from(self.geometry.slots()).saturating_sub(1),
            ),
            (
                "key",
                key.len() as u64,
                u64::from(self.superblock.key_len_max),
            ),
            (
                "metadata",
                metadata.len() as u64,
                u64::from(self.superblock.metadata_len_max),
            ),
            ("payload", u64::from(payload_len), capacity),
        ];
        match limits.iter().find(|(_, found, limit)| found > limit) {
            None => Ok(()),
            Some((what, found, limit)) => {
                Err(format!("{what} {found} is over its limit of {limit}"))
            }
        }
    }
}
