//! Decodes log blocks.

use std::mem::offset_of;

use zerocopy::transmute_ref;

use super::bytes::{LOG_BLOCK_PAYLOAD, LogBlockBytes, WHAT};
use super::position::LogPosition;
use super::record::Record;
use crate::corruption::{equals, in_range};
use crate::magic::MAGIC_LOG_BLOCK;
use crate::{Corruption, Generation, Identity, SEQUENCE_MAX, block};

/// A log block whose records have all been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBlock<'a> {
    /// Its sequence, at least 1.
    pub sequence: u64,
    /// Incarnation of the writer.
    pub incarnation: u32,
    /// Checksum of block `sequence - 1`.
    pub predecessor: u64,
    /// The highest sequence known durable when it was sealed; below its own.
    pub durable: u64,
    /// Its own checksum, which its successor names.
    pub checksum: u64,
    records: &'a [u8],
}

impl<'a> LogBlock<'a> {
    /// Decodes the first format block of `bytes` and checks every record in it.
    ///
    /// The caller decides whether it is the next block of the chain, by comparing `sequence` and
    /// `predecessor` with a [`LogPosition`].
    ///
    /// # Errors
    /// Any [`Corruption`], including a store or epoch other than `identity`.
    pub fn decode(bytes: &'a [u8], identity: &Identity) -> Result<LogBlock<'a>, Corruption> {
        let whole = block::open(WHAT, MAGIC_LOG_BLOCK, bytes)?;
        let raw: &LogBlockBytes = transmute_ref!(whole);
        identity.check(WHAT, raw.uuid, raw.epoch.get())?;
        block::zero(WHAT, offset_of!(LogBlockBytes, reserved), &raw.reserved)?;
        let sequence = raw.sequence.get();
        in_range(WHAT, "sequence", sequence, 1, SEQUENCE_MAX)?;
        in_range(WHAT, "durable sequence", raw.durable.get(), 0, sequence - 1)?;
        let incarnation = raw.incarnation.get();
        in_range(
            WHAT,
            "incarnation",
            incarnation.into(),
            0,
            Generation::INCARNATION_MAX.into(),
        )?;
        let record_bytes = raw.record_bytes.get();
        in_range(
            WHAT,
            "record bytes",
            record_bytes.into(),
            1,
            LOG_BLOCK_PAYLOAD as u64,
        )?;
        let (records, tail) = raw.records.split_at(record_bytes.into());
        let tail_offset = offset_of!(LogBlockBytes, records) + records.len();
        block::zero(WHAT, tail_offset, tail)?;
        check_records(records, raw.record_count.get())?;
        Ok(LogBlock {
            sequence,
            incarnation,
            predecessor: raw.predecessor.get(),
            durable: raw.durable.get(),
            checksum: block::checksum_of(whole),
            records,
        })
    }

    /// Returns its records in the order they were pushed; at least one.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records {
            bytes: self.records,
        }
    }

    /// Returns the position of the next block.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        LogPosition {
            sequence: self.sequence + 1,
            anchor: self.checksum,
        }
    }

    /// Returns true if this is the next block of the chain at `position`.
    #[must_use]
    pub fn continues(&self, position: &LogPosition) -> bool {
        self.sequence == position.sequence && self.predecessor == position.anchor
    }
}

fn check_records(mut bytes: &[u8], count: u16) -> Result<(), Corruption> {
    let mut found = 0_u64;
    while !bytes.is_empty() {
        (_, bytes) = Record::decode(bytes)?;
        found += 1;
    }
    equals(WHAT, "record count", count.into(), found)
}

/// The records of a decoded block. Infallible: the block's decoder has read them all before.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.bytes.is_empty() {
            return None;
        }
        let (record, rest) = Record::decode(self.bytes).ok()?;
        self.bytes = rest;
        Some(record)
    }
}
