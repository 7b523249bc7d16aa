//! Simulates crashes by the hundred thousand: a store on a simulated device, an oracle that knows what each key may
//! hold, and a power loss at every possible moment.
//!
//! A *run* is a random sequence of operations (`steps.rs`, `alone.rs`), up to five of them concurrent: at every place
//! where one holds no lock another may begin or continue, as the seed decides (`plan.rs`). The store reports each
//! change where it takes effect (`watch.rs`) to an oracle (`oracle.rs`) that knows what a crash may leave
//! (`legal_at.rs`). At every write and flush of the run's last part, images of what a crash can leave are made
//! (`images.rs`), opened and checked (`check.rs`), and some continue and crash again, in recovery too (`explore.rs`).
//! At the end, each region in turn is damaged on the medium, and some runs continue on a device that fails at random
//! (`rot.rs`). `states.rs` lists the situations that the harness must cover, `pairs.rs` counts which operations began
//! at which places of others.
//!
//! A run is a function of its seed.

mod alone;
mod check;
mod explore;
mod facts;
mod history;
mod images;
mod legal;
mod legal_at;
mod opening;
mod oracle;
mod pairs;
mod places;
mod plan;
mod puts;
mod restarts;
mod rot;
mod states;
mod steps;
mod values;
mod version;
mod watch;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use pairs::{Kind, Pairs};
pub use states::{State, States};
pub use world::Trace;

use explore::{Explorer, Tally};

/// Options of the harness.
#[derive(Clone)]
pub struct Options {
    /// First seed.
    pub seed: u64,
    /// Maximum number of seeds.
    pub runs: u64,
    /// Time limit; seeds may remain.
    pub time: Duration,
    /// Number of threads; each run has one.
    pub threads: usize,
    /// Callback that receives the operations of the runs.
    pub trace: Option<Trace>,
}

/// Results of the harness.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Seeds tried.
    pub runs: u64,
    /// Moments at which the power was lost.
    pub points: u64,
    /// Images made.
    pub images: u64,
    /// Images that differ from all others; each was opened and checked.
    pub distinct: u64,
    /// Times a store was opened after a crash or damage.
    pub restarts: u64,
    /// The first violation: its seed and a description.
    pub violation: Option<(u64, String)>,
    /// Number of times that each state was reached.
    pub states: States,
    /// Number of times that each operation began at each place of another.
    pub pairs: Pairs,
    /// Duration of the run.
    pub time: Duration,
}

/// Tries seed after seed until the time is over or a violation is found. `progress` is called with the number of
/// distinct images so far.
pub fn run(options: &Options, progress: impl Fn(u64) + Sync) -> Report {
    let start = Instant::now();
    let distinct = explore::Distinct::default();
    let next = AtomicU64::new(options.seed);
    let (done, found) = (AtomicU64::new(0), AtomicBool::new(false));
    let report = Mutex::new(Report::default());
    let worker = || {
        while start.elapsed() < options.time && !found.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - options.seed >= options.runs {
                return;
            }
            let mut explorer = Explorer {
                distinct: &distinct,
                tally: Tally::default(),
                random: seed,
                trace: options.trace.clone(),
            };
            explorer.run(seed);
            let tally = explorer.tally;
            found.fetch_or(tally.violation.is_some(), Ordering::Relaxed);
            progress(done.fetch_add(tally.distinct, Ordering::Relaxed) + tally.distinct);
            if let Ok(mut report) = report.lock() {
                report.add(seed, tally);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(worker);
        }
    });
    let mut report = report.into_inner().unwrap_or_default();
    report.time = start.elapsed();
    report
}

impl Report {
    fn add(&mut self, seed: u64, tally: Tally) {
        self.runs += 1;
        self.points += tally.points;
        self.images += tally.images;
        self.distinct += tally.distinct;
        self.restarts += tally.restarts;
        self.states.add(&tally.states);
        self.pairs.add(&tally.pairs);
        let earlier = self
            .violation
            .as_ref()
            .is_some_and(|(found, _)| *found < seed);
        if let (Some(why), false) = (tally.violation, earlier) {
            self.violation = Some((seed, why));
        }
    }
}
