//! The store's public face: opening and closing. The operations are in the folder.

mod closing;
mod facts;
mod queries;
mod steps;
mod values;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use std::{fmt, fs, io};

use parking_lot::Mutex;
use rb_io::Access;

use crate::background::Services;
use crate::background::checkpoint::Checkpointer;
use crate::background::tasks::Tasks;
use crate::core::inner::Inner;
use crate::core::thread::Thread;
use crate::error::{CreateError, Error, OpenError};
use crate::open::open;
use crate::open::opened::Opened;
use crate::operation::{Operation, operation};
use crate::ops::worker::AsyncThreads;
use crate::options::{Background, Exclusive, FormatOptions, StoreOptions};
use crate::source::Source;

/// An open store. Clones share it.
///
/// Dropping the last clone stops the threads and commits what was acknowledged, and waits for that for a second at most:
/// on a device that takes longer, threads go on with it. Only
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
    tasks: Mutex<Tasks>,
    /// A thread is to close it.
    closing: AtomicBool,
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
        let mut source = open_patiently(&source.into(), access, &options)?;
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
                    tasks: Mutex::default(),
                    closing: AtomicBool::new(false),
                    closed: Mutex::new(None),
                }),
            }),
        };
        if store.inner().options.background == Background::Threads {
            // Where the system has threads for some tasks only, dropping the store stops those.
            let mut tasks = store.open_store().tasks.lock();
            let started = tasks.start(store.inner(), store.background());
            drop(tasks);
            started.map_err(|why| OpenError::Resource {
                what: "a thread",
                why: why.to_string(),
            })?;
        }
        Ok(store)
    }

    /// Opens the store on the source of `format`, and formats it first if there is none: a file that does not exist or is
    /// empty, or a device of zeros. Anything else is formatted only with [`FormatOptions::consent`]. An existing store is
    /// opened as it is, whatever `format` says of its size and classes; see [`StoreOptions::expected`]. Of several processes that
    /// do this at the same time one formats.
    ///
    /// # Errors
    /// [`CreateError::Open`] as [`Store::open`], with `read_only` also where there is no store. [`CreateError::Format`] as
    /// [`format`](crate::format()).
    pub fn open_or_create(
        format: &FormatOptions,
        options: StoreOptions,
    ) -> Result<Store, CreateError> {
        let may_create = !options.read_only;
        let missing = |why: &OpenError| match &format.source {
            _ if !may_create => false,
            Source::Path(path) if is_missing(path) => true,
            _ => matches!(why, OpenError::NotAStore { .. }),
        };
        match Store::open(format.source.clone(), options.clone()) {
            Err(why) if missing(&why) => {}
            opened => return Ok(opened?),
        }
        let formatted = crate::format(format);
        match (Store::open(format.source.clone(), options), formatted) {
            (Err(why), Err(format)) if missing(&why) => Err(format.into()),
            // Where the format failed, another process has formatted in between.
            (opened, _) => Ok(opened?),
        }
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
    /// Waits at most [`StoreOptions::io_deadline`] for operations in progress. On a slow device the checkpoint is given up after four
    /// of these, as no more is lost by that than the mark of a clean shutdown and the time to replay the log; then what was acknowledged is made durable. Of a device
    /// that does not answer it waits for one request, and leaves the rest alone.
    ///
    /// # Errors
    /// `TimedOut` when operations did not end in time or the checkpoint was given up, `Poisoned` when the metadata could not be
    /// written. The store is closed either way.
    pub fn close(&self) -> Result<(), Error> {
        self.inner().check_process()?;
        self.open_store().close()
    }

    /// Starts to close, in a thread of its own.
    pub fn close_async(&self) -> Operation<Result<(), Error>> {
        let (operation, completer) = operation(Err);
        if let Err(error) = self.inner().check_process() {
            completer.complete(Err(error));
            return operation;
        }
        let open = Arc::clone(&self.handle.open);
        // Before the caller can drop the store: that would end it without a checkpoint.
        self.open_store().closing.store(true, Ordering::Relaxed);
        let closing = Thread::spawn("rb-close", move || completer.complete(open.close()));
        // Without a thread the completer is dropped, and answers.
        let began = closing.is_ok();
        self.open_store().closing.store(began, Ordering::Relaxed);
        operation
    }
}

/// Opens the source as soon as its former opener is gone. That a process which has ended gives it back is only a question of
/// time: of a machine that is busy, or a device that has yet to answer its last requests.
fn open_patiently(
    source: &Source,
    access: Access,
    options: &StoreOptions,
) -> Result<Opened, OpenError> {
    let since = Instant::now();
    loop {
        match Opened::new(source.clone(), access, options.engine) {
            // It has waited for a second.
            Err(OpenError::Device(rb_io::OpenError::InUse { ended, .. }))
                if since.elapsed() < options.lock_wait
                    || ended && since.elapsed() < options.io_deadline => {}
            opened => return opened,
        }
    }
}

/// Returns whether there is no file, or an empty one, which cannot be opened as a device.
fn is_missing(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(found) => found.is_file() && found.len() == 0,
        Err(why) => why.kind() == io::ErrorKind::NotFound,
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
