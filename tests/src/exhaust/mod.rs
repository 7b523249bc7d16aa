//! Runs every schedule of a few operations over a tiny store, and every crash in each of them.
//!
//! The store is the real one, with two slots and two keys. Its operations stop at every place where others could run,
//! and the search (`search.rs`) tries every order of their steps. After each step it makes every image that a crash
//! there can leave (`images.rs`), opens it, and compares it with an exact oracle (`oracle.rs`, `check.rs`).

mod check;
mod config;
mod digest;
mod execution;
mod failure;
mod fiber;
mod images;
mod log;
mod observed;
mod oracle;
mod order;
mod prepared;
mod refusal;
mod running;
mod search;
mod state;
mod story;
mod values;
mod world;

use std::str::FromStr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rb_testkit::values::next_number;

pub use config::{Config, Initial, Operation};
pub use images::Kept;
pub use story::{Repeat, Violation};

use check::Checker;
use fiber::Stacks;
use prepared::Prepared;
use search::{End, Search, Tally};

/// Options of the search.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of concurrent operations.
    pub operations: usize,
    /// Operations to choose from.
    pub among: Vec<Operation>,
    /// Initial contents to start from; `None`: each of them.
    pub initial: Option<Initial>,
    /// True if the policy refuses what it would have to evict for, instead of LRU, which admits everything.
    pub refuses: bool,
    /// Seed that shuffles the configurations, so that a part contains different ones for each seed.
    pub seed: Option<u64>,
    /// Part of the configurations to try.
    pub part: Part,
    /// Time limit; the search may stop incomplete.
    pub time: Option<Duration>,
    /// Number of threads.
    pub threads: usize,
}

/// One part of the configurations, of several of about the same size: a search that takes hours can be run in pieces,
/// each to its end.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Number of this part, from 1.
    pub number: usize,
    /// Number of parts.
    pub of: usize,
}

impl Part {
    /// All configurations.
    pub const WHOLE: Part = Part { number: 1, of: 1 };

    fn of(self, configs: Vec<Config>) -> Vec<Config> {
        configs
            .into_iter()
            .skip(self.number - 1)
            .step_by(self.of)
            .collect()
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(words: &str) -> Result<Part, String> {
        let numbers = words.split_once('/').and_then(|(number, of)| {
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&number).then_some(Part { number, of })
        });
        numbers.ok_or_else(|| format!("{words:?} is not a part like 2/5"))
    }
}

/// Results of the search.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Configurations whose schedules were all tried.
    pub complete: usize,
    /// Number of all configurations.
    pub configs: usize,
    /// Schedules that were run to their end; all others lead to a known state.
    pub schedules: u64,
    /// Runs of the store.
    pub executions: u64,
    /// Distinct states, summed over configurations.
    pub states: u64,
    /// Executions that continued behind a known state, and found the same steps as before.
    pub looked_behind: u64,
    /// Moments at which the power was lost: distinct contents and pending writes, or distinct legal outcomes.
    pub points: u64,
    /// Images that these can leave, all of them checked, summed over the moments.
    pub images: u64,
    /// Distinct metadata of images, each opened by the store.
    pub metadata: u64,
    /// Distinct contents of a slot with an entry, each read by the store.
    pub contents: u64,
    /// Images that were opened and read as a whole, to compare them with their parts.
    pub whole: u64,
    /// The first violation.
    pub violation: Option<Violation>,
    /// Duration of the search.
    pub time: Duration,
}

impl Report {
    /// Returns whether every configuration was tried.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete == self.configs
    }
}

/// Tries every configuration.
///
/// # Errors
/// If the device cannot be prepared.
pub fn run(options: &Options, progress: impl Fn(&Report) + Sync) -> Result<Report, String> {
    let start = Instant::now();
    let prepared = Prepared::new()?;
    let mut configs = Config::all(options.operations, &options.among, options.refuses);
    configs.retain(|config| {
        options
            .initial
            .is_none_or(|initial| initial == config.initial)
    });
    if let Some(seed) = options.seed {
        shuffle(&mut configs, seed);
    }
    let configs = options.part.of(configs);
    let (checker, seen) = (Checker::new(prepared.layout()), Mutex::default());
    let (next, found) = (AtomicUsize::new(0), AtomicBool::new(false));
    let report = Mutex::new(Report {
        configs: configs.len(),
        ..Report::default()
    });
    let until = options.time.map(|time| start + time);
    let worker = || {
        let mut search = Search {
            prepared: &prepared,
            checker: &checker,
            seen: &seen,
            stacks: Stacks::default(),
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
                End::Failed(failure) => {
                    found.store(true, Ordering::Relaxed);
                    let violation = || Violation::of(&prepared, config, &failure);
                    report.violation.get_or_insert_with(violation);
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

/// Runs one schedule again. Returns the violation, if any, and a list of the steps.
///
/// # Errors
/// If the device cannot be prepared, or there is no such schedule.
pub fn repeat(repeat: &Repeat) -> Result<(Option<String>, Vec<String>), String> {
    let operations = repeat.config.operations.len();
    if repeat.schedule.iter().any(|step| *step >= operations) {
        return Err(format!(
            "the schedule has steps of operations that are not below {operations}"
        ));
    }
    Ok(repeat.run(&Prepared::new()?))
}

fn shuffle(configs: &mut [Config], seed: u64) {
    let mut random = seed;
    for at in (1..configs.len()).rev() {
        configs.swap(at, next_number(&mut random) as usize % (at + 1));
    }
}

impl Report {
    fn add(&mut self, tally: &Tally) {
        self.schedules += tally.schedules;
        self.executions += tally.executions;
        self.states += tally.states;
        self.looked_behind += tally.looked_behind;
        self.points += tally.points;
        self.images += tally.looked.images;
        self.metadata += tally.looked.metadata;
        self.contents += tally.looked.contents;
        self.whole += tally.looked.whole;
    }
}
