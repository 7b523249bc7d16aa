//! The posix engine: `pread`, `pwrite`, `fdatasync`, `fallocate`, available on every kernel.
//!
//! A single part runs in the thread that waits for it, so a blocking call makes no thread hop (a
//! single-thread queue serves other callers too and never does this). A batch goes to a bounded
//! pool of workers shared by all queues of the engine; workers are started on demand, sleep when
//! idle, and exit with the engine.

mod execute;
mod pool;
mod queue;

use std::sync::Arc;

use crate::device::Device;
use crate::engine::{DEPTH_MAX, Engine, Queue, QueueOptions};
use crate::error::OpenError;
use crate::limits::Limits;
use pool::Pool;
use queue::PosixQueue;

/// Largest number of worker threads. A worker blocks in the kernel, so this is the queue depth that
/// this engine reaches on the device, not a number of processors.
const WORKERS_MAX: u32 = 16;

/// Runs `pread` and `pwrite` on a device.
#[derive(Debug)]
pub struct PosixEngine {
    device: Arc<Device>,
    limits: Limits,
    pool: Arc<Pool>,
}

impl PosixEngine {
    /// Creates an engine over `device`. Starts no thread.
    #[must_use]
    pub fn new(device: Arc<Device>) -> Self {
        // pwrite(2) cannot pass a placement id, so none is accepted.
        let limits = Limits {
            placements: None,
            ..*device.limits()
        };
        Self {
            device,
            limits,
            pool: Arc::new(Pool::new()),
        }
    }
}

impl Engine for PosixEngine {
    fn name(&self) -> &'static str {
        queue::NAME
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn capacity_bytes(&self) -> u64 {
        self.device.capacity_bytes()
    }
    fn capacity_now(&self) -> std::io::Result<u64> {
        self.device.capacity_now()
    }
    fn distrust_cache(&self) -> std::io::Result<Option<String>> {
        self.device.distrust_cache()
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        let depth = options.depth;
        if !(1..=DEPTH_MAX).contains(&depth) {
            return Err(OpenError::Depth {
                depth,
                max: DEPTH_MAX,
            });
        }
        self.pool.allow(depth.min(WORKERS_MAX));
        Ok(Box::new(PosixQueue::new(
            Arc::clone(&self.device),
            Arc::clone(&self.pool),
            options,
        )))
    }
}
