//! The thread behind async operations: it owns one queue for its whole life, so the ring can be
//! single-issuer, and no request depends on a caller's thread that may exit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use parking_lot::Mutex;
use rb_io::{Completion, Issuer, Lane, Request, Waker};

use crate::error::Error;
use crate::io::lanes::{Lanes, drop_elsewhere};
use crate::operation::Wakes;

/// How long an answer may wait for others of its round before its caller is woken.
const PATIENCE: Duration = Duration::from_micros(50);
/// A value of more bytes takes longer than that to verify.
const LONG_BYTES: usize = 256 << 10;

/// What follows when all requests of a job are answered; those who are to hear of it go into the wakes.
pub(crate) type Finish = Box<dyn FnOnce(Vec<Completion>, &mut Wakes) -> Option<Job> + Send>;

/// One wave of an async operation, and what follows when its requests are answered: perhaps
/// another wave.
pub(crate) struct Job {
    pub(crate) requests: Vec<Request>,
    /// Set when the requests are about to go out; a job dropped before it moved nothing.
    pub(crate) sent: Arc<AtomicBool>,
    pub(crate) finish: Finish,
    /// Called if the answers are late. The job still waits for them: memory, slots and leases stay with it.
    /// Called too if there is no queue for the requests.
    pub(crate) fail: Box<dyn FnOnce(Error) + Send>,
}

/// Starts its thread with the first job.
#[derive(Default)]
pub(crate) struct Driver {
    running: Mutex<Option<Running>>,
}

struct Running {
    jobs: Sender<Job>,
    /// That of the lane in use.
    waker: Arc<Mutex<Waker>>,
    thread: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl Driver {
    /// Hands a job to the driver thread. If there is none to be had, the job fails here and now.
    pub(crate) fn start(&self, lanes: &Arc<Lanes>, job: Job, deadline: Duration) {
        let mut running = self.running.lock();
        if running.is_none() {
            match spawn(Arc::clone(lanes), deadline) {
                Ok(spawned) => *running = Some(spawned),
                Err(error) => {
                    drop(running);
                    let Job {
                        requests,
                        finish,
                        fail,
                        ..
                    } = job;
                    // What they hold is free again before anybody hears of it.
                    drop((requests, finish));
                    return fail(error);
                }
            }
        }
        if let Some(running) = running.as_ref() {
            // The receiver lives as long as the thread, which ends only when this sender is gone.
            drop(running.jobs.send(job));
            running.waker.lock().wake();
        }
    }

    /// Finishes every job and ends the thread. If requests hang beyond `wait`, the thread is left
    /// behind with what belongs to them.
    pub(crate) fn stop(&self, wait: Duration) {
        let Some(Running {
            jobs,
            waker,
            thread,
            ended,
        }) = self.running.lock().take()
        else {
            return;
        };
        drop(jobs);
        waker.lock().wake();
        // The last owner of a store may be the driver itself, finishing that owner's job.
        let own = thread.thread().id() == std::thread::current().id();
        if !own && ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            drop(thread.join());
        }
    }
}

fn spawn(lanes: Arc<Lanes>, deadline: Duration) -> Result<Running, Error> {
    let (jobs, inbox) = unbounded();
    let (ending, ended) = bounded(0);
    let (started, waker) = bounded(1);
    let thread = std::thread::Builder::new()
        .name("rb-driver".into())
        .spawn(move || {
            let _ending: Sender<()> = ending;
            // The lane is made here because a single-issuer ring belongs to the thread that made it.
            match lanes.make(Issuer::OneThread) {
                Ok(lane) => {
                    let waker = Arc::new(Mutex::new(lane.waker()));
                    drop(started.send(Ok(Arc::clone(&waker))));
                    Loop {
                        lanes,
                        lane,
                        waker,
                        inbox,
                        active: Vec::new(),
                        free: Vec::new(),
                        open: true,
                        deadline,
                    }
                    .run();
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })
        .map_err(|why| Error::Resource {
            what: "a driver thread",
            why: why.to_string(),
        })?;
    let waker = waker.recv().map_err(|why| Error::Resource {
        what: "a driver thread",
        why: why.to_string(),
    })??;
    Ok(Running {
        jobs,
        waker,
        thread,
        ended,
    })
}

struct Loop {
    lanes: Arc<Lanes>,
    lane: Lane,
    waker: Arc<Mutex<Waker>>,
    inbox: Receiver<Job>,
    active: Vec<Option<Active>>,
    free: Vec<usize>,
    open: bool,
    deadline: Duration,
}

struct Active {
    answers: Vec<Completion>,
    missing: usize,
    finish: Finish,
    since: Instant,
    /// None once it was called.
    fail: Option<Box<dyn FnOnce(Error) + Send>>,
}

impl Loop {
    fn run(mut self) {
        let mut done = Vec::new();
        while self.take_jobs() {
            let timeout = self.next_deadline();
            // A queue that fails answers everything it holds, and then whatever comes later.
            let failed = self.lane.poll(1, timeout, &mut done).is_err();
            let mut wakes = Wakes::default();
            for completion in done.drain(..) {
                // Nobody waits until a large value is verified.
                if completion
                    .buf
                    .as_ref()
                    .is_some_and(|buf| buf.len() > LONG_BYTES)
                {
                    wakes.tell();
                }
                self.answer(completion, &mut wakes);
                wakes.tell_after(PATIENCE);
            }
            drop(wakes);
            if failed && self.is_idle() {
                self.renew();
            }
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                self.tell_the_late();
            }
        }
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
            // Before the inbox is looked at again: whoever still wakes the former lane has sent its job.
            *self.waker.lock() = lane.waker();
            // What the former one still holds may hang, and nobody else shall wait for that.
            drop_elsewhere(std::mem::replace(&mut self.lane, lane));
        }
    }

    /// Time until the first job is late; none if none can be.
    fn next_deadline(&self) -> Option<Duration> {
        let in_time = self
            .active
            .iter()
            .flatten()
            .filter(|active| active.fail.is_some());
        let oldest = in_time.map(|active| active.since).min()?;
        Some(self.deadline.saturating_sub(oldest.elapsed()))
    }

    fn tell_the_late(&mut self) {
        for active in self.active.iter_mut().flatten() {
            if active.since.elapsed() >= self.deadline
                && let Some(fail) = active.fail.take()
            {
                let waited = self.deadline;
                fail(Error::TimedOut { waited });
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
                self.inbox.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.inbox.try_recv()
            };
            match next {
                Ok(job) => self.start(job, &mut Wakes::default()),
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

    fn start(&mut self, mut job: Job, wakes: &mut Wakes) {
        while job.requests.is_empty() {
            match (job.finish)(Vec::new(), wakes) {
                Some(next) => job = next,
                None => return,
            }
        }
        let Job {
            requests,
            sent,
            finish,
            fail,
        } = job;
        sent.store(true, Ordering::Relaxed);
        let number = self.free.pop().unwrap_or_else(|| {
            self.active.push(None);
            self.active.len() - 1
        });
        let answers = Vec::with_capacity(requests.len());
        self.active[number] = Some(Active {
            answers,
            missing: requests.len(),
            finish,
            since: Instant::now(),
            fail: Some(fail),
        });
        for (position, request) in requests.into_iter().enumerate() {
            self.lane
                .start((number as u64) << 32 | position as u64, request);
        }
    }

    fn answer(&mut self, completion: Completion, wakes: &mut Wakes) {
        let number = (completion.tag >> 32) as usize;
        let Some(active) = self.active.get_mut(number).and_then(Option::as_mut) else {
            return;
        };
        active.answers.push(completion);
        active.missing -= 1;
        if active.missing > 0 {
            return;
        }
        if let Some(Active {
            mut answers,
            finish,
            ..
        }) = self.active[number].take()
        {
            self.free.push(number);
            answers.sort_unstable_by_key(|completion| completion.tag);
            if let Some(job) = finish(answers, wakes) {
                self.start(job, wakes);
            }
        }
    }
}
