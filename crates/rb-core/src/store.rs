//! [`Store`]: opening and closing. Its operations are in the folder `store`.

mod closing;
mod facts;
pub(crate) mod hinted;
mod queries;
mod steps;
mod values;
#[cfg(feature = "prometheus")]
pub(crate) mod watch;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use std::{fmt, fs, io};

use parking_lot::Mutex;
use rb_io::{Access, OpenError as DeviceError};

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
/// Dropping the last clone stops the threads and commits what was acknowledged. The drop waits for that for at most one
/// second; on a slower device threads finish it in the background. Only [`Store::close`] writes a checkpoint with recency
/// and the mark of a clean shutdown, and only it reports errors.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

/// State shared by the clones. Dropping the last clone ends the store.
struct Handle {
    open: Arc<Open>,
}

/// An open store, its services and threads.
struct Open {
    inner: Arc<Inner>,
    background: Arc<Services>,
    threads: Arc<AsyncThreads>,
    tasks: Mutex<Tasks>,
    /// True if a thread of `close_async` will close the store.
    closing: AtomicBool,
    /// Result of the first close.
    closed: Mutex<Option<Result<(), Error>>>,
}

impl Store {
    /// Opens the store on a device, in a file, or behind an engine.
    ///
    /// # Errors
    /// See [`OpenError`]: no store, in use, a newer format, another geometry than expected,
    /// truncated, or unreadable.
    ///
    /// ```
    /// use rb_core::{Error, OpenError};
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// // Only one process opens a store for writing; others may read.
    /// let path = dir.path().join("cache");
    /// let in_use = Store::open(&path, StoreOptions::default());
    /// assert!(matches!(in_use, Err(OpenError::Device(why)) if why.is_in_use()));
    /// let reader = Store::open(&path, StoreOptions { read_only: true, ..StoreOptions::default() })?;
    /// assert!(matches!(reader.put(b"key", b"value"), Err(Error::ReadOnly)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(source: impl Into<Source>, options: StoreOptions) -> Result<Store, OpenError> {
        let source = source.into();
        source.reporting(Store::open_quietly(&source, options))
    }

    /// Opens the store, and leaves the report of an error to the caller.
    fn open_quietly(source: &Source, options: StoreOptions) -> Result<Store, OpenError> {
        let access = match options.read_only {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        let mut source = open_patiently(source, access, &options)?;
        if options.exclusive == Exclusive::Reserve && !options.read_only {
            source.reserve(options.random.as_ref())?;
        }
        let (inner, background) = open(source, options)?;
        let store = Store {
            handle: Arc::new(Handle {
                open: Arc::new(Open {
                    inner: Arc::new(inner),
                    background: Arc::new(background),
                    threads: Arc::default(),
                    tasks: Mutex::default(),
                    closing: AtomicBool::new(false),
                    closed: Mutex::new(None),
                }),
            }),
        };
        if store.inner().options.background == Background::Threads {
            // If the system refuses one of the threads, dropping the store stops the others.
            let mut tasks = store.open_store().tasks.lock();
            let started = tasks.start(store.inner(), store.background());
            drop(tasks);
            started.map_err(|why| OpenError::Resource {
                what: "a thread",
                why: why.to_string(),
            })?;
        }
        store.report_opened();
        Ok(store)
    }

    /// Opens the store on the source of `format`, and formats the source first if it holds no store: if the file does not
    /// exist or is empty, if the file or device is all zeros, or if a format of one of these was killed. Any other source is
    /// formatted only with [`FormatOptions::consent`]. This includes a device of more than 1 GiB, which takes too long to read;
    /// holes of a file do not count.
    ///
    /// An existing store is never formatted, even if its size and classes differ from those in `format`; use
    /// [`StoreOptions::expected`] to refuse that. If it lost its metadata, [`StoreOptions::on_lost_metadata`] decides, and
    /// by default it starts empty. If several processes call this concurrently, one of them formats; the others fail as in
    /// use, unless it closes the store within their `lock_wait`.
    ///
    /// # Errors
    /// [`CreateError::Open`] as [`Store::open`], with `read_only` also if there is no store. [`CreateError::Format`] as
    /// [`format`](crate::format()).
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// store.close()?;
    /// // The second call finds the store and keeps it.
    /// let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// assert!(store.contains(b"key"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create(
        format: &FormatOptions,
        options: StoreOptions,
    ) -> Result<Store, CreateError> {
        let may_create = !options.read_only;
        let missing = |why: &OpenError| match &format.source {
            _ if !may_create => false,
            Source::Path(path) if is_missing(path) => true,
            // Too small for a store, but it may hold something: the format judges that.
            Source::Path(_) if matches!(why, OpenError::Device(DeviceError::TooSmall { .. })) => {
                true
            }
            _ => matches!(why, OpenError::NotAStore { .. }),
        };
        let torn = |why: &OpenError| {
            may_create
                && matches!(format.source, Source::Path(_))
                && matches!(why, OpenError::Superblock { .. })
        };
        let formatted = match Store::open_quietly(&format.source, options.clone()) {
            Err(why) if missing(&why) => crate::format(format),
            // A killed format may tear the superblock. Without consent, a damaged store is not formatted here.
            Err(why) if torn(&why) => crate::format(&FormatOptions {
                consent: false,
                force: false,
                ..format.clone()
            }),
            opened => return Ok(format.source.reporting(opened)?),
        };
        match (Store::open_quietly(&format.source, options), formatted) {
            (Err(why), Err(format)) if missing(&why) => Err(format.into()),
            // If the format failed and the store opens, another process formatted it in between.
            (opened, _) => Ok(format.source.reporting(opened)?),
        }
    }

    fn report_opened(&self) {
        let inner = self.inner();
        let trace = &inner.counters.trace;
        trace.opened(
            &inner.path,
            inner.identity.uuid,
            (inner.device.name(), &inner.rejected),
            inner.options.read_only,
            &inner.recovery,
        );
        if let Some(discards) = &self.background().discards {
            trace.discards_off(|| discards.off());
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

    pub(crate) fn threads(&self) -> &Arc<AsyncThreads> {
        &self.open_store().threads
    }

    pub(crate) fn checkpointer(&self) -> Result<&Checkpointer, Error> {
        self.open_store().checkpointer()
    }

    /// Returns true while a close is running.
    pub(crate) fn is_closing(&self) -> bool {
        self.open_store().closed.is_locked()
    }

    /// Refuses new operations, waits for those in progress, writes a checkpoint and the mark of a clean shutdown, and
    /// releases the device. Every later call returns the result of the first.
    ///
    /// Waits at most [`StoreOptions::io_deadline`] for operations in progress. On a slow device the checkpoint is abandoned
    /// after four deadlines; this costs the mark of a clean shutdown and the time to replay the log at the next start. The
    /// close then makes everything acknowledged durable. If the device does not respond, the close waits for one request
    /// and abandons the others.
    ///
    /// # Errors
    /// `TimedOut` if operations did not end in time or the checkpoint was abandoned, `Poisoned` if the metadata could not be
    /// written. The store is closed in either case.
    ///
    /// ```
    /// use rb_core::Error;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// store.close()?;
    /// assert!(matches!(store.get(b"key"), Err(Error::Closed)));
    /// store.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) -> Result<(), Error> {
        self.inner().check_process()?;
        self.open_store().close()
    }

    /// Starts a close in a new thread; see [`Store::close`].
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// let closing = store.close_async();
    /// // The close goes on, even if every clone of the store is dropped.
    /// drop(store);
    /// closing.wait()?;
    /// let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// assert!(store.recovery().clean);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_async(&self) -> Operation<Result<(), Error>> {
        let (operation, completer) = operation(Err);
        if let Err(error) = self.inner().check_process() {
            completer.complete(Err(error));
            return operation;
        }
        let open = Arc::clone(&self.handle.open);
        // Set before the caller can drop the store, which would end it without a checkpoint.
        self.open_store().closing.store(true, Ordering::Relaxed);
        let closing = Thread::spawn("rb-close", move || completer.complete(open.close()));
        // If there is no thread, dropping the completer completes the operation.
        let began = closing.is_ok();
        self.open_store().closing.store(began, Ordering::Relaxed);
        operation
    }
}

/// Opens the source, and retries while another process holds it: up to `lock_wait`, or `io_deadline` if that process has
/// ended, since a busy machine or its last requests can delay the release.
fn open_patiently(
    source: &Source,
    access: Access,
    options: &StoreOptions,
) -> Result<Opened, OpenError> {
    let since = Instant::now();
    loop {
        match Opened::new(source.clone(), access, options.engine) {
            // The failed attempt has waited for a second.
            Err(OpenError::Device(rb_io::OpenError::InUse { ended, .. }))
                if since.elapsed() < options.lock_wait
                    || ended && since.elapsed() < options.io_deadline => {}
            opened => return opened,
        }
    }
}

/// Returns true if there is no file, or an empty one, which cannot be opened as a device.
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
