//! Operations: results, bytes, durations, failures, waits.

use crate::metrics::metric::{Metric, Unit, by};

pub(super) static METRICS: [Metric; 20] = [
    Metric::counter(
        "raw_block_hits",
        "Keys for which a get returned the value.",
        |now| now.stats.hits.into(),
    ),
    Metric::counter(
        "raw_block_misses",
        "Keys that a get did not find, or dropped because verification failed.",
        |now| now.stats.misses.into(),
    ),
    Metric::counter(
        "raw_block_puts",
        "Keys whose put was acknowledged after its write.",
        |now| now.stats.puts.into(),
    ),
    Metric::counter(
        "raw_block_removes",
        "Keys passed to removes that succeeded, including keys without an entry.",
        |now| now.stats.removes.into(),
    ),
    Metric::counter("raw_block_put", "Payload written.", |now| {
        now.stats.bytes_put.into()
    })
    .unit(Unit::Bytes),
    Metric::counter("raw_block_got", "Payload read and verified.", |now| {
        now.stats.bytes_got.into()
    })
    .unit(Unit::Bytes),
    Metric::counters(
        "raw_block_caller_memory",
        &["path"],
        "Payload between the store and callers' memory: copied, or direct to or from the device.",
        |now| {
            by([
                ("copied", now.stats.bytes_copied),
                ("direct", now.stats.bytes_direct),
            ])
        },
    )
    .unit(Unit::Bytes),
    Metric::counter(
        "raw_block_direct_refused",
        "Operations on callers' memory that the device refused and a copy repeated.",
        |now| now.stats.direct_refused.into(),
    ),
    Metric::gauge(
        "raw_block_direct_off",
        "1 if an arena of the caller is not used directly any more, after three refusals.",
        |now| now.stats.direct_off.is_some().into(),
    ),
    Metric::durations(
        "raw_block_operation_duration",
        &["op"],
        "Durations of calls, blocking and async; gets count if they read a value.",
        |now| by(now.stats.latency.by_operation()),
    ),
    Metric::counters(
        "raw_block_failures",
        &["reason"],
        "Keys whose operation failed, by the error.",
        |now| by(now.stats.failures.by_error()),
    ),
    Metric::counters(
        "raw_block_drops",
        &["check"],
        "Entries dropped because their bytes on the device were not those that were put.",
        |now| by(now.stats.drops.by_check()),
    ),
    Metric::counter(
        "raw_block_expired",
        "Entries dropped because an operation looked them up after their expiry.",
        |now| now.stats.expired.into(),
    ),
    Metric::counters(
        "raw_block_refused_puts",
        &["reason"],
        "Keys whose put was not admitted: by the eviction policy or by the write budget.",
        |now| {
            let refused = now.stats.refused.by_reason();
            by(refused.map(|(reason, puts)| (reason, puts.keys)))
        },
    ),
    Metric::counters(
        "raw_block_refused",
        &["reason"],
        "Payload of these puts.",
        |now| {
            let refused = now.stats.refused.by_reason();
            by(refused.map(|(reason, puts)| (reason, puts.bytes)))
        },
    )
    .unit(Unit::Bytes),
    Metric::counters(
        "raw_block_waits",
        &["cause"],
        "Waits of operations for what others had in use.",
        |now| {
            let waits = now.stats.waits.by_cause();
            by(waits.map(|(cause, waits)| (cause, waits.count)))
        },
    ),
    Metric::counters(
        "raw_block_wait",
        &["cause"],
        "Time that operations spent in these waits.",
        |now| {
            let waits = now.stats.waits.by_cause();
            by(waits.map(|(cause, waits)| (cause, waits.total)))
        },
    )
    .unit(Unit::Seconds),
    Metric::gauges(
        "raw_block_longest_wait",
        &["lock"],
        "Longest wait of an operation for a lock since opening; for the log also for its space.",
        |now| {
            by([
                ("log", now.stats.longest_log_wait),
                ("shard", now.stats.index.longest_wait),
            ])
        },
    )
    .unit(Unit::Seconds),
    Metric::counters(
        "raw_block_shard_locks",
        &["purpose"],
        "Locks of index shards taken.",
        |now| {
            let index = &now.stats.index;
            by([
                ("operation", index.operation_locks),
                ("eviction", index.eviction_locks),
                ("background", index.background_locks),
            ])
        },
    ),
    Metric::counter(
        "raw_block_contended_shard_locks",
        "Locks of index shards that another thread held at the first attempt.",
        |now| now.stats.index.contended_locks.into(),
    ),
];
