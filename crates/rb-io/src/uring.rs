//! The io_uring engine: parts of all requests in flight at once, submitted and awaited in one
//! system call.
//!
//! What the kernel offers differs by version and by what the administrator allows, so it is
//! probed when the engine is opened, and each queue reports what it uses and why not the rest.

mod arenas;
mod queue;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod wake;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::arena::Arena;
use crate::buffer::Buffer;

use crate::device::Device;
use crate::engine::{DEPTH_MAX, Engine, Issuer, Queue, QueueOptions};
use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::limits::Limits;
use crate::request::{OpKind, Part};
use crate::sys::ring::{Flavour, Ring};
use queue::UringQueue;

/// The kernel's submission and completion rings on a device.
#[derive(Debug)]
pub struct UringEngine {
    device: Arc<Device>,
    limits: Limits,
}

impl UringEngine {
    /// An engine over `device`, after rings were made, their operations probed, and one block was
    /// read: each of the system calls may be forbidden by itself.
    ///
    /// # Errors
    /// [`OpenError::Engine`] with the step and the reason: not in this kernel, forbidden by
    /// `kernel.io_uring_disabled` or a seccomp filter, too old, or `RLIMIT_MEMLOCK` too small for the
    /// rings that a program makes.
    pub fn new(device: Arc<Device>) -> Result<Self, OpenError> {
        let mut rings = Vec::new();
        for _ in 0..PROBE_RINGS {
            let ring = Ring::new(PROBE_DEPTH, &flavours(Issuer::Any), Arc::clone(&device))
                .map_err(|source| refused("io_uring_setup", source))?;
            rings.push(ring);
        }
        let ring = &rings[0];
        let missing = ring
            .missing()
            .map_err(|source| refused("probe of operations", source))?;
        if !missing.is_empty() {
            return Err(OpenError::Engine {
                kind: EngineKind::IoUring,
                step: "probe of operations",
                reason: format!("this kernel lacks {}", missing.join(", ")),
                source: None,
            });
        }
        let mut limits = *device.limits();
        // A submission entry has one byte for the stream.
        if let Some(placements) = &mut limits.placements {
            placements.value = placements.value.min(u8::MAX.into());
        }
        drop(rings);
        let engine = Self { device, limits };
        engine.read_a_block()?;
        Ok(engine)
    }

    /// Reads the first block. What the device answers does not matter, that it answers does.
    fn read_a_block(&self) -> Result<(), OpenError> {
        let failed = |source| refused("io_uring_enter", source);
        let out_of_memory = |_| failed(io::ErrorKind::OutOfMemory.into());
        let len = self.limits.block.value;
        let arena = Arena::allocate(len as usize).map_err(out_of_memory)?;
        let mut queue = self.queue(&QueueOptions {
            depth: 1,
            arenas: Vec::new(),
            issuer: Issuer::Any,
            inline: true,
            linger: Duration::ZERO,
        })?;
        let part = Part {
            token: 0,
            op: OpKind::Read,
            offset: 0,
            len,
            buf: arena.take(len as usize).map(Buffer::into_io),
            buf_offset: 0,
            placement: None,
        };
        let mut done = Vec::new();
        if queue.push(part).is_ok() {
            queue
                .reap(1, Some(PROBE_TIMEOUT), &mut done)
                .map_err(failed)?;
        }
        Ok(())
    }
}

/// Rings of this depth are made at once to see whether the limits of the process allow as many: a
/// store has queues for its callers, its commits, its checkpoints and its recovery.
const PROBE_RINGS: usize = 4;
const PROBE_DEPTH: u32 = 256;
/// A device that takes longer for one block is not probed further; its requests have deadlines.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

impl Engine for UringEngine {
    fn name(&self) -> &'static str {
        queue::NAME
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn capacity_bytes(&self) -> u64 {
        self.device.capacity_bytes()
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        let depth = options.depth;
        if !(1..=DEPTH_MAX).contains(&depth) {
            return Err(OpenError::Depth {
                depth,
                max: DEPTH_MAX,
            });
        }
        let ring = Ring::new(depth, &flavours(options.issuer), Arc::clone(&self.device))
            .map_err(|source| refused("io_uring_setup", source))?;
        let queue = UringQueue::new(ring, Arc::clone(&self.device), options)
            .map_err(|source| refused("eventfd", source))?;
        Ok(Box::new(queue))
    }
}

/// What to ask the kernel for, best first.
///
/// A ring that several threads use must not be single-issuer. Cooperative task running is right
/// for it: the completions of a part run in the thread that submitted it, at its next entry into
/// the kernel or the next tick of the clock, so another thread that reaps them may wait a tick
/// longer but never for ever.
fn flavours(issuer: Issuer) -> Vec<Flavour> {
    match issuer {
        Issuer::OneThread => vec![Flavour::Deferred, Flavour::Cooperative, Flavour::Plain],
        Issuer::Any => vec![Flavour::Cooperative, Flavour::Plain],
    }
}

fn refused(step: &'static str, source: io::Error) -> OpenError {
    let reason = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match disabled_by_sysctl() {
            Some(value) => format!("not permitted: kernel.io_uring_disabled is {value}"),
            None => "not permitted: a seccomp filter or security policy forbids it".into(),
        },
        Some(libc::ENOSYS) => "this kernel has no io_uring, or a seccomp filter hides it".into(),
        Some(libc::ENOMEM) => "no memory, or RLIMIT_MEMLOCK is too small for the ring".into(),
        Some(libc::EMFILE | libc::ENFILE) => "no file descriptor is left".into(),
        _ => "the kernel refused".into(),
    };
    OpenError::Engine {
        kind: EngineKind::IoUring,
        step,
        reason,
        source: Some(source),
    }
}

/// The value of `kernel.io_uring_disabled` (Linux 6.6) where it forbids anything.
fn disabled_by_sysctl() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok().filter(|value| *value > 0)
}
