//! Durability, and the steps of the background services.

use std::time::Duration;

use crate::error::Error;
use crate::io::pace::Pace;
use crate::operation::Operation;
use crate::ops::sync::sync_async;
use crate::store::Store;

impl Store {
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
        self.checkpointer()?.run(self.inner(), writer)
    }
}

/// For [`Background::Manual`](crate::Background::Manual): the caller does what threads do otherwise.
impl Store {
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
        self.checkpointer()?.step(self.inner(), writer)
    }

    /// Validates up to `count` recovered entries. Answers whether there may be more.
    ///
    /// # Errors
    /// The device stopped answering.
    pub fn step_validate(&self, count: usize) -> Result<bool, Error> {
        let _pass = self.inner().enter()?;
        self.background()
            .validator
            .step(self.inner(), count, &mut Pace::full())
    }

    /// Scrubs up to `count` entries, as the rate of [`StoreOptions::scrub`](crate::StoreOptions::scrub) allows now. Answers the time until
    /// there is more to do, zero if there is at once; none if this store is not scrubbed.
    ///
    /// # Errors
    /// The device stopped answering. The pass goes on after a minute.
    pub fn step_scrub(&self, count: usize) -> Result<Option<Duration>, Error> {
        let _pass = self.inner().enter()?;
        let scrubber = self.background().scrubber.as_ref();
        scrubber
            .map(|scrubber| scrubber.step(self.inner(), count, &mut Pace::full()))
            .transpose()
    }

    /// Discards some of the slots that became free and whose change a commit has made durable since. Answers
    /// whether there may be more; false if [`StoreOptions::discard_freed`](crate::StoreOptions::discard_freed) is off.
    ///
    /// # Errors
    /// `Poisoned`. What the device says to a discard is counted, and is no error.
    pub fn step_discard(&self) -> Result<bool, Error> {
        let (_pass, writer) = self.inner().enter_writing()?;
        let discards = self.background().discards.as_ref();
        discards.map_or(Ok(false), |discards| {
            discards.step(self.inner(), writer, &mut Pace::full())
        })
    }
}
