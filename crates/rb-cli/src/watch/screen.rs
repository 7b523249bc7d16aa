//! The screen of `rb top` as lines of text, at most 80 characters wide. Paths, labels and reasons may be longer.

use super::figures::{ClassLine, OperationLine, StoreLine, TopLine};
use super::words::{micros, number, rate, time};
use crate::size::{counted, show_size};

/// Most slot classes that are shown.
const CLASSES_MAX: usize = 8;

/// A line, and its look.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) look: Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Title,
    Alarm,
}

/// The lines without their looks.
pub(super) fn text(top: &TopLine) -> Vec<String> {
    lines(top).into_iter().map(|line| line.text).collect()
}

pub(super) fn lines(top: &TopLine) -> Vec<Line> {
    let mut lines = head(&top.store);
    lines.extend([plain(String::new())]);
    lines.extend(rates(top).map(plain));
    // In the interval, while the rates are those of a second.
    lines.push(failures(top));
    lines.push(plain(String::new()));
    lines.push(title(format!(
        "{:<12}{:>12}{:>13}{:>13}{:>13}{:>13}",
        "operation", "calls/s", "p50", "p99", "p99.9", "longest"
    )));
    lines.extend(
        top.operations
            .iter()
            .map(|line| plain(operation(line, top.seconds))),
    );
    lines.push(plain(String::new()));
    lines.push(title(format!(
        "{:<12}{:>12}{:>13}{:>13}{:>7}  {:<20}",
        "slots of", "slots", "live", "free", "bad", "fill"
    )));
    lines.extend(top.store.classes.iter().take(CLASSES_MAX).map(class));
    lines
}

fn plain(text: String) -> Line {
    let look = Look::Plain;
    Line { text, look }
}

fn title(text: String) -> Line {
    let look = Look::Title;
    Line { text, look }
}

fn alarm(text: String) -> Line {
    let look = Look::Alarm;
    Line { text, look }
}

fn head(store: &StoreLine) -> Vec<Line> {
    let mut lines = vec![
        title(format!(
            "{}, process {}, {}, open for {}",
            store.path,
            store.process,
            store.engine,
            time(store.session_seconds)
        )),
        plain(match &store.label {
            Some(label) => format!("{}, label {label}", store.uuid),
            None => store.uuid.clone(),
        }),
    ];
    lines.extend(store.alarms.iter().cloned().map(alarm));
    if let Some(scrub) = &store.scrub {
        let text = format!(
            "scrub {}: {} of {}, {} dropped, {}",
            if scrub.running { "running" } else { "ended" },
            number(scrub.scrubbed_entries as f64),
            counted(scrub.scrub_entries, "entry"),
            scrub.dropped_entries,
            counted(scrub.read_errors, "read error"),
        );
        lines.push(match (scrub.dropped_entries, scrub.read_errors) {
            (0, 0) => plain(text),
            _ => alarm(text),
        });
    }
    lines
}

fn rates(top: &TopLine) -> [String; 4] {
    let two = |left: String, right: String| format!("{left:<40}{right}");
    let flow = |what: &str, count: f64, bytes: f64| {
        format!("{what:<14}{:>10}/s  {:>11}", number(count), rate(bytes))
    };
    let hit_rate = match top.hit_ratio {
        Some(ratio) => format!("{:.1} %", 100.0 * ratio),
        None => "-".into(),
    };
    let store = &top.store;
    [
        two(
            format!("hit rate      {hit_rate:>10}"),
            format!(
                "{}, {} evicted/s, oldest {}",
                counted(store.entries, "entry"),
                number(top.evictions_per_second),
                time(store.oldest_use_seconds)
            ),
        ),
        two(
            flow("gets", top.gets_per_second, top.returned_bytes_per_second),
            flow(
                "device reads",
                top.device_reads_per_second,
                top.device_read_bytes_per_second,
            ),
        ),
        two(
            flow("puts", top.puts_per_second, top.stored_bytes_per_second),
            flow(
                "device writes",
                top.device_writes_per_second,
                top.device_written_bytes_per_second,
            ),
        ),
        two(
            format!("in flight     {:>10}", number(store.in_flight as f64)),
            format!(
                "queues of {}, the oldest request {}",
                store.queue_depth,
                time(store.oldest_request_seconds)
            ),
        ),
    ]
}

/// Keys that failed and entries that were dropped in the interval, and what a restart and waits cost.
fn failures(top: &TopLine) -> Line {
    let failed = format!("in {:.1} s", top.seconds);
    let text = format!(
        "{:<14}{:>10} failed  {} dropped, waits {:.2} s, log {} of {} blocks",
        failed,
        number(top.failed_keys as f64),
        number(top.dropped_entries as f64),
        top.wait_seconds,
        number(top.store.replay_blocks as f64),
        number(top.store.checkpoint_blocks as f64),
    );
    match (top.failed_keys, top.dropped_entries) {
        (0, 0) => plain(text),
        _ => alarm(text),
    }
}

fn operation(line: &OperationLine, seconds: f64) -> String {
    format!(
        "{:<12}{:>12}{:>13}{:>13}{:>13}{:>13}",
        line.op,
        number(line.calls as f64 / seconds.max(f64::MIN_POSITIVE)),
        micros(line.p50_us),
        micros(line.p99_us),
        micros(line.p999_us),
        micros(line.max_us)
    )
}

fn class(class: &ClassLine) -> Line {
    const BAR: f64 = 12.0;
    let fill = (class.live_slots as f64 / class.slots.max(1) as f64).min(1.0);
    let bar = "#".repeat((BAR * fill).round() as usize);
    let text = format!(
        "{:<12}{:>12}{:>13}{:>13}{:>7}  {:>5.1} % {bar}",
        show_size(class.slot_bytes),
        number(class.slots as f64),
        number(class.live_slots as f64),
        number(class.free_slots as f64),
        class.bad_slots,
        100.0 * fill
    );
    match (class.bad_slots, class.quarantined_slots) {
        (0, 0) => plain(text),
        _ => alarm(text),
    }
}
