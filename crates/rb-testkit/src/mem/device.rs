//! The device: bytes as they are seen, bytes as a crash leaves them, and its orders to misbehave.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use rb_io::{Limits, OpKind, Part, PartDone};

use super::engine::Board;
use super::faults::{Fault, Faults, touches};
use super::pages::{PAGE, Pages, pieces};
use crate::values::next_number;

/// The smallest unit that a crash keeps or loses as a whole, in bytes.
const SECTOR: usize = 512;

/// A device in memory with a volatile cache and scripted faults.
///
/// Writes are visible at once; a crash keeps what was flushed. A flush covers the writes that were
/// complete when it was *pushed*, no more: writes in flight beside it stay volatile, so a test
/// that relies on them fails.
#[derive(Debug)]
pub struct MemDevice {
    limits: Limits,
    capacity_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: Pages,
    durable: Pages,
    dirty: BTreeSet<u64>,
    faults: Faults,
    holds: Vec<Range<u64>>,
    held: Vec<(Part, Arc<Board>)>,
    lost_flushes: bool,
    queue_errno: Option<i32>,
    /// Writes and flushes left until the power goes.
    power: Option<u64>,
    counts: MemCounts,
    log: Vec<MemOp>,
}

/// How many operations a device has executed, failed ones included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemCounts {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
}

/// One executed operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemOp {
    /// What it was.
    pub op: OpKind,
    /// First byte on the device.
    pub offset: u64,
    /// Bytes asked for.
    pub len: u32,
}

impl MemDevice {
    /// A zeroed device of `capacity_bytes`, with blocks of 512 bytes and transfers up to 1 MiB.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Arc<Self> {
        Self::with_limits(
            capacity_bytes,
            Limits::simple(512, 1 << 20, "memory device"),
        )
    }

    /// A zeroed device with limits of the test's choice. Parts that break them fail with EINVAL.
    #[must_use]
    pub fn with_limits(capacity_bytes: u64, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            capacity_bytes,
            state: Mutex::default(),
        })
    }

    /// A device that holds `image`, durably, with the limits of [`new`](Self::new).
    #[must_use]
    pub fn from_image(image: &[u8]) -> Arc<Self> {
        let device = Self::new(image.len() as u64);
        let mut state = device.state.lock();
        for (page, bytes) in (0..).zip(image.chunks(PAGE)) {
            // Zero pages take no memory.
            if bytes.iter().any(|byte| *byte != 0) {
                state.live.write(page * PAGE as u64, bytes);
            }
        }
        state.durable = state.live.clone();
        drop(state);
        device
    }

    /// Size in bytes.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// The limits that it enforces.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What a crash now would leave at worst: flushed bytes only.
    #[must_use]
    pub fn crash_image(&self) -> Vec<u8> {
        self.image(&self.state.lock().durable)
    }

    /// What a crash now might leave: of each unflushed page nothing, all, or single sectors, as
    /// `seed` decides.
    #[must_use]
    pub fn crash_image_seeded(&self, seed: u64) -> Vec<u8> {
        let state = self.state.lock();
        let mut pages = state.durable.clone();
        let mut random = seed;
        for &page in &state.dirty {
            let kept = match next_number(&mut random) % 3 {
                0 => 0,
                1 => u64::MAX,
                _ => next_number(&mut random),
            };
            let mut bytes = [0; PAGE];
            state.live.read(page * PAGE as u64, &mut bytes);
            for (sector, bytes) in bytes.chunks_exact(SECTOR).enumerate() {
                if kept >> sector & 1 == 1 {
                    pages.write(page * PAGE as u64 + (sector * SECTOR) as u64, bytes);
                }
            }
        }
        self.image(&pages)
    }

    /// Everything as it reads now.
    #[must_use]
    pub fn live_image(&self) -> Vec<u8> {
        self.image(&self.state.lock().live)
    }

    /// A new device with what a crash of this one leaves, and the same limits, without its
    /// faults. Sparse, so it suits devices larger than an image should be.
    #[must_use]
    pub fn crash(&self) -> Arc<Self> {
        let durable = self.state.lock().durable.clone();
        let state = State {
            live: durable.clone(),
            durable,
            ..State::default()
        };
        Arc::new(Self {
            limits: self.limits,
            capacity_bytes: self.capacity_bytes,
            state: Mutex::new(state),
        })
    }

    /// The next `op` that touches `range` fails with `errno` and changes nothing.
    pub fn fail_next(&self, op: OpKind, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(op, range, Fault::Errno(errno), Some(1));
    }

    /// The next `times` of `op` that touch `range` fail with `errno`.
    pub fn fail_times(&self, op: OpKind, range: Range<u64>, errno: i32, times: u32) {
        if times > 0 {
            self.state
                .lock()
                .faults
                .add(op, range, Fault::Errno(errno), Some(times));
        }
    }

    /// Every `op` that touches `range` fails with `errno`, until [`heal`](Self::heal).
    pub fn fail_always(&self, op: OpKind, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(op, range, Fault::Errno(errno), None);
    }

    /// The next `op` that touches `range` moves at most `bytes`.
    pub fn short_next(&self, op: OpKind, range: Range<u64>, bytes: u32) {
        self.state
            .lock()
            .faults
            .add(op, range, Fault::Short(bytes), Some(1));
    }

    /// Forgets every scripted fault; holds stay.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.lost_flushes = false;
        state.queue_errno = None;
    }

    /// Flushes succeed and make nothing durable, as a lying drive does.
    pub fn lose_flushes(&self) {
        self.state.lock().lost_flushes = true;
    }

    /// The power goes after `count` more writes and flushes: whatever comes later fails and changes
    /// nothing. For crashing at every single write of a run.
    pub fn cut_power_after(&self, count: u64) {
        self.state.lock().power = Some(count);
    }

    /// Every queue of the device fails from now on: `reap` answers with `errno`.
    pub fn break_queues(&self, errno: i32) {
        self.state.lock().queue_errno = Some(errno);
    }

    /// Inverts every byte of `range`, in the cache and on the medium: rot.
    pub fn corrupt(&self, range: Range<u64>) {
        let mut state = self.state.lock();
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let State { live, durable, .. } = &mut *state;
        for pages in [live, durable] {
            pages.read(range.start, &mut bytes);
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            pages.write(range.start, &bytes);
        }
    }

    /// Overwrites bytes in the cache and on the medium, past every fault and count.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.live.write(offset, bytes);
        state.durable.write(offset, bytes);
    }

    /// Requests that touch `range` do not end until [`release`](Self::release): they stay with the
    /// device even if their queue goes.
    pub fn hold(&self, range: Range<u64>) {
        self.state.lock().holds.push(range);
    }

    /// Ends every hold and executes what was held, in its order.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.holds.clear();
        let held = std::mem::take(&mut state.held);
        for (part, board) in held {
            board.put(self.execute(&mut state, part));
        }
    }

    /// Requests that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Operations executed so far.
    #[must_use]
    pub fn counts(&self) -> MemCounts {
        self.state.lock().counts
    }

    /// Operations executed so far, in order.
    #[must_use]
    pub fn log(&self) -> Vec<MemOp> {
        self.state.lock().log.clone()
    }

    /// Executes a batch. Flushes go first: they cover what was complete before they were pushed.
    pub(super) fn run(&self, parts: Vec<Part>, board: &Arc<Board>) -> io::Result<()> {
        let mut state = self.state.lock();
        let (flushes, others): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|part| part.op == OpKind::Flush);
        let broken = state.queue_errno;
        for part in flushes.into_iter().chain(others) {
            let held = state.holds.iter().any(|range| touches(&part, range));
            if held || broken.is_some() {
                // A broken queue never tells; the device keeps what it was given.
                state.held.push((part, Arc::clone(board)));
            } else {
                let done = self.execute(&mut state, part);
                board.put(done);
            }
        }
        broken.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn execute(&self, state: &mut State, part: Part) -> PartDone {
        state.log.push(MemOp {
            op: part.op,
            offset: part.offset,
            len: part.len,
        });
        let counts = &mut state.counts;
        *match part.op {
            OpKind::Read => &mut counts.reads,
            OpKind::Write => &mut counts.writes,
            OpKind::Flush => &mut counts.flushes,
            OpKind::Discard => &mut counts.discards,
        } += 1;
        let result = state
            .power_for(&part)
            .and_then(|()| self.check(&part))
            .and_then(|()| match state.faults.strike(&part) {
                Some(Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
                Some(Fault::Short(bytes)) => self.apply(state, &part, part.len.min(bytes)),
                None => self.apply(state, &part, part.len),
            });
        PartDone {
            token: part.token,
            buf: part.buf,
            result,
        }
    }

    /// What a kernel would answer with EINVAL, but never silently accept.
    fn check(&self, part: &Part) -> io::Result<()> {
        part.check()?;
        if part.op == OpKind::Flush {
            return Ok(());
        }
        let Limits {
            block,
            memory_align,
            transfer_max,
            ..
        } = self.limits;
        let block = u64::from(block.value);
        let len = u64::from(part.len);
        let end = part.offset.checked_add(len);
        let aligned = part.offset.is_multiple_of(block) && len.is_multiple_of(block) && len > 0;
        let inside = end.is_some_and(|end| end <= self.capacity_bytes);
        let transfer = part.op != OpKind::Discard;
        let fits = !transfer || len <= transfer_max.value;
        let memory =
            !transfer || (part.buf_offset as u64).is_multiple_of(memory_align.value.into());
        let one_side = self.limits.boundary.is_none_or(|boundary| {
            !transfer || part.offset / boundary.value == (part.offset + len - 1) / boundary.value
        });
        if aligned && inside && fits && memory && one_side {
            return Ok(());
        }
        let words = format!("memory device: {part:?} breaks {:?}", self.limits);
        Err(io::Error::new(io::ErrorKind::InvalidInput, words))
    }

    fn apply(&self, state: &mut State, part: &Part, len: u32) -> io::Result<u32> {
        let mut bytes = vec![
            0;
            if part.op == OpKind::Flush {
                0
            } else {
                len as usize
            }
        ];
        match (part.op, &part.buf) {
            (OpKind::Read, Some(buf)) => {
                state.live.read(part.offset, &mut bytes);
                buf.copy_from(part.buf_offset, &bytes)?;
            }
            (OpKind::Write, Some(buf)) => {
                buf.copy_to(part.buf_offset, &mut bytes)?;
                state.store(part.offset, &bytes);
            }
            (OpKind::Discard, _) => state.store(part.offset, &bytes),
            _ => state.flush(),
        }
        Ok(len)
    }

    fn image(&self, pages: &Pages) -> Vec<u8> {
        let mut image = vec![0; self.capacity_bytes as usize];
        pages.read(0, &mut image);
        image
    }
}

impl State {
    fn store(&mut self, offset: u64, bytes: &[u8]) {
        self.live.write(offset, bytes);
        self.dirty
            .extend(pieces(offset, bytes.len()).map(|(page, ..)| page));
    }

    fn flush(&mut self) {
        if self.lost_flushes {
            return;
        }
        for page in std::mem::take(&mut self.dirty) {
            self.durable.copy_page_from(page, &self.live);
        }
    }
}

impl State {
    /// Whether the power is still there for a request, which uses it up.
    fn power_for(&mut self, part: &Part) -> io::Result<()> {
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

/// The same on every architecture that Linux runs on.
const EIO: i32 = 5;
