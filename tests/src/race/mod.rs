//! Runs real threads on real stores, and compares the results with an exact oracle (C1 to C5).
//!
//! A run is a sequence of rounds. In each, threads put, remove, get, lock, sync and checkpoint on a small store; then
//! the store is dropped, closed, or its process is killed. Then it is opened again, and every key is compared with what
//! it may hold according to the oracle, which has received every operation and every eviction. The same store is used
//! for several rounds.
//!
//! The seed decides what each thread does; the interleaving depends on the machine. So a violation does not repeat from
//! its seed: its store and its journal are kept instead.

mod check;
mod child;
mod event;
mod history;
mod journal;
mod oracle;
mod plan;
mod played;
mod read;
mod report;
mod session;
mod shape;
mod watchdog;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_core::{EngineKind, format};
use rb_io::{Access, Device};
use rb_testkit::values::next_number;
use tempfile::TempDir;

pub use child::child;
pub use report::RaceReport;
pub use shape::Fixed;

use crate::tally::{Report, words};
use check::Check;
use child::{Moment, Order, live_and_die};
use event::{Event, What, events};
use journal::Journal;
use oracle::Oracle;
use plan::{End, Plan};
use played::Played;
use session::LAST_OP;
use shape::Image;
use watchdog::{WATCHDOG, within};

/// Maximum time of a session in milliseconds, unless the machine is a slow one.
pub const SESSION_MS: u64 = 400;
/// Approximate time to open or close a store, as a share of that.
const OPEN_SHARE: u64 = 20;
/// Maximum number of rounds of one store.
const ROUNDS_MAX: u64 = 8;
/// File system in memory: a flush costs nothing there, so threads meet more often.
const MEMORY: &str = "/dev/shm";

/// Options of a run.
#[derive(Clone, Debug)]
pub struct RaceOptions {
    /// The program that calls [`child`] with its arguments.
    pub program: PathBuf,
    /// Location of the stores, whose contents are lost; `None`: in files, most of them in memory.
    pub store: Option<PathBuf>,
    /// The store's engine.
    pub engine: EngineKind,
    /// Seed of each thread's operations.
    pub seed: u64,
    /// End of the run.
    pub until: Until,
    /// Maximum time of a session in milliseconds; [`SESSION_MS`] unless the machine is a slow one.
    pub session_ms: u64,
    /// Parameters that are the same in all rounds.
    pub fixed: Fixed,
    /// Folder in which a round with a violation is kept.
    pub keep: PathBuf,
}

/// Condition under which a run ends, if it has no violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time.
    Time(Duration),
    /// After this many rounds.
    Rounds(u64),
    /// After this many kills; every round ends with a kill.
    Kills(u64),
}

/// Returns the folder in which this tree keeps rounds with a violation.
#[must_use]
pub fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/race")
}

/// Runs rounds until the end condition holds, or one has a violation. `seen` is called with the report after each
/// round.
///
/// # Errors
/// If a store cannot be made or a child cannot be started. Violations are in the report.
pub fn run(options: &RaceOptions, seen: &mut dyn FnMut(&RaceReport)) -> Result<RaceReport, String> {
    let start = Instant::now();
    let places = Places::new(options)?;
    let mut run = Run {
        options,
        state: options.seed,
        round: 0,
        report: RaceReport {
            engine: options.engine.to_string(),
            seed: options.seed,
            ..RaceReport::default()
        },
    };
    while run.goes_on(start) {
        let path = places.pick(run.random(4));
        run.store(path, start, seen)?;
    }
    Ok(run.report)
}

/// Folders in which stores are made.
struct Places {
    paths: Vec<PathBuf>,
    /// Held so that the folders are deleted on drop.
    _folders: Vec<TempDir>,
}

impl Places {
    fn new(options: &RaceOptions) -> Result<Places, String> {
        if let Some(path) = &options.store {
            return Ok(Places {
                paths: vec![path.clone()],
                _folders: Vec::new(),
            });
        }
        let folder = tempfile::tempdir().map_err(|why| format!("a folder for the store: {why}"))?;
        let mut folders = vec![folder];
        let in_memory = tempfile::tempdir_in(MEMORY).ok();
        folders.extend(in_memory.filter(|folder| works(folder, options.engine)));
        let path = |folder: &TempDir| folder.path().join("store");
        Ok(Places {
            paths: folders.iter().map(path).collect(),
            _folders: folders,
        })
    }

    fn pick(&self, number: u64) -> &Path {
        &self.paths[(number as usize).min(self.paths.len() - 1)]
    }
}

/// Returns whether the engine works with files of this folder.
fn works(folder: &TempDir, engine: EngineKind) -> bool {
    let path = folder.path().join("probe");
    let made = std::fs::write(&path, [0; 4096]);
    let opened = || Device::open(&path, Access::ReadWrite).and_then(|it| rb_io::open(it, engine));
    made.is_ok() && opened().is_ok()
}

struct Run<'a> {
    options: &'a RaceOptions,
    state: u64,
    round: u64,
    report: RaceReport,
}

/// Result of a session.
struct Ended {
    journal: Vec<u8>,
    /// True if none of its operations was cut off.
    whole: bool,
}

impl Run<'_> {
    fn random(&mut self, below: u64) -> u64 {
        next_number(&mut self.state) % below
    }

    fn goes_on(&self, start: Instant) -> bool {
        let is_over = match self.options.until {
            Until::Time(time) => start.elapsed() >= time,
            Until::Rounds(rounds) => self.round >= rounds,
            Until::Kills(kills) => self.report.kills() >= kills,
        };
        !is_over && self.report.is_good()
    }

    /// Runs some rounds on a new store.
    fn store(
        &mut self,
        path: &Path,
        start: Instant,
        seen: &mut dyn FnMut(&RaceReport),
    ) -> Result<(), String> {
        let image_seed = self.random(u64::MAX);
        let image = Image::new(image_seed, &self.options.fixed);
        format(&image.format(path)).map_err(|why| words(&why))?;
        self.report.stores += 1;
        let mut store = Played {
            path,
            image_seed,
            oracle: Oracle::new(image.keys()),
            phantoms: false,
            log_end: 1,
        };
        for _ in 0..=self.random(ROUNDS_MAX) {
            if !self.goes_on(start) {
                break;
            }
            self.play(&mut store)?;
            self.round += 1;
            self.report.rounds += 1;
            self.report.seconds = start.elapsed().as_secs_f64();
            seen(&self.report);
        }
        Ok(())
    }

    /// Runs a round: a session, its end, and the check.
    fn play(&mut self, store: &mut Played<'_>) -> Result<(), String> {
        let millis = 20 + self.random(self.options.session_ms);
        let only_kills = matches!(self.options.until, Until::Kills(_));
        let kills = only_kills || self.random(3) == 0;
        let order = Order {
            path: store.path.to_path_buf(),
            engine: self.options.engine,
            image_seed: store.image_seed,
            session_seed: self.random(u64::MAX),
            fixed: self.options.fixed,
            first_version: (self.round + 1) << 24,
            time: Duration::from_millis(millis),
            end: match self.random(3) {
                0 => End::Close,
                _ => End::Drop,
            },
            reads_first: store.phantoms || self.random(2) == 0,
        };
        let plan = order.plan();
        let session = &plan.session;
        store.oracle.begin(session.each_batch, session.refuses());
        let start = Instant::now();
        let ended = match kills {
            true => self.killed(&order, millis)?,
            false => in_process(plan.clone()),
        };
        self.report.working_seconds += start.elapsed().as_secs_f64();
        let closed = self.hear(&ended, &mut store.oracle);
        let check = Check {
            path: store.path,
            engine: self.options.engine,
            image: &plan.image,
            closed,
            after: self.random(3),
        };
        check.run(store, &mut self.report);
        self.report.count(std::mem::take(&mut store.oracle.counts));
        if !self.report.is_good() {
            let kept = self.keep(&order, &ended.journal);
            self.report.violations.push(kept);
        }
        Ok(())
    }

    /// Runs a session in a process that is killed: mostly at work, now and then while it opens, drops or closes the
    /// store.
    fn killed(&mut self, order: &Order, millis: u64) -> Result<Ended, String> {
        let open = (self.options.session_ms / OPEN_SHARE).max(1) * 1000;
        let (moment, micros) = match self.random(8) {
            0 => (Moment::Ending, open),
            1 => (Moment::Started, open),
            _ => (Moment::Started, millis * 1000 + open),
        };
        let after = Duration::from_micros(self.random(micros));
        let life = live_and_die(&self.options.program, order, moment, after)?;
        Ok(Ended {
            journal: life.journal,
            whole: !life.killed,
        })
    }

    /// Passes a journal to the oracle. Returns whether the store was closed; `None` if a kill came so close that this
    /// is unknown.
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
                        Event::End { op, .. } => done |= *op == LAST_OP,
                        _ => {}
                    }
                    oracle.hear(event);
                }
                Err(why) => oracle.wrong.push(why),
            }
        }
        if ended.whole && oracle.wrong.is_empty() {
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
            // The previous opening may have closed it.
            (false, _) => None,
        }
    }

    /// Keeps the store and its journal for analysis. Returns a description of where.
    fn keep(&self, order: &Order, journal: &[u8]) -> String {
        let RaceOptions {
            engine, seed, keep, ..
        } = self.options;
        let round = self.round;
        let folder = keep.join(format!("{engine}-{seed}-{round}"));
        let lines = events(journal).map(|event| match event {
            Ok(event) => format!("{event:x?}\n"),
            Err(why) => format!("{why}\n"),
        });
        let text = format!("{order:x?}\n{}", lines.collect::<String>());
        let kept = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::copy(&order.path, folder.join("store")))
            .and_then(|_| std::fs::write(folder.join("journal"), text));
        let place = match kept {
            Ok(()) => folder.display().to_string(),
            Err(why) => format!("not kept in {} ({why})", folder.display()),
        };
        format!(
            "round {round} of seed {seed}, which does not repeat exactly; its store and journal: {place}"
        )
    }
}

/// Runs a session in this process. If it hangs, its threads stay behind.
fn in_process(plan: Plan) -> Ended {
    let journal = Arc::new(Journal::in_memory());
    let time = plan.time + WATCHDOG;
    let shared = Arc::clone(&journal);
    let ran = within(time, "the session", move || session::run(&plan, &shared));
    let whole = ran.is_ok();
    if let Err(why) = ran {
        journal.violation(why);
    }
    Ended {
        journal: journal.bytes(),
        whole,
    }
}
