//! The figures of a session, and those of the time between two looks at it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rb_core::monitor::Session;
use rb_core::{
    ClassStats, DeviceStats, KindStats, Latency, LatencyStats, LifetimeCounters, Requests,
    StoreStats,
};
use serde::Serialize;

use super::seen::Seen;
use crate::key::show_key;
use crate::rates::{ratio, sum};
use crate::size::{counted, show_size};

/// The counters of an open store since it was opened.
#[derive(Serialize)]
pub(super) struct StatsLine {
    #[serde(flatten)]
    pub(super) store: StoreLine,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) puts: u64,
    pub(super) removes: u64,
    pub(super) got_bytes: u64,
    pub(super) put_bytes: u64,
    pub(super) copied_bytes: u64,
    pub(super) direct_bytes: u64,
    pub(super) evictions: u64,
    pub(super) expired_entries: u64,
    pub(super) commits: u64,
    pub(super) checkpoints: u64,
    pub(super) metadata_write_errors: u64,
    pub(super) drops: Vec<DropLine>,
    pub(super) failures: Vec<FailureLine>,
    pub(super) refusals: Vec<RefusalLine>,
    pub(super) write_budget: Option<BudgetLine>,
    pub(super) waits_by_cause: Vec<WaitLine>,
    pub(super) operations: Vec<OperationLine>,
    pub(super) device: Vec<DeviceLine>,
    pub(super) lifetime: LifetimeLine,
}

/// The store, the process that has it open, and its state at the moment.
#[derive(Serialize)]
pub(super) struct StoreLine {
    pub(super) path: String,
    pub(super) uuid: String,
    pub(super) label: Option<String>,
    pub(super) engine: String,
    pub(super) process: u32,
    pub(super) version: String,
    pub(super) session_seconds: f64,
    pub(super) entries: u64,
    pub(super) oldest_use_seconds: f64,
    pub(super) in_flight: usize,
    pub(super) queue_depth: u32,
    pub(super) oldest_request_seconds: f64,
    pub(super) replay_blocks: u64,
    pub(super) checkpoint_blocks: u64,
    pub(super) poisoned: bool,
    pub(super) alarms: Vec<String>,
    pub(super) scrub: Option<ScrubLine>,
    pub(super) classes: Vec<ClassLine>,
}

#[derive(Serialize)]
pub(super) struct ScrubLine {
    pub(super) running: bool,
    pub(super) scrubbed_entries: u64,
    pub(super) scrub_entries: u64,
    pub(super) scrubbed_bytes: u64,
    pub(super) dropped_entries: u64,
    pub(super) read_errors: u64,
}

#[derive(Serialize)]
pub(super) struct ClassLine {
    pub(super) slot_bytes: u64,
    pub(super) slots: u64,
    pub(super) live_slots: u64,
    pub(super) free_slots: u64,
    pub(super) retired_slots: u64,
    pub(super) quarantined_slots: u64,
    pub(super) bad_slots: u64,
}

#[derive(Serialize)]
pub(super) struct DropLine {
    pub(super) cause: &'static str,
    pub(super) dropped_entries: u64,
}

#[derive(Serialize)]
pub(super) struct RefusalLine {
    pub(super) cause: &'static str,
    pub(super) refused_keys: u64,
    pub(super) refused_bytes: u64,
}

#[derive(Serialize)]
pub(super) struct BudgetLine {
    pub(super) day_bytes: u64,
    pub(super) spent_bytes: u64,
    pub(super) floor_ratio: f64,
}

#[derive(Serialize)]
pub(super) struct FailureLine {
    pub(super) cause: &'static str,
    pub(super) failed_keys: u64,
}

#[derive(Serialize)]
pub(super) struct WaitLine {
    pub(super) cause: &'static str,
    pub(super) waits: u64,
    pub(super) wait_seconds: f64,
}

/// Operations of one kind.
#[derive(Serialize)]
pub(super) struct OperationLine {
    pub(super) op: &'static str,
    pub(super) calls: u64,
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) p999_us: Option<f64>,
    pub(super) max_us: Option<f64>,
}

/// Requests of the device of one kind.
#[derive(Serialize)]
pub(super) struct DeviceLine {
    pub(super) purpose: &'static str,
    pub(super) op: &'static str,
    pub(super) device_requests: u64,
    pub(super) transferred_bytes: u64,
    pub(super) failed_requests: u64,
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) max_us: Option<f64>,
}

/// Counters over all sessions.
#[derive(Serialize)]
pub(crate) struct LifetimeLine {
    pub(super) openings: u64,
    pub(super) puts: u64,
    pub(super) removes: u64,
    pub(super) evictions: u64,
    pub(super) slots_written_bytes: u64,
    pub(super) log_written_bytes: u64,
    pub(super) base_written_bytes: u64,
    pub(super) discarded_bytes: u64,
    pub(super) failed_requests: u64,
}

/// Figures of an open store between two looks at it.
#[derive(Serialize)]
pub(super) struct TopLine {
    #[serde(flatten)]
    pub(super) store: StoreLine,
    pub(super) seconds: f64,
    pub(super) hit_ratio: Option<f64>,
    pub(super) gets_per_second: f64,
    pub(super) puts_per_second: f64,
    pub(super) removes_per_second: f64,
    pub(super) evictions_per_second: f64,
    pub(super) returned_bytes_per_second: f64,
    pub(super) stored_bytes_per_second: f64,
    pub(super) device_reads_per_second: f64,
    pub(super) device_writes_per_second: f64,
    pub(super) device_read_bytes_per_second: f64,
    pub(super) device_written_bytes_per_second: f64,
    pub(super) dropped_entries: u64,
    pub(super) failed_keys: u64,
    pub(super) wait_seconds: f64,
    pub(super) operations: Vec<OperationLine>,
}

impl StatsLine {
    pub(super) fn of(path: &Path, session: &Session) -> StatsLine {
        let stats = &session.stats;
        StatsLine {
            store: StoreLine::of(path, session),
            hits: stats.hits,
            misses: stats.misses,
            puts: stats.puts,
            removes: stats.removes,
            got_bytes: stats.bytes_got,
            put_bytes: stats.bytes_put,
            copied_bytes: stats.bytes_copied,
            direct_bytes: stats.bytes_direct,
            evictions: stats.index.evictions,
            expired_entries: stats.expired,
            commits: stats.commits,
            checkpoints: stats.checkpoints,
            metadata_write_errors: stats.metadata_write_errors,
            drops: stats
                .drops
                .by_check()
                .map(|(cause, dropped_entries)| DropLine {
                    cause,
                    dropped_entries,
                })
                .into(),
            failures: stats
                .failures
                .by_error()
                .map(|(cause, failed_keys)| FailureLine { cause, failed_keys })
                .into(),
            refusals: stats
                .refused
                .by_reason()
                .map(|(cause, puts)| RefusalLine {
                    cause,
                    refused_keys: puts.keys,
                    refused_bytes: puts.bytes,
                })
                .into(),
            write_budget: stats.budget.map(|budget| BudgetLine {
                day_bytes: budget.bytes_per_day,
                spent_bytes: budget.spent_bytes,
                floor_ratio: budget.floor,
            }),
            waits_by_cause: stats
                .waits
                .by_cause()
                .map(|(cause, waits)| WaitLine {
                    cause,
                    waits: waits.count,
                    wait_seconds: waits.total.as_secs_f64(),
                })
                .into(),
            operations: operations(stats, None),
            device: device(&stats.device),
            lifetime: LifetimeLine::of(&stats.lifetime),
        }
    }
}

impl StoreLine {
    fn of(path: &Path, session: &Session) -> StoreLine {
        let stats = &session.stats;
        let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64();
        let open = SystemTime::now().duration_since(session.opened);
        StoreLine {
            path: path.display().to_string(),
            uuid: session.uuid.clone(),
            label: (!session.label.is_empty()).then(|| show_key(&session.label)),
            engine: session.engine.clone(),
            process: session.process,
            version: session.version.clone(),
            session_seconds: open.unwrap_or_default().as_secs_f64(),
            entries: stats.index.entries,
            oldest_use_seconds: seconds(session.oldest_use),
            in_flight: stats.device.in_flight,
            queue_depth: session.queue_depth,
            oldest_request_seconds: seconds(stats.device.oldest),
            replay_blocks: stats.replay_blocks,
            checkpoint_blocks: stats.checkpoint_blocks,
            poisoned: stats.poisoned.is_some(),
            alarms: alarms(stats),
            scrub: session.scrub.map(|scrub| ScrubLine {
                running: scrub.running,
                scrubbed_entries: scrub.done.entries,
                scrub_entries: scrub.of,
                scrubbed_bytes: scrub.done.bytes,
                dropped_entries: scrub.done.dropped,
                read_errors: scrub.done.errors,
            }),
            classes: session
                .slot_bytes
                .iter()
                .zip(&stats.index.classes)
                .map(|(slot_bytes, class)| ClassLine::of(*slot_bytes, class))
                .collect(),
        }
    }
}

impl ClassLine {
    fn of(slot_bytes: u64, class: &ClassStats) -> ClassLine {
        ClassLine {
            slot_bytes,
            slots: class.capacity,
            live_slots: class.live,
            free_slots: class.free,
            retired_slots: class.retired,
            quarantined_slots: class.quarantined,
            bad_slots: class.bad,
        }
    }
}

impl LifetimeLine {
    pub(crate) fn of(lifetime: &LifetimeCounters) -> LifetimeLine {
        LifetimeLine {
            openings: lifetime.openings,
            puts: lifetime.puts,
            removes: lifetime.removes,
            evictions: lifetime.evictions,
            slots_written_bytes: lifetime.slot_bytes,
            log_written_bytes: lifetime.log_bytes,
            base_written_bytes: lifetime.base_bytes,
            discarded_bytes: lifetime.discarded_bytes,
            failed_requests: lifetime.errors,
        }
    }

    pub(crate) fn text(&self) -> String {
        let written = self
            .slots_written_bytes
            .saturating_add(self.log_written_bytes)
            .saturating_add(self.base_written_bytes);
        format!(
            "{}, {}, {}, {}, {} written to the device, {} discarded, {}",
            counted(self.openings, "opening"),
            counted(self.puts, "put"),
            counted(self.removes, "remove"),
            counted(self.evictions, "eviction"),
            show_size(written),
            show_size(self.discarded_bytes),
            counted(self.failed_requests, "failed request")
        )
    }
}

/// Descriptions of each part that does not work as it should.
pub(crate) fn alarms(stats: &StoreStats) -> Vec<String> {
    let reasons = [
        ("writing has stopped", &stats.poisoned),
        ("direct memory is off", &stats.direct_off),
        ("discards are off", &stats.discard.off),
    ];
    let alarm = |(what, reason): (&str, &Option<String>)| {
        let reason = reason.as_ref()?;
        Some(format!("{what}: {reason}"))
    };
    reasons.into_iter().filter_map(alarm).collect()
}

/// The operations since the look before, or since the store was opened.
fn operations(stats: &StoreStats, before: Option<&StoreStats>) -> Vec<OperationLine> {
    let before = before.map_or_else(LatencyStats::default, |before| before.latency.clone());
    let now = stats.latency.by_operation().into_iter();
    let both = now.zip(before.by_operation());
    let line = |((op, now), (_, before)): ((&'static str, &Latency), (&'static str, &Latency))| {
        let latency = now.since(before);
        OperationLine {
            op,
            calls: latency.count(),
            p50_us: quantile_us(&latency, 0.5),
            p99_us: quantile_us(&latency, 0.99),
            p999_us: quantile_us(&latency, 0.999),
            max_us: quantile_us(&latency, 1.0),
        }
    };
    both.map(line).collect()
}

/// `None` without durations.
fn quantile_us(latency: &Latency, q: f64) -> Option<f64> {
    (latency.count() > 0).then(|| latency.quantile(q).as_secs_f64() * 1e6)
}

/// The kinds of requests that were made.
fn device(stats: &DeviceStats) -> Vec<DeviceLine> {
    let lines = stats.by_purpose().into_iter().flat_map(|(purpose, kinds)| {
        let line = |(op, requests)| DeviceLine::of(purpose, op, requests);
        kinds.by_operation().map(line)
    });
    lines
        .filter(|line| line.device_requests > 0 || line.failed_requests > 0)
        .collect()
}

impl DeviceLine {
    fn of(purpose: &'static str, op: &'static str, requests: &Requests) -> DeviceLine {
        let latency = &requests.latency;
        DeviceLine {
            purpose,
            op,
            device_requests: latency.count(),
            transferred_bytes: requests.bytes,
            failed_requests: requests.failures,
            p50_us: quantile_us(latency, 0.5),
            p99_us: quantile_us(latency, 0.99),
            max_us: quantile_us(latency, 1.0),
        }
    }
}

impl TopLine {
    pub(super) fn between(path: &Path, before: &Seen, now: &Seen) -> TopLine {
        let time = now.at.saturating_duration_since(before.at);
        // Another process has opened the store: its counters have begun at 0.
        let same = before.session.opened == now.session.opened;
        let none = StoreStats::default();
        let (stats, before) = (
            &now.session.stats,
            if same { &before.session.stats } else { &none },
        );
        let of = |figure: fn(&StoreStats) -> u64| figure(stats).saturating_sub(figure(before));
        let rate = |figure: fn(&StoreStats) -> u64| {
            of(figure) as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
        };
        let (hits, misses) = (of(|stats| stats.hits), of(|stats| stats.misses));
        let waited = |stats: &StoreStats| -> Duration {
            let all = stats
                .waits
                .by_cause()
                .into_iter()
                .map(|(_, waits)| waits.total);
            all.fold(Duration::ZERO, Duration::saturating_add)
        };
        TopLine {
            store: StoreLine::of(path, &now.session),
            seconds: time.as_secs_f64(),
            hit_ratio: (hits > 0 || misses > 0).then(|| ratio(hits, sum([hits, misses]))),
            gets_per_second: rate(|stats| sum([stats.hits, stats.misses])),
            puts_per_second: rate(|stats| stats.puts),
            removes_per_second: rate(|stats| stats.removes),
            evictions_per_second: rate(|stats| stats.index.evictions),
            returned_bytes_per_second: rate(|stats| stats.bytes_got),
            stored_bytes_per_second: rate(|stats| stats.bytes_put),
            device_reads_per_second: rate(|stats| {
                of_device(stats, |kind| kind.read.latency.count())
            }),
            device_writes_per_second: rate(|stats| {
                of_device(stats, |kind| kind.write.latency.count())
            }),
            device_read_bytes_per_second: rate(|stats| of_device(stats, |kind| kind.read.bytes)),
            device_written_bytes_per_second: rate(|stats| {
                of_device(stats, |kind| kind.write.bytes)
            }),
            dropped_entries: of(|stats| stats.dropped),
            failed_keys: of(|stats| sum(stats.failures.by_error().map(|(_, keys)| keys))),
            wait_seconds: waited(stats).saturating_sub(waited(before)).as_secs_f64(),
            operations: operations(stats, Some(before)),
        }
    }
}

/// Sums a figure of the device over all purposes.
fn of_device(stats: &StoreStats, figure: fn(&KindStats) -> u64) -> u64 {
    let kinds = stats.device.by_purpose();
    sum(kinds.map(|(_, kind)| figure(kind)))
}
