//! The libblkio engine: the drivers of the crate `blkio` behind the traits of this crate.
//!
//! The driver is chosen by the type of the path: `virtio-blk-vhost-user` for a Unix socket,
//! `nvme-io_uring` for a character node, `io_uring` for a file or a block device. Files and nodes
//! are opened and claimed by [`Device`] as for any engine, and libblkio gets a copy of the
//! descriptor. A socket cannot be claimed: the server decides how many clients it accepts (QEMU's
//! accepts one at a time), and the store detects a second writer by its incarnation.
//!
//! There is no engine thread: the thread that waits for a queue drives the underlying libblkio
//! queue. If a driver can create any number of queues, each of our queues has its own; a vhost-user
//! server has few, so all of our queues share one [`Port`](port::Port).
//!
//! A vhost-user server sees only memory whose file was passed to it. Arenas made by
//! [`Engine::arena`] qualify; the server maps those that a queue names when it is opened, for the
//! lifetime of the connection. All other memory is copied through a bounce arena of fixed size.

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

/// Runs I/O on a device through libblkio.
#[derive(Debug)]
pub struct LibblkioEngine {
    device: Arc<Device>,
    driver: Arc<Driver>,
    /// The only port, for a driver that cannot create more queues.
    shared: Option<Arc<Port>>,
    limits: Limits,
    capacity_bytes: u64,
}

impl LibblkioEngine {
    /// Creates an engine over `device`. A socket was connected when the device was opened; for any
    /// other device, libblkio is connected here.
    ///
    /// # Errors
    /// [`OpenError::Engine`] with the step and libblkio's message, [`OpenError::Limits`].
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
            // libblkio discards with a flag that kernels since 6.7 refuse.
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
