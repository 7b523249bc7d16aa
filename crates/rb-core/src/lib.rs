//! A crash-safe, persistent cache for large values straight on raw block storage.
//!
//! Values live in fixed slots of 4 KiB to 1 GiB (typically 64 KiB to 64 MiB: KV-cache blocks of LLM inference) on an NVMe
//! namespace, any other block device, or a plain file. Every read is verified. After [`Store::sync`] a value survives any
//! crash. A full store evicts the least recently used entries, or follows a custom policy ([`StoreOptions::policy`]). A
//! restart reads a compact index instead of the slots.
//!
//! It is **not** a file system, a general key-value database or a distributed store: it has no range
//! queries and no transactions over several keys, one process writes at a time, and as a cache it
//! may evict every entry that is not leased.
//!
//! ```
//! use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions, format};
//!
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("cache");
//! format(&FormatOptions::new(&path, vec![ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(64) }]))?;
//!
//! let store = Store::open(&path, StoreOptions::default())?;
//! store.put(b"block-1", &[42; 50_000])?;
//! store.sync()?;
//! let value = store.get(b"block-1")?.expect("it was put");
//! assert_eq!(&value[..], [42; 50_000]);
//! store.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To read the code, start with `ops/get.rs` and `ops/put.rs`. Each step calls one lower crate: `rb-index` (which key is in
//! which slot), `rb-format` (the bytes on the device), `rb-io` (I/O).
#![forbid(unsafe_code)]

mod background;
mod breakdown;
mod check;
mod clock;
mod core;
mod counters;
mod error;
mod events;
mod io;
mod log;
mod memory;
#[cfg(feature = "prometheus")]
mod metrics;
mod open;
mod operation;
mod ops;
mod options;
mod progress;
mod report;
mod simulator;
mod source;
mod stats;
mod store;
mod trace;
mod value;

/// Types of a custom eviction policy: implement [`Policy`](policy::Policy), and set a
/// [`PolicyFactory`](policy::PolicyFactory) in [`StoreOptions::policy`].
pub mod policy {
    pub use rb_index::{
        Admitted, Entries, Gone, Hints, IndexError, Judged, Learned, Lookup, Lru, Note, Origin,
        Place, Policies, Policy, PolicyFactory, Purpose, Resident, Room, SharedPolicy,
    };
}

/// Questions to the process that has a store open for writing; see [`StoreOptions::monitor`].
pub mod monitor {
    pub use crate::check::monitor::{MonitorError, ScrubProgress, Session, scrub, session};
}

pub use check::audit::{AuditOptions, AuditReport, AuditState, Finding, Severity, audit};
pub use check::inspect::{Inspected, Side, Target, inspect, superblock_copies};
pub use check::repair::{RepairReport, repair};
pub use clock::{Clock, ManualClock, Random, SeededRandom, SystemClock, SystemRandom};
pub use error::{CreateError, Error, FormatError, OpenError};
pub use events::{DropReason, Event, Events};
#[cfg(feature = "prometheus")]
pub use metrics::{LabelInUse, StoreMetrics};
pub use open::block_size::probe;
pub use open::format_device::{Formatted, claim_device, format, is_store};
pub use operation::Operation;
pub use ops::list::{ListCursor, ListOrder};
pub use ops::put_plan::{Payload, Put, PutOutcome, PutResult};
pub use ops::query::{EntryInfo, Pin};
pub use ops::remove::{RemoveMode, RemoveOutcome, RemoveResult};
pub use options::{
    Background, Durability, Exclusive, Expected, FormatOptions, Lifetime, OnLostMetadata,
    Placement, PutMode, PutOptions, Scrub, StoreOptions, Validate,
};
pub use progress::Progress;
#[cfg(feature = "prometheus")]
pub use prometheus_client;
pub use rb_format::{
    ClassRequest, Corruption, FieldText, Geometry, LayoutError, LifetimeCounters, Share, StoreUuid,
    Superblock, UnknownFeatures,
};
pub use rb_index::{ClassStats, Hints, IndexStats, SlotId};
pub use rb_io::{
    Arena, DeviceKind, EngineKind, EngineOffer, EngineProbe, Feature, IoError, Latency, Limit,
    Limits, Loan, OpenError as DeviceError, PlacementId, Probe, QueueCounters, Rejected, Requests,
};
pub use report::{Foreign, RecoveryReport, ScanReport};
pub use simulator::{Change, HeldLock, Simulator, SwitchPoint};
pub use source::Source;
pub use stats::{
    BudgetStats, DeviceStats, DiscardStats, DropStats, FailureStats, KindStats, LatencyStats,
    RefusedPuts, RefusedStats, ScrubStats, StoreStats, WaitStats, WaitsStats,
};
pub use store::Store;
pub use store::hinted::Hinted;
pub use value::{Lookup, LookupAt, Value, ValueAt, ValueBuf};

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
