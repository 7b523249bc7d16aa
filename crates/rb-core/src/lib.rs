//! A crash-safe, persistent cache for large values straight on raw block storage.
//!
//! Values of 4 KiB to 1 GiB (made for 64 KiB to 64 MiB: KV-cache blocks of LLM inference) live in
//! fixed slots on an NVMe namespace, any other block device, or a plain file. Every read is
//! verified; after [`Store::sync`] a value survives any crash; a full device evicts the least
//! recently used; a restart reads a compact index instead of the slots.
//!
//! It is **not** a file system, a general key-value database or a distributed store: no range
//! queries, no transactions over several keys, one process writes at a time, and being a cache it
//! may evict whatever is not leased.
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
//! The way of a get is in `get.rs`, that of a put in `put.rs`; each step calls one lower crate:
//! `rb-index` (who lives where), `rb-format` (what the bytes mean), `rb-io` (how they move).
#![forbid(unsafe_code)]

mod apply;
mod async_ops;
mod audit;
mod base_load;
mod base_write;
mod batch;
mod boot;
mod chain;
mod checkpoint;
mod clock;
mod commit;
mod crew;
mod cut;
mod discard;
mod driver;
mod duties;
mod error;
mod events;
mod fingerprint;
mod format_device;
mod gate;
mod get;
mod get_wave;
mod headers;
mod incarnations;
mod inner;
mod inspect;
mod lanes;
mod log;
mod log_order;
mod log_reader;
mod mend;
mod meta_io;
mod open;
mod operation;
mod options;
mod placed;
mod poison;
mod proof;
mod put;
mod put_plan;
mod put_wave;
mod quarantine;
mod query;
mod recover;
mod remove;
mod repair;
mod replay;
mod scan;
mod scrub;
mod simulator;
mod slots;
mod stats;
mod store;
mod take_over;
mod unwritable;
mod validate;
mod value;
mod walk;
mod whose;

pub use audit::{
    AuditOptions, AuditReport, AuditState, Finding, Progress, Severity, audit, audit_engine,
};
pub use clock::{Clock, ManualClock, Random, SeededRandom, SystemClock, SystemRandom};
pub use error::{Error, FormatError, OpenError};
pub use events::{DropReason, Event, Events};
pub use format_device::{claim_device, format, format_engine, is_store};
pub use get::Lookup;
pub use inspect::{Inspected, Side, Target, inspect, inspect_engine, superblock_copies};
pub use operation::Operation;
pub use options::{
    Background, Durability, Exclusive, ExpectedGeometry, FormatOptions, Lifetime, OnLostMetadata,
    Placement, PutMode, PutOptions, Scrub, StoreOptions, Validate,
};
pub use put::PutResult;
pub use put_plan::{Payload, Put, Stored};
pub use query::{EntryInfo, Lock};
pub use rb_format::{ClassRequest, FieldText, Geometry, Share, Superblock};
pub use rb_index::{ClassStats, IndexStats};
pub use rb_io::{
    Arena, DeviceKind, EngineKind, EngineOffer, EngineProbe, Feature, Limit, Limits, PlacementId,
    Probe, QueueCounters, Rejected, probe,
};
pub use recover::RecoveryReport;
pub use repair::{RepairReport, repair, repair_engine};
pub use scan::ScanReport;
pub use simulator::{Change, HeldLock, Simulator, SwitchPoint};
pub use stats::{DiscardStats, ScrubStats, StoreStats};
pub use store::Store;
pub use value::{Value, ValueBuf};
pub use whose::Foreign;
