//! The store's own threads. They only decide *when*; the work is done by step functions, which a
//! simulator calls directly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_io::Patience;

use crate::background::scrub::{SCRUB_STEP, WAIT_AFTER_SILENCE};
use crate::background::{Services, answers};
use crate::core::inner::Inner;
use crate::core::thread::Thread;
use crate::error::Error;
use crate::io::pace::Pace;
use crate::log::delta::Task;

/// Entries validated per step; the thread can be stopped between steps.
const VALIDATE_STEP: usize = 1024;

/// Delay of validator and scrubber after an open: the first readers of the store need the same
/// device and cores.
const READ_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Tasks {
    threads: Vec<Thread>,
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
        if background.monitor.is_ok() {
            self.spawn("rb-monitor", inner, background, monitor)?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: &str,
        inner: &Arc<Inner>,
        background: &Arc<Services>,
        task: fn(&Arc<Inner>, &Arc<Services>),
    ) -> Result<(), Error> {
        let (inner, background) = (Arc::clone(inner), Arc::clone(background));
        let thread = Thread::spawn(name, move || task(&inner, &background))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Waits for the threads to end; the log must be stopped already. A thread that hangs is left
    /// behind.
    pub(crate) fn stop(&mut self, background: &Services, patience: &mut Patience) {
        background.stop.notify();
        if let Ok(monitor) = &background.monitor {
            monitor.stop();
            monitor.scrub.join(patience);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join(patience);
        }
    }

    /// Returns whether the caller runs in one of these threads.
    pub(crate) fn has_current(&self, background: &Services) -> bool {
        let monitor = background.monitor.as_ref();
        self.threads.iter().any(Thread::is_current)
            || monitor.is_ok_and(|monitor| monitor.scrub.has_current())
    }
}

/// Validates at half speed while no caller uses the device: pauses after each step for as long as
/// the step took.
fn validate(inner: &Arc<Inner>, background: &Arc<Services>) {
    let stop = &background.stop;
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
fn scrub(inner: &Arc<Inner>, background: &Arc<Services>) {
    let stop = &background.stop;
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

fn commit(inner: &Arc<Inner>, background: &Arc<Services>) {
    let Some(writer) = &inner.writer else { return };
    let interval = inner.options.sync_interval;
    while writer
        .log
        .wait_commit(interval, || inner.options.clock.now())
        == Task::Commit
    {
        // A failed commit has notified its waiters and the observer already.
        drop(inner.commit(writer));
        if let Ok(monitor) = &background.monitor {
            monitor.ages.note(inner.index.uses());
        }
    }
}

fn checkpoint(inner: &Arc<Inner>, background: &Arc<Services>) {
    if let (Some(writer), Some(checkpointer)) = (&inner.writer, &background.checkpointer) {
        checkpointer.serve(inner, writer);
    }
}

fn discard(inner: &Arc<Inner>, background: &Arc<Services>) {
    if let (Some(writer), Some(discards)) = (&inner.writer, &background.discards) {
        discards.serve(inner, writer);
    }
}

fn monitor(inner: &Arc<Inner>, background: &Arc<Services>) {
    if let Ok(monitor) = &background.monitor {
        monitor.ages.note(inner.index.uses());
        answers::serve(inner, background, monitor);
    }
}
