//! Real threads on real stores, with an exact oracle (C1 to C5).
//!
//! A run is a sequence of rounds. In each, threads put, remove, get, lock, sync and checkpoint on a small store;
//! then the store is dropped, closed, or its process is killed. Then it is opened again, and every key is
//! compared with what the oracle, which has heard of every operation and every eviction, says it may hold. The
//! same store goes on for several rounds.
//!
//! The seed decides what each thread does; the machine decides who comes first. So a violation does not repeat
//! from its seed: its store and its journal are kept instead.

mod check;
mod child;
mod journal;
mod oracle;
mod read;
mod session;
mod shape;
mod worker;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rb_core::{EngineKind, format};
use rb_testkit::values::next_number;
use serde::Serialize;

pub use child::child;
pub use shape::Fixed;

use crate::tally::{Report, words};
use check::Check;
use child::{Order, live_and_die};
use journal::{Event, Journal, What, events};
use oracle::Oracle;
use shape::Image;

/// A session that has not ended so long after its time has hung.
const WATCHDOG: Duration = Duration::from_secs(60);
/// The longest time of a session, in milliseconds.
const SESSION_MS: u64 = 400;
/// About as long as it takes to open a store, and to close one, in milliseconds.
const OPEN_MS: u64 = 20;
/// Rounds of one store, at most.
const ROUNDS_MAX: u64 = 8;

/// How a run is made.
#[derive(Clone, Debug)]
pub struct RaceOptions {
    /// The program that calls [`child`] with its arguments.
    pub program: PathBuf,
    /// The store's engine.
    pub engine: EngineKind,
    /// Decides what each thread does.
    pub seed: u64,
    /// How long; none: until `rounds`.
    pub time: Option<Duration>,
    /// How many rounds; none: until the time is over.
    pub rounds: Option<u64>,
    /// Every round ends with a kill.
    pub kills_only: bool,
    /// What is the same in all rounds.
    pub fixed: Fixed,
}

/// What a run came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RaceReport {
    /// The engine.
    pub engine: String,
    /// The seed.
    pub seed: u64,
    /// How long it ran, and how much of it the threads worked.
    pub seconds: f64,
    /// Of these, the time of the sessions.
    pub working_seconds: f64,
    /// Rounds.
    pub rounds: u64,
    /// Stores.
    pub stores: u64,
    /// Operations that ended.
    pub operations: u64,
    /// Puts and removes acknowledged, key by key.
    pub acknowledged: u64,
    /// Of these, durable before the session ended or was killed.
    pub durable: u64,
    /// Keys that the store was too full or too busy for.
    pub refused: u64,
    /// Syncs.
    pub syncs: u64,
    /// Entries evicted.
    pub evictions: u64,
    /// Reopenings after a drop.
    pub dropped: u64,
    /// Reopenings after a close.
    pub closed: u64,
    /// Reopenings after a kill while the store was opened.
    pub killed_opening: u64,
    /// Reopenings after a kill while threads worked.
    pub killed_working: u64,
    /// Reopenings after a kill while the store was dropped or closed.
    pub killed_ending: u64,
    /// Log records whose order was checked.
    pub log_records: u64,
    /// Keys compared after a reopening.
    pub compared: u64,
    /// Of these, keys that could be one thing only.
    pub exact: u64,
    /// What must not be, in words. The run ends with the first round that has any.
    pub violations: Vec<String>,
}

impl Report for RaceReport {
    fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for RaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:.1} s, {} rounds on {} stores: {} operations, {:.0}/s, {} acknowledged, {} durable, {} refused, \
             {} syncs, {} evictions; reopened after {} drops, {} closes, {} kills ({} opening, {} working, \
             {} ending); {} log records in order, {} keys compared, {} of them exact; {} violations; seed {}",
            self.engine,
            self.seconds,
            self.rounds,
            self.stores,
            self.operations,
            self.operations as f64 / self.working_seconds.max(1e-9),
            self.acknowledged,
            self.durable,
            self.refused,
            self.syncs,
            self.evictions,
            self.dropped,
            self.closed,
            self.killed_opening + self.killed_working + self.killed_ending,
            self.killed_opening,
            self.killed_working,
            self.killed_ending,
            self.log_records,
            self.compared,
            self.exact,
            self.violations.len(),
            self.seed
        )?;
        let mut lines = self.violations.iter();
        lines.try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// Runs rounds until the time is over, or one has a violation. `seen` is shown the report after each round.
///
/// # Errors
/// When a store cannot be made or a child not be started. What must not be is in the report.
pub fn run(options: &RaceOptions, seen: &mut dyn FnMut(&RaceReport)) -> Result<RaceReport, String> {
    let dir = tempfile::tempdir().map_err(|why| format!("a folder for the store: {why}"))?;
    let start = Instant::now();
    let mut run = Run {
        options,
        path: dir.path().join("store"),
        state: options.seed,
        round: 0,
        report: RaceReport {
            engine: options.engine.to_string(),
            seed: options.seed,
            ..RaceReport::default()
        },
    };
    while run.goes_on(start) {
        run.store(start, seen)?;
    }
    Ok(run.report)
}

struct Run<'a> {
    options: &'a RaceOptions,
    path: PathBuf,
    state: u64,
    round: u64,
    report: RaceReport,
}

/// What became of a session.
struct Ended {
    journal: Vec<u8>,
    /// None of its operations was cut off.
    whole: bool,
}

impl Run<'_> {
    fn random(&mut self, below: u64) -> u64 {
        next_number(&mut self.state) % below
    }

    fn goes_on(&self, start: Instant) -> bool {
        let time = self.options.time.is_none_or(|time| start.elapsed() < time);
        let rounds = self.options.rounds.is_none_or(|rounds| self.round < rounds);
        time && rounds && self.report.is_good()
    }

    /// Some rounds on a new store.
    fn store(&mut self, start: Instant, seen: &mut dyn FnMut(&RaceReport)) -> Result<(), String> {
        let image_seed = self.random(u64::MAX);
        let image = Image::new(image_seed, &self.options.fixed);
        format(&image.format(&self.path)).map_err(|why| words(&why))?;
        self.report.stores += 1;
        let mut oracle = Oracle::new(image.keys());
        let mut phantoms = false;
        for _ in 0..=self.random(ROUNDS_MAX) {
            if !self.goes_on(start) {
                break;
            }
            phantoms = self.round(image_seed, phantoms, &mut oracle)?;
            self.round += 1;
            self.report.rounds += 1;
            self.report.seconds = start.elapsed().as_secs_f64();
            seen(&self.report);
        }
        Ok(())
    }

    /// A session, its end, and the check. Returns whether the store has entries whose bytes are gone.
    fn round(
        &mut self,
        image_seed: u64,
        phantoms: bool,
        oracle: &mut Oracle,
    ) -> Result<bool, String> {
        let millis = 20 + self.random(SESSION_MS);
        let kills = self.options.kills_only || self.random(3) == 0;
        let order = Order {
            path: self.path.clone(),
            engine: self.options.engine,
            image_seed,
            session_seed: self.random(u64::MAX),
            fixed: self.options.fixed,
            first_version: (self.round + 1) << 24,
            time: Duration::from_millis(millis),
            closes: self.random(3) == 0,
            reads_first: phantoms || self.random(2) == 0,
        };
        let plan = order.plan();
        oracle.begin(plan.session.each_batch);
        let start = Instant::now();
        let ended = match kills {
            true => {
                let most = (millis + 2 * OPEN_MS) * 1000;
                let after = Duration::from_micros(self.random(most));
                let life = live_and_die(&self.options.program, &order, after)?;
                Ended {
                    journal: life.journal,
                    whole: !life.killed,
                }
            }
            false => in_process(plan.clone()),
        };
        self.report.working_seconds += start.elapsed().as_secs_f64();
        let closed = self.hear(&ended, oracle);
        let after = self.random(3);
        let check = Check {
            path: &self.path,
            engine: self.options.engine,
            image: &plan.image,
            closed,
            after,
        };
        let phantoms = check.run(oracle, &mut self.report);
        let counts = oracle.counts;
        oracle.counts = oracle::Counts::default();
        self.report.operations += counts.operations;
        self.report.acknowledged += counts.acknowledged;
        self.report.durable += counts.durable;
        self.report.refused += counts.refused;
        self.report.syncs += counts.syncs;
        self.report.evictions += counts.evictions;
        if !self.report.is_good() {
            let kept = keep(&self.path, &ended.journal, &order, self.options, self.round);
            self.report.violations.push(kept);
        }
        Ok(phantoms)
    }

    /// Takes in a journal. Returns whether the store was closed; none: a kill came so close that it may be.
    fn hear(&mut self, ended: &Ended, oracle: &mut Oracle) -> Option<bool> {
        let (mut serving, mut ending, mut done) = (false, None, false);
        for event in events(&ended.journal) {
            match event {
                Ok(event) => {
                    match &event {
                        Event::Serving => serving = true,
                        Event::Begin {
                            what: what @ (What::Drop | What::Close),
                            ..
                        } => ending = Some(what.clone()),
                        Event::End { op, .. } => done |= *op == session::LAST_OP,
                        _ => {}
                    }
                    oracle.hear(event);
                }
                Err(why) => oracle.wrong.push(why),
            }
        }
        if ended.whole {
            oracle.ended_whole();
        }
        self.report.violations.append(&mut oracle.wrong);
        let count = match (serving, &ending, done) {
            (_, Some(What::Close), true) => &mut self.report.closed,
            (_, Some(_), true) => &mut self.report.dropped,
            (_, Some(_), false) => &mut self.report.killed_ending,
            (true, None, _) => &mut self.report.killed_working,
            (false, None, _) => &mut self.report.killed_opening,
        };
        *count += 1;
        match (serving, ending) {
            (true, Some(What::Close)) => done.then_some(true),
            (true, _) => Some(false),
            // The opening before may have closed it.
            (false, _) => None,
        }
    }
}

/// Runs a session in this process. One that hangs leaves its threads behind.
fn in_process(plan: session::Plan) -> Ended {
    let journal = Arc::new(Journal::in_memory());
    let (sender, ended) = mpsc::channel();
    let time = plan.time;
    let (shared, own) = (Arc::clone(&journal), plan);
    std::thread::spawn(move || {
        session::run(&own, &shared);
        // Only a parent that gave up does not listen.
        let _ = sender.send(());
    });
    let whole = ended.recv_timeout(time + WATCHDOG).is_ok();
    if !whole {
        let what = format!("the session did not end within {WATCHDOG:?} after its time");
        journal.violation(what);
    }
    Ended {
        journal: journal.bytes(),
        whole,
    }
}

/// Keeps the store, and what the threads did and saw, for whoever looks into a violation. Returns where.
fn keep(store: &Path, journal: &[u8], order: &Order, options: &RaceOptions, round: u64) -> String {
    let RaceOptions { engine, seed, .. } = options;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/race");
    let folder = root.join(format!("{engine}-{seed}-{round}"));
    let lines = events(journal).map(|event| match event {
        Ok(event) => format!("{event:x?}\n"),
        Err(why) => format!("{why}\n"),
    });
    let text = format!("{order:x?}\n{}", lines.collect::<String>());
    let kept = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::copy(store, folder.join("store")))
        .and_then(|_| std::fs::write(folder.join("journal"), text));
    let folder = folder.canonicalize().unwrap_or(folder);
    let kept = match kept {
        Ok(()) => folder.display().to_string(),
        Err(why) => format!("could not be kept in {}: {why}", folder.display()),
    };
    format!(
        "round {round} of seed {seed}; threads do not repeat; the store and its journal: {kept}"
    )
}
