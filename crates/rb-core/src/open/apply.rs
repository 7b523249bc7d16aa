//! Applies log records to the index, on several threads.

use parking_lot::Mutex;
use rb_format::{Generation, Geometry, LogBlock, LogPosition, Record, Superblock};
use rb_index::{Loader, NewEntry, SlotId};

use crate::log::chain::Damage;
use crate::log::reader::Chunk;

/// Recency steps per replayed block: puts keep the order of their blocks, and within a block that
/// of its eighths. A step stands for 16 uses, and a block rarely has more than 100 records.
pub(crate) const STAMPS_PER_BLOCK: u32 = 8;

/// Applies the records of blocks in the chain, on several threads.
pub(crate) struct Applier<'a, 'b> {
    pub(crate) superblock: &'a Superblock,
    pub(crate) geometry: &'a Geometry,
    pub(crate) loader: &'a Loader<'b>,
    pub(crate) recency: u32,
    pub(crate) start: LogPosition,
    pub(crate) found: Mutex<Found>,
}

#[derive(Default)]
pub(crate) struct Found {
    pub(crate) records: u64,
    /// Sequence of the block after the last one that ends with a close record.
    pub(crate) closed_after: Option<u64>,
    pub(crate) bad_slots: Vec<u32>,
    /// The damage with the lowest sequence.
    pub(crate) damage: Option<Damage>,
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
    /// Returns the work of one thread: for each chunk, applies its first `count` blocks.
    pub(crate) fn work(&self) -> impl FnMut((Chunk, usize)) + Send + '_ {
        let mut hashes = Vec::new();
        move |(chunk, count)| {
            let (mut applied, mut closed_after) = (0, None);
            let mut records = Vec::new();
            for bytes in chunk.blocks().take(count) {
                // Cannot fail: only blocks that were decoded before are counted.
                let Ok(block) = LogBlock::decode(bytes, &self.superblock.identity) else {
                    continue;
                };
                let stamp = self.stamp(block.sequence);
                // Keys of a log are scattered over the index; cache misses are most of the cost of
                // applying a record.
                records.clear();
                records.extend(block.records());
                hashes.clear();
                hashes.extend(records.iter().map(|record| self.hash(record)));
                self.loader.prefetch(&hashes);
                if let Some(Record::Close) = records.last() {
                    closed_after = Some(block.position().sequence);
                }
                applied += records.len() as u64;
                for ((number, record), &hash) in (0..).zip(&records).zip(&hashes) {
                    let eighth = (number / 16).min(STAMPS_PER_BLOCK - 1);
                    let stamp = stamp.wrapping_add(eighth);
                    if let Err(why) = self.apply(record, hash, block.incarnation, stamp) {
                        // Not a torn write: the block's checksum matched.
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

    /// Hash of the record's key; 0 if it has none.
    fn hash(&self, record: &Record<'_>) -> u64 {
        match *record {
            Record::Put { key, .. } | Record::Remove { key, .. } => self.loader.hash(key),
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
            // A generation from a later session would outlive every later put of its key.
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
                expiry,
                metadata,
                ..
            } => {
                self.check(key, metadata)?;
                let slots = self
                    .geometry
                    .check_slots("put record", slot, more, payload_len);
                slots.map_err(|why| why.to_string())?;
                let more: Vec<SlotId> = more.iter().map(SlotId).collect();
                let entry = NewEntry {
                    slot: SlotId(slot),
                    more: &more,
                    payload_len,
                    payload_checksum,
                    placement,
                    expiry,
                    metadata,
                    verified: false,
                };
                self.loader.load(hash, key, entry, generation.0, recency);
            }
            Record::Remove { key, generation } => {
                self.loader.remove(hash, key, generation.0);
            }
            Record::BadSlot { slot } => {
                // Displaces every put of the slot by this session or an earlier one.
                // No put from before has a higher one. A later put shows that the slot was forgiven.
                let last = Generation::last_of(incarnation).0;
                self.loader.bad_slot(SlotId(slot), last);
                self.found.lock().bad_slots.push(slot);
            }
            Record::Close => {}
        }
        Ok(())
    }

    fn check(&self, key: &[u8], metadata: &[u8]) -> Result<(), String> {
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
        ];
        match limits.iter().find(|(_, found, limit)| found > limit) {
            None => Ok(()),
            Some((what, found, limit)) => {
                Err(format!("{what} {found} is over its limit of {limit}"))
            }
        }
    }
}
