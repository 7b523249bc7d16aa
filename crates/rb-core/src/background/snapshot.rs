//! Reads the counters of an open store into its statistics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::background::Services;
use crate::background::checkpoint::Checkpointer;
use crate::background::discard::Discards;
use crate::core::inner::Inner;
use crate::counters::{Refused, WaitCounter};
use crate::log::delta::DeltaLog;
use crate::stats::{
    BudgetStats, DiscardStats, DropStats, FailureStats, LatencyStats, RefusedPuts, RefusedStats,
    ScrubStats, StoreStats, WaitStats, WaitsStats,
};

pub(crate) fn take(inner: &Inner, background: &Services) -> StoreStats {
    let counters = &inner.counters;
    let log = inner.writer.as_ref().map(|writer| &*writer.log);
    let checkpointer = background.checkpointer.as_ref();
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let waits = |counter: &WaitCounter| WaitStats {
        count: get(&counter.count),
        total: Duration::from_nanos(get(&counter.nanos)),
    };
    let refused = |puts: &Refused| RefusedPuts {
        keys: get(&puts.keys),
        bytes: get(&puts.bytes),
    };
    StoreStats {
        hits: get(&counters.hits),
        misses: get(&counters.misses),
        puts: get(&counters.puts),
        removes: get(&counters.removes),
        bytes_put: get(&counters.bytes_put),
        bytes_got: get(&counters.bytes_got),
        bytes_copied: get(&counters.bytes_copied),
        bytes_direct: get(&counters.bytes_direct),
        direct_refused: get(&inner.direct.refusals),
        direct_off: inner.direct.off(),
        read_errors: get(&counters.read_errors),
        dropped: get(&counters.dropped),
        drops: DropStats {
            get: get(&counters.dropped_by_get),
            validation: get(&counters.dropped_by_validation),
            scrub: get(&counters.scrub.dropped),
        },
        failures: FailureStats {
            no_space: get(&counters.failures.no_space),
            busy: get(&counters.failures.busy),
            timed_out: get(&counters.failures.timed_out),
            out_of_space: get(&counters.failures.out_of_space),
            io: get(&counters.failures.io),
            poisoned: get(&counters.failures.poisoned),
            other: get(&counters.failures.other),
        },
        waits: WaitsStats {
            buffers: waits(&counters.waits.buffers),
            queues: waits(&counters.waits.queues),
            log_space: waits(&counters.waits.log_space),
            slots: waits(&counters.waits.slots),
        },
        latency: LatencyStats {
            get: counters.times.get.latency(),
            put: counters.times.put.latency(),
            remove: counters.times.remove.latency(),
            sync: counters.times.sync.latency(),
            commit: counters.times.commit.latency(),
            checkpoint: counters.times.checkpoint.latency(),
        },
        device: inner.lanes.requests.stats(),
        expired: get(&counters.expired),
        refused: RefusedStats {
            policy: refused(&counters.refused_by_policy),
            budget: refused(&counters.refused_by_budget),
        },
        budget: inner.budget().map(|budget| BudgetStats {
            bytes_per_day: budget.per_day(),
            spent_bytes: budget.spent(),
            floor: budget.floor(),
        }),
        commits: get(&counters.commits),
        checkpoints: get(&counters.checkpoints),
        metadata_write_errors: get(&counters.metadata_write_errors),
        checkpointing: checkpointer.is_some_and(Checkpointer::is_busy),
        longest_snapshot_hold: Duration::from_nanos(get(&counters.longest_snapshot_hold)),
        longest_log_wait: log.map_or(Duration::ZERO, DeltaLog::longest_wait),
        validated: get(&counters.validated),
        scrub: ScrubStats::of(&counters.scrub),
        discard: DiscardStats {
            slots: get(&counters.discard.slots),
            bytes: get(&counters.discard.bytes),
            failures: get(&counters.discard.failures),
            off: background.discards.as_ref().and_then(Discards::off),
        },
        replay_blocks: log.map_or(0, DeltaLog::replay_blocks),
        checkpoint_blocks: log.map_or(0, DeltaLog::checkpoint_blocks),
        log_blocks: log.map_or(0, DeltaLog::ring_blocks),
        poisoned: inner.poison.reason().map(str::to_owned),
        lifetime: inner.lifetime(),
        index: inner.index.stats(),
        queues: inner.lanes.counters(),
    }
}
