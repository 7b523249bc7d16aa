//! The store's own threads. Each only decides *when*; what is done are the step functions that a
//! simulator calls itself.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::background::scrub::WAIT_AFTER_SILENCE;
use crate::core::inner::Inner;
use crate::error::Error;
use crate::log::delta::Duty;

/// Entries validated per step; between steps the thread can be stopped.
const VALIDATE_STEP: usize = 1024;

/// Entries scrubbed per step.
const SCRUB_STEP: usize = 256;

/// How long validator and scrubber leave a store alone that has just been opened: its first readers
/// wait for the same device and the same cores.
const READ_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Duties {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<Stop>,
}

/// Tells threads that wait on purpose to end.
#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    told: Condvar,
}

impl Stop {
    fn tell(&self) {
        *self.stopped.lock() = true;
        self.told.notify_all();
    }

    /// Waits, unless told to stop. Answers whether to go on.
    fn pause(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.told.wait_for(&mut stopped, time);
        }
        !*stopped
    }
}

impl Duties {
    /// Starts the threads; after an error, those that it could.
    pub(crate) fn start(&mut self, inner: &Arc<Inner>) -> Result<(), Error> {
        if inner.writer.is_some() {
            self.spawn("rb-commit", inner, |inner, _| commit(&inner))?;
            self.spawn("rb-checkpoint", inner, |inner, _| {
                crate::background::checkpoint::run(&inner)
            })?;
        }
        let discards = |writer: &crate::core::inner::Writer| writer.discards.is_some();
        if inner.writer.as_ref().is_some_and(discards) {
            self.spawn("rb-discard", inner, |inner, _| {
                crate::background::discard::run(&inner)
            })?;
        }
        if inner.validator.lock().place.is_some() {
            self.spawn("rb-validate", inner, |inner, stop| validate(&inner, &stop))?;
        }
        if inner.scrubber.is_some() {
            self.spawn("rb-scrub", inner, |inner, stop| scrub(&inner, &stop))?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: &str,
        inner: &Arc<Inner>,
        duty: impl FnOnce(Arc<Inner>, Arc<Stop>) + Send + 'static,
    ) -> Result<(), Error> {
        let (inner, stop) = (Arc::clone(inner), Arc::clone(&self.stop));
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || duty(inner, stop))
            .map_err(|why| Error::Resource {
                what: "a thread",
                why: why.to_string(),
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Waits for the threads; the log must have been stopped.
    pub(crate) fn stop(&mut self) {
        self.stop.tell();
        for thread in self.threads.drain(..) {
            // The last owner of a store may be one of them, in an observer's call.
            if thread.thread().id() != std::thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

/// Validates at half speed: after each step it pauses for as long as the step took.
fn validate(inner: &Arc<Inner>, stop: &Stop) {
    let mut pause = READ_AFTER;
    while stop.pause(pause) {
        let start = Instant::now();
        // An error ends the validator; each entry's first read still proves it.
        if !inner.validate_some(VALIDATE_STEP).unwrap_or(false) {
            return;
        }
        pause = start.elapsed();
    }
}

/// Scrubs as the rate allows. Between passes the thread sleeps.
fn scrub(inner: &Arc<Inner>, stop: &Stop) {
    let mut pause = READ_AFTER;
    while stop.pause(pause) {
        pause = match inner.scrub_some(SCRUB_STEP) {
            Ok(None) => return,
            Ok(Some(wait)) => wait,
            // It was counted; the device may come back.
            Err(_) => WAIT_AFTER_SILENCE,
        };
    }
}

fn commit(inner: &Arc<Inner>) {
    let Some(writer) = &inner.writer else { return };
    let interval = inner.options.sync_interval;
    while writer
        .log
        .wait_commit(interval, || inner.options.clock.now())
        == Duty::Commit
    {
        drop(inner.commit(writer));
    }
}
