//! Block I/O engines, registered buffers and request splitting for files and block devices.
//!
//! * [`Arena`], [`Buffer`], [`Loan`], [`IoBuf`]: page-aligned memory, and types that encode which code may
//!   access it.
//! * [`Device`]: an exclusively opened file, block device or NVMe namespace, with its [`Limits`]
//!   and their sources; [`find_signatures`] finds data of other programs on it.
//! * [`Engine`] and [`Queue`]: the two traits, and [`open`], which chooses an engine by name:
//!   io_uring and NVMe passthrough (feature `io-uring`, on by default), posix, or libblkio (feature
//!   `libblkio`), which also reaches the disk behind a vhost-user socket.
//! * [`probe`](fn@probe): what a path supports, and what to change for better performance.
//! * [`Lane`]: one queue with splitting, retry and joining. Most users need nothing else.
//!
//! All unsafe code of the project is in this crate, in files whose first line explains it. The rule
//! that makes it sound: from push to completion a buffer belongs to the in-flight table, so
//! dropping a waiter, queue or lane never frees memory that the kernel may still write.
//!
//! This crate is *not* a store, a cache or a format: it knows nothing of keys or slots. It is not
//! an async runtime and starts no threads, except the posix engine's workers for batches, one for a
//! probe, and one for the handshake with a vhost-user server. Linux only.
//!
//! ```
//! use rb_io::{Arena, Device, EngineKind, Issuer, Lane, QueueOptions, Request};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("device");
//! let device = Device::create_file(&path, 16 << 20, false)?;
//! let opened = rb_io::open(device, EngineKind::Auto)?;
//! for rejected in &opened.rejected {
//!     println!("not {}: {}", rejected.kind, rejected.reason);
//! }
//!
//! let arena = Arena::allocate(1 << 20)?;
//! let options = QueueOptions { arenas: vec![arena.clone()], ..QueueOptions::default() };
//! let mut lane = Lane::new(opened.engine.queue(&options)?, opened.engine.limits());
//!
//! let mut buffer = arena.take(64 << 10).ok_or("the arena is full")?;
//! buffer.fill(7);
//! let len = buffer.len();
//! let mut done = lane.run(vec![Request::write(4096, buffer, 0, len)]);
//! let written = done.remove(0);
//! written.result?;
//!
//! let mut buffer = written.buf.ok_or("the buffer always comes back")?;
//! buffer.fill(0);
//! let done = lane.run(vec![Request::read(4096, buffer, 0, len)]);
//! assert!(done[0].buf.as_ref().is_some_and(|read| read.iter().all(|byte| *byte == 7)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arena;
#[cfg(feature = "libblkio")]
mod blkio;
mod board;
mod buffer;
mod descriptors;
mod device;
mod engine;
mod error;
#[cfg(any(feature = "io-uring", feature = "libblkio"))]
mod flight;
mod histogram;
#[cfg(test)]
mod in_flight_tests;
mod kind;
mod lane;
mod limits;
mod memory_limit;
mod nvme;
mod open;
mod patience;
mod posix;
mod probe;
mod process;
mod request;
mod signature;
mod split;
mod sys;
#[cfg(feature = "io-uring")]
mod uring;
#[cfg(feature = "io-uring")]
mod uring_cmd;
mod wake;
mod wear;

#[cfg(feature = "libblkio")]
pub use crate::blkio::LibblkioEngine;
pub use arena::{Arena, ArenaError, ArenaId, PAGE_BYTES};
pub use board::{Board, Wait};
pub use buffer::{Buffer, IoBuf, Loan};
pub use device::{Access, Claim, Device, DeviceKind, Reservation};
pub use engine::{DEPTH_MAX, Engine, Feature, Issuer, Queue, QueueCounters, QueueOptions};
pub use error::{IoError, OpenError};
pub use histogram::{Histogram, Latency};
pub use kind::{EngineKind, UnknownEngine};
pub use lane::{Completion, Lane, PartSum, Request, RequestStats, Requests, Segment};
pub use limits::{DiscardLimits, Limit, Limits};
pub use memory_limit::memory_limit;
pub use nvme::{PlacedWrites, Wear};
pub use open::{Opened, Rejected, open};
pub use patience::Patience;
pub use posix::PosixEngine;
pub use probe::{EngineOffer, EngineProbe, Probe, probe};
pub use process::Process;
pub use request::{Memory, OpKind, Part, PartDone, PlacementId};
pub use signature::{Signature, find_signatures, wipe_list};
pub use split::{Span, Spans, split};
pub use sys::prefetch::prefetch;
#[cfg(feature = "io-uring")]
pub use uring::UringEngine;
#[cfg(feature = "io-uring")]
pub use uring_cmd::UringCmdEngine;
pub use wake::Waker;
pub use wear::wear;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
