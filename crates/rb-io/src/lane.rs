//! A lane: one queue, with splitting, retry and joining of parts. The interface that a store uses.
//!
//! A lane accepts requests of any size. Each is cut into parts that respect the [`Limits`], and the
//! parts of all requests are in flight together up to the depth of the queue. Short transfers are
//! continued and transient errors retried, both a bounded number of times. A failing part fails
//! only its request, and the request's buffer comes back only when all of its parts have completed.

mod part;
mod request;
mod stats;
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
pub use request::{Completion, PartSum, Request, Segment};
use request::{Entry, Owner};
use stats::Counting;
pub use stats::{RequestStats, Requests};
use table::Table;

/// One queue with splitting, retry and joining of parts.
///
/// It may be dropped with requests in flight at any time: the queue waits for them (bounded), and
/// keeps the memory of those that it cannot wait for.
pub struct Lane {
    // Declared first, so that it is dropped before the buffers that its parts use.
    queue: Box<dyn Queue>,
    limits: Limits,
    requests: Table<Entry>,
    parts: Table<PartState>,
    /// Requests not yet cut completely, in order; only the first is partly cut.
    to_cut: VecDeque<usize>,
    /// Parts to push again, and when.
    retries: VecDeque<(Instant, usize)>,
    /// Completed, and not yet fetched by `poll`.
    finished: VecDeque<Completion>,
    /// Completed, by position, for the current call of `run`.
    run: Vec<Option<Completion>>,
    run_unfinished: usize,
    /// Reused between calls.
    reaped: Vec<PartDone>,
    serial: u32,
    /// True if parts were pushed since the last `reap`.
    unstarted: bool,
    failure: Option<Arc<io::Error>>,
    process: Process,
    counting: Option<Counting>,
}

impl Lane {
    /// Creates a lane over `queue`; `limits` are those of the queue's engine.
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
            counting: None,
        }
    }

    /// Counts the requests that are started from now on in `stats`.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use rb_io::{Arena, Device, EngineKind, Lane, OpKind, QueueOptions, Request, RequestStats};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let device = Device::create_file(&dir.path().join("device"), 1 << 20, false)?;
    /// let engine = rb_io::open(device, EngineKind::Posix)?.engine;
    /// let mut lane = Lane::new(engine.queue(&QueueOptions::default())?, engine.limits());
    /// let stats = Arc::new(RequestStats::new());
    /// lane.count_in(Arc::clone(&stats));
    ///
    /// let arena = Arena::allocate(64 << 10)?;
    /// let buffer = arena.take(8192).expect("the arena is free");
    /// lane.start(0, Request::write(0, buffer, 0, 8192));
    /// assert_eq!(stats.in_flight().0, 1);
    /// lane.poll(1, None, &mut Vec::new())?;
    /// let writes = stats.completed(OpKind::Write);
    /// assert_eq!((writes.latency.count(), writes.bytes, writes.failures), (1, 8192, 0));
    /// assert_eq!(stats.in_flight(), (0, None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn count_in(&mut self, stats: Arc<RequestStats>) {
        self.counting = Some(Counting::new(stats));
    }

    /// Accepts a request; the next [`poll`](Self::poll) or [`run`](Self::run) starts it. Requests
    /// beyond the depth of the queue wait in the lane.
    ///
    /// `tag` comes back in the [`Completion`]; it need not be unique. A request that cannot be sent
    /// (out of range, misaligned, buffer too small) completes with an error.
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

    /// Starts waiting requests and appends completions to `done` until there are `at_least`, the
    /// timeout has passed, or the lane is woken. 0 does not block; more than
    /// [`unfinished`](Self::unfinished) means all. With nothing unfinished it waits for a wake or
    /// the timeout.
    ///
    /// # Errors
    /// [`IoError::QueueFailed`]: the queue can no longer be used. Every unfinished request
    /// completes with an error in `done`, without its buffer if the kernel may still use it.
    pub fn poll(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<Completion>,
    ) -> Result<(), IoError> {
        // A timeout too long for the clock means no limit.
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
        // Start pushed parts even if no caller waits for them; completions that arrived in the
        // meantime make room for more.
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

    /// Runs all of `requests` and returns their completions in the same order, with the position as
    /// the tag. Blocks until all have completed; every request completes, even if the queue itself
    /// fails. A batch whose parts fit the queue is one submission.
    ///
    /// Requests started earlier continue in the meantime; their completions are kept for
    /// [`poll`](Self::poll).
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
            // The wake was meant for a `poll`, so raise it again.
            self.queue.waker().wake();
        }
        std::mem::take(&mut self.run)
            .into_iter()
            .flatten()
            .collect()
    }

    /// Gives up the requests of [`start`](Self::start) for whose tags `which` returns true: starts no more of their parts,
    /// and asks the kernel to cancel those in flight. A request completes as always, when none of its parts is in flight;
    /// with [`IoError::GivenUp`] if not all of it was sent. What the device already works on cannot be cancelled.
    ///
    /// ```
    /// use rb_io::{Arena, Device, EngineKind, Lane, QueueOptions, Request};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let device = Device::create_file(&dir.path().join("device"), 1 << 20, false)?;
    /// let engine = rb_io::open(device, EngineKind::Posix)?.engine;
    /// let mut lane = Lane::new(engine.queue(&QueueOptions::default())?, engine.limits());
    /// let arena = Arena::allocate(64 << 10)?;
    /// let buffer = arena.take(4096).expect("the arena is free");
    ///
    /// lane.start(42, Request::read(0, buffer, 0, 4096));
    /// lane.give_up(|tag| tag == 42); // nothing of it has started
    /// let mut done = Vec::new();
    /// lane.poll(1, None, &mut done)?;
    /// assert!(done[0].result.is_err() && done[0].buf.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn give_up(&mut self, which: impl Fn(u64) -> bool) {
        self.check_process();
        let engine = self.queue.engine();
        let mut given_up: Vec<usize> = self.requests.indices().collect();
        given_up.retain(|&index| {
            let entry = self.requests.get_mut(index);
            let entry =
                entry.filter(|entry| !entry.is_given_up() && entry.tag().is_some_and(&which));
            entry.is_some_and(|entry| {
                entry.give_up(&self.limits, engine);
                true
            })
        });
        self.to_cut.retain(|index| !given_up.contains(index));
        let is_of_these = |index: &usize| {
            let part = self.parts.get(*index);
            part.is_some_and(|part| given_up.contains(&part.request))
        };
        let parts: Vec<usize> = self.parts.indices().filter(is_of_these).collect();
        let retries = std::mem::take(&mut self.retries).into_iter();
        let (waiting, retries) = retries.partition(|(_, index)| parts.contains(index));
        self.retries = retries;
        let waiting: VecDeque<(Instant, usize)> = waiting;
        let mut tokens = Vec::new();
        for index in parts {
            if !waiting.iter().any(|(_, waits)| *waits == index) {
                tokens.extend(self.parts.get(index).map(|part| part.token(index)));
            } else if let Some(part) = self.parts.remove(index)
                && let Some(entry) = self.requests.get_mut(part.request)
            {
                entry.end_part(Some(part.given_up(entry.op, engine)));
            }
        }
        self.queue.cancel(&tokens);
        for index in given_up {
            self.complete_if_done(index);
        }
    }

    /// Returns the number of requests started and not completed.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.requests.len()
    }

    /// Returns a handle that makes a blocked [`poll`](Self::poll) return.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.queue.waker()
    }

    /// Returns the counters of the queue.
    #[must_use]
    pub fn counters(&self) -> QueueCounters {
        self.queue.counters()
    }

    /// Returns which features of the system the queue uses.
    #[must_use]
    pub fn report(&self) -> Vec<Feature> {
        self.queue.report()
    }

    /// Returns the largest number of parts in flight.
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
                    loan: request.loan,
                    sums: Vec::new(),
                    result: checked,
                },
            );
        }
        let index = self
            .requests
            .insert(Entry::new(owner, request, &self.limits));
        if let (Some(counting), Some(entry)) = (&mut self.counting, self.requests.get_mut(index)) {
            entry.counted = Some(counting.begin(index));
        }
        self.to_cut.push_back(index);
    }

    /// Fails the lane in a forked child, which shares the queue with its parent and must not use
    /// it.
    fn check_process(&mut self) {
        if self.failure.is_none() && !self.process.is_current() {
            self.fail(io::Error::other(
                "this process is a fork of the one that made the queue",
            ));
        }
    }

    /// Fills the queue: first parts that are due for a retry, then new ones.
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
            let entry = self.requests.get_mut(request);
            let span = entry.and_then(|entry| entry.next_span(&self.limits));
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

    /// Returns how many parts to wait for when `missing` requests are missing: never more than must
    /// complete anyway, so that the wait cannot overshoot, and as many as that allows, so that one
    /// system call suffices.
    fn parts_to_wait_for(&self, missing: usize) -> u32 {
        let in_flight = self.queue.in_flight();
        if missing < self.requests.len() {
            // Each missing request still lacks at least one part.
            return in_flight
                .min(u32::try_from(missing).unwrap_or(u32::MAX))
                .max(1);
        }
        let all_pushed = self.to_cut.is_empty() && self.retries.is_empty();
        if all_pushed && !self.requests.iter().any(Entry::is_checksummed) {
            return in_flight.max(1);
        }
        // More parts wait to be pushed, or those that arrive are checksummed: refill before the device
        // runs dry, and checksum while it works on the rest.
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

    /// Reaps once and processes the completions; returns whether the lane was woken.
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
        // Dropped before the request completes, so that the request holds the last reference to the
        // buffer.
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
            After::Again(_) if entry.is_given_up() => Some(state.given_up(entry.op, engine)),
            After::Again(delay) => {
                let due = Instant::now() + delay;
                let place = self.retries.partition_point(|(other, _)| *other <= due);
                self.retries.insert(place, (due, index));
                return;
            }
            After::Done => {
                entry.checksum(state);
                None
            }
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
            self.count(&entry);
            let (owner, completion) = entry.finish();
            self.deliver(owner, completion);
        }
    }

    /// Counts a request that has ended and is not in the lane any more.
    fn count(&mut self, entry: &Entry) {
        if let (Some(counting), Some(counted)) = (&mut self.counting, entry.counted) {
            let requests = &self.requests;
            counting.end(counted, entry.op, entry.bytes_done(), |other| {
                let other_entry = requests.get(other.index);
                let open = other_entry.and_then(|entry| entry.counted);
                open.is_some_and(|open| open.number == other.number)
            });
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

    /// Fails the lane: the queue can no longer be used, and every request completes with an error.
    fn fail(&mut self, error: io::Error) {
        self.failure = Some(Arc::new(error));
        self.to_cut.clear();
        self.retries.clear();
        self.parts = Table::new();
        for mut entry in self.requests.drain() {
            entry.error = Some(self.queue_failed());
            self.count(&entry);
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
