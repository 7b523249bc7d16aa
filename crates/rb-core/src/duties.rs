//! The store's own threads. Each only decides *when*; what is done are the step functions that a
//! simulator calls itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::error::Error;
use crate::inner::Inner;
use crate::log::Duty;
use crate::options::Durability;

/// Entries validated per step; between steps the thread can be stopped.
const VALIDATE_STEP: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Duties {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Duties {
    pub(crate) fn start(inner: &Arc<Inner>) -> Result<Duties, Error> {
        let mut duties = Duties::default();
        if inner.writer.is_some() {
            duties.spawn("rb-commit", inner, |inner, _| commit(&inner))?;
            duties.spawn("rb-checkpoint", inner, |inner, _| {
                crate::checkpoint::run(&inner)
            })?;
        }
        if inner.validator.lock().place.is_some() {
            duties.spawn("rb-validate", inner, |inner, stop| {
                // An error ends the validator; each entry's first read still proves it.
                while !stop.load(Ordering::Relaxed)
                    && inner.validate_some(VALIDATE_STEP).unwrap_or(false)
                {}
            })?;
        }
        Ok(duties)
    }

    fn spawn(
        &mut self,
        name: &str,
        inner: &Arc<Inner>,
        duty: impl FnOnce(Arc<Inner>, Arc<AtomicBool>) + Send + 'static,
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
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The last owner of a store may be one of them, in an observer's call.
            if thread.thread().id() != std::thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

fn commit(inner: &Arc<Inner>) {
    let Some(writer) = &inner.writer else { return };
    // Under `EachBatch` every caller commits for itself; this thread serves async operations.
    let interval = match inner.options.durability {
        Durability::Interval | Durability::EachBatch => inner.options.sync_interval,
    };
    while writer
        .log
        .wait_commit(interval, || inner.options.clock.now())
        == Duty::Commit
    {
        drop(inner.commit(writer));
    }
}
