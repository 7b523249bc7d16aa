//! The wear of the device: counters over all sessions since the format, and the write budget.

use crate::metrics::metric::{Metric, Unit, by};

pub(super) static METRICS: [Metric; 7] = [
    Metric::counters(
        "raw_block_lifetime_written",
        &["kind"],
        "Bytes written since the format: to slots with their headers, to the log, to checkpoint bases.",
        |now| {
            let lifetime = &now.stats.lifetime;
            by([
                ("slots", lifetime.slot_bytes),
                ("log", lifetime.log_bytes),
                ("base", lifetime.base_bytes),
            ])
        },
    )
    .unit(Unit::Bytes),
    Metric::counter(
        "raw_block_lifetime_discarded",
        "Bytes discarded since the format.",
        |now| now.stats.lifetime.discarded_bytes.into(),
    )
    .unit(Unit::Bytes),
    Metric::counter(
        "raw_block_lifetime_failed_requests",
        "Requests that the device failed since the format.",
        |now| now.stats.lifetime.errors.into(),
    ),
    Metric::counter(
        "raw_block_lifetime_openings",
        "Openings for writing since the format.",
        |now| now.stats.lifetime.openings.into(),
    ),
    Metric::gauge(
        "raw_block_write_budget",
        "Bytes that may be written in any 24 hours; 0 without a budget.",
        |now| now.stats.budget.unwrap_or_default().bytes_per_day.into(),
    )
    .unit(Unit::Bytes),
    Metric::gauge(
        "raw_block_write_budget_spent",
        "Bytes of the budget spent in the last 24 hours, sessions before this one included.",
        |now| now.stats.budget.unwrap_or_default().spent_bytes.into(),
    )
    .unit(Unit::Bytes),
    Metric::gauge(
        "raw_block_write_budget_floor",
        "Reads that a block must have in the time of as many lookups as there are slots to be worth a write; 0 while the budget is enough for all.",
        |now| now.stats.budget.unwrap_or_default().floor.into(),
    ),
];
