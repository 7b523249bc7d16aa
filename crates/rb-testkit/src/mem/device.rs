//! The device: bytes as they are seen, bytes as a crash leaves them, and its orders to misbehave.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rb_io::{Limits, OpKind, Part, PartDone, PlacementId};

use super::crash::{CrashPoints, MemWrite, Recorded, keep_some};
use super::engine::Board;
use super::faults::{Fault, touches};
use super::pages::{PAGE, Pages};
use super::rates::{Chance, FaultRates, Mishap};
use super::state::{EIO, State};

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

/// Called in the thread that reaps, without a lock of the device; see [`MemDevice::observe`].
type ObserverFn = dyn Fn(Moment, &[MemOp]) + Send + Sync;

#[derive(Clone)]
pub(super) struct Observer(Arc<ObserverFn>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// When an observer is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The requests are about to be executed.
    Before,
    /// They were executed, and whoever sent them does not know yet.
    After,
}

/// Something to happen before a write or flush, after so many others.
pub(super) struct Trap {
    pub(super) left: u64,
    act: Box<dyn FnOnce(&MemDevice) + Send>,
}

impl std::fmt::Debug for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trap after {}", self.left)
    }
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
    /// Where it was to be put.
    pub placement: Option<PlacementId>,
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
            state: Mutex::new(State {
                covered: u64::MAX,
                ..State::default()
            }),
        })
    }

    /// A device that holds `image`, durably, with the limits of [`new`](Self::new).
    #[must_use]
    pub fn from_image(image: &[u8]) -> Arc<Self> {
        let mut pages = Pages::default();
        for (page, bytes) in (0..).zip(image.chunks(PAGE)) {
            // Zero pages take no memory.
            if bytes.iter().any(|byte| *byte != 0) {
                pages.write(page * PAGE as u64, bytes);
            }
        }
        Self::new(image.len() as u64).with_pages(pages)
    }

    /// A device of this size and with these limits that holds `pages`, durably.
    pub(super) fn with_pages(&self, pages: Pages) -> Arc<Self> {
        let state = State {
            live: pages.clone(),
            durable: pages,
            covered: u64::MAX,
            ..State::default()
        };
        Arc::new(Self {
            limits: self.limits,
            capacity_bytes: self.capacity_bytes,
            state: Mutex::new(state),
        })
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

    /// What a crash now might leave: of each unflushed write nothing, all, or single sectors, as
    /// `seed` decides.
    #[must_use]
    pub fn crash_image_seeded(&self, seed: u64) -> Vec<u8> {
        let state = self.state.lock();
        let mut pages = state.durable.clone();
        keep_some(&state.pending, &mut pages, seed);
        self.image(&pages)
    }

    /// Remembers every write and flush from now on, for [`crash_points`](Self::crash_points).
    pub fn record(&self) {
        let mut state = self.state.lock();
        let pending = state.pending.iter().cloned().map(Recorded::Write);
        state.recording = Some((state.durable.clone(), pending.collect()));
    }

    /// Steps recorded so far.
    #[must_use]
    pub fn recorded(&self) -> usize {
        let state = self.state.lock();
        state.recording.as_ref().map_or(0, |(_, steps)| steps.len())
    }

    /// The steps that were recorded, without the first `count`.
    pub(super) fn recorded_since(&self, count: usize) -> Vec<Recorded> {
        let state = self.state.lock();
        let steps = state.recording.as_ref().map_or(&[][..], |(_, steps)| steps);
        steps.get(count..).unwrap_or_default().to_vec()
    }

    /// The crash points of what was recorded, from the first on; none without a recording.
    #[must_use]
    pub fn crash_points(self: &Arc<Self>) -> Option<CrashPoints> {
        let (durable, steps) = self.state.lock().recording.clone()?;
        Some(CrashPoints {
            device: Arc::clone(self),
            hash: durable.hash(),
            durable,
            pending: Vec::new(),
            steps,
            at: 0,
        })
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
        self.with_pages(self.state.lock().durable.clone())
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

    /// The next read that touches `range` answers with every byte inverted: a bad transfer of a medium
    /// that is whole.
    pub fn garble_next(&self, range: Range<u64>) {
        self.state
            .lock()
            .faults
            .add(OpKind::Read, range, Fault::Garble, Some(1));
    }

    /// The next write that touches `range` fails with `errno`, and lands all the same: at the next
    /// flush, on top of whatever came between.
    pub fn late_next(&self, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(OpKind::Write, range, Fault::Late(errno), Some(1));
    }

    /// The next discard that touches `range` fails with `errno`, and lands all the same, as in
    /// [`late_next`](Self::late_next).
    pub fn late_discard(&self, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(OpKind::Discard, range, Fault::Late(errno), Some(1));
    }

    /// Requests go wrong by chance, as often as the first region says that holds their first byte.
    pub fn set_rates(&self, seed: u64, regions: Vec<(Range<u64>, FaultRates)>) {
        self.state.lock().chance = Chance::new(seed, regions);
    }

    /// Calls `observer` around the execution of each batch of requests, in the thread that sent it. It
    /// may use the device, and so be a store's other caller in the middle of an operation.
    pub fn observe(&self, observer: impl Fn(Moment, &[MemOp]) + Send + Sync + 'static) {
        self.state.lock().observer = Some(Observer(Arc::new(observer)));
    }

    /// Writes that failed and have yet to land.
    #[must_use]
    pub fn late_writes(&self) -> usize {
        self.state.lock().late.len()
    }

    /// Forgets every scripted fault and every chance of one; holds stay.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.chance = Chance::default();
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

    /// After `count` more writes and flushes, `act` is called just before the next one is executed. For a
    /// fault at every single write of a run; one trap at a time.
    pub fn before_write(&self, count: u64, act: impl FnOnce(&MemDevice) + Send + 'static) {
        self.state.lock().trap = Some(Trap {
            left: count,
            act: Box::new(act),
        });
    }

    /// Every queue of the device fails from now on: `reap` answers with `errno`.
    pub fn break_queues(&self, errno: i32) {
        self.state.lock().queue_errno = Some(errno);
    }

    /// Inverts every byte of `range`, in the cache and on the medium: rot. What is written and not
    /// flushed there comes back whole with the flush.
    pub fn corrupt(&self, range: Range<u64>) {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut state = self.state.lock();
        state.live.read(range.start, &mut bytes);
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        state.change(range.start, &bytes);
    }

    /// Overwrites bytes in the cache and on the medium, past every fault and count.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        self.state.lock().change(offset, bytes);
    }

    /// Reads bytes as they are now, past every fault and count.
    pub fn peek(&self, offset: u64, bytes: &mut [u8]) {
        self.state.lock().live.read(offset, bytes);
    }

    /// Requests that touch `range` do not end until [`release`](Self::release): they stay with the
    /// device even if their queue goes.
    pub fn hold(&self, range: Range<u64>) {
        self.state.lock().holds.push(range);
    }

    /// Ends every hold and executes what was held, in its order; what is of one queue ends at once.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.holds.clear();
        let mut ended: Vec<(Arc<Board>, Vec<PartDone>)> = Vec::new();
        for (part, board) in std::mem::take(&mut state.held) {
            let done = self.execute(&mut state, part);
            match ended.iter_mut().find(|(of, _)| Arc::ptr_eq(of, &board)) {
                Some((_, all)) => all.push(done),
                None => ended.push((board, vec![done])),
            }
        }
        for (board, done) in ended {
            board.put_all(done);
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

    /// Bytes written so far with each placement id; without one, under none.
    #[must_use]
    pub fn bytes_by_placement(&self) -> BTreeMap<Option<PlacementId>, u64> {
        let mut bytes = BTreeMap::new();
        let state = self.state.lock();
        for op in state.log.iter().filter(|op| op.op == OpKind::Write) {
            *bytes.entry(op.placement).or_default() += u64::from(op.len);
        }
        bytes
    }

    /// Executes a batch. Flushes go first: they cover what was complete before they were pushed, not what the observer
    /// writes meanwhile.
    pub(super) fn run(&self, parts: Vec<Part>, board: &Arc<Board>) -> io::Result<()> {
        let (observer, sent) = {
            let state = self.state.lock();
            (state.observer.clone(), state.written)
        };
        let ops: Vec<MemOp> = parts.iter().map(MemOp::of).collect();
        let tell = |moment| {
            if let (Some(observer), false) = (&observer, ops.is_empty()) {
                observer.0(moment, &ops);
            }
        };
        tell(Moment::Before);
        let answer = self.run_all(parts, board, sent);
        tell(Moment::After);
        answer
    }

    fn run_all(&self, parts: Vec<Part>, board: &Arc<Board>, sent: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let (flushes, others): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|part| part.op == OpKind::Flush);
        let slow = std::mem::take(&mut state.slow);
        for part in flushes.into_iter().chain(others) {
            if let Some(trap) = state.sprung_by(&part) {
                MutexGuard::unlocked(&mut state, || (trap.act)(self));
            }
            let held = state.holds.iter().any(|range| touches(&part, range));
            if held || state.queue_errno.is_some() {
                // A broken queue never tells; the device keeps what it was given.
                state.held.push((part, Arc::clone(board)));
            } else if state.chance.is_slow(&part) {
                state.slow.push((part, Arc::clone(board)));
            } else {
                state.covered = sent;
                let done = self.execute(&mut state, part);
                state.covered = u64::MAX;
                board.put(done);
            }
        }
        for (part, board) in slow {
            board.put(self.execute(&mut state, part));
        }
        let broken = state.queue_errno;
        broken.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// Executes what was slow: somebody waits.
    pub(super) fn run_slow(&self) {
        let mut state = self.state.lock();
        for (part, board) in std::mem::take(&mut state.slow) {
            board.put(self.execute(&mut state, part));
        }
    }

    fn execute(&self, state: &mut State, part: Part) -> PartDone {
        state.log.push(MemOp::of(&part));
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
                Some(Fault::Late(errno)) => state.postpone(&part, errno),
                Some(Fault::Garble) => self.apply(state, &part, part.len).and_then(garble(&part)),
                None => self.apply_or_fail(state, &part),
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
        let ids = self.limits.placements.map_or(0, |ids| ids.value);
        let known = part.placement.is_none_or(|id| id.0.get() <= ids);
        if known && aligned && inside && fits && memory && one_side {
            return Ok(());
        }
        let words = format!("memory device: {part:?} breaks {:?}", self.limits);
        Err(io::Error::new(io::ErrorKind::InvalidInput, words))
    }

    /// Executes a part, unless chance is against it.
    fn apply_or_fail(&self, state: &mut State, part: &Part) -> io::Result<u32> {
        match state.chance.strike(part) {
            None => self.apply(state, part, part.len),
            Some(Mishap::Fails) => Err(io::Error::from_raw_os_error(EIO)),
            Some(Mishap::Lost) => Ok(part.len),
            Some(Mishap::Late) => state.postpone(part, EIO),
            Some(Mishap::Short) => {
                let block = self.limits.block.value;
                let blocks = state.chance.number(u64::from(part.len / block)) as u32;
                self.apply(state, part, blocks * block)
            }
            Some(Mishap::Rots) => {
                let bit = part.offset * 8 + state.chance.number(u64::from(part.len) * 8);
                state.flip(bit);
                self.apply(state, part, part.len)
            }
            Some(Mishap::Misdirected) => {
                let write = MemWrite::of(part)?;
                let blocks = (self.capacity_bytes - u64::from(part.len)) / PAGE as u64;
                let offset = state.chance.number(blocks + 1) * PAGE as u64;
                state.store(offset, &write.bytes);
                Ok(part.len)
            }
        }
    }

    fn apply(&self, state: &mut State, part: &Part, len: u32) -> io::Result<u32> {
        let zeros = || vec![0; len as usize];
        match (part.op, &part.buf) {
            // No memory in between: openings read much, and most of it was never written.
            (OpKind::Read, Some(buf)) => {
                for (range, bytes) in state.live.pieces(part.offset, len as usize) {
                    buf.copy_from(part.buf_offset + range.start, bytes)?;
                }
            }
            (OpKind::Write, Some(buf)) => {
                let mut bytes = zeros();
                buf.copy_to(part.buf_offset, &mut bytes)?;
                state.store(part.offset, &bytes);
            }
            (OpKind::Discard, _) => state.store(part.offset, &zeros()),
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

impl MemOp {
    fn of(part: &Part) -> Self {
        Self {
            op: part.op,
            offset: part.offset,
            len: part.len,
            placement: part.placement,
        }
    }
}

/// Inverts what a read put into its buffer.
fn garble(part: &Part) -> impl FnOnce(u32) -> io::Result<u32> {
    move |len| {
        let mut bytes = vec![0; len as usize];
        if let Some(buf) = &part.buf {
            buf.copy_to(part.buf_offset, &mut bytes)?;
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            buf.copy_from(part.buf_offset, &bytes)?;
        }
        Ok(len)
    }
}
