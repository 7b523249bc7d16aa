//! The io_uring engine: parts of all requests in flight together, submitted and awaited in one
//! system call.
//!
//! Kernel features differ by version and by what the administrator allows, so they are probed when
//! the engine is opened, and each queue reports which it uses and why not the others. Everything
//! except the encoding of entries also serves the engine `uring_cmd`.

mod arenas;
mod queue;
#[cfg(test)]
mod tests;
mod wake;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::arena::Arena;
use crate::buffer::Buffer;
use crate::descriptors;
use crate::device::{Device, DeviceKind};
use crate::engine::{DEPTH_MAX, Engine, Issuer, Queue, QueueOptions};
use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::limits::Limits;
use crate::posix::PosixEngine;
use crate::request::{OpKind, Part};
use crate::sys::encode::{BlockEncoder, Encoder};
use crate::sys::event::EventFd;
use crate::sys::ring::{Flavour, Ring};
use queue::UringQueue;

/// Runs I/O on a device through the kernel's submission and completion rings.
#[derive(Debug)]
pub struct UringEngine {
    device: Arc<Device>,
    limits: Limits,
}

impl UringEngine {
    /// Creates an engine over `device` after test rings were created, their operations probed, and
    /// one block was read: each of these system calls may be forbidden separately.
    ///
    /// # Errors
    /// [`OpenError::Engine`] with the step and the reason: not in this kernel, forbidden by
    /// `kernel.io_uring_disabled` or a seccomp filter, too old, or `RLIMIT_MEMLOCK` or
    /// `RLIMIT_NOFILE` too small for the rings that a program makes.
    pub fn new(device: Arc<Device>) -> Result<Self, OpenError> {
        probe_rings(KIND, &device, || BlockEncoder)?;
        let mut limits = *device.limits();
        // A submission entry has one byte for the stream.
        if let Some(placements) = &mut limits.placements {
            placements.value = placements.value.min(u8::MAX.into());
        }
        if !device.punches_holes() {
            limits.discard = None;
        }
        let engine = Self { device, limits };
        let memory = block_memory(&engine).map_err(|source| refused(KIND, "memory", source))?;
        // Only the system call must work; an error of the device does not matter here.
        read_a_block(&engine, &memory, Vec::new(), KIND)?;
        Ok(engine)
    }
}

const KIND: EngineKind = EngineKind::IoUring;

/// Creates rings as a store does, and checks that the kernel supports the operations that `encoder`
/// needs.
pub(crate) fn probe_rings<E: Encoder>(
    kind: EngineKind,
    device: &Arc<Device>,
    encoder: impl Fn() -> E,
) -> Result<(), OpenError> {
    let mut rings = Vec::new();
    for _ in 0..PROBE_RINGS {
        let flavours = flavours(Issuer::Any);
        let ring = Ring::new(PROBE_DEPTH, &flavours, Arc::clone(device), encoder())
            .map_err(|source| refused(kind, "io_uring_setup", source))?;
        rings.push(ring);
    }
    spare_descriptors(rings.len())
        .map_err(|source| refused(kind, "descriptors for a store's queues", source))?;
    let missing = rings[0]
        .missing()
        .map_err(|source| refused(kind, "probe of operations", source))?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(OpenError::Engine {
        kind,
        step: "probe of operations",
        reason: format!("this kernel lacks {}", missing.join(", ")),
        source: None,
    })
}

/// Opens as many descriptors as the queues of a store take beyond these rings, and closes them
/// again.
fn spare_descriptors(rings: usize) -> io::Result<()> {
    let mut spare = Vec::new();
    for _ in rings..QUEUES * QUEUE_DESCRIPTORS {
        spare.push(EventFd::new()?);
    }
    Ok(())
}

/// Allocates memory for [`read_a_block`].
fn block_memory(engine: &dyn Engine) -> io::Result<Arena> {
    let len = engine.limits().block.value as usize;
    Arena::allocate(len).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// Reads the first block of the device to the first free range of `memory` and returns the result
/// of the device; `None` if it is slow.
pub(crate) fn read_a_block(
    engine: &dyn Engine,
    memory: &Arena,
    arenas: Vec<Arena>,
    kind: EngineKind,
) -> Result<Option<io::Result<u32>>, OpenError> {
    let failed = |source| refused(kind, "io_uring_enter", source);
    let len = engine.limits().block.value;
    let mut queue = engine.queue(&QueueOptions {
        depth: 1,
        arenas,
        issuer: Issuer::Any,
        inline: true,
        linger: Duration::ZERO,
    })?;
    let part = Part {
        token: 0,
        op: OpKind::Read,
        offset: 0,
        len,
        buf: memory.take(len as usize).map(Buffer::into_io),
        buf_offset: 0,
        placement: None,
    };
    let mut done = Vec::new();
    if queue.push(part).is_ok() {
        queue
            .reap(1, Some(PROBE_TIMEOUT), &mut done)
            .map_err(failed)?;
    }
    Ok(done.pop().map(|done| done.result))
}

/// Rings of this depth are created together to check that the limits of the process allow as many:
/// a store has queues for its callers, commits, checkpoints and recovery.
const PROBE_RINGS: usize = 4;
const PROBE_DEPTH: u32 = 256;
/// Queues of a store in use: recovery, commits, checkpoints, validation, discards, a blocking
/// caller, and async operations. With fewer descriptors, opening or the first call failed although
/// posix works.
const QUEUES: usize = 7;
/// A ring and an eventfd.
const QUEUE_DESCRIPTORS: usize = 2;
/// A device that takes longer to read one block is not probed further; its requests have deadlines.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

impl Engine for UringEngine {
    fn name(&self) -> &'static str {
        BlockEncoder::NAME
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn capacity_bytes(&self) -> u64 {
        self.device.capacity_bytes()
    }
    fn capacity_now(&self) -> io::Result<u64> {
        self.device.capacity_now()
    }
    fn distrust_cache(&self) -> io::Result<Option<String>> {
        self.device.distrust_cache()
    }

    /// No ring operation discards on every supported kernel: the one that punches a hole in a file
    /// makes a block device write zeroes.
    fn discards(&self) -> Option<Arc<dyn Engine>> {
        let posix = || -> Arc<dyn Engine> { Arc::new(PosixEngine::new(Arc::clone(&self.device))) };
        (self.device.kind() == DeviceKind::Block).then(posix)
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        open_queue(KIND, &self.device, options, BlockEncoder)
    }
}

/// Opens a queue whose entries `encoder` encodes.
pub(crate) fn open_queue<E: Encoder + 'static>(
    kind: EngineKind,
    device: &Arc<Device>,
    options: &QueueOptions,
    encoder: E,
) -> Result<Box<dyn Queue>, OpenError> {
    let depth = options.depth;
    if !(1..=DEPTH_MAX).contains(&depth) {
        return Err(OpenError::Depth {
            depth,
            max: DEPTH_MAX,
        });
    }
    let ring = Ring::new(
        depth,
        &flavours(options.issuer),
        Arc::clone(device),
        encoder,
    )
    .map_err(|source| refused(kind, "io_uring_setup", source))?;
    let queue = UringQueue::new(ring, Arc::clone(device), options)
        .map_err(|source| refused(kind, "eventfd", source))?;
    Ok(Box::new(queue))
}

/// Returns the ring flavours to try, best first.
///
/// A ring used by several threads must not be single-issuer. Cooperative task running suits it: the
/// completions of a part run in the thread that submitted it, at its next entry into the kernel or
/// the next clock tick, so another thread that reaps them may wait a tick longer but never forever.
fn flavours(issuer: Issuer) -> Vec<Flavour> {
    match issuer {
        Issuer::OneThread => vec![Flavour::Deferred, Flavour::Cooperative, Flavour::Plain],
        Issuer::Any => vec![Flavour::Cooperative, Flavour::Plain],
    }
}

fn refused(kind: EngineKind, step: &'static str, source: io::Error) -> OpenError {
    let reason = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match disabled_by_sysctl() {
            Some(value) => format!("not permitted: kernel.io_uring_disabled is {value}"),
            None => "not permitted: a seccomp filter or security policy forbids it".into(),
        },
        Some(libc::ENOSYS) => "this kernel has no io_uring, or a seccomp filter hides it".into(),
        Some(libc::ENOMEM) => "no memory, or RLIMIT_MEMLOCK is too small for the ring".into(),
        _ => descriptors::none_left(&source).unwrap_or_else(|| "the kernel refused".into()),
    };
    OpenError::Engine {
        kind,
        step,
        reason,
        source: Some(source),
    }
}

/// Returns the value of `kernel.io_uring_disabled` (Linux 6.6) if it forbids anything.
fn disabled_by_sysctl() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok().filter(|value| *value > 0)
}
