//! A drive with limited speed: requests take time and queue behind earlier ones.

mod queue;
mod shared;
mod times;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rb_io::{DEPTH_MAX, Engine, Limits, OpenError, Queue, QueueOptions};

use queue::DriveQueue;
pub use shared::Use;
use shared::{Drive, NAME};
pub use times::{DriveSpeed, DriveTimes};

/// Largest transfer in bytes, typical of drives.
const TRANSFER_MAX: u64 = 1 << 20;

/// An [`Engine`] over a drive in memory that serves requests in arrival order, in real time, at a
/// [`DriveSpeed`]. It has no volatile cache and no faults: [`MemEngine`](crate::MemEngine) has
/// those.
///
/// It records the requests of queues without registered arenas: in a store those are the services
/// and the committer, while the queues of callers register theirs.
#[derive(Debug)]
pub struct DriveEngine {
    drive: Arc<Drive>,
}

impl DriveEngine {
    /// Creates a drive of `bytes` zeros.
    #[must_use]
    pub fn new(bytes: usize, speed: DriveSpeed) -> DriveEngine {
        DriveEngine {
            drive: Arc::new(Drive {
                limits: Limits::simple(4096, TRANSFER_MAX, "drive in memory"),
                bytes: Mutex::new(vec![0; bytes]),
                times: Mutex::new(DriveTimes::new(speed)),
                start: Instant::now(),
                timed: AtomicBool::new(true),
                state: Mutex::default(),
            }),
        }
    }

    /// Sets whether requests sent from now on take time.
    pub fn set_timed(&self, timed: bool) {
        self.drive.timed.store(timed, Ordering::Relaxed);
    }

    /// Holds reads within `range` that callers send from now on, until [`DriveEngine::release`].
    pub fn hold_reads(&self, range: Range<u64>) {
        self.drive.state.lock().held = Some(range);
    }

    /// Returns the number of held reads.
    #[must_use]
    pub fn held(&self) -> usize {
        self.drive.state.lock().holds
    }

    /// Completes the held reads and stops holding.
    pub fn release(&self) {
        let mut state = self.drive.state.lock();
        (state.held, state.holds) = (None, 0);
        for bell in state.bells.drain(..).filter_map(|bell| bell.upgrade()) {
            bell.rung.lock().released = true;
            bell.ring.notify_all();
        }
    }

    /// Returns the recorded use of queues without registered arenas.
    #[must_use]
    pub fn unregistered_use(&self) -> Use {
        self.drive.state.lock().unregistered
    }

    /// Restarts that record.
    pub fn clear_last_use(&self) {
        let mut state = self.drive.state.lock();
        let under_way = state.unregistered.under_way;
        let since = state.unregistered.since.map(|_| Instant::now());
        state.unregistered = Use {
            under_way,
            under_way_max: under_way,
            since,
            ..Use::default()
        };
    }
}

impl Engine for DriveEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> &Limits {
        &self.drive.limits
    }

    fn capacity_bytes(&self) -> u64 {
        self.drive.bytes.lock().len() as u64
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        let depth = options.depth;
        if !(1..=DEPTH_MAX).contains(&depth) {
            return Err(OpenError::Depth {
                depth,
                max: DEPTH_MAX,
            });
        }
        let registered = !options.arenas.is_empty();
        Ok(Box::new(DriveQueue::new(
            Arc::clone(&self.drive),
            depth,
            registered,
        )))
    }
}
