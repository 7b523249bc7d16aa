//! Replaying the delta log after a base.
//!
//! The chain ends at the first block that is not the next one: not valid, another sequence number,
//! or another predecessor. A crash leaves exactly that. But a *later* block that names the missing
//! one as durable proves that it was there once: then the device lost it, and that is damage (C3),
//! not an end.

use rb_format::{
    FORMAT_BLOCK, Geometry, Identity, LogBlock, LogPosition, Record, Region, Superblock, key_hash,
    log_block_offset,
};
use rb_index::{Loader, NewEntry, SlotId};

use crate::error::Error;
use crate::log::LOOKAHEAD_BLOCKS;
use crate::meta_io::MetaIo;

/// What the log held.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) blocks: u64,
    pub(crate) records: u64,
    /// Where the next block goes.
    pub(crate) end: Option<LogPosition>,
    /// The last record was a close.
    pub(crate) clean: bool,
    /// The highest opening that wrote to it.
    pub(crate) incarnation: u32,
    /// Proof that the log goes on after its apparent end, or a record that cannot be.
    pub(crate) damage: Option<String>,
    pub(crate) bad_slots: Vec<u32>,
    /// The index's clock after the last replayed put.
    pub(crate) recency: u32,
}

/// Blocks read in one request.
const CHUNK_BLOCKS: u64 = 256;
/// Requests read ahead.
const CHUNKS: u64 = 8;

/// Replays the log from `start` into the loader.
pub(crate) fn replay(
    io: &mut MetaIo,
    superblock: &Superblock,
    geometry: &Geometry,
    start: LogPosition,
    recency: u32,
    loader: &Loader<'_>,
) -> Result<Replayed, Error> {
    let mut replayer = Replayer {
        superblock,
        geometry,
        loader,
        expected: start,
        // Replayed puts are newer than the base, in their order.
        replayed: Replayed {
            recency,
            ..Replayed::default()
        },
    };
    let ring = superblock.log.bytes / FORMAT_BLOCK as u64;
    let mut window = Window::new(superblock.log.clone(), ring);
    let limit = start.sequence + ring;
    while replayer.expected.sequence < limit {
        let sequence = replayer.expected.sequence;
        let block = window.block(io, sequence, limit)?;
        if !block.is_some_and(|bytes| replayer.take(bytes)) {
            break;
        }
    }
    let end = replayer.expected;
    if replayer.replayed.damage.is_none() {
        let until = (end.sequence + LOOKAHEAD_BLOCKS).min(limit);
        for sequence in end.sequence + 1..until {
            let block = window.block(io, sequence, until)?;
            if let Some(named) =
                block.and_then(|b| names_durable(b, &superblock.identity, sequence))
                && named >= end.sequence
            {
                replayer.replayed.damage = Some(format!(
                    "log block {} is missing or damaged, yet block {sequence} names all up to {named} as durable",
                    end.sequence
                ));
                break;
            }
        }
    }
    replayer.replayed.end = Some(end);
    Ok(replayer.replayed)
}

/// The highest sequence that the valid block `sequence` names as durable.
fn names_durable(bytes: &[u8], identity: &Identity, sequence: u64) -> Option<u64> {
    let block = LogBlock::decode(bytes, identity).ok()?;
    (block.sequence == sequence).then_some(block.durable)
}

/// The highest sequence of any valid block in the whole ring; for starting a new log after damage.
pub(crate) fn highest_sequence(
    io: &mut MetaIo,
    superblock: &Superblock,
) -> Result<(u64, u32), Error> {
    let ring = superblock.log.bytes / FORMAT_BLOCK as u64;
    let mut window = Window::new(superblock.log.clone(), ring);
    let (mut sequence, mut incarnation) = (0, 0);
    for place in 0..ring {
        if let Some(bytes) = window.block(io, place, ring)?
            && let Ok(block) = LogBlock::decode(bytes, &superblock.identity)
        {
            sequence = sequence.max(block.sequence);
            incarnation = incarnation.max(block.incarnation);
        }
    }
    Ok((sequence, incarnation))
}

struct Replayer<'a, 'b> {
    superblock: &'a Superblock,
    geometry: &'a Geometry,
    loader: &'a Loader<'b>,
    expected: LogPosition,
    replayed: Replayed,
}

impl Replayer<'_, '_> {
    /// Applies a block if it is the next of the chain.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let Ok(block) = LogBlock::decode(bytes, &self.superblock.identity) else {
            return false;
        };
        if block.sequence != self.expected.sequence || block.predecessor != self.expected.anchor {
            return false;
        }
        for record in block.records() {
            if let Err(why) = self.apply(&record) {
                // The block is whole and ours, so this is no torn write.
                self.replayed.damage = Some(format!("log block {}: {why}", block.sequence));
                return false;
            }
            self.replayed.records += 1;
        }
        self.replayed.blocks += 1;
        self.replayed.incarnation = self.replayed.incarnation.max(block.incarnation);
        self.expected = block.position();
        true
    }

    fn apply(&mut self, record: &Record<'_>) -> Result<(), String> {
        self.replayed.clean = matches!(record, Record::Close);
        match *record {
            Record::Put {
                key,
                slot,
                generation,
                payload_len,
                payload_checksum,
                placement,
                metadata,
            } => {
                self.check(key, metadata, slot, payload_len)?;
                let hash = key_hash(&self.superblock.identity.uuid, key);
                let slot = SlotId(slot);
                let entry = NewEntry {
                    slot,
                    payload_len,
                    payload_checksum,
                    placement,
                    metadata,
                    proven: false,
                };
                self.replayed.recency = self.replayed.recency.wrapping_add(1);
                self.loader
                    .load(hash, key, entry, generation.0, self.replayed.recency);
            }
            Record::Remove { key, generation } => {
                let hash = key_hash(&self.superblock.identity.uuid, key);
                self.loader.remove(hash, key, generation.0);
            }
            Record::BadSlot { slot } => {
                self.loader.bad_slot(SlotId(slot));
                self.replayed.bad_slots.push(slot);
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
                "key",
                key.len() as u64,
                u64::from(self.superblock.key_len_max),
            ),
            (
                "metadata",
                metadata.len() as u64,
                u64::from(self.superblock.metadata_len_max),
            ),
            (
                "slot",
                u64::from(slot),
                u64::from(self.geometry.slots()).saturating_sub(1),
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

/// Log blocks read ahead.
struct Window {
    region: Region,
    ring: u64,
    first: u64,
    /// One entry per block from `first`; none for one that could not be read.
    blocks: Vec<Option<Box<[u8]>>>,
}

impl Window {
    fn new(region: Region, ring: u64) -> Window {
        Window {
            region,
            ring,
            first: 0,
            blocks: Vec::new(),
        }
    }

    /// The block's bytes; none if the device cannot read them. Blocks are asked for in order, with
    /// the first `limit` not to be read past.
    fn block(
        &mut self,
        io: &mut MetaIo,
        sequence: u64,
        limit: u64,
    ) -> Result<Option<&[u8]>, Error> {
        let have = self.first + self.blocks.len() as u64;
        if sequence < self.first || sequence >= have {
            self.fill(io, sequence, limit)?;
        }
        let at = usize::try_from(sequence - self.first).unwrap_or(usize::MAX);
        Ok(self.blocks.get(at).and_then(Option::as_deref))
    }

    fn fill(&mut self, io: &mut MetaIo, first: u64, limit: u64) -> Result<(), Error> {
        let mut chunks = Vec::new();
        let mut sequence = first;
        while chunks.len() < CHUNKS as usize && sequence < limit {
            let to_end = self.ring - sequence % self.ring;
            let count = CHUNK_BLOCKS.min(limit - sequence).min(to_end);
            chunks.push((sequence, count));
            sequence += count;
        }
        let reads: Vec<_> = chunks
            .iter()
            .map(|&(at, count)| {
                (
                    log_block_offset(&self.region, at),
                    count as usize * FORMAT_BLOCK,
                )
            })
            .collect();
        self.first = first;
        self.blocks.clear();
        for (&(at, count), answer) in chunks.iter().zip(io.read_many(&reads)?) {
            match answer {
                Ok(bytes) => self.blocks.extend(
                    bytes[..count as usize * FORMAT_BLOCK]
                        .chunks_exact(FORMAT_BLOCK)
                        .map(|block| Some(block.into())),
                ),
                // One bad sector must not hide its neighbours.
                Err(_) => {
                    for sequence in at..at + count {
                        let block = io.read(log_block_offset(&self.region, sequence), FORMAT_BLOCK);
                        self.blocks
                            .push(block.ok().map(|block| block[..FORMAT_BLOCK].into()));
                    }
                }
            }
        }
        Ok(())
    }
}
