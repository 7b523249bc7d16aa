//! Sync, checkpoint, and the steps of the background tasks.

use std::time::Duration;

use crate::error::Error;
use crate::io::pace::Pace;
use crate::operation::Operation;
use crate::ops::sync::sync_async;
use crate::store::Store;
use crate::trace::Trace;

impl Store {
    /// Makes everything durable that was acknowledged before the call: it survives any crash.
    ///
    /// # Errors
    /// `Poisoned` if this or an earlier commit failed; `ReadOnly`, `Closed`.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// store.sync()?;
    /// // Dropped without `close`, as after a crash of the process.
    /// drop(store);
    /// let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// assert!(!store.recovery().clean);
    /// assert!(store.contains(b"key"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sync(&self) -> Result<(), Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        let timer = self.inner().begin(Trace::sync);
        let synced = self.inner().sync(writer);
        timer.end(&self.inner().counters.times.sync, &synced);
        synced
    }

    /// Starts a sync; see [`Store::sync`].
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// store.sync_async().wait()?;
    /// assert!(store.stats().commits > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sync_async(&self) -> Operation<Result<(), Error>> {
        sync_async(self.inner())
    }

    /// Writes a checkpoint now. The store also writes one each time the log has grown by a third of the last one.
    ///
    /// # Errors
    /// `Poisoned` if a write or flush failed; `ReadOnly`, `Closed`.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// let before = store.stats().checkpoints;
    /// store.checkpoint()?;
    /// assert_eq!(store.stats().checkpoints, before + 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoint(&self) -> Result<(), Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        self.checkpointer()?.run(self.inner(), writer)
    }
}

/// Steps for [`Background::Manual`](crate::Background::Manual): the caller runs the background tasks.
///
/// ```
/// use rb_core::Background;
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// let manual = StoreOptions { background: Background::Manual, ..StoreOptions::default() };
/// let store = Store::open_or_create(&options, manual)?;
/// store.put(b"key", b"value")?;
/// let commits = store.stats().commits;
/// store.step_commit()?;
/// assert_eq!(store.stats().commits, commits + 1);
/// assert!(!store.step_checkpoint()?, "the log has hardly grown");
/// assert!(!store.step_validate(100)?, "nothing was recovered");
/// assert_eq!(store.step_scrub(100)?, None, "`scrub` is off");
/// assert!(!store.step_discard()?, "`discard_freed` is off");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Store {
    /// Runs one group commit.
    ///
    /// # Errors
    /// `Poisoned` if the commit failed; `ReadOnly`, `Closed`.
    pub fn step_commit(&self) -> Result<(), Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        self.inner().commit(writer)
    }

    /// Writes one checkpoint if the log has grown enough for it. Returns true if it did.
    ///
    /// # Errors
    /// `Poisoned` if the checkpoint failed; `ReadOnly`, `Closed`.
    pub fn step_checkpoint(&self) -> Result<bool, Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        self.checkpointer()?.step(self.inner(), writer)
    }

    /// Validates up to `count` recovered entries. Returns true if there may be more.
    ///
    /// # Errors
    /// `TimedOut` or `Io` if the device stopped responding; `Closed`.
    pub fn step_validate(&self, count: usize) -> Result<bool, Error> {
        let _pass = self.inner().enter()?;
        self.background()
            .validator
            .step(self.inner(), count, &mut Pace::full())
    }

    /// Scrubs up to `count` entries, as far as the rate of [`StoreOptions::scrub`](crate::StoreOptions::scrub) allows now.
    /// Returns the time until there is more to do, zero if there is more now, and `None` if this store is not scrubbed.
    ///
    /// # Errors
    /// `TimedOut` or `Io` if the device stopped responding, in which case the pass continues after a minute; `Closed`.
    pub fn step_scrub(&self, count: usize) -> Result<Option<Duration>, Error> {
        let _pass = self.inner().enter()?;
        let scrubber = self.background().scrubber.as_ref();
        scrubber
            .map(|scrubber| scrubber.step(self.inner(), count, &mut Pace::full()))
            .transpose()
    }

    /// Discards some of the slots that became free, once the change that freed them is durable. Returns true if there may be
    /// more; false if [`StoreOptions::discard_freed`](crate::StoreOptions::discard_freed) is off.
    ///
    /// # Errors
    /// `Poisoned`, `ReadOnly`, `Closed`. A discard that the device fails is counted in
    /// [`DiscardStats::failures`](crate::DiscardStats::failures) and is no error.
    pub fn step_discard(&self) -> Result<bool, Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        let discards = self.background().discards.as_ref();
        discards.map_or(Ok(false), |discards| {
            discards.step(self.inner(), writer, &mut Pace::full())
        })
    }
}
