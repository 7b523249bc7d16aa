//! [`RecoveryReport`]: the state in which a store was found when it was opened.

use std::fmt;
use std::time::Duration;

use rb_format::{Generation, LifetimeCounters};
use rb_io::Signature;

/// The state in which a store was found when it was opened. See [`Store::recovery`](crate::Store::recovery).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Live entries recovered.
    pub entries: u64,
    /// True if the log ended with a close record, that is after [`Store::close`](crate::Store::close).
    pub clean: bool,
    /// Sequence number of the checkpoint base that was loaded.
    pub base_sequence: Option<u64>,
    /// Reasons why newer bases were not usable.
    pub base_damage: Vec<String>,
    /// Log blocks replayed.
    pub log_blocks: u64,
    /// Log records replayed.
    pub log_records: u64,
    /// Descriptions of metadata that is damaged or missing in one of its two places. The other copy was used.
    pub one_copy: Vec<String>,
    /// Blocks rewritten in this session because they were damaged, or because a crash left them in one place only.
    pub copies_rewritten: u64,
    /// Blocks that the device failed to rewrite.
    pub copies_unwritten: u64,
    /// Byte offsets of metadata blocks that the device once failed to write, at most as many as a base has
    /// room for.
    pub bad_blocks: Vec<u64>,
    /// Slots that are out of use because the device failed their writes.
    pub bad_slots: usize,
    /// Slots that were out of use and are used again, because a new write succeeded.
    pub forgiven_slots: usize,
    /// The reason why metadata was lost (C3), if it was. `scanned` is then set, or the store starts empty.
    pub lost_metadata: Option<String>,
    /// Result of the scan of slot headers that replaced lost metadata. A removed key may have returned.
    pub scanned: Option<ScanReport>,
    /// True if a superblock copy was rewritten.
    pub superblock_repaired: bool,
    /// Foreign data found on the device. Only a store opened read-only or with `force` can report any; other openings fail.
    pub foreign: Vec<Foreign>,
    /// Size of the device in bytes if it is less than the layout needs; for a file, before this session grew it again. No
    /// entry was in the missing part.
    pub cut_to: Option<u64>,
    /// The reason why the metadata of a file opened for writing is not fully allocated, if it is not. Its writes may fail
    /// while the file system is full, and are retried.
    pub unallocated: Option<String>,
    /// The reason why the page cache could not be verified, if a store in buffered mode was opened for writing and it could
    /// not: data that an earlier session failed to flush may be taken for durable.
    pub page_cache: Option<String>,
    /// Descriptions of superblock copies that are neither valid nor as a crash leaves them. They were not overwritten.
    pub superblock_left: Vec<String>,
    /// Sessions for writing since the store was formatted or started empty, including this one if it writes. At
    /// [`openings_max`](Self::openings_max) opening for writing fails.
    pub openings: u32,
    /// Counters over all sessions until the checkpoint that was loaded. Those of [`StoreStats`](crate::StoreStats) include
    /// this session.
    pub lifetime: LifetimeCounters,
    /// True if every entry was dropped because [`StoreOptions::start_empty`](crate::StoreOptions::start_empty) was set.
    pub started_empty: bool,
    /// Time spent on loading the base.
    pub base_time: Duration,
    /// Time spent on replaying the log, or on scanning headers.
    pub log_time: Duration,
    /// Time spent on finishing the index: recency, free lists.
    pub index_time: Duration,
    /// Entries that were validated before `open` returned, with [`Validate::Eager`](crate::Validate::Eager).
    pub validated: u64,
    /// Time spent on that validation.
    pub validation_time: Duration,
    /// Time from the start of `open` until the store could serve.
    pub total_time: Duration,
}

impl RecoveryReport {
    /// The number of sessions for writing after which a store must be formatted or started empty: one per second for 48 days.
    #[must_use]
    pub const fn openings_max() -> u32 {
        Generation::INCARNATION_MAX
    }

    /// The number of sessions for writing that are left, if at least seven eighths are used up; otherwise `None`.
    ///
    /// ```
    /// use rb_core::RecoveryReport;
    ///
    /// let mut report = RecoveryReport::default();
    /// assert_eq!(report.few_openings_left(), None);
    /// report.openings = RecoveryReport::openings_max() - 5;
    /// assert_eq!(report.few_openings_left(), Some(5));
    /// ```
    #[must_use]
    pub fn few_openings_left(&self) -> Option<u32> {
        let max = RecoveryReport::openings_max();
        let few = self.openings >= max - max / 8;
        few.then(|| max.saturating_sub(self.openings))
    }
}

/// Counts of a scan of slot headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Slots read.
    pub slots: u64,
    /// Slots whose header is of this store and epoch.
    pub headers: u64,
    /// Slots that could not be read.
    pub unreadable: u64,
}

/// Data on the device that the store did not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Name of what was recognized.
    pub what: String,
    /// Its offset in bytes from the start of the device.
    pub offset: u64,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

impl From<Signature> for Foreign {
    fn from(found: Signature) -> Foreign {
        Foreign {
            what: found.name.to_owned(),
            offset: found.offset,
        }
    }
}

/// Formats a number with its noun: `1 entry`, `2 entries`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("{number} {noun}"),
        (_, Some(start)) => format!("{number} {start}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// Joins the descriptions with commas.
pub(crate) fn list(found: &[Foreign]) -> String {
    let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
