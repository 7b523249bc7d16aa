//! Reading and writing of metadata: one lane with its own small arena.
//!
//! Metadata never shares buffers or queue places with values, so neither can starve the other.

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
use crate::options::StoreOptions;

/// Buffers for recovery: log windows and sections read ahead.
pub(crate) const BOOT_ARENA: usize = 64 << 20;

/// The least step of a wait. What a short one takes longer than it should is not a pause but the machine.
const STEP_MIN: Duration = Duration::from_millis(50);

/// What a lane holds to: only requests that failed may keep their memory.
pub(super) const READ_BUFFER: &str = "a read that succeeded gives its buffer back";

/// One request's worth of work in [`MetaIo::read_each`].
pub(crate) struct ReadAt {
    pub(crate) tag: usize,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

pub(crate) struct MetaIo {
    /// An error once a request was late or the queue failed. An answer that comes after all could be taken
    /// for that of another request, so nothing more is asked.
    lane: Result<Lane, Error>,
    arena: Arena,
    depth: usize,
    deadline: Duration,
    /// The longest that a wait takes before it looks how long it took.
    step: Duration,
    /// What waits took beyond their steps, in nanoseconds: the process was stopped.
    lost: Arc<AtomicU64>,
    /// Where the device puts what is written.
    placement: Option<PlacementId>,
}

impl MetaIo {
    /// A lane of `depth` requests over `arena_bytes` of buffers. Each wait ends at `deadline`.
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
        // Not registered: metadata moves rarely, and pinning would cost more than it saves.
        let queue = engine
            .queue(&QueueOptions {
                depth,
                arenas: Vec::new(),
                issuer: Issuer::Any,
                // A commit may wait no longer than its deadline, or closing would wait with it.
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

    /// As [`MetaIo::new`], as the options of a store say.
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
        // Callers wait for a commit with the patience that they have for what others hold, and what they lost is counted in
        // steps of that.
        io.step = Patience::new(options.busy_wait).step().max(STEP_MIN);
        Ok(io)
    }

    /// What its waits took beyond their steps, in nanoseconds, all together.
    pub(crate) fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    /// Reads `len` bytes at `offset`; both whole format blocks.
    pub(crate) fn read(&mut self, offset: u64, len: usize) -> Result<Buffer, Error> {
        let buf = self.buffer(len)?;
        let mut done = self.run(vec![Request::read(offset, buf, 0, len)])?;
        let completion = done.remove(0);
        completion.result?;
        Ok(completion.buf.expect(READ_BUFFER))
    }

    /// Writes each `(offset, bytes)`, all in flight together; bytes are whole format blocks, but for the end
    /// of a device that has a part of one there.
    pub(crate) fn write_all(&mut self, writes: &[(u64, &[u8])]) -> Result<(), Error> {
        let requests = self.requests(writes)?;
        for completion in self.run(requests)? {
            completion.result?;
        }
        Ok(())
    }

    /// As [`MetaIo::write_all`], and answers which writes the device failed for their place, by number and why.
    /// Only a device or queue that does not answer ends it.
    pub(crate) fn write_each(
        &mut self,
        writes: &[(u64, &[u8])],
    ) -> Result<Vec<(usize, Error)>, Error> {
        let requests = self.requests(writes)?;
        self.run_each(requests)
    }

    /// Runs writes, and answers which of them the device failed for their place.
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

    /// Writes one piece; see [`MetaIo::write_all`].
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

    /// Reads all of `reads` and shows each to `each`, in the order of completion: at full queue depth, or in turns while
    /// `pace` yields. A failed read is shown as its error; only a queue that stops answering ends it.
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

    /// Discards all of `ranges`, which are whole `units`, and passes the result of each to `each`, in the order of
    /// completion: as many in flight as the lane takes, or in turns while `pace` yields. Only a queue that stops answering ends it; the answers that it gave count, and ranges
    /// that were not drawn were not sent.
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

    /// Reads each of `reads` into a buffer that the caller keeps; answers in request order.
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

    /// A buffer of this lane's arena; waits for those that others still hold.
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

    /// Gives its queue back. Everything that it is asked from now on is `Closed`.
    pub(crate) fn close(&mut self) {
        self.lane = Err(Error::Closed);
    }

    fn die(&mut self, error: Error) -> Error {
        if let Ok(lane) = std::mem::replace(&mut self.lane, Err(error.clone())) {
            drop_elsewhere(lane);
        }
        error
    }

    /// Runs a batch; answers in request order.
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

    /// Waits until `done` has `count`, in one wait where the queue can: each wake of this thread costs as much as a
    /// small request.
    fn poll_until(&mut self, count: usize, done: &mut Vec<Completion>) -> Result<(), Error> {
        let mut patience = Patience::new(self.deadline);
        while done.len() < count {
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
