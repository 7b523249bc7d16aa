//! The thread that drives the batches of async operations: it owns one queue for its whole life, so the ring can be
//! single-issuer, and no request depends on a caller's thread that may exit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use parking_lot::Mutex;
use rb_io::{Completion, Issuer, Lane, Patience, QueueCounters, Request, Waker};

use crate::core::inner::Inner;
use crate::core::thread::Thread;
use crate::error::Error;
use crate::io::lanes::{Lanes, drop_elsewhere};
use crate::operation::Wakes;
use crate::ops::batch::Batch;

/// How long an answer may wait for others of its round before its caller is woken.
const PATIENCE: Duration = Duration::from_micros(50);
/// A value of more bytes takes longer than that to verify.
const LONG_BYTES: usize = 256 << 10;

/// A batch that the driver drives, and who hears of its answers.
trait Driven: Send {
    fn requests(&mut self) -> Vec<Request>;
    fn arrived(&mut self, answer: Completion);
    fn complete(&mut self, wakes: &mut Wakes);
    fn refused(&mut self, error: &Error);
    /// Gives the answers, unless that was done when they were late.
    fn reply(&mut self, late: Option<&Error>, wakes: &mut Wakes);
}

struct Replying<B, R> {
    batch: B,
    /// None once it was called.
    reply: Option<R>,
}

impl<B: Batch, R: FnOnce(B::Answers, &mut Wakes) + Send> Driven for Replying<B, R> {
    fn requests(&mut self) -> Vec<Request> {
        // The driver does not wait for buffers: all async operations wait for the driver.
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

/// A round of a batch that is to be sent.
struct Job {
    requests: Vec<Request>,
    batch: Box<dyn Driven>,
}

/// Starts its thread with the first job.
#[derive(Default)]
pub(crate) struct Driver {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// No thread is started any more: an operation that outlives the close would make one that has a queue of the device,
    /// and that nothing ends.
    stopped: bool,
}

struct Running {
    jobs: Sender<Job>,
    /// That of the lane in use.
    waker: Arc<Mutex<Waker>>,
    thread: Thread,
}

impl Driver {
    /// Gives the driver thread a batch that needs no more buffers. `reply` is called there with the answers.
    pub(crate) fn start<B: Batch>(
        &self,
        inner: &Inner,
        mut batch: B,
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
                    // What the requests hold is free again before anybody hears of it.
                    drop(requests);
                    batch.refused(&error);
                    return batch.reply(None, &mut Wakes::default());
                }
            }
        }
        if let Some(running) = &state.running {
            // The receiver lives as long as the thread, which ends only when this sender is gone.
            drop(running.jobs.send(Job { requests, batch }));
            running.waker.lock().wake();
        }
    }

    /// Whether the caller runs in its thread.
    pub(crate) fn is_current(&self) -> bool {
        let state = self.state.lock();
        let running = state.running.as_ref();
        running.is_some_and(|running| running.thread.is_current())
    }

    /// Finishes every job and ends the thread; answers whether it did in time. Jobs that come later are refused. If requests hang, the thread is left
    /// behind with what belongs to them.
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
        drop(jobs);
        waker.lock().wake();
        thread.join(patience)
    }
}

fn spawn(lanes: Arc<Lanes>, deadline: Duration) -> Result<Running, Error> {
    let (jobs, inbox) = unbounded();
    let (started, waker) = bounded(1);
    let thread = Thread::spawn("rb-driver", move || {
        // The lane is made here because a single-issuer ring belongs to the thread that made it.
        match lanes.make(Issuer::OneThread) {
            Ok(lane) => {
                let waker = Arc::new(Mutex::new(lane.waker()));
                drop(started.send(Ok(Arc::clone(&waker))));
                Loop {
                    lanes,
                    lane,
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
    /// Counters of the lanes before it, whose queues failed.
    former: QueueCounters,
    waker: Arc<Mutex<Waker>>,
    inbox: Receiver<Job>,
    active: Vec<Option<Active>>,
    free: Vec<usize>,
    open: bool,
    deadline: Duration,
    /// Time that it has spent with jobs in flight. Each turn counts as a step of patience at most: a process that was
    /// stopped has not waited for the device.
    now: Duration,
    /// Up to here.
    counted: Instant,
}

struct Active {
    batch: Box<dyn Driven>,
    missing: usize,
    since: Duration,
    /// It has answered that it is late.
    late: bool,
}

impl Loop {
    fn run(mut self) {
        let mut done = Vec::new();
        while self.take_jobs() {
            let left = self.next_deadline();
            let longest = Patience::new(self.deadline).step();
            let step = left.map(|left| left.min(longest));
            // A queue that fails answers everything it holds, and then whatever comes later.
            let failed = self.lane.poll(1, step, &mut done).is_err();
            // Before the completions: a caller whose operation has completed finds it counted.
            self.count();
            let counted = std::mem::replace(&mut self.counted, Instant::now());
            self.now += (self.counted - counted).min(longest);
            let mut wakes = Wakes::default();
            for completion in done.drain(..) {
                // Wake waiters first: verifying a large value takes long.
                if completion
                    .buf
                    .as_ref()
                    .is_some_and(|buf| buf.len() > LONG_BYTES)
                {
                    wakes.notify();
                }
                self.arrived(completion, &mut wakes);
                wakes.notify_after(PATIENCE);
            }
            drop(wakes);
            if failed && self.is_idle() {
                self.renew();
            }
            if left.is_some_and(|left| left.is_zero()) {
                self.notify_late();
            }
        }
    }

    fn count(&self) {
        let mut counters = self.former;
        counters += self.lane.counters();
        self.lanes.count_driver(counters);
    }

    /// Whether no job is under way. The lane cannot tell: one that failed has finished whatever it is
    /// given, before anyone has fetched the answers.
    fn is_idle(&self) -> bool {
        self.active.len() == self.free.len()
    }

    /// Takes another lane in the place of one whose queue failed. If there is none to be had, jobs go on
    /// to be answered with the failure.
    fn renew(&mut self) {
        if let Ok(lane) = self.lanes.make(Issuer::OneThread) {
            // Before the inbox is looked at again: a caller that still wakes the former lane has sent its job.
            *self.waker.lock() = lane.waker();
            self.former += self.lane.counters();
            // What the former one still holds may hang, and no other job is to wait for that.
            drop_elsewhere(std::mem::replace(&mut self.lane, lane));
        }
    }

    /// Time until the first job is late; none if none can be.
    fn next_deadline(&self) -> Option<Duration> {
        let in_time = self.active.iter().flatten().filter(|active| !active.late);
        let oldest = in_time.map(|active| active.since).min()?;
        Some((oldest + self.deadline).saturating_sub(self.now))
    }

    fn notify_late(&mut self) {
        for active in self.active.iter_mut().flatten() {
            if self.now - active.since >= self.deadline && !active.late {
                active.late = true;
                let waited = self.deadline;
                let late = Error::TimedOut { waited };
                active.batch.reply(Some(&late), &mut Wakes::default());
            }
        }
    }

    /// Starts every job that is waiting. Blocks for one if there is nothing else to do. False when
    /// all work is done and no more can come.
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

    fn start(&mut self, Job { requests, batch }: Job) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.active.push(None);
            self.active.len() - 1
        });
        self.lanes.load.begin();
        self.active[number] = Some(Active {
            batch,
            missing: requests.len(),
            since: self.now,
            late: false,
        });
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
        let Some(Active { mut batch, .. }) = self.active[number].take() else {
            return;
        };
        self.free.push(number);
        self.lanes.load.end();
        batch.complete(wakes);
        let requests = batch.requests();
        match requests.is_empty() {
            true => batch.reply(None, wakes),
            false => self.start(Job { requests, batch }),
        }
    }
}
