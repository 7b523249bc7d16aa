//! Ends a store: close, and drop of the last clone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rb_format::Record;
use rb_io::Patience;

use crate::background::checkpoint::Checkpointer;
use crate::core::thread::Thread;
use crate::error::Error;
use crate::simulator::{HeldLock, SwitchPoint};
use crate::store::{Handle, Open};

/// Longest time that dropping the last clone waits for the device; afterwards the thread `rb-drop` continues alone.
const DROP_WAIT: Duration = Duration::from_secs(1);

/// Multiple of `io_deadline` after which a close abandons its checkpoint.
const CHECKPOINT_DEADLINES: u32 = 4;

impl Open {
    pub(super) fn close(&self) -> Result<(), Error> {
        let trace = &self.inner.counters.trace;
        let span = trace.close();
        // A concurrent close waits here and returns the same result.
        let mut closed = self.inner.lock_over_io(&self.closed, HeldLock::Close);
        let is_first = closed.is_none();
        let outcome = closed.get_or_insert_with(|| self.close_now()).clone();
        drop(closed);
        span.end(&outcome);
        if is_first {
            trace.closed("close", &outcome);
        }
        outcome
    }

    pub(super) fn checkpointer(&self) -> Result<&Checkpointer, Error> {
        self.background.checkpointer.as_ref().ok_or(Error::ReadOnly)
    }

    fn close_now(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let drained = self.drain();
        let written = inner.writer.as_ref().map_or(Ok(()), |writer| {
            inner.poison.check()?;
            if drained.is_err() {
                // An operation hangs. Everything acknowledged is still made durable.
                return inner.make_durable(writer, writer.log.ticket());
            }
            self.inner.switch(SwitchPoint::CloseDrained);
            let checkpointer = self.checkpointer()?;
            let limit = inner
                .options
                .io_deadline
                .saturating_mul(CHECKPOINT_DEADLINES);
            checkpointer.give_up_after(inner, limit);
            if let Err(error) = checkpointer.run(inner, writer) {
                // There may be no space or time for a base, but enough for the log.
                return inner
                    .make_durable(writer, writer.log.ticket())
                    .and(Err(error));
            }
            self.inner.switch(SwitchPoint::CloseCheckpointed);
            let reservation = writer.log.admit_reserved()?;
            let now = inner.options.clock.now();
            let ticket = writer.log.queue(&reservation, [Record::Close], now);
            self.inner.switch(SwitchPoint::CloseQueued);
            inner.make_durable(writer, ticket)?;
            if let Some(discards) = &self.background.discards {
                discards.rest(inner, writer);
            }
            Ok(())
        });
        self.stop();
        drained.and(written)
    }

    /// Refuses new operations and waits for those in progress, for a bounded time.
    fn drain(&self) -> Result<(), Error> {
        self.inner.drain_simulated();
        let deadline = self.inner.options.io_deadline;
        let drained = self.inner.gate.close(deadline);
        // If the drain timed out, the threads hang too: do not wait a second time.
        let mut patience = match drained {
            Ok(()) => Patience::new(deadline),
            Err(_) => Patience::none(),
        };
        match self.threads.stop(&mut patience) {
            true => drained,
            false => drained.and(Err(Error::TimedOut { waited: deadline })),
        }
    }

    fn stop(&self) {
        if let Some(writer) = &self.inner.writer {
            writer.log.stop(|| Error::Closed);
        }
        let mut patience = Patience::new(self.inner.options.io_deadline);
        self.tasks.lock().stop(&self.background, &mut patience);
        self.release();
    }

    /// Releases the device, even while clones, pins and values exist. A hanging request releases its share when it ends.
    fn release(&self) {
        self.background.release();
        if let Some(mut committer) = self
            .inner
            .writer
            .as_ref()
            .and_then(|writer| writer.committer.try_lock())
        {
            committer.io.close();
        }
        self.inner.lanes.close();
        self.inner.device.release();
    }

    /// Commits everything acknowledged and ends the threads, as dropping the last clone does.
    fn abandon(&self) {
        let mut closed = self.closed.lock();
        if closed.is_some() {
            return;
        }
        *closed = Some(Err(Error::Closed));
        drop(self.drain());
        // There is no caller to return a failure to; recovery finds what became durable.
        let durable = self.inner.writer.as_ref().map_or(Ok(()), |writer| {
            let ticket = writer.log.ticket();
            self.inner.make_durable(writer, ticket)
        });
        self.stop();
        drop(closed);
        self.inner.counters.trace.closed("drop", &durable);
    }

    /// Returns true if the caller runs in one of the store's threads.
    fn has_current_thread(&self) -> bool {
        self.threads.has_current() || self.tasks.lock().has_current(&self.background)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let open = Arc::clone(&self.open);
        if open.inner.check_process().is_err() {
            // In a forked child everything belongs to the parent.
            return std::mem::forget(open);
        }
        let is_open = open
            .closed
            .try_lock()
            .is_some_and(|closed| closed.is_none());
        if !is_open || open.closing.load(Ordering::Relaxed) {
            return;
        }
        if open.inner.is_manual() {
            return open.abandon();
        }
        // One of the store's threads cannot join itself, and a caller must not hang with the device.
        let mut patience = match open.has_current_thread() {
            true => Patience::none(),
            false => Patience::new(DROP_WAIT.min(open.inner.options.io_deadline)),
        };
        let leaving = Arc::clone(&open);
        match Thread::spawn("rb-drop", move || leaving.abandon()) {
            Ok(thread) => {
                let _ = thread.join(&mut patience);
            }
            Err(_) => open.abandon(),
        }
    }
}
