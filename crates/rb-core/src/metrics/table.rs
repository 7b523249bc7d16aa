//! The table of all metrics, by subject. `docs/monitoring/README.md` shows the same rows, and a test compares both.

mod device;
mod lifetime;
mod log;
mod operations;
mod recovery;
mod space;
mod upkeep;

use crate::metrics::metric::Metric;

/// The only metric of a closed store.
pub(super) static OPEN: Metric = Metric::open(
    "raw_block_open",
    "1 while the store is open, 0 after it was closed or dropped.",
);

/// Returns the metrics of open stores, in the order in which they are written.
pub(super) fn of_open_stores() -> impl Iterator<Item = &'static Metric> {
    let subjects: [&'static [Metric]; 7] = [
        &operations::METRICS,
        &device::METRICS,
        &space::METRICS,
        &log::METRICS,
        &upkeep::METRICS,
        &recovery::METRICS,
        &lifetime::METRICS,
    ];
    subjects.into_iter().flatten()
}
