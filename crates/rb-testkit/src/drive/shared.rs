//! The state shared by the queues of a drive.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rb_io::{Limits, OpKind, Part};

use super::times::DriveTimes;

pub(super) const NAME: &str = "drive";

/// A drive.
#[derive(Debug)]
pub(super) struct Drive {
    pub(super) limits: Limits,
    pub(super) bytes: Mutex<Vec<u8>>,
    pub(super) times: Mutex<DriveTimes>,
    pub(super) start: Instant,
    /// True if requests take time.
    pub(super) timed: AtomicBool,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Callers' reads in this range of the device wait until they are released.
    pub(super) held: Option<Range<u64>>,
    /// Number of held reads.
    pub(super) holds: usize,
    pub(super) unregistered: Use,
    /// Bells of the queues that may have held reads.
    pub(super) bells: Vec<Weak<Bell>>,
}

/// The use of a drive by queues without registered arenas since
/// [`DriveEngine::clear_last_use`](super::DriveEngine::clear_last_use).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Requests in flight now.
    pub under_way: usize,
    /// The highest number of requests in flight.
    pub under_way_max: usize,
    /// Length of the longest transfer in bytes.
    pub transfer_max: u64,
    /// Length of the longest discard in bytes.
    pub discard_max: u64,
    /// Number of completed requests.
    pub requests: u64,
    /// Time with at least one request in flight.
    pub busy: Duration,
    pub(super) since: Option<Instant>,
}

/// Wakes the owner of a queue.
#[derive(Debug, Default)]
pub(super) struct Bell {
    pub(super) rung: Mutex<Rung>,
    pub(super) ring: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Rung {
    pub(super) woken: bool,
    pub(super) released: bool,
}

impl Drive {
    /// Transfers the bytes of a part.
    pub(super) fn execute(&self, part: &Part) -> std::io::Result<u32> {
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

    /// Returns when a part sent now completes; `None` if it is held.
    pub(super) fn due(&self, part: &Part, registered: bool, bell: &Arc<Bell>) -> Option<Instant> {
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
    pub(super) fn begin(&mut self, part: &Part) {
        self.under_way += 1;
        self.under_way_max = self.under_way_max.max(self.under_way);
        self.since.get_or_insert_with(Instant::now);
        let most = match part.op {
            OpKind::Discard => &mut self.discard_max,
            _ => &mut self.transfer_max,
        };
        *most = (*most).max(part.len.into());
    }

    pub(super) fn end(&mut self, count: usize) {
        self.requests += count as u64;
        self.under_way -= count;
        if self.under_way == 0
            && let Some(since) = self.since.take()
        {
            self.busy += since.elapsed();
        }
    }
}
