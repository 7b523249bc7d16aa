//! What an opening reports of the store that it found.

use std::fmt;
use std::time::Duration;

use rb_format::Generation;
use rb_io::Signature;

/// How an opening found the store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Live entries recovered.
    pub entries: u64,
    /// The log ended with a close record: the store was closed properly.
    pub clean: bool,
    /// Sequence of the base that was loaded.
    pub base_sequence: Option<u64>,
    /// Why a newer base was not usable.
    pub base_damage: Vec<String>,
    /// Log blocks replayed.
    pub log_blocks: u64,
    /// Log records replayed.
    pub log_records: u64,
    /// Metadata that is damaged or missing in one of its two places, in words: damage that cost nothing.
    pub one_copy: Vec<String>,
    /// Blocks of it, and of what a crash left in one place, that this opening wrote again.
    pub copies_rewritten: u64,
    /// Blocks of it that the device could not write again.
    pub copies_unwritten: u64,
    /// Blocks of the metadata that the device once did not take, in bytes from its start: as many as a base remembers.
    pub bad_blocks: Vec<u64>,
    /// Slots that are out of use because the device did not take their writes.
    pub bad_slots: usize,
    /// Slots that were out of use, and that the device takes writes to again.
    pub forgiven_slots: usize,
    /// Metadata was lost (C3): why. Then `scanned`, or the store starts empty.
    pub lost_metadata: Option<String>,
    /// What slot headers proved, when metadata was lost. A removed key may have returned.
    pub scanned: Option<ScanReport>,
    /// A superblock copy was rewritten.
    pub superblock_repaired: bool,
    /// What the device carries that the store did not leave there. Not empty only if the store was opened
    /// read-only, or by force.
    pub foreign: Vec<Foreign>,
    /// Bytes that the device has, or had until this opening grew it again, if that is less than the layout needs. No
    /// entry was in the part that is gone.
    pub cut_to: Option<u64>,
    /// Why the metadata of a file that was opened for writing lacks space, if it does: its writes may fail when the file
    /// system is full, and are tried again then.
    pub unallocated: Option<String>,
    /// Why a store that is read through the page cache and was opened for writing had to believe it, if it had to: what
    /// another opening failed to flush may be taken for durable.
    pub page_cache: Option<String>,
    /// Superblock copies that are neither whole nor as a crash leaves them, in words: they are left alone.
    pub superblock_left: Vec<String>,
    /// Openings for writing since the store was formatted or started empty, this one included if it is one. One that finds
    /// [`openings_max`](Self::openings_max) is refused.
    pub openings: u32,
    /// Everything was dropped because the options asked to start empty.
    pub started_empty: bool,
    /// Time spent on loading the base.
    pub base_time: Duration,
    /// Time spent on replaying the log, or on scanning headers.
    pub log_time: Duration,
    /// Time spent on finishing the index: recency, free lists.
    pub index_time: Duration,
    /// Entries that were validated before `open` returned, with [`Validate::Eager`](crate::Validate::Eager).
    pub validated: u64,
    /// Time spent on that.
    pub validation_time: Duration,
    /// Time from the start of `open` until it could serve.
    pub total_time: Duration,
}

impl RecoveryReport {
    /// How often a store can be opened for writing before it has to be formatted or started empty: once a second for 48
    /// days.
    #[must_use]
    pub const fn openings_max() -> u32 {
        Generation::INCARNATION_MAX
    }

    /// How many openings for writing are left, if seven eighths or more are used up.
    #[must_use]
    pub fn few_openings_left(&self) -> Option<u32> {
        let max = RecoveryReport::openings_max();
        let few = self.openings >= max - max / 8;
        few.then(|| max.saturating_sub(self.openings))
    }
}

/// What the headers said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Slots read.
    pub slots: u64,
    /// Slots whose header is of this store and epoch.
    pub headers: u64,
    /// Slots that could not be read.
    pub unreadable: u64,
}

/// Something on the device that the store did not leave there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What it is, in words.
    pub what: String,
    /// Where, in bytes from the start of the device.
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

/// All of them in one line.
pub(crate) fn list(found: &[Foreign]) -> String {
    let words: Vec<_> = found.iter().map(ToString::to_string).collect();
    words.join(", ")
}
