//! Every schedule of a few operations over a tiny store, and every crash in each of them.
//!
//! The store is the real one, with two slots and two keys. Its operations stop at every place where others could go on,
//! and the search (`search.rs`) tries every order of their steps. After each step it makes everything that a crash there
//! can leave (`images.rs`), opens it, and compares it with an exact oracle (`oracle.rs`, `check.rs`).

mod check;
mod config;
mod execution;
mod fiber;
mod images;
mod oracle;
mod search;
mod world;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use config::{Config, Initial, Operation};
pub use search::Violation;

use search::{End, Search, Seen, Tally};
use world::Prepared;

/// What to try.
#[derive(Clone, Debug)]
pub struct Options {
    /// Operations at the same time.
    pub operations: usize,
    /// Among these.
    pub among: Vec<Operation>,
    /// When to stop, though there is more to try.
    pub time: Option<Duration>,
    /// Threads.
    pub threads: usize,
}

/// What was tried.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Configurations whose schedules were all tried.
    pub complete: usize,
    /// Configurations there are.
    pub configs: usize,
    /// Runs of the store: one for each schedule, or part of one that leads to a state seen before.
    pub executions: u64,
    /// Distinct states.
    pub states: u64,
    /// Moments at which the power went, with different outcomes.
    pub points: u64,
    /// Images made of them.
    pub images: u64,
    /// Images that differ from all others, or in what is legal; each was opened and checked.
    pub distinct: u64,
    /// Moments with more pending blocks than are tried in all combinations.
    pub capped: u64,
    /// The first violation.
    pub violation: Option<Box<Violation>>,
    /// How long it took.
    pub time: Duration,
}

impl Report {
    /// Whether all there is was tried.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete == self.configs && self.capped == 0
    }
}

/// Tries every configuration.
///
/// # Errors
/// The device could not be prepared.
pub fn run(options: &Options, progress: impl Fn(&Report) + Sync) -> Result<Report, String> {
    let start = Instant::now();
    let prepared = Prepared::new()?;
    let layout = prepared.layout().clone();
    let configs = Config::all(options.operations, &options.among);
    let seen = Seen::default();
    let (next, found) = (AtomicUsize::new(0), AtomicBool::new(false));
    let report = Mutex::new(Report {
        configs: configs.len(),
        ..Report::default()
    });
    let until = options.time.map(|time| start + time);
    let worker = || {
        let mut search = Search {
            prepared: &prepared,
            layout: &layout,
            seen: &seen,
            stacks: fiber::Stacks::default(),
            tally: Tally::default(),
            until,
        };
        while !found.load(Ordering::Relaxed) {
            let Some(config) = configs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            let end = search.run(config);
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.add(&std::mem::take(&mut search.tally));
            match end {
                End::Complete => report.complete += 1,
                End::Stopped => return,
                End::Violation(violation) => {
                    found.store(true, Ordering::Relaxed);
                    report.violation.get_or_insert(violation);
                }
            }
            progress(&report);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(worker);
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.time = start.elapsed();
    Ok(report)
}

impl Report {
    fn add(&mut self, tally: &Tally) {
        self.executions += tally.executions;
        self.states += tally.states;
        self.points += tally.points;
        self.images += tally.images;
        self.distinct += tally.distinct;
        self.capped += tally.capped;
    }
}
