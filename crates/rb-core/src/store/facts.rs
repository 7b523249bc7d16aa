//! What a store says of itself.

use std::sync::Arc;

use rb_format::{Geometry, Superblock};
use rb_io::Engine;

use crate::background::snapshot;
use crate::error::Error;
use crate::report::RecoveryReport;
use crate::stats::StoreStats;
use crate::store::Store;

impl Store {
    /// Counters since opening; all 0 in a forked child of the process that opened the store.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        if self.inner().check_process().is_err() {
            return StoreStats::default();
        }
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

    /// The name of the engine that runs.
    #[must_use]
    pub fn engine_name(&self) -> &'static str {
        self.inner().device.name()
    }

    /// The engine that runs. As long as the caller keeps it, the device is in use.
    ///
    /// # Errors
    /// `Closed`: the store has given the device back.
    pub fn engine(&self) -> Result<Arc<dyn Engine>, Error> {
        self.inner().check_process()?;
        self.inner().device.engine()
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
        self.inner()
            .check_process()
            .map_err(|error| error.to_string())?;
        self.inner().index.audit()
    }
}
