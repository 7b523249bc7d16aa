//! Packs records into blocks.

use zerocopy::transmute_mut;

use super::bytes::{LOG_BLOCK_PAYLOAD, LogBlockBytes};
use super::position::LogPosition;
use super::record::Record;
use crate::block;
use crate::magic::MAGIC_LOG_BLOCK;
use crate::{FORMAT_BLOCK, FORMAT_VERSION, Identity, KEY_LEN_MAX, METADATA_LEN_MAX};

/// Consecutive sealed blocks, each to be written at its
/// [`log_block_offset`](crate::log_block_offset).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlocks {
    /// Sequence of the first block, or of the open block if there are none.
    pub first_sequence: u64,
    /// Their bytes: a multiple of the format block, possibly none.
    pub bytes: Vec<u8>,
}

/// Packs records into blocks of 4096 bytes.
///
/// Sequence numbers increase and never restart within an epoch. Records go into the open block;
/// when one does not fit, or [`seal`](LogEncoder::seal) is called, the block is sealed: it gets its
/// position in the chain and its checksum and never changes again.
///
/// ```
/// use rb_format::{Generation, Identity, LogBlock, LogEncoder, LogPosition, Record, StoreUuid};
///
/// let identity = Identity { uuid: StoreUuid([7; 16]), epoch: 1 };
/// let mut encoder = LogEncoder::new(identity, 1, LogPosition::FIRST);
/// let generation = Generation::new(1, 1).expect("in range");
/// encoder.push(&Record::Remove { generation, key: b"key" }, 0);
/// encoder.seal(0);
/// let sealed = encoder.take_sealed();
/// assert_eq!((sealed.first_sequence, sealed.bytes.len()), (1, 4096));
///
/// let block = LogBlock::decode(&sealed.bytes, &identity)?;
/// assert!(block.continues(&LogPosition::FIRST));
/// assert_eq!(block.records().count(), 1);
/// // The next block names the checksum of this one.
/// assert_eq!(encoder.position().anchor, block.checksum);
/// # Ok::<(), rb_format::Corruption>(())
/// ```
#[derive(Debug)]
pub struct LogEncoder {
    identity: Identity,
    incarnation: u32,
    /// Position of the open block.
    open: LogPosition,
    records: Vec<u8>,
    record_count: u16,
    sealed: Vec<u8>,
}

impl LogEncoder {
    /// Creates an encoder whose first block is `start`.
    ///
    /// # Panics
    /// If `start.sequence` is 0: a block names the highest durable sequence before it, so one must
    /// exist. [`LogPosition::FIRST`] and decoded positions are at least 1.
    #[must_use]
    pub fn new(identity: Identity, incarnation: u32, start: LogPosition) -> LogEncoder {
        assert!(start.sequence >= 1, "log sequences start at 1");
        LogEncoder {
            identity,
            incarnation,
            open: start,
            records: Vec::with_capacity(LOG_BLOCK_PAYLOAD),
            record_count: 0,
            sealed: Vec::new(),
        }
    }

    /// Appends a record. If the open block has no room, it is sealed first and names `durable` as
    /// the highest sequence known durable.
    ///
    /// # Panics
    /// If the key is empty or longer than [`KEY_LEN_MAX`], the metadata is longer than
    /// [`METADATA_LEN_MAX`] or the value has more than [`VALUE_SLOTS_MAX`](crate::VALUE_SLOTS_MAX)
    /// slots: such a record would make the whole block undecodable, and the caller checked all
    /// three when it accepted the operation.
    pub fn push(&mut self, record: &Record<'_>, durable: u64) {
        assert_encodable(record);
        if self.records.len() + record.encoded_len() > LOG_BLOCK_PAYLOAD {
            self.seal(durable);
        }
        record.encode(&mut self.records);
        self.record_count += 1;
    }

    /// Seals the open block if it has records, naming `durable` as the highest sequence known
    /// durable. A block can only vouch for earlier ones, so a higher number is lowered.
    pub fn seal(&mut self, durable: u64) {
        if self.is_open_empty() {
            return;
        }
        let mut block = [0; FORMAT_BLOCK];
        let raw: &mut LogBlockBytes = transmute_mut!(&mut block);
        raw.magic = MAGIC_LOG_BLOCK;
        raw.version = FORMAT_VERSION.into();
        raw.incarnation = self.incarnation.into();
        raw.uuid = self.identity.uuid.0;
        raw.epoch = self.identity.epoch.into();
        raw.sequence = self.open.sequence.into();
        raw.predecessor = self.open.anchor.into();
        raw.durable = durable.min(self.open.sequence - 1).into();
        raw.record_bytes = (self.records.len() as u16).into();
        raw.record_count = self.record_count.into();
        raw.records[..self.records.len()].copy_from_slice(&self.records);
        let anchor = block::seal(&mut block);
        self.sealed.extend_from_slice(&block);
        self.records.clear();
        self.record_count = 0;
        self.open = LogPosition {
            sequence: self.open.sequence + 1,
            anchor,
        };
    }

    /// Takes the sealed blocks.
    pub fn take_sealed(&mut self) -> SealedBlocks {
        let first_sequence = self.open.sequence - self.sealed_blocks() as u64;
        SealedBlocks {
            first_sequence,
            bytes: std::mem::take(&mut self.sealed),
        }
    }

    /// Returns the position of the open block: every record pushed later goes into it or into a
    /// later block.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.open
    }

    /// Returns the sequence of the open block.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.open.sequence
    }

    /// Returns true if the open block has no records, so that [`seal`](LogEncoder::seal) would do
    /// nothing.
    #[must_use]
    pub fn is_open_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Returns the number of sealed blocks not yet taken.
    #[must_use]
    pub fn sealed_blocks(&self) -> usize {
        self.sealed.len() / FORMAT_BLOCK
    }
}

fn assert_encodable(record: &Record<'_>) {
    let (key, metadata): (&[u8], &[u8]) = match record {
        Record::Put { key, metadata, .. } => (key, metadata),
        Record::Remove { key, .. } => (key, &[]),
        Record::BadSlot { .. } | Record::Close => return,
    };
    assert!(
        (1..=KEY_LEN_MAX).contains(&key.len()),
        "log record with a key of {}",
        key.len()
    );
    assert!(
        metadata.len() <= METADATA_LEN_MAX,
        "log record with metadata of {}",
        metadata.len()
    );
}
