//! Counters, as a plain struct to read.

use std::time::Duration;

use rb_index::IndexStats;
use rb_io::QueueCounters;

/// What happened since the store was opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Keys whose value a get returned.
    pub hits: u64,
    /// Keys that a get did not find, or found and dropped because their bytes were not what was put. Keys that a get answered
    /// with an error are neither hits nor misses.
    pub misses: u64,
    /// Keys whose put was answered after its write.
    pub puts: u64,
    /// Keys removed, whether they were there or not.
    pub removes: u64,
    /// Bytes of payload written.
    pub bytes_put: u64,
    /// Bytes of payload read and verified.
    pub bytes_got: u64,
    /// Bytes copied from callers' memory.
    pub bytes_copied: u64,
    /// Reads of values that the device failed.
    pub read_errors: u64,
    /// Entries dropped because their bytes on the device were not what was put.
    pub dropped: u64,
    /// Group commits.
    pub commits: u64,
    /// Checkpoints that were written.
    pub checkpoints: u64,
    /// Blocks of metadata that the device failed to write: the other copy was written, or the block elsewhere.
    pub metadata_write_errors: u64,
    /// A checkpoint is being written now.
    pub checkpointing: bool,
    /// The longest that a checkpoint held a shard's lock.
    pub longest_snapshot_hold: Duration,
    /// The longest that an operation waited for the log: for its lock, or for room in it.
    pub longest_log_wait: Duration,
    /// Entries that the validator checked.
    pub validated: u64,
    /// What the scrubber did.
    pub scrub: ScrubStats,
    /// What was discarded of freed slots.
    pub discard: DiscardStats,
    /// Log blocks that a restart would replay.
    pub replay_blocks: u64,
    /// Log blocks there are.
    pub log_blocks: u64,
    /// Why nothing can be written until the store is opened again: a write of metadata or a flush failed. None: all is well.
    pub poisoned: Option<String>,
    /// The index: slots by state and class, evictions, lock counts.
    pub index: IndexStats,
    /// I/O queues of calls and of async operations. The queue of a blocking call is counted when the call ends.
    pub queues: QueueCounters,
}

/// What the scrubber did since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubStats {
    /// Entries that it proved or dropped.
    pub entries: u64,
    /// Bytes that it read from the device, headers and second reads included.
    pub bytes: u64,
    /// Entries that it dropped; they are counted in [`StoreStats::dropped`] too.
    pub dropped: u64,
    /// Reads that the device failed, and steps that it did not answer. They drop nothing.
    pub errors: u64,
    /// Passes over all entries that it finished.
    pub passes: u64,
}

/// What was discarded since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscardStats {
    /// Freed slots whose discard has ended.
    pub slots: u64,
    /// Bytes that the device was told of.
    pub bytes: u64,
    /// Requests that the device failed. Their slots are free all the same.
    pub failures: u64,
    /// Why nothing is discarded any more, or never was, though
    /// [`StoreOptions::discard_freed`](crate::StoreOptions::discard_freed) asks for it.
    pub off: Option<String>,
}
