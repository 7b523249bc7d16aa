//! What a caller may choose. Every field has a default; nothing is read from the environment.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rb_index::PolicyFactory;
use rb_io::{Arena, EngineKind, PlacementId};

use crate::clock::{Clock, Random, SystemClock, SystemRandom};
use crate::events::Events;
use crate::progress::Progress;
use crate::simulator::Simulator;
use crate::source::Source;

/// When a put or a remove is acknowledged (C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once it is done and its record is queued; durable within `sync_interval`, or after `sync`.
    Interval,
    /// Only after its data and its log record are flushed.
    EachBatch,
}

/// How entries recovered from metadata are checked against their slots' headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validate {
    /// In the background after an unclean shutdown; every first read proves its entry anyway.
    Background,
    /// All of them before `open` returns.
    Eager,
    /// Not at all, beyond the proof of each read.
    Off,
}

/// What keeps others from writing to a store that is open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusive {
    /// A lock, which keeps out the processes of this host. Another host is found when it has opened the store, and one of
    /// the two stops writing; what that one has sent before may still land.
    Lock,
    /// The lock, and a persistent reservation of the device (SCSI, NVMe), which refuses the writes of other hosts. A device that
    /// has none, a partition and a file are refused. The reservation outlives a kill, and then this host alone can open
    /// the store, until it has closed it.
    Reserve,
}

/// What to do when the device's metadata is damaged (C3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLostMetadata {
    /// Keep what slot headers prove. A removed key may return, and the report says so.
    Scan,
    /// Start empty, so that nothing that was removed or replaced returns. The default.
    Empty,
}

/// Who runs the background tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Threads of the store.
    Threads,
    /// The caller, through [`Store::step_commit`](crate::Store::step_commit) and its siblings; for
    /// simulators. Async operations then run in the call that makes them.
    Manual,
}

/// How whole values are verified in the background, beyond the proof of each read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// Bytes read from the device per second, headers and second reads included. Over any stretch of time it
    /// is no more than that, plus a tenth of a second's worth and one value.
    pub bytes_per_second: NonZeroU64,
    /// A pass begins no sooner than this after the one before it began. At least one second.
    pub pass_interval: Duration,
}

impl Scrub {
    /// A pass a day at this rate; without a pause if a pass takes longer than a day.
    #[must_use]
    pub fn daily(bytes_per_second: NonZeroU64) -> Scrub {
        Scrub {
            bytes_per_second,
            pass_interval: Duration::from_hours(24),
        }
    }
}

/// A lifetime class of values. Those of one class are likely to go at about the same time, so a device that is
/// told keeps them together. What each number stands for is the caller's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lifetime(pub u8);

/// Where a device that has placement ids puts what the store writes.
///
/// Ids are those that the engine announces (`Limits::placements`). Opening fails for any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The id of the log, checkpoint bases and all other metadata; none: written without one.
    pub metadata: Option<PlacementId>,
    /// The id of the values of each [`Lifetime`], from class 0 on; empty: values are written without one, and
    /// their class does not matter.
    pub lifetimes: Vec<PlacementId>,
}

/// A geometry the caller relies on; opening fails with both values if the device has another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedGeometry {
    /// Capacity of each slot class in bytes, in increasing order; empty: any.
    pub slot_bytes: Vec<u64>,
    /// Total number of slots.
    pub slots: Option<u64>,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The I/O engine of a device or file. Only `Auto` may fall back, and it says what it rejected.
    pub engine: EngineKind,
    /// Never write to the device and take no lock on it.
    pub read_only: bool,
    /// Drop everything the store holds when opening it. Costs two superblock writes, whatever its size.
    pub start_empty: bool,
    /// Write to a device although it shows to belong to another program; see [`OpenError::Foreign`](crate::OpenError::Foreign).
    /// What was found there stays as far as the store does not write to it.
    pub force: bool,
    /// What keeps others from writing while the store is open for writing.
    pub exclusive: Exclusive,
    /// Requests in flight per queue, 1 to 4096.
    pub queue_depth: u32,
    /// Queues that blocking calls share, at least 1. More callers than queues wait their turn.
    pub queues_max: usize,
    /// Buffer memory in bytes, registered with each queue, which pins what it uses of it; none: 64 MiB, or two of
    /// the largest slots if that is more.
    pub buffer_bytes: Option<usize>,
    /// Memory that belongs to someone else, to be registered beside the store's own.
    pub arenas: Vec<Arena>,
    /// Index shards, a power of two; 1 makes eviction exact. None: chosen from the number of slots.
    pub shards: Option<u32>,
    /// What to evict when slots are short. None: the least recently used ([`Lru`](crate::policy::Lru)). A restart gives a policy what
    /// it recovers in the order of the last use; no other state of a policy is kept.
    pub policy: Option<Arc<dyn PolicyFactory>>,
    /// When a put or a remove is acknowledged.
    pub durability: Durability,
    /// How long acknowledged work may stay volatile under [`Durability::Interval`].
    pub sync_interval: Duration,
    /// How recovered entries are validated.
    pub validate: Validate,
    /// Whether and how fast whole values are verified in the background. By default they are not: every read
    /// is verified anyway, and an idle store should cost nothing.
    pub scrub: Option<Scrub>,
    /// Whether slots that become free are discarded, so that the device (or the file system under a file) gets
    /// their space back. It takes a commit before a slot is discarded, and the slot cannot be used while that
    /// lasts; see `docs/durability.md`. Slots that are free when the store is opened are not discarded. Where the
    /// device takes no discards, or none as small as a slot, or where a class has fewer than eight slots, [`StoreStats::discard`](crate::StoreStats::discard)
    /// says so.
    pub discard_freed: bool,
    /// Where the device puts what is written. A slot is used again for values of the class that it had
    /// before, as far as there are such; of slots that were free when the store was opened that is not known.
    pub placement: Placement,
    /// What to do with damaged metadata.
    pub on_lost_metadata: OnLostMetadata,
    /// A geometry the caller relies on.
    pub expected: ExpectedGeometry,
    /// How long opening waits for another opener to give the device back: the kernel needs a moment, rarely seconds, to end
    /// a process that was killed with requests in flight. Looks at least once a second; 1 s is the least. Where the system
    /// says that the opener's process has ended it waits up to `io_deadline`.
    pub lock_wait: Duration,
    /// How long a call waits for the device, all rounds of its requests together, before keys are answered with
    /// `TimedOut`. A background request may take as long. Time in which the process was stopped counts as an eighth at most.
    pub io_deadline: Duration,
    /// How long a call waits for buffers, log space and an I/O queue together before keys are answered with `Busy`. An
    /// async call waits for nothing; its operation is answered so.
    pub busy_wait: Duration,
    /// Who runs the background tasks.
    pub background: Background,
    /// An observer.
    pub events: Option<Arc<dyn Events>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
    /// Hooks for a simulator.
    pub simulator: Option<Arc<dyn Simulator>>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            engine: EngineKind::Auto,
            read_only: false,
            start_empty: false,
            force: false,
            exclusive: Exclusive::Lock,
            queue_depth: 256,
            queues_max: 8,
            buffer_bytes: None,
            arenas: Vec::new(),
            shards: None,
            policy: None,
            durability: Durability::Interval,
            sync_interval: Duration::from_millis(50),
            validate: Validate::Background,
            scrub: None,
            discard_freed: false,
            placement: Placement::default(),
            on_lost_metadata: OnLostMetadata::Empty,
            expected: ExpectedGeometry::default(),
            lock_wait: Duration::from_secs(2),
            io_deadline: Duration::from_secs(30),
            busy_wait: Duration::from_secs(5),
            background: Background::Threads,
            events: None,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            simulator: None,
        }
    }
}

/// What a put does when the key is already there.
pub use rb_index::PutMode;

/// How values are put.
#[derive(Clone, Copy, Debug)]
pub struct PutOptions {
    /// Replace or keep what is there.
    pub mode: PutMode,
    /// Overrides the store's durability for this batch.
    pub durability: Option<Durability>,
    /// The lifetime class of the values: below the number of
    /// [`Placement::lifetimes`], unless there are none.
    pub lifetime: Lifetime,
}

impl Default for PutOptions {
    fn default() -> Self {
        PutOptions {
            mode: PutMode::Replace,
            durability: None,
            lifetime: Lifetime::default(),
        }
    }
}

/// How a device is formatted.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// The device, a file to be made or formatted, or an engine.
    pub source: Source,
    /// The engine that writes it. `Auto` takes the simplest that reaches it, and only a format by that name shows that another
    /// can be used. Of no meaning where the source is an engine.
    pub engine: EngineKind,
    /// Size of a file to be made or grown, in bytes; none: the device's or file's own size, or
    /// just what the classes need when all of them name a number of slots.
    pub bytes: Option<u64>,
    /// The slot classes.
    pub classes: Vec<rb_format::ClassRequest>,
    /// Longest key in bytes, 1 to 1024.
    pub key_len_max: u32,
    /// Longest metadata in bytes, 0 to 256.
    pub metadata_len_max: u32,
    /// Size of the delta log in bytes; none: chosen from the number of slots.
    pub log_bytes: Option<u64>,
    /// Leave the blocks of a file's slots unallocated. A full file system then fails puts later. The metadata has its blocks.
    pub sparse: bool,
    /// Discard all slots: the device, or the file system under a file, hears that nothing there is needed. The
    /// blocks of a file's slots are then unallocated, as with `sparse`; its metadata keeps its space.
    pub discard: bool,
    /// The caller knows that formatting destroys what is there. Not needed for a new file.
    pub consent: bool,
    /// Format even what carries a file-system, partition or foreign signature.
    pub force: bool,
    /// Told how many bytes have been discarded, and of how many.
    pub progress: Option<Progress>,
    /// When the store is formatted, in seconds since the Unix epoch: expiries count from it.
    pub formatted_at: u64,
    /// Random bytes, for the UUID.
    pub random: Arc<dyn Random>,
}

impl FormatOptions {
    /// Options for one class of slots with default limits: keys up to 512 bytes, no metadata. The time is that
    /// of the system's clock.
    #[must_use]
    pub fn new(source: impl Into<Source>, classes: Vec<rb_format::ClassRequest>) -> FormatOptions {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        FormatOptions {
            source: source.into(),
            engine: EngineKind::Auto,
            bytes: None,
            classes,
            key_len_max: 512,
            metadata_len_max: 0,
            log_bytes: None,
            sparse: false,
            discard: false,
            consent: false,
            force: false,
            progress: None,
            formatted_at: now.map_or(0, |now| now.as_secs()),
            random: Arc::new(SystemRandom),
        }
    }
}
