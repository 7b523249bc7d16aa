//! The store's own threads. They only decide *when*; the work is done by step functions, which a
//! simulator calls directly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rb_io::Patience;

use crate::background::Services;
use crate::background::scrub::WAIT_AFTER_SILENCE;
use crate::core::inner::Inner;
use crate::core::thread::Thread;
use crate::error::Error;
use crate::io::pace::Pace;
use crate::log::delta::Task;

/// Entries validated per step; the thread can be stopped between steps.
const VALIDATE_STEP: usize = 1024;

/// Entries scrubbed per step.
const SCRUB_STEP: usize = 256;

/// Delay of validator and scrubber after an open: the first readers of the store need the same
/// device and cores.
const READ_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Tasks {
    threads: Vec<Thread>,
    stop: Arc<Stop>,
}

/// Signals waiting threads to end.
#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn notify(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// Waits for `time` or until stopped. Returns whether to continue.
    fn pause(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        // Under the lock, so that a stop between the look and the wait is not missed.
        if !*stopped {
            self.changed.wait_for(&mut stopped, time);
        }
        !*stopped
    }
}

impl Tasks {
    /// Starts the threads. On an error, those already started keep running.
    pub(crate) fn start(
        &mut self,
        inner: &Arc<Inner>,
        background: &Arc<Services>,
    ) -> Result<(), Error> {
        if inner.writer.is_some() {
            self.spawn("rb-commit", inner, background, commit)?;
            self.spawn("rb-checkpoint", inner, background, checkpoint)?;
        }
        if background.discards.is_some() {
            self.spawn("rb-discard", inner, background, discard)?;
        }
        if !background.validator.is_done() {
            self.spawn("rb-validate", inner, background, validate)?;
        }
        if background.scrubber.is_some() {
            self.spawn("rb-scrub", inner, background, scrub)?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: &str,
        inner: &Arc<Inner>,
        background: &Arc<Services>,
        task: fn(&Inner, &Services, &Stop),
    ) -> Result<(), Error> {
        let (inner, background) = (Arc::clone(inner), Arc::clone(background));
        let stop = Arc::clone(&self.stop);
        let thread = Thread::spawn(name, move || task(&inner, &background, &stop))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Waits for the threads to end; the log must be stopped already. A thread that hangs is left
    /// behind.
    pub(crate) fn stop(&mut self, patience: &mut Patience) {
        self.stop.notify();
        for thread in self.threads.drain(..) {
            let _ = thread.join(patience);
        }
    }

    /// Returns whether the caller runs in one of these threads.
    pub(crate) fn has_current(&self) -> bool {
        self.threads.iter().any(Thread::is_current)
    }
}

/// Validates at half speed while no caller uses the device: pauses after each step for as long as
/// the step took.
fn validate(inner: &Inner, background: &Services, stop: &Stop) {
    let mut pause = READ_AFTER;
    let wait = |time| stop.pause(time);
    let mut pace = Pace::yielding(&inner.lanes.load, inner.options.clock.as_ref(), &wait);
    while stop.pause(pause) {
        let start = Instant::now();
        // An error ends the validator; entries are then verified by their first read.
        if !background
            .validator
            .step(inner, VALIDATE_STEP, &mut pace)
            .unwrap_or(false)
        {
            return;
        }
        // While callers use the device, the pace has rested after each turn already.
        pause = match pace.yields() {
            true => Duration::ZERO,
            false => start.elapsed(),
        };
    }
}

/// Scrubs as the rate allows. Sleeps between passes.
fn scrub(inner: &Inner, background: &Services, stop: &Stop) {
    let Some(scrubber) = &background.scrubber else {
        return;
    };
    let mut pause = READ_AFTER;
    let wait = |time| stop.pause(time);
    let mut pace = Pace::yielding(&inner.lanes.load, inner.options.clock.as_ref(), &wait);
    while stop.pause(pause) {
        // The error was counted; the device may come back.
        let wait = scrubber.step(inner, SCRUB_STEP, &mut pace);
        pause = wait.unwrap_or(WAIT_AFTER_SILENCE);
    }
}

fn commit(inner: &Inner, _: &Services, _: &Stop) {
    let Some(writer) = &inner.writer else { return };
    let interval = inner.options.sync_interval;
    while writer
        .log
        .wait_commit(interval, || inner.options.clock.now())
        == Task::Commit
    {
        // A failed commit has notified its waiters and the observer already.
        drop(inner.commit(writer));
    }
}

fn checkpoint(inner: &Inner, background: &Services, _: &Stop) {
    if let (Some(writer), Some(checkpointer)) = (&inner.writer, &background.checkpointer) {
        checkpointer.serve(inner, writer);
    }
}

fn discard(inner: &Inner, background: &Services, _: &Stop) {
    if let (Some(writer), Some(discards)) = (&inner.writer, &background.discards) {
        discards.serve(inner, writer);
    }
}
