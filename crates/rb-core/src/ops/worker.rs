//! The threads in which async operations wait for what their calls must not wait for: buffers, log
//! space, locks held over I/O, and checksums of values.
//!
//! Each resource has its own worker, so that operations that need no buffers do not queue behind
//! those that do. A worker runs its work in the order of the calls, so the oldest operation waits
//! first and reaches its deadline first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, unbounded};
use parking_lot::Mutex;
use rb_io::Patience;

use crate::core::thread::Thread;
use crate::core::waits::Waits;
use crate::error::Error;
use crate::ops::driver::Driver;

/// A piece of work; returns how much of its time no deadline must count.
type Work = Box<dyn FnOnce(Result<(), Error>) -> Duration + Send>;

/// The threads of the async operations.
pub(crate) struct AsyncThreads {
    pub(crate) driver: Driver,
    /// Waits for buffers.
    pub(crate) buffers: Worker,
    /// Waits for log space, for operations that have their buffers.
    pub(crate) writes: Worker,
    /// Bytes of values copied to the heap because they wait for buffers.
    queued: Arc<AtomicUsize>,
}

/// A share of `queued`, returned on drop.
pub(crate) struct Queued {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Queued {
    /// Moves `bytes` to another share.
    pub(crate) fn split(&mut self, bytes: usize) -> Queued {
        assert!(
            bytes <= self.bytes,
            "a share is split into no more than it has"
        );
        self.bytes -= bytes;
        Queued {
            all: Arc::clone(&self.all),
            bytes,
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Default for AsyncThreads {
    fn default() -> AsyncThreads {
        AsyncThreads {
            driver: Driver::default(),
            buffers: Worker::new("rb-buffers"),
            writes: Worker::new("rb-writes"),
            queued: Arc::default(),
        }
    }
}

impl AsyncThreads {
    /// Counts `bytes` of values that wait for buffers, up to `limit` in total. One call may exceed it
    /// alone.
    ///
    /// # Errors
    /// `Busy`, immediately, if that would exceed `limit`.
    pub(crate) fn queue_bytes(&self, bytes: usize, limit: usize) -> Result<Queued, Error> {
        let more = |all: usize| {
            let sum = all.checked_add(bytes)?;
            (all == 0 || sum <= limit).then_some(sum)
        };
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        match self.queued.fetch_update(set, get, more) {
            Ok(_) => Ok(Queued {
                all: Arc::clone(&self.queued),
                bytes,
            }),
            Err(_) => Err(Error::Busy {
                what: "memory for values that wait for buffers",
                waited: Duration::ZERO,
            }),
        }
    }

    /// Ends the threads after their queued work; returns whether they ended within `patience`.
    pub(crate) fn stop(&self, patience: &mut Patience) -> bool {
        // Each before the one it hands work to.
        let workers = self.buffers.stop(patience) & self.writes.stop(patience);
        self.driver.stop(patience) & workers
    }

    /// Returns whether the caller runs in one of these threads.
    pub(crate) fn has_current(&self) -> bool {
        self.buffers.is_current() || self.writes.is_current() || self.driver.is_current()
    }
}

/// Runs work in a thread that starts with the first piece.
pub(crate) struct Worker {
    name: &'static str,
    state: Mutex<State>,
    time: Arc<Mutex<Time>>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// True once no thread may be started any more.
    stopped: bool,
}

struct Running {
    inbox: Sender<Work>,
    thread: Thread,
}

/// Time that the thread has spent on its work. While the process is stopped, no time is counted, so
/// that an operation queued during the stop keeps its whole patience.
#[derive(Default)]
struct Time {
    counted: Duration,
    /// Start of the current piece of work.
    began: Option<Instant>,
}

impl Time {
    fn now(&self) -> Duration {
        self.counted + self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }
}

impl Worker {
    pub(crate) fn new(name: &'static str) -> Worker {
        let (state, time) = (Mutex::default(), Arc::default());
        Worker { name, state, time }
    }

    /// Queues `work`, which gets the rest of `waits`. If no thread can be started, calls it in
    /// place with the error.
    pub(crate) fn run(
        &self,
        mut waits: Waits,
        work: impl FnOnce(&mut Waits, Result<(), Error>) + Send + 'static,
    ) {
        let since = self.time.lock().now();
        let time = Arc::clone(&self.time);
        let work: Work = Box::new(move |outcome| {
            // Charge the time the worker spent on earlier work; it excludes stops of the process.
            let waited = time.lock().counted.saturating_sub(since);
            waits.resources.charge(waited);
            let before = waits.lost();
            work(&mut waits, outcome);
            waits.lost() - before
        });
        let mut state = self.state.lock();
        if state.running.is_none() {
            let started = match state.stopped {
                true => Err(Error::Closed),
                false => self.start(),
            };
            match started {
                Ok(running) => state.running = Some(running),
                Err(error) => {
                    drop(state);
                    work(Err(error));
                    return;
                }
            }
        }
        if let Some(running) = &state.running {
            // Cannot fail: the thread ends only after this sender is dropped.
            drop(running.inbox.send(work));
        }
    }

    fn start(&self) -> Result<Running, Error> {
        let (inbox, works) = unbounded::<Work>();
        let time = Arc::clone(&self.time);
        let thread = Thread::spawn(self.name, move || {
            for work in works {
                let began = Instant::now();
                time.lock().began = Some(began);
                let lost = work(Ok(()));
                let mut time = time.lock();
                time.began = None;
                time.counted += began.elapsed().saturating_sub(lost);
            }
        })?;
        Ok(Running { inbox, thread })
    }

    fn is_current(&self) -> bool {
        let state = self.state.lock();
        let running = state.running.as_ref();
        running.is_some_and(|running| running.thread.is_current())
    }

    /// Ends the thread after its queued work and refuses later work; returns whether it ended
    /// within `patience`.
    pub(crate) fn stop(&self, patience: &mut Patience) -> bool {
        let running = {
            let mut state = self.state.lock();
            state.stopped = true;
            state.running.take()
        };
        let Some(Running { inbox, thread }) = running else {
            return true;
        };
        drop(inbox);
        thread.join(patience)
    }
}
