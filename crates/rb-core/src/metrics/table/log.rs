//! The log, checkpoints, and the state of writing.

use crate::metrics::metric::{Metric, Unit};

pub(super) static METRICS: [Metric; 9] = [
    Metric::gauge(
        "raw_block_poisoned",
        "1 if a failed write of metadata or flush stopped writing until the store is reopened.",
        |now| now.stats.poisoned.is_some().into(),
    ),
    Metric::counter("raw_block_commits", "Group commits.", |now| {
        now.stats.commits.into()
    }),
    Metric::counter("raw_block_checkpoints", "Checkpoints written.", |now| {
        now.stats.checkpoints.into()
    }),
    Metric::gauge(
        "raw_block_checkpointing",
        "1 while a checkpoint is being written.",
        |now| now.stats.checkpointing.into(),
    ),
    Metric::gauge(
        "raw_block_replay_blocks",
        "Log blocks that a restart would replay.",
        |now| now.stats.replay_blocks.into(),
    ),
    Metric::gauge(
        "raw_block_checkpoint_blocks",
        "Log blocks to replay at which the next checkpoint is due.",
        |now| now.stats.checkpoint_blocks.into(),
    ),
    Metric::gauge("raw_block_log_blocks", "Log blocks in total.", |now| {
        now.stats.log_blocks.into()
    }),
    Metric::counter(
        "raw_block_metadata_write_errors",
        "Blocks of metadata that the device failed to write, of which another copy was written.",
        |now| now.stats.metadata_write_errors.into(),
    ),
    Metric::gauge(
        "raw_block_longest_snapshot_hold",
        "Longest time that a checkpoint held the lock of a shard since opening.",
        |now| now.stats.longest_snapshot_hold.into(),
    )
    .unit(Unit::Seconds),
];
