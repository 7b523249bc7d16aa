//! A drive with a speed: what it is asked to do takes time, and waits for what it was asked before.

mod queue;
mod times;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rb_io::{DEPTH_MAX, Engine, Limits, OpKind, OpenError, Part, Queue, QueueOptions};

use queue::DriveQueue;
pub use times::{DriveSpeed, DriveTimes};

const NAME: &str = "drive";

/// Bytes of one transfer at most, as of many drives.
const TRANSFER_MAX: u64 = 1 << 20;

/// An [`Engine`] over a drive in memory that serves requests in the order in which they come, in real time, at a
/// [`DriveSpeed`]. It has no volatile cache and no faults: [`MemEngine`](crate::MemEngine) has those.
///
/// It notes what queues without registered arenas ask for: in a store those are the services and the committer, and the
/// queues of callers register theirs.
#[derive(Debug)]
pub struct DriveEngine {
    drive: Arc<Drive>,
}

/// What the queues of a drive share.
#[derive(Debug)]
struct Drive {
    limits: Limits,
    bytes: Mutex<Vec<u8>>,
    times: Mutex<DriveTimes>,
    start: Instant,
    /// Requests take time.
    timed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Reads within it by callers do not end.
    held: Option<Range<u64>>,
    /// Reads that are held.
    holds: usize,
    unregistered: Use,
    /// Of queues that may hold something.
    bells: Vec<Weak<Bell>>,
}

/// What queues without registered arenas did since [`DriveEngine::forget_use`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Requests under way now.
    pub under_way: usize,
    /// The most requests under way at one time.
    pub under_way_max: usize,
    /// Bytes of the longest transfer.
    pub transfer_max: u64,
    /// Bytes of the longest discard.
    pub discard_max: u64,
    /// Requests that have ended.
    pub requests: u64,
    /// Time in which at least one was under way.
    pub busy: Duration,
    since: Option<Instant>,
}

/// Wakes the owner of a queue.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<Rung>,
    ring: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    woken: bool,
    released: bool,
}

impl DriveEngine {
    /// A drive of `bytes` zeros.
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

    /// Whether requests that are sent from now on take time.
    pub fn set_timed(&self, timed: bool) {
        self.drive.timed.store(timed, Ordering::Relaxed);
    }

    /// Reads within `range` that callers send from now on end with [`DriveEngine::release`].
    pub fn hold_reads(&self, range: Range<u64>) {
        self.drive.state.lock().held = Some(range);
    }

    /// The number of reads that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.drive.state.lock().holds
    }

    /// Ends the reads that are held, and holds no more.
    pub fn release(&self) {
        let mut state = self.drive.state.lock();
        (state.held, state.holds) = (None, 0);
        for bell in state.bells.drain(..).filter_map(|bell| bell.upgrade()) {
            bell.rung.lock().released = true;
            bell.ring.notify_all();
        }
    }

    /// What queues without registered arenas did.
    #[must_use]
    pub fn unregistered_use(&self) -> Use {
        self.drive.state.lock().unregistered
    }

    /// Begins to note that anew.
    pub fn forget_use(&self) {
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

impl Drive {
    /// Moves the bytes of a part.
    fn execute(&self, part: &Part) -> std::io::Result<u32> {
        part.check()?;
        let mut bytes = self.bytes.lock();
        let at = usize::try_from(part.offset).unwrap_or(usize::MAX);
        let range = at..at.saturating_add(part.len as usize);
        let end = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "beyond the drive");
        let bytes = match part.op {
            OpKind::Flush => return Ok(0),
            _ => bytes.get_mut(range).ok_or_else(end)?,
        };
        match (part.op, &part.buf) {
            (OpKind::Read, Some(buf)) => buf.copy_from(part.buf_offset, bytes)?,
            (OpKind::Write, Some(buf)) => buf.copy_to(part.buf_offset, bytes)?,
            _ => bytes.fill(0),
        }
        Ok(part.len)
    }

    /// When a part that is sent now ends; none if it is held.
    fn due(&self, part: &Part, registered: bool, bell: &Arc<Bell>) -> Option<Instant> {
        let mut state = self.state.lock();
        if registered {
            let held = state.held.as_ref();
            if part.op == OpKind::Read && held.is_some_and(|held| held.contains(&part.offset)) {
                state.holds += 1;
                state.bells.push(Arc::downgrade(bell));
                return None;
            }
        } else {
            state.unregistered.begin(part);
        }
        drop(state);
        if !self.timed.load(Ordering::Relaxed) {
            return Some(Instant::now());
        }
        let now = self.start.elapsed();
        let ends = self.times.lock().ends(now, part.op, part.len.into());
        Some(self.start + ends)
    }
}

impl Use {
    fn begin(&mut self, part: &Part) {
        self.under_way += 1;
        self.under_way_max = self.under_way_max.max(self.under_way);
        self.since.get_or_insert_with(Instant::now);
        let most = match part.op {
            OpKind::Discard => &mut self.discard_max,
            _ => &mut self.transfer_max,
        };
        *most = (*most).max(part.len.into());
    }

    fn end(&mut self, count: usize) {
        self.requests += count as u64;
        self.under_way -= count;
        if self.under_way == 0
            && let Some(since) = self.since.take()
        {
            self.busy += since.elapsed();
        }
    }
}
