//! The libblkio engine: what the crate `blkio` drives, under our traits.
//!
//! The driver follows from what is at the path: `virtio-blk-vhost-user` for a Unix socket, `nvme-io_uring`
//! for a character node, `io_uring` for a file or a block device. Files and nodes are opened and claimed by
//! [`Device`] as for any engine, and libblkio is given a copy of its descriptor. A socket cannot be
//! claimed: its server decides how many clients it has (QEMU's has one at a time), and the store's
//! incarnation finds a second writer.
//!
//! No thread and no hop: whoever waits drives the queue of libblkio that it waits for. Where a driver makes
//! as many queues as one likes, each of ours has its own; a vhost-user server has few, so all of ours
//! share one [`Port`](port::Port).
//!
//! A vhost-user server sees only memory that it was given the file of. Arenas of [`Engine::arena`] are such
//! memory, and the server maps those that a queue names when it is opened, for as long as the connection
//! lasts; everything else is copied through a bounce arena of a fixed size.

mod board;
pub(crate) mod driver;
pub(crate) mod flight;
mod lane;
mod limits;
mod port;
mod queue;
pub(crate) mod server;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::arena::{Arena, ArenaError};
use crate::device::{Device, DeviceKind};
use crate::engine::{DEPTH_MAX, Engine, Queue, QueueOptions};
use crate::error::OpenError;
use crate::limits::Limits;
use crate::posix::PosixEngine;
use driver::{Driver, Kind};
use port::Port;
use queue::BlkioQueue;
use step::refused;

/// What libblkio drives, on a device.
#[derive(Debug)]
pub struct LibblkioEngine {
    device: Arc<Device>,
    driver: Arc<Driver>,
    /// The only port, where the driver has no more.
    shared: Option<Arc<Port>>,
    limits: Limits,
    capacity_bytes: u64,
}

impl LibblkioEngine {
    /// An engine over `device`. A device that is a socket was connected when it was opened; for any other,
    /// libblkio is connected here.
    ///
    /// # Errors
    /// [`OpenError::Engine`] with the step and what libblkio said, [`OpenError::Limits`].
    pub fn new(device: Arc<Device>) -> Result<Self, OpenError> {
        if let Some(server) = device.server() {
            let (driver, shared) = (Arc::clone(&server.driver), Some(Arc::clone(&server.port)));
            return Ok(Self {
                driver,
                shared,
                limits: *device.limits(),
                capacity_bytes: device.capacity_bytes(),
                device,
            });
        }
        let kind = match device.kind() {
            DeviceKind::Char => Kind::NvmeIoUring,
            _ => Kind::IoUring,
        };
        let driver = Driver::over(device.fd(), device.access(), kind)?;
        let mut limits = driver.limits(Some(device.limits())).map_err(refused)?;
        if kind == Kind::IoUring {
            // It discards with a flag that kernels from 6.7 on refuse.
            limits.discard = None;
        }
        limits.validate().map_err(|reason| OpenError::Limits {
            path: device.path().into(),
            reason,
        })?;
        let capacity_bytes = device.capacity_bytes();
        Ok(Self {
            driver: Arc::new(driver),
            shared: None,
            limits,
            capacity_bytes: capacity_bytes - capacity_bytes % u64::from(limits.block.value),
            device,
        })
    }
}

impl Engine for LibblkioEngine {
    fn name(&self) -> &'static str {
        queue::NAME
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    fn distrust_cache(&self) -> std::io::Result<Option<String>> {
        self.device.distrust_cache()
    }

    fn arena(&self, bytes: usize) -> Result<Arena, ArenaError> {
        match self.driver.needs_regions() {
            true => Arena::allocate_shared(bytes),
            false => Arena::allocate(bytes),
        }
    }

    fn discards(&self) -> Option<Arc<dyn Engine>> {
        let posix = || -> Arc<dyn Engine> { Arc::new(PosixEngine::new(Arc::clone(&self.device))) };
        matches!(self.device.kind(), DeviceKind::File | DeviceKind::Block).then(posix)
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        let depth = options.depth;
        if !(1..=DEPTH_MAX).contains(&depth) {
            return Err(OpenError::Depth {
                depth,
                max: DEPTH_MAX,
            });
        }
        let port = match &self.shared {
            Some(port) => Arc::clone(port),
            None => Arc::new(Port::new(&self.driver, depth)?),
        };
        let device = Some(Arc::clone(&self.device));
        let capacity = self.capacity_bytes;
        let queue = BlkioQueue::new(port, &self.driver, device, capacity, options)?;
        Ok(Box::new(queue))
    }
}
