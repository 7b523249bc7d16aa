//! Counters over all sessions since the format: the wear of the device.

use crate::metrics::metric::{Metric, Unit, by};

pub(super) static METRICS: [Metric; 4] = [
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
];
