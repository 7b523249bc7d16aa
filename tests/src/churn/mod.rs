//! Eight threads on one store: writers that own their keys and know what each must be, readers of
//! everything, against eviction, removal, reuse of slots and a log ring that goes round (C1, C5).

mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rb_core::{
    ClassRequest, EngineKind, Event, Events, FormatOptions, Share, Store, StoreOptions, format,
};
use rb_testkit::values::next_number;
use serde::Serialize;

use crate::marked::version_of;
use crate::tally::{Report, words};
use writer::Writer;

const WRITERS: u64 = 4;
const READERS: u64 = 4;
/// Keys of each writer.
const KEYS: u64 = 40;
/// Slots of each class: far fewer than keys.
const SLOTS: u64 = 24;
/// After this, beyond its time, a run has hung.
const WATCHDOG: Duration = Duration::from_secs(60);

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub struct ChurnOptions {
    /// The store's engine.
    pub engine: EngineKind,
    /// How long.
    pub time: Duration,
    /// Whether freed slots are discarded.
    pub discard: bool,
    /// Decides what each thread does; the machine decides who comes first.
    pub seed: u64,
}

/// What a run came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChurnReport {
    /// The engine.
    pub engine: String,
    /// Whether freed slots were discarded.
    pub discard: bool,
    /// The seed.
    pub seed: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Operations of the writers.
    pub steps: u64,
    /// Values that readers got, each found right.
    pub reads: u64,
    /// Locks that writers held while others wanted their slots.
    pub locks: u64,
    /// Entries evicted.
    pub evictions: u64,
    /// Group commits.
    pub commits: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Slots discarded.
    pub discarded: u64,
    /// What must not be, in words: wrong bytes, reused slots under a lease, wrong accounting.
    pub violations: Vec<String>,
}

impl Report for ChurnReport {
    fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for ChurnReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}: {:.1} s, {WRITERS} writers and {READERS} readers: {} steps, {} reads verified, {} locks held, \
             {} evictions, {} commits, {} checkpoints, {} slots discarded; {} violations; seed {}",
            self.engine,
            if self.discard { ", discarding" } else { "" },
            self.seconds,
            self.steps,
            self.reads,
            self.locks,
            self.evictions,
            self.commits,
            self.checkpoints,
            self.discarded,
            self.violations.len(),
            self.seed
        )?;
        let mut lines = self.violations.iter();
        lines.try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// Runs the threads, then checks the store as it is, as a kill would leave it, and as a close leaves it.
///
/// # Errors
/// When the store cannot be made or opened. What must not be is in the report.
pub fn run(options: &ChurnOptions) -> Result<ChurnReport, String> {
    let dir = tempfile::tempdir().map_err(|why| format!("a folder for the store: {why}"))?;
    let path = dir.path().join("store");
    let classes = [4096, 16 << 10, 64 << 10].map(|slot_bytes| ClassRequest {
        slot_bytes,
        share: Share::Slots(SLOTS),
    });
    format(&FormatOptions {
        key_len_max: 64,
        log_bytes: Some(1 << 20),
        sparse: true,
        ..FormatOptions::new(&path, classes.to_vec())
    })
    .map_err(|why| words(&why))?;
    let mut report = ChurnReport {
        engine: options.engine.to_string(),
        discard: options.discard,
        seed: options.seed,
        ..ChurnReport::default()
    };
    let start = Instant::now();
    let outcome = churn(&path, options, &mut report);
    report.violations.extend(outcome.err());
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

fn churn(path: &Path, options: &ChurnOptions, report: &mut ChurnReport) -> Result<(), String> {
    let alarm = Arc::new(Alarm::default());
    let store = open(path, options, Some(alarm.clone()))?;
    let current = work(&store, options, &alarm, report)?;
    let stats = store.stats();
    report.evictions = stats.index.evictions;
    report.commits = stats.commits;
    report.checkpoints = stats.checkpoints;
    report.discarded = stats.discard.slots;
    if stats.discard.failures > 0 || stats.discard.off.is_some() {
        return Err(format!("discards failed: {:?}", stats.discard));
    }
    if options.discard != (report.discarded > 0) {
        return Err(format!(
            "{} slots were discarded, asked for: {}",
            report.discarded, options.discard
        ));
    }
    for class in &stats.index.classes {
        let left = [class.reserved, class.retired, class.quarantined, class.bad];
        if left != [0; 4] || class.live + class.free + class.discarding != class.capacity {
            return Err(format!("slots are not accounted for: {class:?}"));
        }
    }
    store.sync().map_err(|why| words(&why))?;
    let live: BTreeSet<u64> = current
        .keys()
        .copied()
        .filter(|key| store.contains(&name(*key)))
        .collect();
    let image = path.with_extension("killed");
    std::fs::copy(path, &image).map_err(|why| why.to_string())?;
    let killed = open(&image, options, None)?;
    // What was evicted may be back after a kill, for nothing took its slot yet; but not as another version.
    check(&killed, &current, &live, true).map_err(|why| format!("after a kill: {why}"))?;
    check(&store, &current, &live, false).map_err(|why| format!("before closing: {why}"))?;
    store.close().map_err(|why| words(&why))?;
    drop(store);
    let store = open(path, options, None)?;
    if !store.recovery().clean {
        return Err("the store was closed, and is not clean".into());
    }
    check(&store, &current, &live, false).map_err(|why| format!("after closing: {why}"))?;
    alarm.heard()
}

fn open(path: &Path, options: &ChurnOptions, events: Option<Arc<Alarm>>) -> Result<Store, String> {
    let options = StoreOptions {
        engine: options.engine,
        buffer_bytes: Some(8 << 20),
        queue_depth: 64,
        shards: Some(4),
        discard_freed: options.discard,
        events: events.map(|alarm| alarm as Arc<dyn Events>),
        ..StoreOptions::default()
    };
    Store::open(path, options).map_err(|why| words(&why))
}

/// Runs all threads for the time. Answers the version of each key that its writer put last.
fn work(
    store: &Store,
    options: &ChurnOptions,
    alarm: &Arc<Alarm>,
    report: &mut ChurnReport,
) -> Result<BTreeMap<u64, Option<u64>>, String> {
    let seed = options.seed;
    let until = Instant::now() + options.time;
    let (sender, ended) = mpsc::channel();
    for thread in 0..WRITERS + READERS {
        let (store, alarm, sender) = (store.clone(), Arc::clone(alarm), sender.clone());
        let work = move || {
            let state = seed << 8 | thread;
            let mut writer = Writer::new(store, state, thread * KEYS);
            while Instant::now() < until && !alarm.rang() {
                match thread < WRITERS {
                    true => writer.step()?,
                    false => writer.read_anything()?,
                }
            }
            Ok(writer)
        };
        std::thread::spawn(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // Nobody listens any more if another thread had hung.
            let _ = sender.send(outcome.unwrap_or_else(|_| Err("a thread panicked".into())));
        });
    }
    drop(sender);
    let mut current = BTreeMap::new();
    for _ in 0..WRITERS + READERS {
        match ended.recv_timeout(options.time + WATCHDOG) {
            Ok(Ok(writer)) => {
                report.steps += writer.steps;
                report.reads += writer.reads;
                report.locks += writer.locks;
                current.extend(writer.into_current());
            }
            Ok(Err(what)) => alarm.ring(what),
            Err(_) => {
                return Err(format!(
                    "threads did not end within {WATCHDOG:?} after their time"
                ));
            }
        }
    }
    alarm.heard().map(|()| current)
}

/// Every key is its newest version, or not there if it was evicted or removed.
fn check(
    store: &Store,
    current: &BTreeMap<u64, Option<u64>>,
    live: &BTreeSet<u64>,
    evicted_may_be_back: bool,
) -> Result<(), String> {
    store.audit().map_err(|why| format!("audit: {why}"))?;
    for (&key, &newest) in current {
        let found = store.get(&name(key)).map_err(|why| words(&why))?;
        let found = found.map(|bytes| version_of(key, &bytes)).transpose()?;
        let right = match live.contains(&key) {
            true => found == newest,
            false => found.is_none() || evicted_may_be_back && found == newest,
        };
        if !right {
            return Err(format!("key {key} is {found:?}, its newest is {newest:?}"));
        }
    }
    Ok(())
}

fn name(key: u64) -> Vec<u8> {
    format!("churn-{key}").into_bytes()
}

/// The first thing that must not be, whoever saw it. It ends the run.
#[derive(Debug, Default)]
struct Alarm {
    rang: AtomicBool,
    what: Mutex<Option<String>>,
}

impl Alarm {
    fn ring(&self, what: String) {
        let mut first = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(what);
        self.rang.store(true, Ordering::Relaxed);
    }

    fn rang(&self) -> bool {
        self.rang.load(Ordering::Relaxed)
    }

    fn heard(&self) -> Result<(), String> {
        let mut first = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        first.take().map_or(Ok(()), Err)
    }
}

impl Events for Alarm {
    fn event(&self, event: &Event<'_>) {
        if !matches!(event, Event::Evicted { .. }) {
            self.ring(format!("a healthy store has no event like {event:?}"));
        }
    }
}

/// Numbers for one thread.
fn random(state: &mut u64, below: u64) -> u64 {
    next_number(state) % below
}
