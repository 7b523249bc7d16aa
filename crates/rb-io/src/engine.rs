//! The two traits of I/O engines: [`Engine`] is the shared control plane, [`Queue`] the data plane
//! with one owner.
//!
//! Both are dyn-compatible. A virtual call per part costs nothing compared to the device, and it
//! keeps the layers above free of an engine type parameter.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::arena::{Arena, ArenaError};
use crate::error::OpenError;
use crate::limits::Limits;
use crate::request::{Part, PartDone};
use crate::wake::Waker;

/// A method of I/O on one open device.
pub trait Engine: Send + Sync + Debug {
    /// Returns a short name, such as `"posix"`; appears in errors.
    fn name(&self) -> &'static str;
    /// Returns the limits of the device under this engine. They never change.
    fn limits(&self) -> &Limits;
    /// Returns the size of the device in bytes, a multiple of the logical block. It never changes.
    fn capacity_bytes(&self) -> u64;
    /// Returns the current size of the device, if the engine can query it: files may be truncated
    /// and volumes shrunk while they are open.
    ///
    /// # Errors
    /// The system call failed.
    fn capacity_now(&self) -> io::Result<u64> {
        Ok(self.capacity_bytes())
    }
    /// Makes sure that everything read from now on is on the device, regardless of earlier failed
    /// flushes: see [`Device::distrust_cache`](crate::Device::distrust_cache). Must be called
    /// before the caller reads data that it builds on. Returns a message if this could not be
    /// guaranteed.
    ///
    /// # Errors
    /// Data written earlier cannot be made durable.
    fn distrust_cache(&self) -> io::Result<Option<String>> {
        Ok(None)
    }
    /// Allocates an arena of the memory that suits this engine best, rounded up to whole pages.
    ///
    /// Every engine works with every arena; an engine whose device is served by another process has
    /// to copy data in memory that it cannot share.
    ///
    /// # Errors
    /// See [`Arena::allocate`].
    fn arena(&self, bytes: usize) -> Result<Arena, ArenaError> {
        Arena::allocate(bytes)
    }
    /// Returns another engine over the same device that should be used for discards; `None` to use
    /// this one. If there is one, its limits apply to discards: this engine may have none.
    fn discards(&self) -> Option<Arc<dyn Engine>> {
        None
    }
    /// Opens a queue.
    ///
    /// # Errors
    /// A depth outside `1..=4096`, or the step that the system refused.
    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError>;
}

/// The largest [`QueueOptions::depth`].
pub const DEPTH_MAX: u32 = 4096;

/// Options of a queue.
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// Largest number of parts in flight, `1..=4096`.
    pub depth: u32,
    /// Arenas to register with the kernel if the engine can. An optimisation, reported by
    /// [`Queue::report`]; buffers of other arenas work too. The queue keeps the arenas alive.
    pub arenas: Vec<Arena>,
    /// The threads that will use the queue.
    pub issuer: Issuer,
    /// True if an engine with blocking requests may run a single part in the thread that reaps it.
    /// That saves a thread hop, but while such a part hangs, neither a timeout nor a wake ends the
    /// wait.
    pub inline: bool,
    /// How long a wait for one part may be extended to collect more, if many are in flight and the
    /// engine supports it; zero disables it. A thread that serves many callers then wakes once for
    /// several parts. A wake that arrives in the meantime may be delayed by the same time.
    pub linger: Duration,
}

impl Default for QueueOptions {
    /// 32 parts in flight, no registered arenas, any thread, a single part inline, no lingering.
    fn default() -> Self {
        QueueOptions {
            depth: 32,
            arenas: Vec::new(),
            issuer: Issuer::Any,
            inline: true,
            linger: Duration::ZERO,
        }
    }
}

/// The threads that use a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Issuer {
    /// Any thread may use the queue, one at a time. A thread may exit only when none of the parts
    /// that it submitted is in flight: the kernel cancels the requests of an exiting thread.
    Any,
    /// The first thread that submits or reaps is the only one for the whole life of the queue,
    /// which lets io_uring use a single issuer and deferred task work. Any other thread gets an
    /// error.
    OneThread,
}

/// The data plane of an [`Engine`]: one owner at a time, never locked.
pub trait Queue: Send {
    /// Returns the name of the engine, for errors.
    fn engine(&self) -> &'static str;
    /// Returns the size of the device in bytes, see [`Engine::capacity_bytes`].
    fn capacity_bytes(&self) -> u64;
    /// Returns the largest number of parts in flight.
    fn depth(&self) -> u32;
    /// Returns the number of parts pushed and not yet reaped.
    fn in_flight(&self) -> u32;
    /// Takes a part. It starts at the next `submit` or `reap`.
    ///
    /// A part that cannot be executed (see [`Part::check`]) is accepted and completes with an
    /// error.
    ///
    /// # Errors
    /// Returns the part if the queue is full.
    fn push(&mut self, part: Part) -> Result<(), Part>;
    /// Starts all pushed parts, without waiting.
    ///
    /// # Errors
    /// The queue itself failed. Parts in flight stay owned by the queue.
    fn submit(&mut self) -> io::Result<()>;
    /// Starts all pushed parts, then waits until there are `at_least` completions or the timeout
    /// passes, in one system call if the kernel can. Completions are appended to `done`.
    ///
    /// * `at_least` 0 does not block.
    /// * More than the number in flight means all of them. With nothing in flight the call waits
    ///   for a wake or the timeout, so that a driver thread can sleep here.
    /// * A wake makes it return early, with fewer completions. The wake is consumed by the blocking
    ///   call that returns after it.
    /// * `None` waits without limit.
    ///
    /// # Errors
    /// The queue itself failed. Parts in flight stay owned by the queue.
    fn reap(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()>;
    /// Asks the kernel to cancel the parts with these tokens. One that it had not sent to the device yet completes with
    /// `ECANCELED`; the others complete as if nothing had been asked. Does nothing with an engine that cannot ask.
    fn cancel(&mut self, _tokens: &[u64]) {}
    /// Returns a handle that makes a blocked `reap` return.
    fn waker(&self) -> Waker;
    /// Returns counters since the queue was opened.
    fn counters(&self) -> QueueCounters;
    /// Returns which features of the system this queue uses and which it does not, with the reason.
    fn report(&self) -> Vec<Feature>;
}

// Being dyn-compatible is part of the contract.
const _: Option<&dyn Engine> = None;
const _: Option<&dyn Queue> = None;

/// Counters since the queue was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
pub struct QueueCounters {
    /// Parts accepted by `push`.
    pub parts: u64,
    /// Calls that started at least one part.
    pub submissions: u64,
    /// `io_uring_enter` calls; 0 for engines without one.
    pub enters: u64,
    /// Parts that used a registered buffer.
    pub fixed_parts: u64,
    /// Transfers whose memory was not registered.
    pub unregistered_parts: u64,
    /// The highest number of parts in flight.
    pub in_flight_max: u32,
    /// Wakes consumed by waiting calls.
    pub wakes: u64,
    /// How often a ring-based engine waited in the kernel for parts in flight.
    pub waits: u64,
    /// Sum of the parts in flight at each of those waits: see
    /// [`in_flight_average`](Self::in_flight_average).
    pub in_flight_at_waits: u64,
}

impl QueueCounters {
    /// Counts an accepted part.
    pub fn count_push(&mut self, in_flight: u32) {
        self.parts += 1;
        self.in_flight_max = self.in_flight_max.max(in_flight);
    }

    /// Returns the average number of parts in flight when the engine began to wait; 0 if it never
    /// did or has no ring. Includes the last parts of a batch, when there are no more to send.
    #[must_use]
    pub fn in_flight_average(&self) -> f64 {
        self.in_flight_at_waits as f64 / self.waits.max(1) as f64
    }
}

impl std::ops::AddAssign for QueueCounters {
    /// Adds the counters; the high-water mark is the maximum of the two.
    fn add_assign(&mut self, other: Self) {
        let Self {
            parts,
            submissions,
            enters,
            fixed_parts,
            unregistered_parts,
            in_flight_max,
            wakes,
            waits,
            in_flight_at_waits,
        } = other;
        self.parts += parts;
        self.submissions += submissions;
        self.enters += enters;
        self.fixed_parts += fixed_parts;
        self.unregistered_parts += unregistered_parts;
        self.in_flight_max = self.in_flight_max.max(in_flight_max);
        self.wakes += wakes;
        self.waits += waits;
        self.in_flight_at_waits += in_flight_at_waits;
    }
}

/// One line of a report: a feature in use, or one not in use and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feature {
    /// Name of the feature, such as `"registered buffers"`.
    pub name: &'static str,
    /// True if the feature is in use.
    pub on: bool,
    /// The extent if on, the reason if off.
    pub detail: String,
}

impl Feature {
    /// Creates a line for a feature in use.
    pub fn on(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            on: true,
            detail: detail.into(),
        }
    }

    /// Creates a line for a feature not in use, with the reason.
    pub fn off(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            on: false,
            detail: detail.into(),
        }
    }
}

impl std::fmt::Display for Feature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.on { "on" } else { "off" };
        write!(f, "{}: {state} ({})", self.name, self.detail)
    }
}
