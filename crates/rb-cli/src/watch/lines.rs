//! `rb stats` for people.

use super::figures::{DeviceLine, OperationLine, StatsLine};
use super::words::{micros, number, time};
use crate::failure::Failure;
use crate::output::Output;
use crate::rates::{ratio, sum};
use crate::size::show_size;

pub(super) fn show(stats: &StatsLine, output: &mut Output) -> Result<(), Failure> {
    let store = &stats.store;
    output.line(&store.path)?;
    let mut field = |name: &str, text: String| output.line(format!("  {name:<14} {text}"));
    let label = store.label.iter().map(|label| format!(", label {label}"));
    field("uuid", store.uuid.clone() + &label.collect::<String>())?;
    field(
        "open",
        format!(
            "by process {} (version {}) for {}, through {}",
            store.process,
            store.version,
            time(store.session_seconds),
            store.engine
        ),
    )?;
    store
        .alarms
        .iter()
        .try_for_each(|alarm| field("alarm", alarm.clone()))?;
    let count = |count: u64| number(count as f64);
    let asked = sum([stats.hits, stats.misses]);
    field(
        "gets",
        format!(
            "{} hits and {} misses ({:.1} % hits), {}",
            count(stats.hits),
            count(stats.misses),
            100.0 * ratio(stats.hits, asked),
            show_size(stats.got_bytes)
        ),
    )?;
    field(
        "puts",
        format!("{}, {}", count(stats.puts), show_size(stats.put_bytes)),
    )?;
    field("removes", count(stats.removes))?;
    field(
        "payload",
        format!(
            "{} direct, {} copied",
            show_size(stats.direct_bytes),
            show_size(stats.copied_bytes)
        ),
    )?;
    field(
        "entries",
        format!(
            "{}; {} evicted, {} expired, the least recently used one was used {} ago",
            count(store.entries),
            count(stats.evictions),
            count(stats.expired_entries),
            time(store.oldest_use_seconds)
        ),
    )?;
    for class in &store.classes {
        field(
            "class",
            format!(
                "{} x {}: {} live, {} free, {} retired, {} quarantined, {} bad",
                count(class.slots),
                show_size(class.slot_bytes),
                count(class.live_slots),
                count(class.free_slots),
                class.retired_slots,
                class.quarantined_slots,
                class.bad_slots
            ),
        )?;
    }
    field(
        "log",
        format!(
            "{} commits; {} blocks to replay after a kill, the next checkpoint is due at {}; {} checkpoints; {} failed writes of metadata",
            count(stats.commits),
            count(store.replay_blocks),
            count(store.checkpoint_blocks),
            count(stats.checkpoints),
            count(stats.metadata_write_errors)
        ),
    )?;
    let drops = stats
        .drops
        .iter()
        .map(|line| (line.cause, line.dropped_entries.to_string()));
    field("drops", causes(drops))?;
    let failures = stats
        .failures
        .iter()
        .map(|line| (line.cause, line.failed_keys.to_string()));
    field("failed keys", causes(failures))?;
    let refusals = stats.refusals.iter().map(|line| {
        let bytes = show_size(line.refused_bytes);
        (line.cause, format!("{} ({bytes})", line.refused_keys))
    });
    field("not admitted", causes(refusals))?;
    if let Some(budget) = &stats.write_budget {
        field(
            "write budget",
            format!(
                "{} of {} spent in 24 hours, floor {:.2}",
                show_size(budget.spent_bytes),
                show_size(budget.day_bytes),
                budget.floor_ratio
            ),
        )?;
    }
    let waits = stats.waits_by_cause.iter();
    field(
        "waits",
        causes(waits.map(|line| {
            (
                line.cause,
                format!("{} ({:.3} s)", line.waits, line.wait_seconds),
            )
        })),
    )?;
    if let Some(scrub) = &store.scrub {
        field(
            "scrub",
            format!(
                "{}: {} of {} entries, {}, {} dropped, {} read errors",
                if scrub.running { "running" } else { "ended" },
                count(scrub.scrubbed_entries),
                count(scrub.scrub_entries),
                show_size(scrub.scrubbed_bytes),
                scrub.dropped_entries,
                scrub.read_errors
            ),
        )?;
    }
    field(
        "in flight",
        format!(
            "{} requests, queues of {}, the oldest for {}",
            store.in_flight,
            store.queue_depth,
            time(store.oldest_request_seconds)
        ),
    )?;
    stats
        .operations
        .iter()
        .try_for_each(|line| field(line.op, operation(line)))?;
    stats
        .device
        .iter()
        .try_for_each(|line| field(&format!("{} {}", line.purpose, line.op), request(line)))?;
    field("lifetime", stats.lifetime.text())
}

/// `get 0, scrub 1`.
fn causes(causes: impl Iterator<Item = (&'static str, String)>) -> String {
    let words: Vec<String> = causes
        .map(|(cause, text)| format!("{cause} {text}"))
        .collect();
    words.join(", ")
}

fn operation(line: &OperationLine) -> String {
    format!(
        "{} calls, p50 {}, p99 {}, p99.9 {}, longest {}",
        number(line.calls as f64),
        micros(line.p50_us),
        micros(line.p99_us),
        micros(line.p999_us),
        micros(line.max_us)
    )
}

fn request(line: &DeviceLine) -> String {
    format!(
        "{} requests, {}, {} failed, p50 {}, p99 {}, longest {}",
        number(line.device_requests as f64),
        show_size(line.transferred_bytes),
        number(line.failed_requests as f64),
        micros(line.p50_us),
        micros(line.p99_us),
        micros(line.max_us)
    )
}
