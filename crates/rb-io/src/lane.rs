//! A lane: one queue, with splitting, retry and the joining of parts. What a store uses.
//!
//! Requests of any size go in; each is cut into parts that respect the [`Limits`], and the parts of
//! all requests are in flight together up to the depth of the queue. Parts that moved too little
//! are continued, parts that were told "not now" are tried again, both with a bound. One failing
//! part fails its request only, and the request's buffer comes back only when all of its parts
//! have ended.

mod part;
mod request;
mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{Feature, Queue, QueueCounters};
use crate::error::IoError;
use crate::limits::Limits;
use crate::process::Process;
use crate::request::PartDone;
use crate::wake::Waker;
use part::{After, PartState};
pub use request::{Completion, Request};
use request::{Entry, Owner};
use table::Table;

/// One queue with splitting, retry and joining of parts.
///
/// Dropping it with requests in flight is sound at any time: the queue waits for them (bounded),
/// and what it cannot wait for keeps its memory.
pub struct Lane {
    // First, so that it is dropped before the buffers that its parts use.
    queue: Box<dyn Queue>,
    limits: Limits,
    requests: Table<Entry>,
    parts: Table<PartState>,
    /// Requests that are not yet cut completely, in order; only the first is partly cut.
    to_cut: VecDeque<usize>,
    /// Parts to push again, and when.
    retries: VecDeque<(Instant, usize)>,
    /// Ended, and not yet fetched by `poll`.
    finished: VecDeque<Completion>,
    /// Ended, by position, for the call of `run` that is under way.
    run: Vec<Option<Completion>>,
    run_unfinished: usize,
    /// Reused between calls.
    reaped: Vec<PartDone>,
    serial: u32,
    /// Parts were pushed since the last `reap`.
    unstarted: bool,
    failure: Option<Arc<io::Error>>,
    process: Process,
}

impl Lane {
    /// A lane over `queue`; `limits` are those of the queue's engine.
    #[must_use]
    pub fn new(queue: Box<dyn Queue>, limits: &Limits) -> Self {
        Self {
            queue,
            limits: *limits,
            requests: Table::new(),
            parts: Table::new(),
            to_cut: VecDeque::new(),
            retries: VecDeque::new(),
            finished: VecDeque::new(),
            run: Vec::new(),
            run_unfinished: 0,
            reaped: Vec::new(),
            serial: 0,
            unstarted: false,
            failure: None,
            process: Process::current(),
        }
    }

    /// Takes a request; it is started by the next [`poll`](Self::poll) or [`run`](Self::run).
    /// Requests beyond the depth of the queue wait in the lane.
    ///
    /// `tag` comes back in the [`Completion`]; it need not be unique. A request that cannot be
    /// sent as it stands (out of range, misaligned, buffer too small) completes with an error.
    ///
    /// ```
    /// use rb_io::{Arena, Device, EngineKind, Lane, QueueOptions, Request};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let device = Device::create_file(&dir.path().join("device"), 1 << 20, false)?;
    /// let engine = rb_io::open(device, EngineKind::Posix)?.engine;
    /// let mut lane = Lane::new(engine.queue(&QueueOptions::default())?, engine.limits());
    /// let arena = Arena::allocate(64 << 10)?;
    ///
    /// let buffer = arena.take(8192).expect("the arena is free");
    /// lane.start(42, Request::write(0, buffer, 0, 8192));
    /// assert_eq!(lane.unfinished(), 1);
    ///
    /// let mut done = Vec::new();
    /// lane.poll(1, None, &mut done)?;
    /// assert_eq!(done[0].tag, 42);
    /// assert!(done[0].result.is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(&mut self, tag: u64, request: Request) {
        self.admit(Owner::Tag(tag), request);
    }

    /// Starts what waits and appends completions to `done` until there are `at_least`, the timeout
    /// has passed, or the lane is woken. 0 does not block; more than unfinished means all.
    /// With nothing unfinished it waits for a wake or the timeout.
    ///
    /// # Errors
    /// [`IoError::QueueFailed`]: the queue does no more. Every unfinished request is answered in
    /// `done`, without its buffer where the kernel may still use it.
    pub fn poll(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<Completion>,
    ) -> Result<(), IoError> {
        // A timeout too long for the clock is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.check_process();
        let at_least = at_least as usize;
        let mut stepped = false;
        loop {
            self.pump();
            let missing = at_least.saturating_sub(self.finished.len());
            let timed_out = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let idle = self.requests.is_empty();
            if missing == 0 || timed_out || (idle && !self.finished.is_empty()) {
                break;
            }
            let woken = self.step(self.parts_to_wait_for(missing), self.time_left(deadline));
            stepped = true;
            if woken || self.failure.is_some() || idle {
                break;
            }
        }
        // What was pushed is started even if nobody waits for it, and what has ended meanwhile
        // makes room for more.
        if self.unstarted || !stepped {
            self.step(0, Some(Duration::ZERO));
            self.pump();
        }
        if self.unstarted {
            self.step(0, Some(Duration::ZERO));
        }
        done.extend(self.finished.drain(..));
        self.failure
            .as_ref()
            .map_or(Ok(()), |_| Err(self.queue_failed()))
    }

    /// Runs all of `requests` and returns their completions in the same order, with the position
    /// as the tag. Blocks until all have ended; every request is answered, even if the queue
    /// itself fails. A batch whose parts fit the queue is one submission.
    ///
    /// Requests started before go on meanwhile; their completions stay for [`poll`](Self::poll).
    ///
    /// ```
    /// use rb_io::{Arena, Device, EngineKind, Lane, QueueOptions, Request};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let device = Device::create_file(&dir.path().join("device"), 1 << 20, false)?;
    /// let engine = rb_io::open(device, EngineKind::Posix)?.engine;
    /// let mut lane = Lane::new(engine.queue(&QueueOptions::default())?, engine.limits());
    /// let arena = Arena::allocate(64 << 10)?;
    ///
    /// let mut take = || arena.take(4096).expect("the arena is free");
    /// let beyond_the_end = 1 << 20;
    /// let done = lane.run(vec![
    ///     Request::read(0, take(), 0, 4096),
    ///     Request::read(beyond_the_end, take(), 0, 4096),
    /// ]);
    /// // One failing request fails alone, and its buffer comes back.
    /// assert!(done[0].result.is_ok());
    /// assert!(done[1].result.is_err() && done[1].buf.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(&mut self, requests: Vec<Request>) -> Vec<Completion> {
        self.run = requests.iter().map(|_| None).collect();
        self.run_unfinished = requests.len();
        for (position, request) in requests.into_iter().enumerate() {
            self.admit(Owner::Run(position), request);
        }
        let mut woken = false;
        while self.run_unfinished > 0 {
            self.pump();
            if self.run_unfinished == 0 {
                break;
            }
            woken |= self.step(
                self.parts_to_wait_for(self.run_unfinished),
                self.time_left(None),
            );
        }
        if woken {
            // The wake was meant for a `poll`, which has yet to see it.
            self.queue.waker().wake();
        }
        std::mem::take(&mut self.run)
            .into_iter()
            .flatten()
            .collect()
    }

    /// Requests that were started and have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.requests.len()
    }

    /// A handle that makes a blocked [`poll`](Self::poll) return.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.queue.waker()
    }

    /// What the queue has done so far.
    #[must_use]
    pub fn counters(&self) -> QueueCounters {
        self.queue.counters()
    }

    /// What the queue uses of what the system offers.
    #[must_use]
    pub fn report(&self) -> Vec<Feature> {
        self.queue.report()
    }

    /// Parts in flight at most.
    #[must_use]
    pub fn queue_depth(&self) -> u32 {
        self.queue.depth()
    }

    fn admit(&mut self, owner: Owner, request: Request) {
        self.check_process();
        let checked = match &self.failure {
            Some(_) => Err(self.queue_failed()),
            None => request.check(&self.limits, self.queue.capacity_bytes()),
        };
        let nothing_to_do = request.is_empty();
        if nothing_to_do || checked.is_err() {
            return self.deliver(
                owner,
                Completion {
                    tag: 0,
                    buf: request.buf,
                    result: checked,
                },
            );
        }
        let index = self
            .requests
            .insert(Entry::new(owner, request, &self.limits));
        self.to_cut.push_back(index);
    }

    /// The queue does nothing in a forked child, which shares it with its parent.
    fn check_process(&mut self) {
        if self.failure.is_none() && !self.process.is_current() {
            self.fail(io::Error::other(
                "this process is a fork of the one that made the queue",
            ));
        }
    }

    /// Fills the queue: parts whose turn to be tried again has come, then new ones.
    fn pump(&mut self) {
        while self.failure.is_none() && self.queue.in_flight() < self.queue.depth() {
            let part = match self.due_retry() {
                Some(part) => part,
                None => match self.cut_part() {
                    Some(part) => part,
                    None => break,
                },
            };
            if !self.push(part) {
                break;
            }
        }
    }

    fn due_retry(&mut self) -> Option<usize> {
        let (due, part) = *self.retries.front()?;
        if due > Instant::now() {
            return None;
        }
        self.retries.pop_front();
        Some(part)
    }

    /// Cuts the next part off the first request that has more.
    fn cut_part(&mut self) -> Option<usize> {
        while let Some(&request) = self.to_cut.front() {
            let span = self.requests.get_mut(request).and_then(Entry::next_span);
            if self.requests.get(request).is_none_or(Entry::is_cut) {
                self.to_cut.pop_front();
            }
            if let Some(span) = span {
                self.serial = self.serial.wrapping_add(1);
                return Some(
                    self.parts
                        .insert(PartState::new(self.serial, request, span)),
                );
            }
            self.complete_if_done(request);
        }
        None
    }

    fn push(&mut self, index: usize) -> bool {
        let Some(state) = self.parts.get(index) else {
            return true;
        };
        let Some(entry) = self.requests.get(state.request) else {
            return true;
        };
        let part = entry.part(state, state.token(index));
        match self.queue.push(part) {
            Ok(()) => {
                self.unstarted = true;
                true
            }
            Err(_full) => {
                self.retries.push_front((Instant::now(), index));
                false
            }
        }
    }

    /// How many parts to wait for when `missing` requests are: never more than must end anyway, so
    /// that the wait cannot overshoot, and as many as that allows, so that it is one system call.
    fn parts_to_wait_for(&self, missing: usize) -> u32 {
        let in_flight = self.queue.in_flight();
        if missing < self.requests.len() {
            // Each missing request still lacks at least one part.
            return in_flight
                .min(u32::try_from(missing).unwrap_or(u32::MAX))
                .max(1);
        }
        if self.to_cut.is_empty() && self.retries.is_empty() {
            return in_flight.max(1);
        }
        // More waits to be pushed: refill before the device runs dry.
        (in_flight / 4).max(1)
    }

    fn time_left(&self, deadline: Option<Instant>) -> Option<Duration> {
        let retry = self.retries.front().map(|(due, _)| *due);
        let until = match (deadline, retry) {
            (Some(deadline), Some(retry)) => Some(deadline.min(retry)),
            (deadline, retry) => deadline.or(retry),
        };
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// One `reap` and what follows from it; says whether it was woken.
    fn step(&mut self, at_least: u32, timeout: Option<Duration>) -> bool {
        if self.failure.is_some() {
            return false;
        }
        self.unstarted = false;
        let wakes = self.queue.counters().wakes;
        let mut reaped = std::mem::take(&mut self.reaped);
        let result = self.queue.reap(at_least, timeout, &mut reaped);
        for done in reaped.drain(..) {
            self.part_done(done);
        }
        self.reaped = reaped;
        if let Err(error) = result {
            self.fail(error);
        }
        self.queue.counters().wakes != wakes
    }

    fn part_done(&mut self, done: PartDone) {
        // Gone before the request completes, so that its buffer is the last.
        drop(done.buf);
        let (index, serial) = PartState::of_token(done.token);
        let Some(state) = self
            .parts
            .get_mut(index)
            .filter(|state| state.serial == serial)
        else {
            debug_assert!(
                false,
                "a completion with an unknown token {:#x}",
                done.token
            );
            return;
        };
        let request = state.request;
        let Some(entry) = self.requests.get_mut(request) else {
            return;
        };
        let engine = self.queue.engine();
        let error = match state.after(entry.op, done.result, &self.limits, engine) {
            After::Again(delay) => {
                let due = Instant::now() + delay;
                let place = self.retries.partition_point(|(other, _)| *other <= due);
                self.retries.insert(place, (due, index));
                return;
            }
            After::Done => None,
            After::Failed(error) => Some(error),
        };
        entry.end_part(error);
        self.parts.remove(index);
        self.complete_if_done(request);
    }

    fn complete_if_done(&mut self, request: usize) {
        if self.requests.get(request).is_some_and(Entry::is_done)
            && let Some(entry) = self.requests.remove(request)
        {
            if !entry.is_cut() {
                self.to_cut.retain(|waiting| *waiting != request);
            }
            let (owner, completion) = entry.finish();
            self.deliver(owner, completion);
        }
    }

    fn deliver(&mut self, owner: Owner, completion: Completion) {
        match owner {
            Owner::Tag(tag) => self.finished.push_back(Completion { tag, ..completion }),
            Owner::Run(position) => {
                self.run[position] = Some(Completion {
                    tag: position as u64,
                    ..completion
                });
                self.run_unfinished -= 1;
            }
        }
    }

    /// The queue is of no more use: every request is answered.
    fn fail(&mut self, error: io::Error) {
        self.failure = Some(Arc::new(error));
        self.to_cut.clear();
        self.retries.clear();
        self.parts = Table::new();
        for mut entry in self.requests.drain() {
            entry.error = Some(self.queue_failed());
            let (owner, completion) = entry.finish();
            self.deliver(owner, completion);
        }
    }

    fn queue_failed(&self) -> IoError {
        let source = self
            .failure
            .clone()
            .unwrap_or_else(|| Arc::new(io::ErrorKind::Other.into()));
        IoError::QueueFailed {
            engine: self.queue.engine(),
            source,
        }
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("engine", &self.queue.engine())
            .field("depth", &self.queue.depth())
            .field("unfinished", &self.requests.len())
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
