//! Options of formatting, opening and putting. Every option has a default; none is read from the environment.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rb_format::StoreUuid;
use rb_index::{Hints, PolicyFactory};
use rb_io::{Arena, EngineKind, PlacementId};

use crate::clock::{Clock, Random, SystemClock, SystemRandom};
use crate::events::Events;
use crate::progress::Progress;
use crate::simulator::Simulator;
use crate::source::Source;

/// The point at which a put or a remove is acknowledged (C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// When it has taken effect and its record is queued. It is durable after
    /// [`sync_interval`](StoreOptions::sync_interval) at the latest, or after [`Store::sync`](crate::Store::sync).
    Interval,
    /// When its data and its log record are flushed.
    EachBatch,
}

/// Validation of recovered entries against the headers of their slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Validate {
    /// In the background, after an unclean shutdown only. Each first read verifies its entry anyway.
    Background,
    /// All entries before `open` returns.
    Eager,
    /// None, except that each read is verified.
    Off,
}

/// Protection of an open store against other writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exclusive {
    /// A lock, which excludes other processes of this host. If another host opens the store, this is detected and one of
    /// the two stops writing; its requests that are in flight may still land.
    Lock,
    /// The lock and a persistent reservation of the device (SCSI, NVMe), with which the device rejects writes of other hosts.
    /// Opening fails on a device without reservations, on a partition and on a file. The reservation survives a kill of the
    /// process; only this host can then open the store, until it closes it.
    Reserve,
}

/// Reaction to lost metadata, when both copies are damaged (C3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLostMetadata {
    /// Keep the entries that slot headers verify. A removed key may return; the report includes the scan.
    Scan,
    /// Start empty, so that nothing that was removed or replaced returns. The default.
    Empty,
}

/// Execution of the background tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Background {
    /// Threads of the store.
    Threads,
    /// The caller, through [`Store::step_commit`](crate::Store::step_commit) and the other steps; for
    /// simulators. Async operations then run in the call that makes them.
    Manual,
}

/// Verification of whole values in the background, in addition to that of each read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// Limit of bytes read from the device per second, including headers and second reads. Over any period the scrubber
    /// exceeds it by at most a tenth of a second's worth and one value.
    pub bytes_per_second: NonZeroU64,
    /// Least time between the starts of two passes; at least one second.
    pub pass_interval: Duration,
}

impl Scrub {
    /// One pass per day at this rate; passes follow each other without a pause if one takes longer than a day.
    ///
    /// ```
    /// use std::num::NonZeroU64;
    /// use std::time::Duration;
    /// use rb_core::Scrub;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// let scrub = Scrub::daily(NonZeroU64::new(100 << 20).expect("not zero"));
    /// assert_eq!(scrub.pass_interval, Duration::from_hours(24));
    /// let scrubbed = StoreOptions { scrub: Some(scrub), ..StoreOptions::default() };
    /// let store = Store::open_or_create(&options, scrubbed)?;
    /// assert!(store.step_scrub(10)?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn daily(bytes_per_second: NonZeroU64) -> Scrub {
        Scrub {
            bytes_per_second,
            pass_interval: Duration::from_hours(24),
        }
    }
}

/// A lifetime class of values. Values of a class are likely to be replaced at about the same time, so a device with
/// placement ids keeps them together. The caller defines the meaning of each number, or leaves it to the policy, whose
/// class 0 is for the shortest lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lifetime(pub u8);

/// Placement ids of the store's writes, for devices that have them.
///
/// Valid ids are those that the engine announces ([`Limits::placements`](crate::Limits::placements)); opening fails for any
/// other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Id of the log, checkpoint bases and all other metadata; `None` writes them without an id.
    pub metadata: Option<PlacementId>,
    /// Id of the values of each [`Lifetime`], starting with class 0. If empty, values are written without an id and their
    /// class is ignored. The policy uses the first four at most.
    pub lifetimes: Vec<PlacementId>,
}

/// Properties of the store that the caller relies on. Opening fails with [`OpenError::Geometry`](crate::OpenError::Geometry) if the store
/// has another.
///
/// ```
/// use rb_core::{Expected, OpenError};
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// rb_core::format(&options)?;
/// let expected = Expected { slots: Some(17), ..Expected::default() };
/// let opened = Store::open(options.source.clone(), StoreOptions { expected, ..StoreOptions::default() });
/// assert!(matches!(opened, Err(OpenError::Geometry { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Capacity of each slot class in bytes, in increasing order; empty accepts any.
    pub slot_bytes: Vec<u64>,
    /// Total number of slots; `None` accepts any.
    pub slots: Option<u64>,
    /// UUID of the store; `None` accepts any.
    pub uuid: Option<StoreUuid>,
    /// The label of the store ([`FormatOptions::label`]); `None` accepts any. Put the model, data type and layout of the
    /// values into it: a store of another model is then an error and not a store of misses.
    pub label: Option<Vec<u8>>,
}

/// Options of [`Store::open`](crate::Store::open).
///
/// ```
/// use std::time::Duration;
/// use rb_core::Durability;
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// let durable = StoreOptions {
///     durability: Durability::EachBatch,
///     buffer_bytes: Some(8 << 20),
///     io_deadline: Duration::from_secs(5),
///     ..StoreOptions::default()
/// };
/// let store = Store::open_or_create(&options, durable)?;
/// store.put(b"key", b"value")?;
/// assert!(store.stats().commits > 0, "the put returned after its commit");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// I/O engine of a device or file. Only `Auto` falls back to another;
    /// [`Store::rejected_engines`](crate::Store::rejected_engines) lists those that it rejected.
    pub engine: EngineKind,
    /// Opens the store without writing to the device and without a lock on it.
    pub read_only: bool,
    /// Drops every entry when the store is opened, at the cost of two superblock writes.
    pub start_empty: bool,
    /// Opens a device for writing even if it carries data of another program; see
    /// [`OpenError::Foreign`](crate::OpenError::Foreign). That data stays where the store does not write.
    pub force: bool,
    /// Protection against other writers.
    pub exclusive: Exclusive,
    /// Requests in flight per queue, 1 to 4096.
    pub queue_depth: u32,
    /// Number of queues that blocking calls share, at least 1. Callers wait in order for a free queue.
    pub queues_max: usize,
    /// Buffer memory in bytes, registered with each queue, which pins the parts that it uses. `None` means 64 MiB, or twice
    /// the largest slot if that is more.
    pub buffer_bytes: Option<usize>,
    /// Arenas of the caller's, registered in addition to the store's own.
    pub arenas: Vec<Arena>,
    /// Length in bytes from which a value put from a loan is written straight from the caller's memory; shorter ones are
    /// copied. A direct write sends the header of each slot as a request of its own, which costs more than a copy of a
    /// short value.
    pub direct_min: usize,
    /// Number of index shards, a power of two; 1 makes eviction exact. `None` chooses it from the number of slots.
    pub shards: Option<u32>,
    /// Eviction policy; `None` evicts the least recently used entry ([`Lru`](crate::policy::Lru)) and admits every put.
    /// [`Learned`](crate::policy::Learned) learns what is read again, and refuses what is worth less than what it would
    /// replace. After a restart the policy receives the recovered entries in the order of their last use, and what it has
    /// saved.
    pub policy: Option<Arc<dyn PolicyFactory>>,
    /// Most bytes to write to the device in any 24 hours, values, headers, log and checkpoints together; `None` for no limit.
    /// A put that the budget has nothing for, or whose value is worth less than a write, returns
    /// [`PutOutcome::NotAdmitted`](crate::PutOutcome::NotAdmitted). A put that replaces a value is always written, and
    /// counted; so is the log that removes write, and refused puts of keys of which a former value could return after a
    /// crash, which nothing bounds. Without [`StoreOptions::timed`] log and checkpoints are not counted. See `docs/policy.md`.
    pub write_budget_per_day: Option<NonZeroU64>,
    /// The point at which puts and removes are acknowledged.
    pub durability: Durability,
    /// Longest time for which acknowledged changes stay volatile under [`Durability::Interval`].
    pub sync_interval: Duration,
    /// Validation of recovered entries.
    pub validate: Validate,
    /// Verification of whole values in the background; `None`, the default, does none. Each read is verified anyway, and an
    /// idle store should cost nothing.
    pub scrub: Option<Scrub>,
    /// Discards slots that become free, so that the device (or the file system under a file) regains their space. A slot is
    /// discarded after the commit of the change that freed it, and cannot be used until then; see `docs/durability.md`. Slots
    /// that are free when the store is opened are not discarded. If the device takes no discards, or none as small as a slot,
    /// or if a class has fewer than eight slots, [`DiscardStats::off`](crate::DiscardStats::off) has the reason.
    pub discard_freed: bool,
    /// Placement ids of writes. A slot is preferably reused for values of its former lifetime class, which is unknown for
    /// slots that were free when the store was opened.
    pub placement: Placement,
    /// Reaction to lost metadata.
    pub on_lost_metadata: OnLostMetadata,
    /// A geometry that the caller relies on.
    pub expected: Expected,
    /// Longest time that opening waits for another process to release the device; at least one second. The kernel needs a
    /// moment, rarely seconds, to end a process that was killed with requests in flight. If the system reports that the other
    /// process has ended, opening waits up to `io_deadline`.
    pub lock_wait: Duration,
    /// Longest time that a call waits for the device, over all rounds of its requests, before its keys fail with `TimedOut`;
    /// also the limit of a background request. Time in which the process was stopped counts for at most an eighth.
    pub io_deadline: Duration,
    /// Longest time that a call waits for buffers, log space and an I/O queue together before its keys fail with `Busy`. An
    /// async call does not wait; its operation does.
    pub busy_wait: Duration,
    /// Execution of the background tasks.
    pub background: Background,
    /// Measures how long operations and requests of the device take: see
    /// [`LatencyStats`](crate::LatencyStats) and [`DeviceStats`](crate::DeviceStats).
    pub timed: bool,
    /// Answers other processes of this host, such as `rb top`, about the open store: over a socket with mode 0600 in the folder
    /// of the store's file, or under its UUID in `/run/raw-block` or the user's runtime folder. A store that can have no socket
    /// works without one: see [`Store::monitor`](crate::Store::monitor).
    pub monitor: bool,
    /// An observer of events.
    pub events: Option<Arc<dyn Events>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Source of random bytes.
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
            direct_min: 256 << 10,
            shards: None,
            policy: None,
            write_budget_per_day: None,
            durability: Durability::Interval,
            sync_interval: Duration::from_millis(50),
            validate: Validate::Background,
            scrub: None,
            discard_freed: false,
            placement: Placement::default(),
            on_lost_metadata: OnLostMetadata::Empty,
            expected: Expected::default(),
            lock_wait: Duration::from_secs(2),
            io_deadline: Duration::from_secs(30),
            busy_wait: Duration::from_secs(5),
            background: Background::Threads,
            timed: true,
            monitor: true,
            events: None,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            simulator: None,
        }
    }
}

/// Behavior of a put whose key already has an entry.
pub use rb_index::PutMode;

/// Options of a batch of puts.
#[derive(Clone, Copy, Debug)]
pub struct PutOptions {
    /// Replace or keep an existing value.
    pub mode: PutMode,
    /// Durability of this batch; `None` uses that of the store.
    pub durability: Option<Durability>,
    /// Lifetime class of the values, less than the number of [`Placement::lifetimes`] unless that is 0. `None` lets the
    /// policy choose a class for each value; with LRU it is 0.
    pub lifetime: Option<Lifetime>,
    /// Knowledge of the caller about the batch, for the eviction policy.
    pub hints: Hints,
}

impl Default for PutOptions {
    fn default() -> Self {
        PutOptions {
            mode: PutMode::Replace,
            durability: None,
            lifetime: None,
            hints: Hints::new(),
        }
    }
}

/// Options of [`format`](crate::format()).
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// A device, a file, which is created if it does not exist, or an engine.
    pub source: Source,
    /// Engine that writes the store. `Auto` takes the simplest one that works; name another to find out whether it does.
    /// Ignored if the source is an engine.
    pub engine: EngineKind,
    /// Size of the store in bytes, to which a file is created or grown. `None` means the size of the device or file, or, for
    /// a file whose classes all name a number of slots, the size that these need.
    pub bytes: Option<u64>,
    /// Slot classes.
    pub classes: Vec<rb_format::ClassRequest>,
    /// Longest key in bytes, 1 to 1024.
    pub key_len_max: u32,
    /// Longest metadata in bytes, 0 to 256.
    pub metadata_len_max: u32,
    /// Size of the delta log in bytes; `None` chooses it from the number of slots.
    pub log_bytes: Option<u64>,
    /// Opaque bytes that name the content, up to 256, the last one not zero; see [`Expected::label`].
    pub label: Vec<u8>,
    /// Leaves the slots of a file unallocated, so that puts fail later if the file system is full. The metadata is allocated.
    pub sparse: bool,
    /// Discards all slots. The slots of a file are then unallocated, as with `sparse`.
    pub discard: bool,
    /// Consents to the destruction of existing data. Not needed for a new file.
    pub consent: bool,
    /// Formats even a device that carries a signature of a file system, a partition table or another program.
    pub force: bool,
    /// Callback for the bytes discarded and the total.
    pub progress: Option<Progress>,
    /// Time of the format in seconds since the Unix epoch; expiries count from it.
    pub formatted_at: u64,
    /// Source of random bytes for the UUID.
    pub random: Arc<dyn Random>,
}

impl FormatOptions {
    /// Options with the default limits, keys of up to 512 bytes and no metadata, and the time of the system's clock.
    ///
    /// ```
    /// use rb_core::{ClassRequest, FormatOptions, Share};
    ///
    /// let class = ClassRequest { slot_bytes: 1 << 20, share: Share::Rest };
    /// let options = FormatOptions::new("/dev/nvme1n1", vec![class]);
    /// assert_eq!((options.key_len_max, options.metadata_len_max), (512, 0));
    /// assert!(!options.consent && !options.force);
    /// ```
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
            label: Vec::new(),
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
