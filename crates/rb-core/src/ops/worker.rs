//! The threads in which operations wait for what their async calls may not wait for: buffers, log space, locks that are
//! held over I/O, and the checksums of values.
//!
//! One worker for each thing to wait for, so that operations that need no buffers do not stand behind those that do. A worker does one piece of work after another, in the order of the calls. So the oldest operation waits first, and
//! its deadline is over first.

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

/// Answers how much of the time that it took is not to be counted.
type Work = Box<dyn FnOnce(Result<(), Error>) -> Duration + Send>;

/// What async operations run in.
pub(crate) struct AsyncThreads {
    pub(crate) driver: Arc<Driver>,
    /// Here they wait for buffers.
    pub(crate) buffers: Worker,
    /// Here those that have them wait for log space.
    pub(crate) writes: Arc<Worker>,
    /// Bytes of values that wait for buffers in memory of their own.
    queued: Arc<AtomicUsize>,
}

/// Bytes of values that wait for buffers, as long as this lives.
pub(crate) struct Queued {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Default for AsyncThreads {
    fn default() -> AsyncThreads {
        AsyncThreads {
            driver: Arc::default(),
            buffers: Worker::new("rb-buffers"),
            writes: Arc::new(Worker::new("rb-writes")),
            queued: Arc::default(),
        }
    }
}

impl AsyncThreads {
    /// Counts bytes of values that wait for buffers, of which there may be `limit` in all.
    ///
    /// # Errors
    /// `Busy`, at once: there are too many.
    pub(crate) fn queue_bytes(&self, bytes: usize, limit: usize) -> Result<Queued, Error> {
        let more = |all: usize| all.checked_add(bytes).filter(|all| *all <= limit);
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

    /// Ends the threads, each after all that it has; answers whether they did in time.
    pub(crate) fn stop(&self, patience: &mut Patience) -> bool {
        // Each before those that it gives work.
        let workers = self.buffers.stop(patience) & self.writes.stop(patience);
        self.driver.stop(patience) & workers
    }

    /// Whether the caller runs in one of them.
    pub(crate) fn has_current(&self) -> bool {
        self.buffers.is_current() || self.writes.is_current() || self.driver.is_current()
    }
}

/// Starts its thread with the first piece of work.
pub(crate) struct Worker {
    name: &'static str,
    state: Mutex<State>,
    time: Arc<Mutex<Time>>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// No thread is started any more.
    stopped: bool,
}

struct Running {
    inbox: Sender<Work>,
    thread: Thread,
}

/// The time that the thread has spent on its work. A process that was stopped has not worked: an operation that stood in
/// line meanwhile has lost none of its patience.
#[derive(Default)]
struct Time {
    counted: Duration,
    /// When it began what it does now.
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

    /// Has the thread do `work`, with what is then left of `waits`. Without a thread `work` gets the error, here and now.
    pub(crate) fn run(
        &self,
        mut waits: Waits,
        work: impl FnOnce(&mut Waits, Result<(), Error>) + Send + 'static,
    ) {
        let since = self.time.lock().now();
        let time = Arc::clone(&self.time);
        let work: Work = Box::new(move |outcome| {
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
            // The thread ends only when this sender is gone.
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

    /// Ends the thread after all work, and refuses what comes later; answers whether the end came in time.
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
