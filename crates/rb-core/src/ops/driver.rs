//! The thread that drives the batches of async operations. It owns one queue for its whole life, so
//! that the ring can be single-issuer and no request depends on a caller's thread, which may exit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use parking_lot::Mutex;
use rb_io::{Buffer, Completion, Issuer, Lane, Loan, Patience, QueueCounters, Request, Waker};

use crate::core::inner::Inner;
use crate::core::thread::Thread;
use crate::error::Error;
use crate::io::lanes::{Lanes, drop_elsewhere};
use crate::operation::Wakes;
use crate::ops::batch::Batch;
use crate::ops::turns::Begun;

/// Longest time a result waits for other completions of its round before its caller is woken.
const PATIENCE: Duration = Duration::from_micros(50);
/// Values larger than this take longer than `PATIENCE` to verify.
const LONG_BYTES: usize = 256 << 10;

/// A batch in the driver, with the callback that takes its results.
trait Driven: Send {
    fn requests(&mut self) -> Vec<Request>;
    fn arrived(&mut self, answer: Completion);
    fn complete(&mut self, wakes: &mut Wakes);
    fn refused(&mut self, error: &Error);
    /// Delivers the results, unless they were already delivered as late.
    fn reply(&mut self, late: Option<&Error>, wakes: &mut Wakes);
}

struct Replying<B, R> {
    batch: B,
    /// `None` after the call.
    reply: Option<R>,
}

impl<B: Batch, R: FnOnce(B::Answers, &mut Wakes) + Send> Driven for Replying<B, R> {
    fn requests(&mut self) -> Vec<Request> {
        // The driver never waits for buffers: every async operation waits for the driver.
        self.batch.requests(&mut Patience::none())
    }

    fn arrived(&mut self, answer: Completion) {
        self.batch.arrived(answer);
    }

    fn complete(&mut self, wakes: &mut Wakes) {
        self.batch.complete(&mut || wakes.notify());
    }

    fn refused(&mut self, error: &Error) {
        self.batch.refused(error);
    }

    fn reply(&mut self, late: Option<&Error>, wakes: &mut Wakes) {
        if let Some(reply) = self.reply.take() {
            reply(self.batch.answers(late), wakes);
        }
    }
}

/// A round of a batch to submit.
struct Job {
    requests: Vec<Request>,
    batch: Box<dyn Driven>,
    begun: Begun,
}

/// Drives async batches in a thread that starts with the first job.
#[derive(Default)]
pub(crate) struct Driver {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// True once the store stops its threads. An operation that outlives the close must not start
    /// one: it would own a queue of the device, and nothing would end it.
    stopped: bool,
}

struct Running {
    jobs: Sender<Job>,
    /// Wakes the lane in use.
    waker: Arc<Mutex<Waker>>,
    thread: Thread,
}

impl Driver {
    /// Hands a batch whose buffers are already taken to the driver thread, which calls `reply` with
    /// the results. `begun` is that of its call.
    pub(crate) fn start<B: Batch>(
        &self,
        inner: &Inner,
        mut batch: B,
        begun: &Begun,
        reply: impl FnOnce(B::Answers, &mut Wakes) + Send + 'static,
    ) {
        let requests = batch.requests(&mut Patience::none());
        let reply = Some(reply);
        let mut batch = Box::new(Replying { batch, reply });
        if requests.is_empty() {
            return batch.reply(None, &mut Wakes::default());
        }
        let mut state = self.state.lock();
        if state.running.is_none() {
            let spawned = match state.stopped {
                true => Err(Error::Closed),
                false => spawn(Arc::clone(&inner.lanes), inner.options.io_deadline),
            };
            match spawned {
                Ok(spawned) => state.running = Some(spawned),
                Err(error) => {
                    drop(state);
                    // Release the requests' buffers before the caller learns of the error and
                    // retries.
                    drop(requests);
                    batch.refused(&error);
                    return batch.reply(None, &mut Wakes::default());
                }
            }
        }
        if let Some(running) = &state.running {
            // Cannot fail: the receiver lives as long as the thread, which ends only after this
            // sender is dropped.
            let begun = Arc::clone(begun);
            drop(running.jobs.send(Job {
                requests,
                batch,
                begun,
            }));
            running.waker.lock().wake();
        }
    }

    /// Returns whether the caller runs in the driver thread.
    pub(crate) fn is_current(&self) -> bool {
        let state = self.state.lock();
        let running = state.running.as_ref();
        running.is_some_and(|running| running.thread.is_current())
    }

    /// Finishes every job and ends the thread; returns whether it ended within `patience`. Later
    /// jobs are refused. If requests hang, the thread is left behind with everything that belongs
    /// to them.
    pub(crate) fn stop(&self, patience: &mut Patience) -> bool {
        let running = {
            let mut state = self.state.lock();
            state.stopped = true;
            state.running.take()
        };
        let Some(Running {
            jobs,
            waker,
            thread,
        }) = running
        else {
            return true;
        };
        // The loop ends once its inbox is closed and every job is done.
        drop(jobs);
        waker.lock().wake();
        thread.join(patience)
    }
}

fn spawn(lanes: Arc<Lanes>, deadline: Duration) -> Result<Running, Error> {
    let (jobs, inbox) = unbounded();
    let (started, waker) = bounded(1);
    let thread = Thread::spawn("rb-driver", move || {
        // Made here: a single-issuer ring belongs to the thread that creates it.
        let arenas = lanes.arenas();
        match lanes.make(Issuer::OneThread) {
            Ok(lane) => {
                let waker = Arc::new(Mutex::new(lane.waker()));
                drop(started.send(Ok(Arc::clone(&waker))));
                Loop {
                    lanes,
                    lane,
                    arenas,
                    former: QueueCounters::default(),
                    waker,
                    inbox,
                    active: Vec::new(),
                    free: Vec::new(),
                    open: true,
                    deadline,
                    now: Duration::ZERO,
                    counted: Instant::now(),
                }
                .run();
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    let waker = waker.recv().map_err(|why| Error::Resource {
        what: "a driver thread",
        why: why.to_string(),
    })??;
    Ok(Running {
        jobs,
        waker,
        thread,
    })
}

struct Loop {
    lanes: Arc<Lanes>,
    lane: Lane,
    /// The number of arenas that the lane was made with.
    arenas: usize,
    /// Counters of the lanes before it, whose queues failed or that did not know all arenas.
    former: QueueCounters,
    waker: Arc<Mutex<Waker>>,
    inbox: Receiver<Job>,
    active: Vec<Option<Active>>,
    free: Vec<usize>,
    open: bool,
    deadline: Duration,
    /// Time spent with jobs in flight. Each iteration counts as one step of patience at most: while
    /// the process is stopped, it does not wait for the device.
    now: Duration,
    /// The instant up to which `now` is counted.
    counted: Instant,
}

struct Active {
    batch: Box<dyn Driven>,
    missing: usize,
    begun: Begun,
    since: Duration,
    /// True if the caller already got `TimedOut`.
    late: bool,
}

impl Loop {
    fn run(mut self) {
        let mut done = Vec::new();
        while self.take_jobs() {
            let left = self.next_deadline();
            // A longer turn than one step of patience means that the process was stopped.
            let longest = Patience::new(self.deadline).step();
            // Without a job that can become late, wait for a completion or a wake without a
            // timeout.
            let step = left.map(|left| left.min(longest));
            // A failed queue completes everything it holds, and then every later request, with an
            // error.
            let failed = self.lane.poll(1, step, &mut done).is_err();
            // Before the completions: a caller whose operation has completed finds it counted.
            self.count();
            let counted = std::mem::replace(&mut self.counted, Instant::now());
            self.now += (self.counted - counted).min(longest);
            let mut wakes = Wakes::default();
            for completion in done.drain(..) {
                // Wake earlier callers first: verifying a large value takes long.
                let buffer = completion.buf.as_ref().map_or(0, Buffer::len);
                let lent = completion.loan.as_ref().map_or(0, Loan::len);
                if buffer + lent > LONG_BYTES {
                    wakes.notify();
                }
                self.arrived(completion, &mut wakes);
                wakes.notify_after(PATIENCE);
            }
            drop(wakes);
            let is_old = self.arenas < self.lanes.arenas();
            if (failed || is_old) && self.is_idle() {
                self.renew();
            }
            if left.is_some_and(|left| left.is_zero()) {
                self.notify_late();
            }
        }
    }

    /// Publishes the counters of all lanes so far.
    fn count(&self) {
        let mut counters = self.former;
        counters += self.lane.counters();
        self.lanes.count_driver(counters);
    }

    /// Returns whether no job is in flight. The lane's own count does not show it: a failed lane
    /// has finished its requests before their completions are fetched.
    fn is_idle(&self) -> bool {
        self.active.len() == self.free.len()
    }

    /// Replaces a lane whose queue failed, or that does not know all arenas. If no new lane can be made, jobs continue to fail on the
    /// old one.
    fn renew(&mut self) {
        let arenas = self.lanes.arenas();
        if let Ok(lane) = self.lanes.make(Issuer::OneThread) {
            self.arenas = arenas;
            // Before the inbox is read again: a caller that still wakes the old lane has already
            // sent its job.
            *self.waker.lock() = lane.waker();
            self.former += self.lane.counters();
            // Dropping the old lane may hang in the device, which must not delay other jobs.
            drop_elsewhere(std::mem::replace(&mut self.lane, lane));
        }
    }

    /// Time until the next job is late; `None` if no job can become late.
    fn next_deadline(&self) -> Option<Duration> {
        let in_time = self.active.iter().flatten().filter(|active| !active.late);
        let oldest = in_time.map(|active| active.since).min()?;
        Some((oldest + self.deadline).saturating_sub(self.now))
    }

    /// Replies to jobs that are late, and gives up what the device does not have yet of them.
    fn notify_late(&mut self) {
        let mut late_now = Vec::new();
        for (number, active) in self.active.iter_mut().enumerate() {
            let Some(active) = active else {
                continue;
            };
            if self.now - active.since >= self.deadline && !active.late {
                active.late = true;
                let waited = self.deadline;
                let late = Error::TimedOut { waited };
                // Only the caller is answered; the batch stays until its requests complete.
                active.batch.reply(Some(&late), &mut Wakes::default());
                late_now.push(number as u64);
            }
        }
        if !late_now.is_empty() {
            self.lane.give_up(|tag| late_now.contains(&(tag >> 32)));
        }
    }

    /// Starts every waiting job. Blocks for one if idle. Returns false when all work is done and no
    /// more can come.
    fn take_jobs(&mut self) -> bool {
        loop {
            let idle = self.is_idle();
            if idle && !self.open {
                return false;
            }
            let next = if idle {
                let next = self.inbox.recv();
                self.counted = Instant::now();
                next.map_err(|_| TryRecvError::Disconnected)
            } else {
                self.inbox.try_recv()
            };
            match next {
                Ok(job) => self.start(job),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => {
                    self.open = false;
                    if !self.is_idle() {
                        return true;
                    }
                }
            }
        }
    }

    fn start(&mut self, job: Job) {
        let Job {
            requests,
            mut batch,
            begun,
        } = job;
        let since = *begun.get_or_init(|| self.now);
        if self.now.saturating_sub(since) >= self.deadline {
            // Before the caller gets the error: the loans and the buffers.
            drop(requests);
            let waited = self.deadline;
            batch.refused(&Error::TimedOut { waited });
            return batch.reply(None, &mut Wakes::default());
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.active.push(None);
            self.active.len() - 1
        });
        self.lanes.load.begin();
        self.active[number] = Some(Active {
            batch,
            missing: requests.len(),
            begun,
            since,
            late: false,
        });
        // The tag holds the number of the batch in its upper half, the position of the request in
        // its lower.
        for (position, request) in requests.into_iter().enumerate() {
            self.lane
                .start((number as u64) << 32 | position as u64, request);
        }
    }

    fn arrived(&mut self, answer: Completion, wakes: &mut Wakes) {
        let (number, position) = (
            (answer.tag >> 32) as usize,
            answer.tag & u64::from(u32::MAX),
        );
        let Some(active) = self.active.get_mut(number).and_then(Option::as_mut) else {
            return;
        };
        active.batch.arrived(Completion {
            tag: position,
            ..answer
        });
        active.missing -= 1;
        if active.missing > 0 {
            return;
        }
        let Some(Active {
            mut batch,
            late,
            begun,
            ..
        }) = self.active[number].take()
        else {
            return;
        };
        self.free.push(number);
        self.lanes.load.end();
        batch.complete(wakes);
        let mut requests = batch.requests();
        if late && !requests.is_empty() {
            // No caller waits for another round, and the store may be closed.
            requests.clear();
            batch.refused(&Error::Closed);
        }
        match requests.is_empty() {
            true => batch.reply(None, wakes),
            false => self.start(Job {
                requests,
                batch,
                begun,
            }),
        }
    }
}
