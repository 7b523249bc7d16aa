//! Figures of a store as Python's dictionaries.

use std::time::Instant;

use pyo3::prelude::*;
use rb_core::prometheus_client::encoding::prometheus_text;
use rb_core::prometheus_client::registry::Registry;
use rb_core::{RecoveryReport, Store, StoreMetrics};
use serde::Serialize;
use serde_json::{Value, json};

use crate::errors::Error;
use crate::tasks::Tasks;

/// Converts what has a form in JSON.
pub(crate) fn to_python(py: Python<'_>, value: &impl Serialize) -> PyResult<Py<PyAny>> {
    let json = serde_json::to_string(value).map_err(|error| Error::new_err(error.to_string()))?;
    let loads = py.import("json")?.getattr("loads")?;
    Ok(loads.call1((json,))?.unbind())
}

pub(crate) fn recovery(report: &RecoveryReport) -> Value {
    json!({
        "entries": report.entries,
        "clean": report.clean,
        "started_empty": report.started_empty,
        "lost_metadata": report.lost_metadata,
        "log_blocks": report.log_blocks,
        "log_records": report.log_records,
        "one_copy": report.one_copy,
        "bad_slots": report.bad_slots,
        "openings": report.openings,
        "total_seconds": report.total_time.as_secs_f64(),
    })
}

pub(crate) fn geometry(store: &Store) -> Value {
    let (superblock, geometry) = (store.superblock(), store.geometry());
    let stats = store.stats();
    let classes: Vec<Value> = stats
        .index
        .classes
        .iter()
        .zip(0..)
        .map(|(class, number)| {
            json!({
                "slot_bytes": geometry.class_capacity(number),
                "slots": class.capacity,
            })
        })
        .collect();
    let capacity: u64 = stats
        .index
        .classes
        .iter()
        .zip(0..)
        .map(|(class, number)| class.capacity * geometry.class_capacity(number))
        .sum();
    json!({
        "uuid": superblock.identity.uuid.to_string(),
        "label": String::from_utf8_lossy(superblock.label()),
        "key_len_max": superblock.key_len_max,
        "metadata_len_max": superblock.metadata_len_max,
        "slots": geometry.slots(),
        "capacity_bytes": capacity,
        "classes": classes,
        "value_len_max": geometry.value_len_max(),
        "device_bytes": superblock.device_bytes,
    })
}

/// The state of a store as a host asks for it.
pub(crate) fn health(store: &Store, closed: bool, kinds: [&Tasks; 2]) -> Value {
    let (mut tasks, mut late, mut oldest) = (0, 0, None::<Instant>);
    for kind in kinds {
        let (some, some_late, since) = kind.counts();
        tasks += some;
        late += some_late;
        oldest = oldest.into_iter().chain(since).min();
    }
    let stats = store.stats();
    let reason = if closed {
        Some("the store is closed".to_owned())
    } else if let Some(reason) = stats.poisoned {
        Some(format!(
            "writing is stopped until the store is reopened: {reason}"
        ))
    } else if late > 0 {
        Some(format!(
            "the device has not answered {late} batches in time"
        ))
    } else {
        None
    };
    let rejected: Vec<String> = store
        .rejected_engines()
        .iter()
        .map(|rejected| format!("{}: {}", rejected.kind, rejected.reason))
        .collect();
    json!({
        "healthy": reason.is_none(),
        "reason": reason,
        "tasks": tasks,
        "late": late,
        "oldest_task_seconds": oldest.map(|since| since.elapsed().as_secs_f64()),
        "engine": store.engine_name(),
        "rejected_engines": rejected,
        "direct_off": stats.direct_off,
    })
}

/// All metrics in the text format of Prometheus.
pub(crate) fn metrics(store: &Store, label: Option<&str>) -> PyResult<String> {
    let metrics = match label {
        None => StoreMetrics::new(store),
        Some(label) => {
            let metrics = StoreMetrics::default();
            let added = metrics.add_as(label, store);
            added.map_err(|error| Error::new_err(error.to_string()))?;
            metrics
        }
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(metrics));
    let mut text = String::new();
    match prometheus_text::encode(&mut text, &registry) {
        Ok(()) => Ok(text),
        Err(error) => Err(Error::new_err(error.to_string())),
    }
}
