//! The store's public face: opening and closing. The operations are in the folder.

mod facts;
mod queries;
mod steps;
mod values;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rb_format::Record;
use rb_io::Access;

use crate::background::Services;
use crate::background::checkpoint::Checkpointer;
use crate::background::duties::Duties;
use crate::core::inner::Inner;
use crate::error::{Error, OpenError};
use crate::open::open;
use crate::open::opened::Opened;
use crate::ops::driver::Driver;
use crate::options::{Background, Exclusive, StoreOptions};
use crate::simulator::{HeldLock, SwitchPoint};
use crate::source::Source;

/// An open store. Clones share it.
///
/// Dropping the last clone stops the threads and commits what was acknowledged; only
/// [`Store::close`] writes a checkpoint with recency and the mark of a clean shutdown, and only it
/// says whether that worked.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

struct Handle {
    inner: Arc<Inner>,
    background: Arc<Services>,
    driver: Driver,
    duties: Mutex<Duties>,
    /// The answer of the first close.
    closed: Mutex<Option<Result<(), Error>>>,
}

impl Store {
    /// Opens the store on a device, in a file, or on what an engine reaches.
    ///
    /// # Errors
    /// See [`OpenError`]: no store, in use, a newer format, another geometry than expected,
    /// truncated, or unreadable.
    pub fn open(source: impl Into<Source>, options: StoreOptions) -> Result<Store, OpenError> {
        let access = match options.read_only {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        let mut source = Opened::new(source.into(), access, options.engine)?;
        if options.exclusive == Exclusive::Reserve && !options.read_only {
            source.reserve(options.random.as_ref())?;
        }
        let (inner, background) = open(source, options)?;
        let store = Store {
            handle: Arc::new(Handle {
                inner: Arc::new(inner),
                background: Arc::new(background),
                driver: Driver::default(),
                duties: Mutex::default(),
                closed: Mutex::new(None),
            }),
        };
        if store.inner().options.background == Background::Threads {
            // Where the system has threads for some duties only, dropping the store stops those.
            let mut duties = store.handle.duties.lock();
            let started = duties.start(store.inner(), store.background());
            drop(duties);
            started.map_err(|why| OpenError::Resource {
                what: "a thread",
                why: why.to_string(),
            })?;
        }
        Ok(store)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }

    pub(crate) fn background(&self) -> &Arc<Services> {
        &self.handle.background
    }

    /// A close is under way.
    pub(crate) fn is_closing(&self) -> bool {
        self.handle.closed.is_locked()
    }

    /// Refuses new operations, finishes those in progress, writes a checkpoint and the mark of a
    /// clean shutdown. Closing twice is not an error.
    ///
    /// # Errors
    /// `TimedOut` when operations did not end in time, `Poisoned` when the metadata could not be
    /// written. The store is closed either way.
    pub fn close(&self) -> Result<(), Error> {
        // Whoever closes at the same time waits here, and shares the answer.
        let mut closed = self
            .inner()
            .lock_over_io(&self.handle.closed, HeldLock::Close);
        closed.get_or_insert_with(|| self.handle.close()).clone()
    }
}

impl Handle {
    fn checkpointer(&self) -> Result<&Checkpointer, Error> {
        self.background.checkpointer.as_ref().ok_or(Error::ReadOnly)
    }

    fn close(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let drained = self.drain();
        let written = inner.writer.as_ref().map_or(Ok(()), |writer| {
            inner.poison.check()?;
            if drained.is_err() {
                // Something hangs. What was acknowledged is still made durable.
                return inner.make_durable(writer, writer.log.ticket());
            }
            self.inner.switch(SwitchPoint::CloseDrained);
            self.checkpointer()?.run(inner, writer)?;
            self.inner.switch(SwitchPoint::CloseCheckpointed);
            let permit = writer.log.admit_reserved()?;
            let now = inner.options.clock.now();
            let ticket = writer.log.queue(&permit, [Record::Close], now);
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
        let drained = self.inner.gate.close(self.inner.options.io_deadline);
        self.driver.stop(self.inner.options.io_deadline);
        drained
    }

    fn stop(&self) {
        if let Some(writer) = &self.inner.writer {
            writer.log.stop(|| Error::Closed);
        }
        self.duties.lock().stop();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.closed.get_mut().is_some() {
            return;
        }
        drop(self.drain());
        if let Some(writer) = &self.inner.writer {
            // Nobody is left to hear of a failure; recovery will say what is there.
            drop(self.inner.make_durable(writer, writer.log.ticket()));
        }
        self.stop();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.inner().path)
            .field("engine", &self.inner().engine.name())
            .field("uuid", &self.inner().identity.uuid)
            .finish_non_exhaustive()
    }
}
