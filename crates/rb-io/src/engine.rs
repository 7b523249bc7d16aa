//! The two traits: [`Engine`] is the shared control plane, [`Queue`] the data plane with one owner.
//!
//! Both are dyn-compatible. A virtual call per part is noise beside a device, and it keeps every
//! layer above free of an engine type parameter.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::arena::{Arena, ArenaError};
use crate::error::OpenError;
use crate::limits::Limits;
use crate::request::{Part, PartDone};
use crate::wake::Waker;

/// One way of doing I/O on one open device.
pub trait Engine: Send + Sync + Debug {
    /// Short name, such as `"posix"`; appears in errors.
    fn name(&self) -> &'static str;
    /// The device's limits under this engine. They never change.
    fn limits(&self) -> &Limits;
    /// Size of the device in bytes, a multiple of the logical block. It never changes.
    fn capacity_bytes(&self) -> u64;
    /// Size that the device has at this moment, if the engine can ask for it: files are cut and volumes shrunk while
    /// they are open.
    ///
    /// # Errors
    /// The system call failed.
    fn capacity_now(&self) -> io::Result<u64> {
        Ok(self.capacity_bytes())
    }
    /// Makes sure that what is read from now on is on the device, whatever became of earlier flushes: see
    /// [`Device::distrust_cache`](crate::Device::distrust_cache). Called before anything is read that is to be built on. Answers
    /// in words if it could not be made sure.
    ///
    /// # Errors
    /// What was written before cannot be made durable.
    fn distrust_cache(&self) -> io::Result<Option<String>> {
        Ok(None)
    }
    /// Allocates an arena of the memory that suits this engine best, rounded up to whole pages.
    ///
    /// Every engine works with every arena; one whose device is served by another process has to copy
    /// what lies in memory that it cannot share.
    ///
    /// # Errors
    /// As [`Arena::allocate`].
    fn arena(&self, bytes: usize) -> Result<Arena, ArenaError> {
        Arena::allocate(bytes)
    }
    /// The engine over the same device that discards are better sent through; none if that is this one. Its limits count
    /// for them then: this engine's own may be none.
    fn discards(&self) -> Option<Arc<dyn Engine>> {
        None
    }
    /// Opens a queue.
    ///
    /// # Errors
    /// A depth outside `1..=4096`, or what the system refused and at which step.
    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError>;
}

/// The largest [`QueueOptions::depth`].
pub const DEPTH_MAX: u32 = 4096;

/// How a queue is opened.
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// Parts in flight at most, `1..=4096`.
    pub depth: u32,
    /// Arenas to register with the kernel where the engine can. An optimisation that is reported
    /// by [`Queue::report`]; buffers of other arenas work too. The queue keeps them alive.
    pub arenas: Vec<Arena>,
    /// Who will use the queue.
    pub issuer: Issuer,
    /// Whether an engine whose requests block may run a lone part in the thread that reaps it. That saves
    /// the hop to another thread, but while such a part hangs neither a timeout nor a wake ends the wait.
    pub inline: bool,
    /// How long a wait for one part may go on for more of them, if many are in flight and the engine can; zero: not
    /// at all. Whoever serves many callers from one thread then wakes once for several parts. A wake
    /// that comes meanwhile may be heard as much later.
    pub linger: Duration,
}

impl Default for QueueOptions {
    /// 32 parts in flight, no registered arenas, any thread, a lone part inline, no lingering.
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

/// Which threads use a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Issuer {
    /// Any thread may use the queue, one at a time. A thread may exit only when none of the parts
    /// that it submitted is in flight: the kernel cancels the requests of an exiting thread.
    Any,
    /// The first thread that submits or reaps is the only one for the queue's whole life, which
    /// lets io_uring use a single issuer and deferred task work. Another thread gets an error.
    OneThread,
}

/// The data plane of an [`Engine`]: one owner at a time, never locked.
pub trait Queue: Send {
    /// Name of the engine, for errors.
    fn engine(&self) -> &'static str;
    /// Size of the device in bytes, as [`Engine::capacity_bytes`].
    fn capacity_bytes(&self) -> u64;
    /// Parts in flight at most.
    fn depth(&self) -> u32;
    /// Parts pushed and not yet reaped.
    fn in_flight(&self) -> u32;
    /// Takes a part. It starts at the next `submit` or `reap`.
    ///
    /// A part that cannot be executed as it stands (see [`Part::check`]) is accepted and completes
    /// with an error.
    ///
    /// # Errors
    /// Gives the part back when the queue is full.
    fn push(&mut self, part: Part) -> Result<(), Part>;
    /// Starts everything pushed, without waiting.
    ///
    /// # Errors
    /// The queue itself failed. What was in flight stays owned by the queue.
    fn submit(&mut self) -> io::Result<()>;
    /// Starts everything pushed, then waits until `at_least` completions or the timeout, in one
    /// system call where the kernel can. Completions are appended to `done`.
    ///
    /// * `at_least` 0 does not block.
    /// * More than is in flight means all that is in flight. With nothing in flight the call waits
    ///   for a wake or the timeout, so that a driver thread can sleep here.
    /// * It returns early, with fewer completions, when woken. A wake is consumed by the blocking
    ///   call that returns after it.
    /// * `None` waits without limit.
    ///
    /// # Errors
    /// The queue itself failed. What was in flight stays owned by the queue.
    fn reap(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()>;
    /// A handle that makes a blocked `reap` return.
    fn waker(&self) -> Waker;
    /// What the queue has done so far.
    fn counters(&self) -> QueueCounters;
    /// What this queue uses of what the system offers, with the reason where it does not.
    fn report(&self) -> Vec<Feature>;
}

// Being dyn-compatible is part of the contract.
const _: Option<&dyn Engine> = None;
const _: Option<&dyn Queue> = None;

/// Counts since the queue was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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
    /// The most parts in flight at one time.
    pub in_flight_max: u32,
    /// Wakes consumed by waiting calls.
    pub wakes: u64,
    /// How often an engine over a ring waited in the kernel for parts in flight.
    pub waits: u64,
    /// Parts in flight whenever it did so, summed: see [`in_flight_average`](Self::in_flight_average).
    pub in_flight_at_waits: u64,
}

impl QueueCounters {
    /// Notes an accepted part.
    pub fn count_push(&mut self, in_flight: u32) {
        self.parts += 1;
        self.in_flight_max = self.in_flight_max.max(in_flight);
    }

    /// How many parts were in flight on average when the engine began to wait; 0 if it never did, or if it
    /// has no ring. The last parts of a batch, when there are no more to send, count with the others.
    #[must_use]
    pub fn in_flight_average(&self) -> f64 {
        self.in_flight_at_waits as f64 / self.waits.max(1) as f64
    }
}

impl std::ops::AddAssign for QueueCounters {
    /// Adds the counts; the high-water mark is the higher of the two.
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

/// One line of a report: something that is used, or is not and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feature {
    /// What it is, such as `"registered buffers"`.
    pub name: &'static str,
    /// Whether it is in use.
    pub on: bool,
    /// The extent if on, the reason if off.
    pub detail: String,
}

impl Feature {
    /// Something in use.
    pub fn on(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            on: true,
            detail: detail.into(),
        }
    }

    /// Something not in use, and why.
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
