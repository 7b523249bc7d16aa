//! Counters of a store as plain structs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rb_format::LifetimeCounters;
use rb_index::IndexStats;
use rb_io::{Latency, QueueCounters, Requests};
use serde::{Deserialize, Serialize};

use crate::counters::ScrubCounters;

/// Counters since the store was opened. See [`Store::stats`](crate::Store::stats).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Keys for which a get returned the value.
    pub hits: u64,
    /// Keys that a get did not find, or found and dropped because verification failed. Keys for which a get returned an
    /// error are neither hits nor misses.
    pub misses: u64,
    /// Keys whose put was acknowledged after its write.
    pub puts: u64,
    /// Keys passed to removes that succeeded, including keys without an entry.
    pub removes: u64,
    /// Bytes of payload written.
    pub bytes_put: u64,
    /// Bytes of payload read and verified.
    pub bytes_got: u64,
    /// Bytes of payload copied from callers' memory, or by [`get_many_at`](crate::Store::get_many_at) to it.
    pub bytes_copied: u64,
    /// Bytes of payload that went straight between the device and callers' memory.
    pub bytes_direct: u64,
    /// Operations on callers' memory that the device refused, and that were repeated by a copy.
    pub direct_refused: u64,
    /// The reason why an arena of the caller's is not used directly any more, after it was refused three times.
    pub direct_off: Option<String>,
    /// Reads of values that the device failed.
    pub read_errors: u64,
    /// Entries dropped because their bytes on the device were not those that were put.
    pub dropped: u64,
    /// The same entries by the check that they failed.
    pub drops: DropStats,
    /// Keys whose operation failed, by the error.
    pub failures: FailureStats,
    /// Waits of operations for what others had in use, by cause.
    pub waits: WaitsStats,
    /// Durations of operations; empty without [`StoreOptions::timed`](crate::StoreOptions::timed).
    pub latency: LatencyStats,
    /// Requests of the device; empty without [`StoreOptions::timed`](crate::StoreOptions::timed).
    pub device: DeviceStats,
    /// Entries dropped because an operation looked them up after their expiry.
    pub expired: u64,
    /// Puts that were not admitted, by who refused them.
    pub refused: RefusedStats,
    /// The write budget; `None` without one.
    pub budget: Option<BudgetStats>,
    /// Group commits.
    pub commits: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Blocks of metadata that the device failed to write. The other copy was written, or the block was written elsewhere.
    pub metadata_write_errors: u64,
    /// True while a checkpoint is being written.
    pub checkpointing: bool,
    /// Longest time that a checkpoint held the lock of a shard.
    pub longest_snapshot_hold: Duration,
    /// Longest time that an operation waited for the lock of the log, or for log space.
    pub longest_log_wait: Duration,
    /// Entries that the validator checked.
    pub validated: u64,
    /// Counters of the scrubber.
    pub scrub: ScrubStats,
    /// Counters of discards of freed slots.
    pub discard: DiscardStats,
    /// Log blocks that a restart would replay.
    pub replay_blocks: u64,
    /// Log blocks to replay at which the next checkpoint is due.
    pub checkpoint_blocks: u64,
    /// Log blocks in total.
    pub log_blocks: u64,
    /// The failed write of metadata or flush that poisoned the store, so that it cannot be written until it is reopened;
    /// `None` if it is not poisoned.
    pub poisoned: Option<String>,
    /// Counters over all sessions since the store was formatted. What a session counts after its last checkpoint is lost if
    /// its process is killed. Bytes and errors are counted with
    /// [`StoreOptions::timed`](crate::StoreOptions::timed) only.
    pub lifetime: LifetimeCounters,
    /// Counters of the index: slots by state and class, evictions, locks.
    pub index: IndexStats,
    /// Counters of the queues of blocking calls and of async operations. The queue of a blocking call is counted when the
    /// call ends.
    pub queues: QueueCounters,
}

/// Durations of operations, from the call to the result, blocking and async ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LatencyStats {
    /// Gets of one or many keys that read at least one value.
    pub get: Latency,
    /// Puts of one or many keys.
    pub put: Latency,
    /// Removes of one or many keys.
    pub remove: Latency,
    /// Syncs.
    pub sync: Latency,
    /// Group commits that wrote or flushed something.
    pub commit: Latency,
    /// Checkpoints, finished or failed.
    pub checkpoint: Latency,
}

/// Requests of the device by what they were for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DeviceStats {
    /// Reads and writes of values.
    pub values: KindStats,
    /// Log blocks of both rings, and the checks for other writers.
    pub log: KindStats,
    /// Checkpoint bases.
    pub base: KindStats,
    /// Validation, scrubbing and discards of freed slots.
    pub upkeep: KindStats,
    /// Requests in flight.
    pub in_flight: usize,
    /// Age of the oldest of them; `None` if there is none.
    pub oldest: Option<Duration>,
}

/// Completed requests by operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct KindStats {
    /// Reads.
    pub read: Requests,
    /// Writes.
    pub write: Requests,
    /// Flushes.
    pub flush: Requests,
    /// Discards.
    pub discard: Requests,
}

impl KindStats {
    /// Number of requests that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        let all = self.by_operation().into_iter();
        all.fold(0, |sum, (_, requests)| {
            sum.saturating_add(requests.failures)
        })
    }
}

/// Entries dropped since the store was opened, by the check that they failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DropStats {
    /// Entries that a get dropped.
    pub get: u64,
    /// Entries that the validator dropped.
    pub validation: u64,
    /// Entries that the scrubber dropped.
    pub scrub: u64,
}

/// Keys whose operation failed since the store was opened, by the error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FailureStats {
    /// [`Error::NoSpace`](crate::Error::NoSpace).
    pub no_space: u64,
    /// [`Error::Busy`](crate::Error::Busy).
    pub busy: u64,
    /// [`Error::TimedOut`](crate::Error::TimedOut).
    pub timed_out: u64,
    /// [`Error::Io`](crate::Error::Io) for lack of space in the file system.
    pub out_of_space: u64,
    /// [`Error::Io`](crate::Error::Io) for any other reason.
    pub io: u64,
    /// [`Error::Poisoned`](crate::Error::Poisoned).
    pub poisoned: u64,
    /// Invalid keys, values, metadata or memory, and every other error.
    pub other: u64,
}

/// Puts that were not admitted since the store was opened, by who refused them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RefusedStats {
    /// By the eviction policy: worth less than what they would replace.
    pub policy: RefusedPuts,
    /// By the write budget: worth less than a write, or nothing was left.
    pub budget: RefusedPuts,
}

/// Puts that were refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RefusedPuts {
    /// Their keys; several puts of one key in a batch are one.
    pub keys: u64,
    /// Their payload in bytes.
    pub bytes: u64,
}

/// The write budget of a store ([`StoreOptions::write_budget_per_day`](crate::StoreOptions::write_budget_per_day)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct BudgetStats {
    /// Bytes of any 24 hours.
    pub bytes_per_day: u64,
    /// Bytes spent in the last 24 hours, sessions before this one included.
    pub spent_bytes: u64,
    /// The least number of times that a block must be read in the time of as many lookups as the store has slots, to be
    /// worth a write. 0 while the budget is enough for all.
    pub floor: f64,
}

/// Waits of operations since the store was opened, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WaitsStats {
    /// For buffer memory.
    pub buffers: WaitStats,
    /// For an I/O queue.
    pub queues: WaitStats,
    /// For log space.
    pub log_space: WaitStats,
    /// For slots: for a commit that frees them, or for a put of several slots.
    pub slots: WaitStats,
}

/// Waits for one cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WaitStats {
    /// Their number.
    pub count: u64,
    /// Their sum.
    pub total: Duration,
}

/// Counters of the scrubber since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ScrubStats {
    /// Entries verified or dropped.
    pub entries: u64,
    /// Bytes read from the device, including headers and second reads.
    pub bytes: u64,
    /// Entries dropped; also counted in [`StoreStats::dropped`].
    pub dropped: u64,
    /// Reads that the device failed, and steps in which it did not respond. They drop no entry.
    pub errors: u64,
    /// Passes over all entries that were finished.
    pub passes: u64,
}

impl ScrubStats {
    pub(crate) fn of(counters: &ScrubCounters) -> ScrubStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ScrubStats {
            entries: get(&counters.entries),
            bytes: get(&counters.bytes),
            dropped: get(&counters.dropped),
            errors: get(&counters.errors),
            passes: get(&counters.passes),
        }
    }
}

/// Counters of discards since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DiscardStats {
    /// Freed slots whose discard has ended.
    pub slots: u64,
    /// Bytes in the discards sent to the device.
    pub bytes: u64,
    /// Requests that the device failed. Their slots become free anyway.
    pub failures: u64,
    /// The reason why the store does not discard, or has stopped, although
    /// [`StoreOptions::discard_freed`](crate::StoreOptions::discard_freed) is set.
    pub off: Option<String>,
}
