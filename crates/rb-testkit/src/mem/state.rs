//! The state of a device: visible contents, durable contents, and faults.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use rb_io::{Board, Limits, OpKind, Part};

use super::faults::Faults;
use super::operation::{MemCounts, MemOp, Observer};
use super::pages::Pages;
use super::rates::Chance;
use super::record::{MemWrite, Recorded};

/// The same number on every architecture supported by Linux.
pub(super) const EIO: i32 = 5;
pub(super) const ENOSPC: i32 = 28;

/// A device in memory with a volatile cache and scripted faults.
///
/// Writes are visible immediately; a crash keeps flushed data. A flush covers only the writes that
/// were complete when it was *pushed*: writes in flight concurrently stay volatile, so a test that
/// relies on them fails.
#[derive(Debug)]
pub struct MemDevice {
    pub(super) limits: Limits,
    pub(super) capacity_bytes: u64,
    pub(super) state: Mutex<State>,
}

/// An action to run before a write or flush, after a number of others.
pub(super) struct Trap {
    pub(super) left: u64,
    pub(super) act: Box<dyn FnOnce(&MemDevice) + Send>,
}

impl std::fmt::Debug for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trap after {}", self.left)
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) live: Pages,
    pub(super) durable: Pages,
    /// Written and not flushed, in order.
    pub(super) pending: Vec<MemWrite>,
    /// Number of writes ever in the cache.
    pub(super) written: u64,
    /// Number of these covered by the next flush.
    pub(super) covered: u64,
    /// The durable contents when recording began, and all steps since.
    pub(super) recording: Option<(Pages, Vec<Recorded>)>,
    pub(super) faults: Faults,
    pub(super) chance: Chance,
    /// Writes that failed and will land before the next flush.
    pub(super) late: Vec<MemWrite>,
    /// Parts that complete after later ones.
    pub(super) slow: Vec<(Part, Arc<Board>)>,
    pub(super) holds: Vec<Range<u64>>,
    pub(super) held: Vec<(Part, Arc<Board>)>,
    pub(super) lost_flushes: bool,
    /// True if writes go to a page cache; see [`MemDevice::page_cache`].
    pub(super) page_cache: bool,
    pub(super) queue_errno: Option<i32>,
    /// Number of writes and flushes left until the power fails.
    pub(super) power: Option<u64>,
    pub(super) trap: Option<Trap>,
    pub(super) counts: MemCounts,
    pub(super) log: Vec<MemOp>,
    pub(super) observer: Option<Observer>,
}

impl State {
    pub(super) fn store(&mut self, offset: u64, bytes: &[u8]) {
        self.live.write(offset, bytes);
        let bytes = bytes.into();
        self.wrote(MemWrite { offset, bytes });
    }

    /// Adds a write to the cache.
    pub(super) fn wrote(&mut self, write: MemWrite) {
        if let Some((_, steps)) = &mut self.recording {
            steps.push(Recorded::Write(write.clone()));
        }
        self.pending.push(write);
        self.written += 1;
    }

    /// Fails a write that will land at the next flush; a crash may already find it.
    pub(super) fn postpone(&mut self, part: &Part, errno: i32) -> io::Result<u32> {
        let write = MemWrite::of(part)?;
        self.late.push(write.clone());
        self.wrote(write);
        Err(io::Error::from_raw_os_error(errno))
    }

    pub(super) fn flush(&mut self) {
        if self.lost_flushes {
            return;
        }
        let mut uncovered = usize::try_from(self.written - self.covered.min(self.written))
            .unwrap_or(usize::MAX)
            .min(self.pending.len());
        for write in std::mem::take(&mut self.late) {
            self.store(write.offset, &write.bytes);
            // The late write lands now, together with the contents below it.
            uncovered = 0;
        }
        let covered = self.pending.len() - uncovered;
        for write in self.pending.drain(..covered) {
            self.durable.write(write.offset, &write.bytes);
        }
        if let Some((_, steps)) = &mut self.recording {
            steps.push(Recorded::Flush { uncovered });
        }
    }

    /// Handles a failed flush: the page cache counts as written.
    pub(super) fn flush_failed(&mut self) {
        if self.page_cache {
            self.pending.clear();
        }
    }

    /// Resets the page cache to the contents of the medium.
    pub(super) fn drop_page_cache(&mut self) {
        if self.page_cache {
            self.flush();
            self.live = self.durable.clone();
        }
    }

    /// Changes bytes in the cache and on the medium, without a write.
    pub(super) fn change(&mut self, offset: u64, bytes: &[u8]) {
        self.live.write(offset, bytes);
        self.durable.write(offset, bytes);
        if let Some((_, steps)) = &mut self.recording {
            let bytes = bytes.into();
            steps.push(Recorded::Change(MemWrite { offset, bytes }));
        }
    }

    /// Flips a bit in the cache and on the medium.
    pub(super) fn flip(&mut self, bit: u64) {
        let mut byte = [0];
        self.live.read(bit / 8, &mut byte);
        self.change(bit / 8, &[byte[0] ^ 1 << (bit % 8)]);
    }

    /// Returns the trap that springs before this request, if it is the one.
    pub(super) fn sprung_by(&mut self, part: &Part) -> Option<Trap> {
        let trap = self.trap.as_mut().filter(|_| part.op != OpKind::Read)?;
        if trap.left == 0 {
            return self.trap.take();
        }
        trap.left -= 1;
        None
    }

    /// Fails if the power is gone; otherwise counts the request.
    pub(super) fn power_for(&mut self, part: &Part) -> io::Result<()> {
        match &mut self.power {
            Some(0) => Err(io::Error::from_raw_os_error(EIO)),
            Some(left) if part.op != OpKind::Read => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
