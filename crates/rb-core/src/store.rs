//! The store's public face: opening and closing. The operations are in the folder.

mod facts;
mod queries;
mod steps;
mod values;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rb_format::Record;
use rb_io::{Access, Patience};

use crate::background::Services;
use crate::background::checkpoint::Checkpointer;
use crate::background::duties::Duties;
use crate::core::inner::Inner;
use crate::core::thread::Thread;
use crate::error::{Error, OpenError};
use crate::open::open;
use crate::open::opened::Opened;
use crate::operation::{Operation, operation};
use crate::ops::worker::AsyncThreads;
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

/// What the clones share. The last of them closes the store when it is dropped.
struct Handle {
    open: Arc<Open>,
}

/// An open store, its services and threads.
struct Open {
    inner: Arc<Inner>,
    background: Arc<Services>,
    threads: AsyncThreads,
    duties: Mutex<Duties>,
    /// The answer of the first close.
    closed: Mutex<Option<Result<(), Error>>>,
}

/// How long dropping the last clone waits for the device. What takes longer goes on in a thread of its own.
const DROP_WAIT: Duration = Duration::from_secs(1);

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
                open: Arc::new(Open {
                    inner: Arc::new(inner),
                    background: Arc::new(background),
                    threads: AsyncThreads::default(),
                    duties: Mutex::default(),
                    closed: Mutex::new(None),
                }),
            }),
        };
        if store.inner().options.background == Background::Threads {
            // Where the system has threads for some duties only, dropping the store stops those.
            let mut duties = store.open_store().duties.lock();
            let started = duties.start(store.inner(), store.background());
            drop(duties);
            started.map_err(|why| OpenError::Resource {
                what: "a thread",
                why: why.to_string(),
            })?;
        }
        Ok(store)
    }

    fn open_store(&self) -> &Open {
        &self.handle.open
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.open_store().inner
    }

    pub(crate) fn background(&self) -> &Arc<Services> {
        &self.open_store().background
    }

    pub(crate) fn threads(&self) -> &AsyncThreads {
        &self.open_store().threads
    }

    pub(crate) fn checkpointer(&self) -> Result<&Checkpointer, Error> {
        self.open_store().checkpointer()
    }

    /// A close is under way.
    pub(crate) fn is_closing(&self) -> bool {
        self.open_store().closed.is_locked()
    }

    /// Refuses new operations, finishes those in progress, writes a checkpoint and the mark of a
    /// clean shutdown. Closing twice is not an error.
    ///
    /// Waits at most [`StoreOptions::io_deadline`] for operations in progress, and as long for each request of its own: of a
    /// device that does not answer it waits for one, and leaves the rest alone.
    ///
    /// # Errors
    /// `TimedOut` when operations did not end in time, `Poisoned` when the metadata could not be
    /// written. The store is closed either way.
    pub fn close(&self) -> Result<(), Error> {
        self.open_store().close()
    }

    /// Starts to close, in a thread of its own.
    pub fn close_async(&self) -> Operation<Result<(), Error>> {
        let (operation, completer) = operation(|| Err(Error::Closed));
        let open = Arc::clone(&self.handle.open);
        // Without a thread the completer is dropped, and answers.
        drop(Thread::spawn("rb-close", move || {
            completer.complete(open.close())
        }));
        operation
    }
}

impl Open {
    fn close(&self) -> Result<(), Error> {
        // A thread that closes at the same time waits here, and shares the answer.
        let mut closed = self.inner.lock_over_io(&self.closed, HeldLock::Close);
        closed.get_or_insert_with(|| self.close_now()).clone()
    }

    fn checkpointer(&self) -> Result<&Checkpointer, Error> {
        self.background.checkpointer.as_ref().ok_or(Error::ReadOnly)
    }

    fn close_now(&self) -> Result<(), Error> {
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
        let deadline = self.inner.options.io_deadline;
        let drained = self.inner.gate.close(deadline);
        // Threads whose work hangs are not waited for a second time.
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
        self.duties.lock().stop(&mut patience);
        self.release();
    }

    /// Gives the device back, whatever clones, locks and values there still are. What hangs gives back its part when it
    /// ends.
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

    /// What dropping the last clone does: commits what was acknowledged, and ends the threads.
    fn abandon(&self) {
        let mut closed = self.closed.lock();
        if closed.is_some() {
            return;
        }
        *closed = Some(Err(Error::Closed));
        drop(self.drain());
        if let Some(writer) = &self.inner.writer {
            // There is no caller to answer a failure to; recovery will say what is there.
            drop(self.inner.make_durable(writer, writer.log.ticket()));
        }
        self.stop();
    }

    /// Whether the caller runs in one of the store's threads.
    fn has_current_thread(&self) -> bool {
        self.threads.has_current() || self.duties.lock().has_current()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let open = Arc::clone(&self.open);
        let is_open = open
            .closed
            .try_lock()
            .is_some_and(|closed| closed.is_none());
        if !is_open {
            return;
        }
        if open.inner.is_manual() {
            return open.abandon();
        }
        // One of the store's own threads cannot wait for its own end; nor may a caller hang with the device.
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

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.inner().path)
            .field("engine", &self.inner().device.name())
            .field("uuid", &self.inner().identity.uuid)
            .finish_non_exhaustive()
    }
}
