//! A scrub of the open store that another process asked for: one pass, in a thread of its own.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rb_io::Patience;
use serde::{Deserialize, Serialize};

use crate::background::scrub::{SCRUB_STEP, Scrubber, WAIT_AFTER_SILENCE};
use crate::background::stop::Stop;
use crate::core::inner::Inner;
use crate::core::thread::Thread;
use crate::io::pace::Pace;
use crate::options::Scrub;
use crate::stats::ScrubStats;

/// Progress of a scrub that another process asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubProgress {
    /// Entries to verify: those that were live when it began.
    pub of: u64,
    /// Its counters.
    pub done: ScrubStats,
    /// True until the pass has ended.
    pub running: bool,
}

#[derive(Default)]
pub(crate) struct ScrubOnce {
    pass: Mutex<Option<Pass>>,
}

struct Pass {
    of: u64,
    scrubber: Arc<Scrubber>,
    thread: Option<Thread>,
}

impl ScrubOnce {
    /// Starts a pass.
    ///
    /// # Errors
    /// A message: a pass is running, or the system has no thread.
    pub(crate) fn start(
        &self,
        inner: &Arc<Inner>,
        stop: &Arc<Stop>,
        bytes_per_second: NonZeroU64,
    ) -> Result<(), String> {
        let mut pass = self.pass.lock();
        if pass.as_ref().is_some_and(Pass::is_running) {
            return Err("a scrub that was asked for is running".into());
        }
        // Under the lock, which the join of the thread takes after that.
        if stop.is_notified() {
            return Err("the store is being closed".into());
        }
        let options = Scrub {
            bytes_per_second,
            pass_interval: Duration::MAX,
        };
        let scrubber = Arc::new(Scrubber::new(options, inner.options.clock.now()));
        let (inner, stop) = (Arc::clone(inner), Arc::clone(stop));
        let entries = inner.index.stats().entries;
        let working = Arc::clone(&scrubber);
        let work = move || run(&working, &inner, &stop);
        let thread = Thread::spawn("rb-scrub-once", work);
        *pass = Some(Pass {
            of: entries,
            scrubber,
            thread: Some(thread.map_err(|why| why.to_string())?),
        });
        Ok(())
    }

    /// The pass that was started last.
    pub(crate) fn progress(&self) -> Option<ScrubProgress> {
        self.pass.lock().as_ref().map(|pass| ScrubProgress {
            of: pass.of,
            done: ScrubStats::of(pass.scrubber.counters()),
            running: pass.is_running(),
        })
    }

    /// Waits for the end of the thread, which was notified.
    pub(crate) fn join(&self, patience: &mut Patience) {
        let thread = self
            .pass
            .lock()
            .as_mut()
            .and_then(|pass| pass.thread.take());
        if let Some(thread) = thread {
            let _ = thread.join(patience);
        }
    }

    /// Returns whether the caller runs in its thread.
    pub(crate) fn has_current(&self) -> bool {
        let pass = self.pass.lock();
        let thread = pass.as_ref().and_then(|pass| pass.thread.as_ref());
        thread.is_some_and(Thread::is_current)
    }
}

impl Pass {
    fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.has_ended())
    }
}

/// Scrubs until the pass is over or the store stops.
fn run(scrubber: &Scrubber, inner: &Inner, stop: &Stop) {
    let wait = |time| stop.pause(time);
    let mut pace = Pace::yielding(&inner.lanes.load, inner.options.clock.as_ref(), &wait);
    loop {
        // The error was counted; the device may come back.
        let step = scrubber.step(inner, SCRUB_STEP, &mut pace);
        let pause = step.unwrap_or(WAIT_AFTER_SILENCE);
        if scrubber.is_between_passes() || !stop.pause(pause) {
            return;
        }
    }
}
