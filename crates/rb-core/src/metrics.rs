//! Metrics of open stores for Prometheus: [`StoreMetrics`] is a collector of the crate `prometheus-client`.
//!
//! A scrape reads the counters that a store keeps anyway ([`Store::stats`]), so operations pay nothing for it. The module
//! [`table`] lists every metric once; `docs/monitoring` has the same table, alerts and a dashboard.

mod bounds;
mod metric;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::store::Store;
use crate::store::watch::{Reading, Watch};

/// A collector of the metrics of one store or several. Clones share the stores.
///
/// A registry takes one of them, because a second one would print each metric a second time, which is not valid; add
/// further stores to the first. Each sample has the label `store`. The collector does not keep a store open. A store that
/// is closed or closing has only the metric `raw_block_open`, which is then 0.
///
/// ```
/// use rb_core::StoreMetrics;
/// use rb_core::prometheus_client::encoding::prometheus_text;
/// use rb_core::prometheus_client::registry::Registry;
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// # let store = Store::open_or_create(&options, StoreOptions::default())?;
/// let metrics = StoreMetrics::default();
/// metrics.add_as("blocks", &store)?;
/// let mut registry = Registry::default();
/// registry.register_collector(Box::new(metrics));
///
/// store.put(b"key", b"value")?;
/// let mut text = String::new();
/// prometheus_text::encode(&mut text, &registry)?;
/// assert!(text.contains("raw_block_puts_total{store=\"blocks\"} 1\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StoreMetrics {
    stores: Arc<Mutex<Vec<Named>>>,
}

/// A store and the value of its label `store`.
#[derive(Debug)]
struct Named {
    label: String,
    watch: Watch,
}

/// Two open stores with the same label would have the same samples.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another open store has the label {label:?}")]
pub struct LabelInUse {
    /// The label.
    pub label: String,
}

impl StoreMetrics {
    /// A collector of the metrics of one store, with the label of [`add`](Self::add).
    #[must_use]
    pub fn new(store: &Store) -> StoreMetrics {
        let stores = vec![Named {
            label: default_label(store),
            watch: Watch::new(store),
        }];
        StoreMetrics {
            stores: Arc::new(Mutex::new(stores)),
        }
    }

    /// Adds a store. Its label is that of its superblock ([`FormatOptions::label`](crate::FormatOptions::label)), or its UUID
    /// if that is empty.
    ///
    /// # Errors
    /// See [`add_as`](Self::add_as).
    pub fn add(&self, store: &Store) -> Result<(), LabelInUse> {
        self.add_as(default_label(store), store)
    }

    /// Adds a store with a label of the caller's. It replaces a closed store of the same label.
    ///
    /// # Errors
    /// `LabelInUse`: an open store was added with this label.
    pub fn add_as(&self, label: impl Into<String>, store: &Store) -> Result<(), LabelInUse> {
        let label = label.into();
        let mut stores = self.stores.lock();
        let same = |named: &Named| named.label == label;
        if stores
            .iter()
            .any(|named| same(named) && named.watch.is_open())
        {
            return Err(LabelInUse { label });
        }
        stores.retain(|named| !same(named));
        stores.push(Named {
            label,
            watch: Watch::new(store),
        });
        Ok(())
    }

    /// Removes the store with this label, if there is one. A closed store otherwise keeps its `raw_block_open`, so that an
    /// alert finds it.
    pub fn remove(&self, label: &str) {
        self.stores.lock().retain(|named| named.label != label);
    }
}

impl Collector for StoreMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut readings: Vec<(String, Option<Reading>)> = Vec::new();
        for named in self.stores.lock().iter() {
            readings.push((named.label.clone(), named.watch.read()));
        }
        // A family without samples would only be noise.
        if !readings.is_empty() {
            table::OPEN.encode(&mut encoder, &readings)?;
        }
        if readings.iter().any(|(_, reading)| reading.is_some()) {
            for metric in table::of_open_stores() {
                metric.encode(&mut encoder, &readings)?;
            }
        }
        Ok(())
    }
}

fn default_label(store: &Store) -> String {
    match store.superblock().label() {
        [] => store.superblock().identity.uuid.to_string(),
        label => String::from_utf8_lossy(label).into_owned(),
    }
}
