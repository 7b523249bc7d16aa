//! The store's public face. Each operation is one line into its own room.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rb_format::{Geometry, Record, Superblock};
use rb_io::{Access, Engine};

use crate::background::Services;
use crate::background::checkpoint::Checkpointer;
use crate::background::duties::Duties;
use crate::background::snapshot;
use crate::core::inner::Inner;
use crate::error::{Error, OpenError};
use crate::open::open;
use crate::open::source::{Source, open_path};
use crate::operation::Operation;
use crate::ops::driver::Driver;
use crate::ops::get;
use crate::ops::put;
use crate::ops::put_plan::{Put, PutResult, Stored};
use crate::ops::query::{self, EntryInfo, Lock};
use crate::ops::remove;
use crate::ops::sync::sync_async;
use crate::options::{Background, Exclusive, PutOptions, StoreOptions};
use crate::report::RecoveryReport;
use crate::simulator::{HeldLock, SwitchPoint};
use crate::stats::StoreStats;
use crate::value::{Lookup, Value, ValueBuf};

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
    /// Opens the store on a device or in a file.
    ///
    /// # Errors
    /// See [`OpenError`]: no store, in use, a newer format, another geometry than expected,
    /// truncated, or unreadable.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Store, OpenError> {
        let access = match options.read_only {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        let mut source = open_path(path.as_ref(), access, options.engine)?;
        if options.exclusive == Exclusive::Reserve && !options.read_only {
            source.reserve(options.random.as_ref())?;
        }
        Store::over(source, options)
    }

    /// Opens the store that an engine reaches; for simulated devices.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_engine(engine: Arc<dyn Engine>, options: StoreOptions) -> Result<Store, OpenError> {
        let mut source = Source::of_engine(engine);
        if options.exclusive == Exclusive::Reserve && !options.read_only {
            source.reserve(options.random.as_ref())?;
        }
        Store::over(source, options)
    }

    fn over(source: Source, options: StoreOptions) -> Result<Store, OpenError> {
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

    // ---- values

    /// Looks up one key: the value, or none if the key is not there.
    ///
    /// # Errors
    /// A bad key; a failed or late request; buffers that stayed in use; a closed store.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>, Error> {
        get::get_many(self.inner(), &[key])
            .pop()
            .unwrap_or(Ok(None))
    }

    /// Looks up many keys in one batch of reads; answers in the order of `keys`. The values
    /// together must fit the buffer memory; [`Store::get_many_into`] has no such limit.
    pub fn get_many(&self, keys: &[&[u8]]) -> Vec<Lookup> {
        get::get_many(self.inner(), keys)
    }

    /// Looks up one key into the caller's memory; answers the value's length. On a miss, an error
    /// or too little memory (`OutputTooSmall`), `output` is not changed.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get_into(&self, key: &[u8], output: &mut [u8]) -> Result<Option<usize>, Error> {
        get::get_many_into(self.inner(), &[key], &mut [output])
            .pop()
            .unwrap_or(Ok(None))
    }

    /// Looks up many keys into the caller's memory, one piece per key.
    ///
    /// # Panics
    /// If `outputs` has not one piece per key.
    pub fn get_many_into(
        &self,
        keys: &[&[u8]],
        outputs: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>> {
        assert_eq!(keys.len(), outputs.len(), "one piece of memory per key");
        get::get_many_into(self.inner(), keys, outputs)
    }

    /// Starts looking up many keys. The operation can be waited on or awaited.
    pub fn get_many_async(&self, keys: &[&[u8]]) -> Operation<Vec<Lookup>> {
        get::get_many_async(self.inner(), &self.handle.driver, keys)
    }

    /// Puts one value, replacing what is there.
    ///
    /// # Errors
    /// See [`Error`]; the value is then not there, and what was there still is.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Stored, Error> {
        let answers = self.put_many(vec![Put::new(key, value)], PutOptions::default());
        answers.into_iter().next().unwrap_or(Err(Error::Closed))
    }

    /// Puts many values in one batch of writes; answers in the order of `puts`.
    pub fn put_many(&self, puts: Vec<Put<'_>>, options: PutOptions) -> Vec<PutResult> {
        put::put_many(self.inner(), puts, options)
    }

    /// Starts putting many values. Values in the caller's memory are copied before this returns. A
    /// batch may take half the buffer memory.
    pub fn put_many_async(
        &self,
        puts: Vec<Put<'_>>,
        options: PutOptions,
    ) -> Operation<Vec<PutResult>> {
        put::put_many_async(self.inner(), &self.handle.driver, puts, options)
    }

    /// Memory for a value of `len` bytes, to be filled and put without a copy. Its content is
    /// unspecified. Waits a bounded time for buffers.
    ///
    /// # Errors
    /// `ValueLength` for 0 or more than the largest slot, `Busy` when no buffers came free.
    pub fn buffer(&self, len: usize) -> Result<ValueBuf, Error> {
        let max = self.inner().geometry.largest_value() as usize;
        if len == 0 || len > max {
            return Err(Error::ValueLength { len, max });
        }
        let wait = self.inner().busy_wait();
        let mut buffers = self.inner().take_buffers(&[ValueBuf::stride(len)], wait)?;
        let buf = buffers.pop().ok_or(Error::Closed)?;
        Ok(ValueBuf::new(buf, len))
    }

    /// Removes one key; whether it was there.
    ///
    /// # Errors
    /// A bad key, or a store that cannot be written.
    pub fn remove(&self, key: &[u8]) -> Result<bool, Error> {
        self.remove_many(&[key]).pop().unwrap_or(Ok(false))
    }

    /// Removes many keys; answers for each whether it was there. An entry under a lease is gone at
    /// once; its slot is free when the lease ends.
    pub fn remove_many(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        remove::remove_many(self.inner(), keys)
    }

    // ---- queries

    /// Whether the key is there, without reading it or changing its recency.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        query::contains_many(self.inner(), &[key]) == [true]
    }

    /// Whether each key is there.
    #[must_use]
    pub fn contains_many(&self, keys: &[&[u8]]) -> Vec<bool> {
        query::contains_many(self.inner(), keys)
    }

    /// How many of the first keys are there without a gap.
    #[must_use]
    pub fn longest_prefix(&self, keys: &[&[u8]]) -> usize {
        query::contains_many(self.inner(), keys)
            .iter()
            .take_while(|found| **found)
            .count()
    }

    /// Makes keys recently used, the first of the batch the most; answers which were there.
    pub fn touch_many(&self, keys: &[&[u8]]) -> Vec<bool> {
        query::touch_many(self.inner(), keys)
    }

    /// Leases each key that is there: its slot is neither evicted nor reused until its lock is
    /// given to [`Store::unlock`] or dropped. Locks are counted; a remove still takes the key away.
    #[must_use]
    pub fn lookup_and_lock(&self, keys: &[&[u8]]) -> Vec<Option<Lock>> {
        query::lookup_and_lock(self.inner(), keys)
    }

    /// Ends locks in one batch. The first ends as the most recently used.
    pub fn unlock(&self, locks: Vec<Lock>) {
        query::unlock(self.inner(), locks);
    }

    /// Shows every live entry once, in no particular order, holding no lock meanwhile; ends when
    /// `visit` answers false.
    pub fn for_each(&self, mut visit: impl FnMut(EntryInfo) -> bool) {
        query::for_each(self.inner(), &mut visit);
    }

    // ---- durability

    /// Makes everything acknowledged so far durable.
    ///
    /// # Errors
    /// `Poisoned` if the commit failed, now or before.
    pub fn sync(&self) -> Result<(), Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        self.inner().sync(writer)
    }

    /// Starts a sync.
    pub fn sync_async(&self) -> Operation<Result<(), Error>> {
        sync_async(self.inner())
    }

    /// Writes a checkpoint now. The store does so by itself whenever the log has grown by a quarter.
    ///
    /// # Errors
    /// `Poisoned` if a write or flush failed.
    pub fn checkpoint(&self) -> Result<(), Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        self.handle.checkpointer()?.run(self.inner(), writer)
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

    // ---- background duties, for Background::Manual

    /// One group commit.
    ///
    /// # Errors
    /// `Poisoned` if it failed.
    pub fn step_commit(&self) -> Result<(), Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        self.inner().commit(writer)
    }

    /// One checkpoint, if the log has grown enough to want one. Answers whether it did.
    ///
    /// # Errors
    /// `Poisoned` if it failed.
    pub fn step_checkpoint(&self) -> Result<bool, Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        self.handle.checkpointer()?.step(self.inner(), writer)
    }

    /// Validates up to `count` recovered entries. Answers whether there may be more.
    ///
    /// # Errors
    /// The device stopped answering.
    pub fn step_validate(&self, count: usize) -> Result<bool, Error> {
        let _pass = self.inner().enter()?;
        self.background().validator.step(self.inner(), count)
    }

    /// Scrubs up to `count` entries, as the rate of [`StoreOptions::scrub`] allows now. Answers the time until
    /// there is more to do, zero if there is at once; none if this store is not scrubbed.
    ///
    /// # Errors
    /// The device stopped answering. The pass goes on after a minute.
    pub fn step_scrub(&self, count: usize) -> Result<Option<Duration>, Error> {
        let _pass = self.inner().enter()?;
        let scrubber = self.background().scrubber.as_ref();
        scrubber
            .map(|scrubber| scrubber.step(self.inner(), count))
            .transpose()
    }

    /// Discards some of the slots that became free and whose change a commit has made durable since. Answers
    /// whether there may be more; false if [`StoreOptions::discard_freed`] is off.
    ///
    /// # Errors
    /// `Poisoned`. What the device says to a discard is counted, and is no error.
    pub fn step_discard(&self) -> Result<bool, Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        let discards = self.background().discards.as_ref();
        discards.map_or(Ok(false), |discards| discards.step(self.inner(), writer))
    }

    // ---- facts

    /// Counters since opening.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        snapshot::take(self.inner(), self.background())
    }

    /// How this opening found the store.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner().recovery
    }

    /// The store's superblock: identity, limits, layout.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.inner().superblock
    }

    /// Slot arithmetic.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.inner().geometry
    }

    /// The engine that runs.
    #[must_use]
    pub fn engine(&self) -> &dyn Engine {
        self.inner().engine.as_ref()
    }

    /// Engines that `auto` rejected, and why.
    #[must_use]
    pub fn rejected_engines(&self) -> &[rb_io::Rejected] {
        &self.inner().rejected
    }

    /// Index shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.inner().index.shards()
    }

    /// Checks the index's accounting: every slot in exactly one state.
    ///
    /// # Errors
    /// What does not add up, in words.
    pub fn audit(&self) -> Result<(), String> {
        self.inner().index.audit()
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
