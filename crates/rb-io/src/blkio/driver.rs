//! One connected libblkio instance: its driver, its properties, and the memory mapped into it.

use std::fmt;
use std::os::fd::BorrowedFd;

use blkio::{Blkio, Blkioq};
use parking_lot::Mutex;

use super::step::{Step, at, refused};
use crate::arena::{Arena, ArenaId};
use crate::device::access::Access;
use crate::error::OpenError;
use crate::sys::libblkio::{connect_to, region_of};

/// Entries of the ring that a driver creates for a queue. The completion ring has twice as many,
/// and libblkio holds back requests that do not fit.
const RING_ENTRIES: u32 = 256;

/// The libblkio driver to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    IoUring,
    NvmeIoUring,
    VhostUser,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::NvmeIoUring => "nvme-io_uring",
            Self::VhostUser => "virtio-blk-vhost-user",
        }
    }
}

pub(crate) struct Driver {
    kind: Kind,
    blkio: Mutex<Blkio>,
    /// Arenas mapped into the driver, kept alive as long as it may use them.
    regions: Mutex<Vec<Arena>>,
}

impl Driver {
    /// Connects to an open file or node.
    pub(super) fn over(
        device: BorrowedFd<'_>,
        access: Access,
        kind: Kind,
    ) -> Result<Self, OpenError> {
        let connected = || -> Step<Self> {
            let mut blkio = new(kind, access)?;
            connect_to(&mut blkio, device).map_err(at("connect"))?;
            // Queues are created on demand.
            blkio.set_i32("num-queues", 0).map_err(at("num-queues"))?;
            let entries = RING_ENTRIES as i32;
            blkio
                .set_i32("num-entries", entries)
                .map_err(at("num-entries"))?;
            blkio.start().map_err(at("start"))?;
            Ok(Self::started(kind, blkio))
        };
        connected().map_err(refused)
    }

    pub(super) fn started(kind: Kind, blkio: Blkio) -> Self {
        Self {
            kind,
            blkio: Mutex::new(blkio),
            regions: Mutex::default(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns whether memory must be mapped into the driver before use.
    pub(super) fn needs_regions(&self) -> bool {
        self.kind == Kind::VhostUser
    }

    /// Reads properties.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&Blkio) -> T) -> T {
        ask(&self.blkio.lock())
    }

    /// Adds a queue, for drivers that can create them.
    pub(super) fn add_queue(&self) -> Step<Blkioq> {
        self.blkio.lock().add_queue(false).map_err(at("add queue"))
    }

    /// Returns the number of flights that a queue of [`add_queue`](Self::add_queue) accepts.
    pub(super) fn ring_depth(&self) -> u32 {
        2 * RING_ENTRIES
    }

    /// Maps the arenas that the driver can use directly and returns their ids. Arenas mapped
    /// earlier that nothing else uses any more are unmapped.
    pub(super) fn map(&self, arenas: &[Arena]) -> (Vec<ArenaId>, Result<(), String>) {
        let mut regions = self.regions.lock();
        let mut blkio = self.blkio.lock();
        regions.retain(|arena| {
            let used = !arena.is_only_handle();
            if let (false, Some(region)) = (used, region_of(arena)) {
                blkio.unmap_mem_region(&region);
            }
            used
        });
        let (mut mapped, mut outcome) = (Vec::new(), Ok(()));
        for arena in arenas {
            let known = regions.iter().any(|given| given.id() == arena.id());
            let given = match region_of(arena) {
                _ if known => Ok(()),
                None => Err("its memory has no file that a server can be given".into()),
                Some(region) => blkio
                    .map_mem_region(&region)
                    .map(|()| regions.push(arena.clone()))
                    .map_err(|error| error.message().to_owned()),
            };
            match given {
                Ok(()) => mapped.push(arena.id()),
                Err(why) => outcome = Err(format!("{} bytes: {why}", arena.bytes())),
            }
        }
        (mapped, outcome)
    }
}

/// Creates an instance that is not connected yet.
pub(super) fn new(kind: Kind, access: Access) -> Step<Blkio> {
    let mut blkio = Blkio::new(kind.name()).map_err(at("driver"))?;
    // The NVMe driver has no such property; there, the node itself is opened read-only.
    if kind == Kind::VhostUser {
        let read_only = access != Access::ReadWrite;
        blkio
            .set_bool("read-only", read_only)
            .map_err(at("read-only"))?;
    }
    Ok(blkio)
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
