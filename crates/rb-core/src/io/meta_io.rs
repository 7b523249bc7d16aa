//! Metadata I/O: one lane with its own small arena.
//!
//! Metadata shares neither buffers nor queue places with values, so that neither can starve the
//! other.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rb_format::FORMAT_BLOCK;
use rb_io::{
    Arena, Buffer, Completion, Engine, IoError, Issuer, Lane, OpKind, Patience, PlacementId,
    QueueOptions, Request,
};

use crate::error::{Error, OpenError, error_chain};
use crate::io::lanes::drop_elsewhere;
use crate::io::pace::Pace;
use crate::io::requests::{ByPurpose, Purpose};
use crate::options::StoreOptions;

/// Buffer bytes for recovery: log windows and sections read ahead.
pub(crate) const BOOT_ARENA: usize = 64 << 20;

/// Shortest step of a wait. If a shorter one takes longer than planned, that is scheduling, not a
/// stop of the process.
const STEP_MIN: Duration = Duration::from_millis(50);

/// Holds for every lane: only failed requests may keep their memory.
pub(super) const READ_BUFFER: &str = "a read that succeeded gives its buffer back";

/// A read for [`MetaIo::read_each`].
pub(crate) struct ReadAt {
    pub(crate) tag: usize,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

pub(crate) struct MetaIo {
    /// An error once a request was late or the queue failed. A late completion could be taken for
    /// that of another request, so the lane is not used again.
    lane: Result<Lane, Error>,
    arena: Arena,
    depth: usize,
    deadline: Duration,
    /// Longest single wait, after which its duration is checked.
    step: Duration,
    /// Nanoseconds that waits took beyond their steps, because the process was stopped.
    lost: Arc<AtomicU64>,
    /// Placement id of metadata writes.
    placement: Option<PlacementId>,
}

impl MetaIo {
    /// Makes a lane of `depth` requests over `arena_bytes` of buffers. Each wait ends after
    /// `deadline`.
    pub(crate) fn new(
        engine: &dyn Engine,
        arena_bytes: usize,
        depth: u32,
        deadline: Duration,
    ) -> Result<MetaIo, Error> {
        let arena = Arena::allocate(arena_bytes).map_err(|why| Error::Resource {
            what: "buffer memory",
            why: why.to_string(),
        })?;
        // Not registered: metadata I/O is rare, and pinning the memory would cost more than it
        // saves.
        let queue = engine
            .queue(&QueueOptions {
                depth,
                arenas: Vec::new(),
                issuer: Issuer::Any,
                // Inline requests could block a commit beyond its deadline, and with it the close.
                inline: false,
                linger: Duration::ZERO,
            })
            .map_err(|why| Error::Resource {
                what: "an I/O queue",
                why: error_chain(&why),
            })?;
        Ok(MetaIo {
            lane: Ok(Lane::new(queue, engine.limits())),
            arena,
            depth: depth as usize,
            deadline,
            step: Duration::MAX,
            lost: Arc::default(),
            placement: None,
        })
    }

    /// Like [`MetaIo::new`], with the options of a store.
    pub(crate) fn of_store(
        engine: &dyn Engine,
        arena_bytes: usize,
        depth: u32,
        options: &StoreOptions,
    ) -> Result<MetaIo, OpenError> {
        let made = MetaIo::new(engine, arena_bytes, depth, options.io_deadline);
        let mut io = made.map_err(|source| OpenError::Io {
            what: "opening a queue",
            source,
        })?;
        io.placement = options.placement.metadata;
        // Callers charge the wait for a commit to the patience they have for resources, and time
        // lost is counted in steps of that patience.
        io.step = Patience::new(options.busy_wait).step().max(STEP_MIN);
        Ok(io)
    }

    /// Counts its requests from now on.
    pub(crate) fn count_in(&mut self, requests: &ByPurpose, purpose: Purpose) {
        if let Ok(lane) = &mut self.lane {
            requests.count(lane, purpose);
        }
    }

    /// Total nanoseconds its waits took beyond their steps.
    pub(crate) fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    /// Reads `len` bytes at `offset`; both are multiples of a format block.
    pub(crate) fn read(&mut self, offset: u64, len: usize) -> Result<Buffer, Error> {
        let buf = self.buffer(len)?;
        let mut done = self.run(vec![Request::read(offset, buf, 0, len)])?;
        let completion = done.remove(0);
        completion.result?;
        Ok(completion.buf.expect(READ_BUFFER))
    }

    /// Writes each `(offset, bytes)`, all in flight together. `bytes` are whole format blocks,
    /// except at the end of a device whose last block is partial.
    pub(crate) fn write_all(&mut self, writes: &[(u64, &[u8])]) -> Result<(), Error> {
        let requests = self.requests(writes)?;
        for completion in self.run(requests)? {
            completion.result?;
        }
        Ok(())
    }

    /// Like [`MetaIo::write_all`], but returns the writes that the device failed for their place,
    /// by index and reason. Only a device or queue that stops completing requests is an error.
    pub(crate) fn write_each(
        &mut self,
        writes: &[(u64, &[u8])],
    ) -> Result<Vec<(usize, Error)>, Error> {
        let requests = self.requests(writes)?;
        self.run_each(requests)
    }

    /// Runs writes and returns those that the device failed for their place, by index and reason.
    pub(crate) fn run_each(
        &mut self,
        requests: Vec<Request>,
    ) -> Result<Vec<(usize, Error)>, Error> {
        let mut failed = Vec::new();
        for (number, completion) in self.run(requests)?.into_iter().enumerate() {
            match completion.result.map_err(Error::from) {
                Ok(()) => {}
                Err(error) if error.is_answer_for_place() => failed.push((number, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(failed)
    }

    fn requests(&self, writes: &[(u64, &[u8])]) -> Result<Vec<Request>, Error> {
        let mut requests = Vec::with_capacity(writes.len());
        for (offset, bytes) in writes {
            debug_assert!(offset.is_multiple_of(FORMAT_BLOCK as u64));
            let mut buf = self.buffer(bytes.len())?;
            buf[..bytes.len()].copy_from_slice(bytes);
            requests.push(Request::write(*offset, buf, 0, bytes.len()));
        }
        Ok(requests)
    }

    /// Writes one range; see [`MetaIo::write_all`].
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(&[(offset, bytes)])
    }

    /// Makes every completed write durable.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        for completion in self.run(vec![Request::flush()])? {
            completion.result?;
        }
        Ok(())
    }

    /// Reads all of `reads` and passes each to `each`, in the order of completion: at full queue
    /// depth, or turn by turn while `pace` yields. A failed read is passed as its error; only a
    /// queue that stops completing requests is an error of the call.
    pub(crate) fn read_each(
        &mut self,
        pace: &mut Pace<'_>,
        reads: impl IntoIterator<Item = ReadAt>,
        mut each: impl FnMut(usize, Result<&[u8], IoError>),
    ) -> Result<(), Error> {
        let mut reads = reads.into_iter().peekable();
        let mut flying = 0;
        let mut done = Vec::new();
        loop {
            let yields = pace.yields();
            if yields && flying == 0 && reads.peek().is_some() {
                self.read_turn(pace, &mut reads, &mut each)?;
                continue;
            }
            while !yields
                && flying < self.depth
                && let Some(next) = reads.peek()
            {
                // Without a free buffer, wait for a completion to return one.
                let Some(buf) = self.arena.take(next.len) else {
                    break;
                };
                let (tag, offset, len) = (next.tag, next.offset, next.len);
                self.lane()?
                    .start(tag as u64, Request::read(offset, buf, 0, len));
                flying += 1;
                reads.next();
            }
            if flying == 0 {
                // Nothing is in flight, so a read that still has no buffer is larger than the
                // arena.
                return match reads.peek() {
                    None => Ok(()),
                    Some(read) => Err(Error::BatchTooLarge {
                        needed: read.len,
                        limit: self.arena.bytes(),
                    }),
                };
            }
            self.poll_some(&mut done)?;
            for completion in done.drain(..) {
                flying -= 1;
                let tag = completion.tag as usize;
                match completion.result {
                    Ok(()) => each(tag, Ok(&completion.buf.expect(READ_BUFFER))),
                    Err(error) => each(tag, Err(error)),
                }
            }
        }
    }

    /// Discards all of `ranges`, which are multiples of `unit`, and passes each result to `each`,
    /// in the order of completion: at full queue depth, or turn by turn while `pace` yields. Only a
    /// queue that stops completing requests is an error of the call; results passed before it are
    /// valid, and ranges not yet taken from the iterator were not submitted.
    pub(crate) fn discard_each(
        &mut self,
        pace: &mut Pace<'_>,
        unit: u64,
        ranges: impl IntoIterator<Item = Range<u64>>,
        mut each: impl FnMut(usize, Result<(), IoError>),
    ) -> Result<(), Error> {
        let mut ranges = (0..).zip(ranges);
        let mut flying = 0;
        let mut done = Vec::new();
        loop {
            let yields = pace.yields();
            if yields
                && flying == 0
                && let Some((tag, range)) = ranges.next()
            {
                each(tag as usize, self.discard_in_turns(pace, &range, unit)?);
                continue;
            }
            while !yields
                && flying < self.depth
                && let Some((tag, range)) = ranges.next()
            {
                let request = Request::discard(range.start, range.end - range.start);
                self.lane()?.start(tag, request);
                flying += 1;
            }
            if flying == 0 {
                return Ok(());
            }
            let polled = self.poll_some(&mut done);
            for completion in done.drain(..) {
                flying -= 1;
                let tag = completion.tag as usize;
                each(tag, completion.result);
            }
            polled?;
        }
    }

    /// Reads each of `reads` into a buffer that the caller keeps; returns results in request order.
    pub(crate) fn read_many(
        &mut self,
        reads: &[(u64, usize)],
    ) -> Result<Vec<Result<Buffer, IoError>>, Error> {
        let mut requests = Vec::with_capacity(reads.len());
        for &(offset, len) in reads {
            requests.push(Request::read(offset, self.buffer(len)?, 0, len));
        }
        let done = self.run(requests)?.into_iter();
        let answer = |done: Completion| done.result.map(|()| done.buf.expect(READ_BUFFER));
        Ok(done.map(answer).collect())
    }

    /// Takes a buffer of this lane's arena; waits up to the deadline for one to be released.
    pub(crate) fn buffer(&self, len: usize) -> Result<Buffer, Error> {
        let limit = self.arena.bytes();
        if len > limit {
            return Err(Error::BatchTooLarge { needed: len, limit });
        }
        let mut patience = Patience::new(self.deadline);
        let taken = self.arena.take_many(&[len], &mut patience);
        taken
            .ok()
            .and_then(|mut buffers| buffers.pop())
            .ok_or(Error::Busy {
                what: "metadata buffer",
                waited: self.deadline,
            })
    }

    fn lane(&mut self) -> Result<&mut Lane, Error> {
        self.lane.as_mut().map_err(|error| error.clone())
    }

    /// Closes the queue. Every later call fails with `Closed`.
    pub(crate) fn close(&mut self) {
        self.lane = Err(Error::Closed);
    }

    fn die(&mut self, error: Error) -> Error {
        if let Ok(lane) = std::mem::replace(&mut self.lane, Err(error.clone())) {
            drop_elsewhere(lane);
        }
        error
    }

    /// Runs a batch; returns completions in request order.
    pub(crate) fn run(&mut self, requests: Vec<Request>) -> Result<Vec<Completion>, Error> {
        let placement = self.placement;
        let (lane, count) = (self.lane()?, requests.len());
        for (tag, mut request) in requests.into_iter().enumerate() {
            request.placement = placement.filter(|_| request.op == OpKind::Write);
            lane.start(tag as u64, request);
        }
        let mut done = Vec::with_capacity(count);
        self.poll_until(count, &mut done)?;
        done.sort_unstable_by_key(|completion| completion.tag);
        Ok(done)
    }

    /// Waits for at least one more completion.
    fn poll_some(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        self.poll_until(done.len() + 1, done)
    }

    /// Waits until `done` has `count` completions, in one wait if the queue can: each wakeup of
    /// this thread costs as much as a small request.
    fn poll_until(&mut self, count: usize, done: &mut Vec<Completion>) -> Result<(), Error> {
        let mut patience = Patience::new(self.deadline);
        while done.len() < count {
            // Poll once even at the deadline: what has arrived by then is on time.
            let last = patience.is_over();
            let missing = u32::try_from(count - done.len()).unwrap_or(u32::MAX);
            let (longest, mut lost) = (self.step, Duration::ZERO);
            let lane = self.lane()?;
            let polled = patience.spend(|step| {
                let (start, step) = (Instant::now(), step.min(longest));
                let polled = lane.poll(missing, Some(step), done);
                lost = start.elapsed().saturating_sub(step);
                polled
            });
            self.lost
                .fetch_add(lost.as_nanos() as u64, Ordering::Relaxed);
            if let Err(error) = polled {
                return Err(self.die(error.into()));
            }
            if last && done.len() < count {
                let waited = self.deadline;
                return Err(self.die(Error::TimedOut { waited }));
            }
        }
        Ok(())
    }
}
