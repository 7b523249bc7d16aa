//! Facts of this opening: identity, and what recovery found.

use crate::metrics::metric::{Metric, Sample, Unit, by};
use crate::report::RecoveryReport;

pub(super) static METRICS: [Metric; 9] = [
    Metric::gauges(
        "raw_block_info",
        &["uuid", "engine"],
        "Always 1; the labels have the UUID of the store and the engine in use.",
        |now| {
            let uuid = now.superblock().identity.uuid.to_string();
            vec![Sample::new([uuid.into(), now.engine_name().into()], true)]
        },
    ),
    Metric::gauge(
        "raw_block_recovery_clean",
        "1 if the store was closed before this opening.",
        |now| now.recovery().clean.into(),
    ),
    Metric::gauge(
        "raw_block_recovery_entries",
        "Live entries that recovery found.",
        |now| now.recovery().entries.into(),
    ),
    Metric::gauge(
        "raw_block_recovery_log_blocks",
        "Log blocks that recovery replayed.",
        |now| now.recovery().log_blocks.into(),
    ),
    Metric::gauge(
        "raw_block_recovery_duration",
        "Time from the start of opening until the store could serve.",
        |now| now.recovery().total_time.into(),
    )
    .unit(Unit::Seconds),
    Metric::gauges(
        "raw_block_recovery_phase_duration",
        &["phase"],
        "Parts of that time.",
        |now| {
            let report = now.recovery();
            by([
                ("base", report.base_time),
                ("log", report.log_time),
                ("index", report.index_time),
                ("validation", report.validation_time),
            ])
        },
    )
    .unit(Unit::Seconds),
    Metric::gauges(
        "raw_block_recovery_damage",
        &["kind"],
        "Damage that recovery found; `lost_metadata` and `cut` are 0 or 1, the others are numbers of places.",
        |now| {
            let report = now.recovery();
            by([
                ("base", report.base_damage.len()),
                ("one_copy", report.one_copy.len()),
                ("unwritten_copy", report.copies_unwritten as usize),
                ("bad_block", report.bad_blocks.len()),
                ("foreign", report.foreign.len()),
                ("lost_metadata", usize::from(report.lost_metadata.is_some())),
                ("cut", usize::from(report.cut_to.is_some())),
            ])
        },
    ),
    Metric::gauge(
        "raw_block_openings",
        "Openings for writing since the store was formatted or started empty.",
        |now| now.recovery().openings.into(),
    ),
    Metric::gauge(
        "raw_block_openings_max",
        "Number of openings after which the store must be formatted or started empty.",
        |_| RecoveryReport::openings_max().into(),
    ),
];
