//! Checks a store after a session: the log's order, the audit, and every key.

use std::fs::FileType;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rb_core::{AuditOptions, AuditState, EngineKind, Severity, Store, StoreOptions, audit};
use rb_io::{Access, Device, OpenError};

use super::event::Answer;
use super::history::Verdict;
use super::played::Played;
use super::read::read;
use super::report::RaceReport;
use super::shape::{Image, Key, number};
use super::watchdog::{WATCHDOG, within};
use crate::log_order::{LogRecord, first_disorder, read_log};
use crate::tally::words;

/// Maximum number of log records shown for a key or a slot.
const SHOWN_MAX: usize = 6;

/// Maximum time that the kernel may keep the claims of a killed process. Opening waits one second, and a machine that
/// is emulated on busy cores has taken longer.
const RELEASE_MAX: Duration = Duration::from_secs(30);

/// A key's version and generation, if it is there.
type State = (Key, Option<(u64, u64)>);

/// Results of opening.
#[derive(Debug, Default)]
struct Found {
    states: Vec<State>,
    /// Entries that recovery took for live, including those whose bytes are gone.
    recovered: u64,
    violations: Vec<String>,
}

/// Parameters of a check.
pub(super) struct Check<'a> {
    pub(super) path: &'a Path,
    pub(super) engine: EngineKind,
    pub(super) image: &'a Image,
    /// True if the store was closed; `None` if that is unknown.
    pub(super) closed: Option<bool>,
    /// Action afterwards: 0 leaves the store as the session left it, 1 opens and drops, 2 opens and closes it, which
    /// must change nothing.
    pub(super) after: u64,
}

impl Check<'_> {
    /// Reads the store as the session left it, without writing, and checks everything. Violations go into the report.
    pub(super) fn run(&self, store: &mut Played<'_>, report: &mut RaceReport) {
        if let Err(why) = wait_until_free(self.path) {
            let why = words(&why);
            let violation = format!("the store is still in use after {RELEASE_MAX:?}: {why}");
            report.violations.push(violation);
            return;
        }
        let log = self.log(store, report);
        report.violations.extend(self.audit());
        let found = self.open(true, false);
        let oracle = &mut store.oracle;
        for &(key, state) in &found.states {
            let version = state.map(|(version, _)| version);
            let verdict = oracle.judge(key, version);
            report.compared += 1;
            report.exact += u64::from(verdict == Verdict::Exact);
            let is_several = |version| self.image.slots(key, version) > 1;
            report.several += u64::from(version.is_some_and(is_several));
            if !matches!(verdict, Verdict::Exact | Verdict::Legal) {
                let is = version.map_or("absent".into(), |version| format!("version {version:#x}"));
                let (legal, trail) = (oracle.legal(key), trail(key, &log));
                let hint = match verdict {
                    Verdict::Lost if oracle.puts_under_way() => {
                        "; puts were under way, of which one may have evicted it and not reported that"
                    }
                    _ => "",
                };
                report.violations.push(format!(
                    "{verdict:?}: key {key} is {is}, and may be {legal}{hint}{trail}"
                ));
            }
        }
        report.violations.extend(found.violations);
        let there = found.states.iter().filter(|(_, state)| state.is_some());
        store.phantoms = there.count() as u64 != found.recovered;
        store.oracle.found(&found.states);
        if self.after > 0 && report.violations.is_empty() {
            let closes = self.after == 2;
            let again = self.open(false, closes);
            report.violations.extend(again.violations);
            if again.states != found.states {
                let what = "opening for writing found other states than reading";
                report.violations.push(what.into());
            }
            // A close records the entries in a base.
            store.phantoms &= !closes;
        }
    }

    /// Reads the log, if its blocks can be read without an engine, and checks its order. Behind a socket or a character
    /// device only the audit checks it.
    fn log(&self, store: &mut Played<'_>, report: &mut RaceReport) -> Vec<LogRecord> {
        let has_blocks = |kind: FileType| kind.is_file() || kind.is_block_device();
        let readable = std::fs::metadata(self.path).is_ok_and(|it| has_blocks(it.file_type()));
        if !readable {
            return Vec::new();
        }
        match read_log(self.path) {
            Err(why) => {
                report.violations.push(format!("reading the log: {why}"));
                Vec::new()
            }
            Ok(log) => {
                let blocks = log.end.saturating_sub(store.log_end);
                report.ring_turns += blocks as f64 / log.ring as f64;
                report.log_records += log.records.len() as u64;
                store.log_end = log.end;
                let disorder = first_disorder(&log.records);
                let disorder = disorder.map(|disorder| disorder.to_string());
                report.violations.extend(disorder);
                log.records
            }
        }
    }

    fn audit(&self) -> Vec<String> {
        let options = AuditOptions {
            engine: self.engine,
            deep: true,
            queue_depth: 64,
            ..AuditOptions::default()
        };
        let path = self.path.to_path_buf();
        let audited = within(WATCHDOG, "the audit", move || audit(path, &options));
        let audited = audited.and_then(|audited| audited.map_err(|why| words(&why)));
        let report = match audited {
            Ok(report) => report,
            Err(why) => return vec![format!("the audit failed: {why}")],
        };
        let mut violations = Vec::new();
        if report.state != AuditState::Clean {
            let mut damages = report.findings.iter();
            let first = damages.find(|found| found.severity == Severity::Damage);
            violations.push(format!(
                "the audit calls it {:?}, {} damages, the first: {first:?}",
                report.state, report.damages
            ));
        }
        if let Some(closed) = self.closed
            && closed != report.clean
        {
            let clean = report.clean;
            violations.push(format!("closed: {closed}, the audit says {clean}"));
        }
        violations
    }

    /// Opens the store and gets every key.
    fn open(&self, read_only: bool, closes: bool) -> Found {
        let (path, image) = (self.path.to_path_buf(), self.image.clone());
        let options = StoreOptions {
            engine: self.engine,
            read_only,
            buffer_bytes: Some(16 << 20),
            queue_depth: 64,
            ..StoreOptions::default()
        };
        let opened = within(WATCHDOG, "the check", move || {
            let mut found = Found::default();
            if let Err(why) = open_into(&path, &image, options, closes, &mut found) {
                found.violations.push(why);
            }
            found
        });
        opened.unwrap_or_else(|why| Found {
            violations: vec![why],
            ..Found::default()
        })
    }
}

fn open_into(
    path: &Path,
    image: &Image,
    options: StoreOptions,
    closes: bool,
    found: &mut Found,
) -> Result<(), String> {
    let store = Store::open(path, options).map_err(|why| words(&why))?;
    if let Some(lost) = &store.recovery().lost_metadata {
        return Err(format!("metadata was lost: {lost}"));
    }
    found.recovered = store.recovery().entries;
    let keys: Vec<Key> = (0..image.keys()).collect();
    for keys in keys.chunks(64) {
        for (&key, answer) in keys.iter().zip(read(&store, image, keys)?) {
            let state = match answer {
                Answer::Value {
                    version,
                    generation,
                } => Some((version, generation)),
                Answer::Absent => None,
                other => return Err(format!("key {key} returned {other:?}")),
            };
            found.states.push((key, state));
        }
    }
    store.audit().map_err(|why| format!("audit: {why}"))?;
    if closes {
        let closed = store.close();
        closed.map_err(|why| format!("close: {}", words(&why)))?;
    }
    Ok(())
}

/// Lists the log records of a key, and of the slots of its newest put.
fn trail(key: Key, log: &[LogRecord]) -> String {
    let of_key = log.iter().filter(|record| number(&record.key) == Some(key));
    let newest = of_key.clone().filter(|record| !record.slots.is_empty());
    let newest = newest.max_by_key(|record| record.generation);
    let of_slot = log.iter().filter(|record| {
        newest.is_some_and(|newest| {
            let shares = record.slots.iter().any(|slot| newest.slots.contains(slot));
            shares && record.generation >= newest.generation
        })
    });
    let lines = |records: Vec<&LogRecord>| {
        let last = records.iter().skip(records.len().saturating_sub(SHOWN_MAX));
        last.map(|record| format!("\n      {record}"))
            .collect::<String>()
    };
    let of_key = lines(of_key.collect());
    let of_slot = lines(of_slot.collect());
    format!("\n    its last records:{of_key}\n    its slots from its newest put on:{of_slot}")
}

/// Waits until the requests of a killed process have ended in the kernel, at most [`RELEASE_MAX`]: until then its
/// claims hold.
fn wait_until_free(path: &Path) -> Result<(), OpenError> {
    let start = Instant::now();
    loop {
        match Device::open(path, Access::ReadWrite) {
            Err(OpenError::InUse { .. }) if start.elapsed() < RELEASE_MAX => {}
            result => return result.map(drop),
        }
    }
}
