//! Options of recovery, and the index that it fills.

use std::sync::Arc;

use rb_format::{Geometry, Superblock};
use rb_index::{Index, LoadReport, Loader, PolicyFactory};

use crate::clock::{Random, SystemRandom, draw};
use crate::core::keeping::{self, Keeping};
use crate::error::{Error, OpenError};
use crate::io::meta_io::MetaIo;
use crate::memory;
use crate::open::crew::workers_for;
use crate::options::{OnLostMetadata, StoreOptions};
use crate::trace;

/// Options of recovery.
#[derive(Clone)]
pub(crate) struct RecoverOptions {
    shards: u32,
    /// The secret of [`rb_index::IndexOptions`]. Keys come from outside: with a public hash, an
    /// attacker could choose thousands of keys for one bucket of one shard's table, and each
    /// operation on one of them would probe all.
    secret: [u8; 16],
    /// `None` for the default.
    policy: Option<Arc<dyn PolicyFactory>>,
    /// The state that a policy saved in an earlier session; empty if nothing is known.
    saved_policy: Vec<u8>,
    /// True if a write budget may refuse puts.
    has_budget: bool,
    /// True if slot headers are scanned when metadata is lost.
    pub(crate) scans: bool,
    /// True if a log that is out of order is an error; see `log/order.rs`.
    pub(crate) check_order: bool,
}

impl RecoverOptions {
    /// Options for opening a store.
    pub(crate) fn new(
        geometry: &Geometry,
        options: &StoreOptions,
    ) -> Result<RecoverOptions, OpenError> {
        let default = || Index::default_shards(u64::from(geometry.slots()));
        let shards = options.shards.unwrap_or_else(default);
        let options = RecoverOptions {
            scans: options.on_lost_metadata == OnLostMetadata::Scan,
            check_order: cfg!(debug_assertions) || options.simulator.is_some(),
            policy: options.policy.clone(),
            has_budget: options.write_budget_per_day.is_some(),
            ..RecoverOptions::of(shards, options.random.as_ref())?
        };
        Ok(options)
    }

    /// Options for inspecting a store.
    pub(crate) fn look(geometry: &Geometry) -> Result<RecoverOptions, OpenError> {
        let shards = Index::default_shards(u64::from(geometry.slots()));
        RecoverOptions::of(shards, &SystemRandom)
    }

    /// Continues with what the policy and the write budget of an earlier session have saved.
    pub(crate) fn keep(
        &mut self,
        io: &mut MetaIo,
        superblock: &Superblock,
        options: &StoreOptions,
    ) -> Keeping {
        let found = keeping::found(io, superblock, options);
        let keeping = Keeping::new(options, &found);
        self.saved_policy = found.policy;
        keeping
    }

    fn of(shards: u32, random: &dyn Random) -> Result<RecoverOptions, OpenError> {
        let secret = draw(random)?;
        Ok(RecoverOptions {
            shards,
            secret,
            policy: None,
            saved_policy: Vec::new(),
            has_budget: false,
            scans: true,
            check_order: false,
        })
    }

    /// Creates an index for this store with every slot free.
    ///
    /// # Errors
    /// There is not enough memory for it and for loading it.
    pub(crate) fn empty_index(&self, geometry: &Geometry) -> Result<Index, Error> {
        let classes = (0..=u8::MAX)
            .take(geometry.classes())
            .map(|class| geometry.class_slots(class))
            .collect();
        let options = rb_index::IndexOptions {
            shards: self.shards,
            classes,
            secret: self.secret,
        };
        let need = options.bytes() + options.loader_bytes();
        memory::check("memory for the index", need)?;
        let mut index = Index::new(options).map_err(memory::index_error)?;
        index.use_prefetch(rb_io::prefetch);
        if let Some(policy) = &self.policy {
            let used = index.use_policy(policy.as_ref(), &self.saved_policy);
            used.map_err(memory::index_error)?;
        }
        // Only where puts may be refused.
        if index.judges() || self.has_budget {
            index.track_unrecorded().map_err(memory::index_error)?;
        }
        Ok(index)
    }
}

/// Creates the loader that fills an empty index.
pub(crate) fn loader(index: &Index) -> Result<Loader<'_>, Error> {
    index.loader().map_err(memory::index_error)
}

/// Finishes the index that a loader has filled.
pub(crate) fn finish(loader: Loader<'_>, geometry: &Geometry, recency: u32) -> LoadReport {
    let _stage = trace::stage("index");
    loader.finish(recency, workers_for(geometry.slots()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret that is known in advance is useless.
    #[test]
    fn each_opening_draws_its_own_secret() {
        let secrets = [(); 2].map(|()| RecoverOptions::of(1, &SystemRandom).unwrap().secret);
        assert_ne!(secrets[0], secrets[1]);
    }
}
