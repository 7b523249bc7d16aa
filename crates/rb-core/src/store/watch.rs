//! [`Watch`]: reads the statistics of a store without keeping it open.

use std::fmt;
use std::sync::{Arc, Weak};

use rb_format::{Geometry, Superblock};

use crate::background::snapshot;
use crate::options::StoreOptions;
use crate::report::RecoveryReport;
use crate::stats::StoreStats;
use crate::store::{Open, Store};

/// A store that may end at any time: dropping its last clone ends it as if there were no watch.
pub(crate) struct Watch(Weak<Open>);

impl Watch {
    pub(crate) fn new(store: &Store) -> Watch {
        Watch(Arc::downgrade(&store.handle.open))
    }

    /// Returns the statistics of the store; `None` if it is closed or closing, or in a forked child.
    pub(crate) fn read(&self) -> Option<Reading> {
        // Not the handle: dropping that would end the store in this thread, if all other clones went meanwhile.
        let open = self.0.upgrade()?;
        open.inner.gate.is_open().then(|| Reading {
            stats: snapshot::take(&open.inner, &open.background),
            open,
        })
    }

    /// Returns true if the store is open.
    pub(crate) fn is_open(&self) -> bool {
        self.0
            .upgrade()
            .is_some_and(|open| open.inner.gate.is_open())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("is_open", &self.is_open())
            .finish()
    }
}

/// The statistics of a store at one moment, and its facts.
pub(crate) struct Reading {
    open: Arc<Open>,
    pub(crate) stats: StoreStats,
}

impl Reading {
    pub(crate) fn recovery(&self) -> &RecoveryReport {
        &self.open.inner.recovery
    }

    pub(crate) fn superblock(&self) -> &Superblock {
        &self.open.inner.superblock
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.open.inner.geometry
    }

    pub(crate) fn options(&self) -> &StoreOptions {
        &self.open.inner.options
    }

    pub(crate) fn engine_name(&self) -> &'static str {
        self.open.inner.device.name()
    }
}
