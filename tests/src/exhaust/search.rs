//! Every schedule of one configuration, depth first.
//!
//! The search is stateless: it runs the real store again from the prepared device for each schedule that it has not
//! tried, and follows it until all operations have ended or it comes to a state that was seen before.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rb_format::Superblock;
use xxhash_rust::xxh3::Xxh3;

use super::check::check;
use super::config::Config;
use super::execution::Execution;
use super::fiber::Stacks;
use super::images::{BLOCKS_MAX, Kept, blocks, choices, image, words};
use super::oracle::Legal;
use super::world::Prepared;

/// One image in so many is used after it was checked, and crashes again.
const GOES_ON: u64 = 8;

/// What was tried.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) executions: u64,
    pub(super) states: u64,
    pub(super) steps: u64,
    pub(super) points: u64,
    pub(super) images: u64,
    pub(super) distinct: u64,
    /// Crash points with more pending blocks than are tried in all combinations.
    pub(super) capped: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Tally) {
        let Tally {
            executions,
            states,
            steps,
            points,
            images,
            distinct,
            capped,
        } = other;
        self.executions += executions;
        self.states += states;
        self.steps += steps;
        self.points += points;
        self.images += images;
        self.distinct += distinct;
        self.capped += capped;
    }
}

/// What breaks the contract, and how to see it again.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What is wrong.
    pub what: String,
    /// The operations and what was there before.
    pub config: Config,
    /// Which operation did each step.
    pub schedule: Vec<usize>,
    /// What the crash left, if it was one.
    pub(super) kept: Option<Kept>,
    /// What happened, step by step.
    pub story: Vec<String>,
}

/// Images and crash points that were seen, by any search.
#[derive(Default)]
pub(super) struct Seen {
    images: Mutex<HashSet<u64>>,
    points: Mutex<HashSet<u64>>,
}

impl Seen {
    fn is_new(set: &Mutex<HashSet<u64>>, hash: u64) -> bool {
        set.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(hash)
    }
}

pub(super) struct Search<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) layout: &'a Superblock,
    pub(super) seen: &'a Seen,
    pub(super) stacks: Stacks,
    pub(super) tally: Tally,
    pub(super) until: Option<Instant>,
}

/// How a search ended.
pub(super) enum End {
    Complete,
    /// There was no time left.
    Stopped,
    Violation(Box<Violation>),
}

impl Search<'_> {
    /// Tries every schedule of a configuration.
    pub(super) fn run(&mut self, config: &Config) -> End {
        let mut states: HashSet<u64> = HashSet::new();
        // Per step of the schedule the operations that could do it, and which was tried last.
        let mut choices: Vec<(Vec<usize>, usize)> = Vec::new();
        loop {
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return End::Stopped;
            }
            let violation = match self.execute(config, &mut choices, &mut states) {
                Ok(()) => None,
                Err(violation) => Some(violation),
            };
            if let Some(violation) = violation {
                return End::Violation(Box::new(self.tell(violation)));
            }
            loop {
                match choices.last_mut() {
                    None => return End::Complete,
                    Some((able, tried)) if *tried + 1 < able.len() => {
                        *tried += 1;
                        break;
                    }
                    Some(_) => drop(choices.pop()),
                }
            }
        }
    }

    /// Runs the schedule so far, and goes on in the first way that is new.
    fn execute(
        &mut self,
        config: &Config,
        choices: &mut Vec<(Vec<usize>, usize)>,
        states: &mut HashSet<u64>,
    ) -> Result<(), Violation> {
        self.tally.executions += 1;
        let violation = |what: String, choices: &[(Vec<usize>, usize)], kept| Violation {
            what,
            config: config.clone(),
            schedule: choices.iter().map(|(able, tried)| able[*tried]).collect(),
            kept,
            story: Vec::new(),
        };
        let mut execution = Execution::new(self.prepared, config, false)
            .map_err(|why| violation(why, choices, None))?;
        for (able, tried) in choices.iter() {
            execution.step(&mut self.stacks, able[*tried]);
        }
        let outcome = loop {
            self.tally.steps += 1;
            if let Some(what) = execution.world.lock().violation.clone() {
                break Err(violation(what, choices, None));
            }
            if !states.insert(hash_of(&execution, choices)) {
                break Ok(());
            }
            self.tally.states += 1;
            if let Err((what, kept)) = self.crash(&execution) {
                break Err(violation(what, choices, Some(kept)));
            }
            let able = execution.enabled();
            let Some(first) = able.first().copied() else {
                if execution.is_over() {
                    execution.check_end();
                } else {
                    execution.world.fail("a deadlock".into());
                }
                let what = execution.world.lock().violation.clone();
                break what.map_or(Ok(()), |what| Err(violation(what, choices, None)));
            };
            choices.push((able, 0));
            execution.step(&mut self.stacks, first);
        };
        execution.finish(&mut self.stacks);
        outcome
    }

    /// Tries all that a crash now can leave.
    fn crash(&mut self, execution: &Execution) -> Result<(), (String, Kept)> {
        let legal = execution.world.lock().oracle.legal();
        let point = mix(execution.points.hash(), &legal);
        if !Seen::is_new(&self.seen.points, point) {
            return Ok(());
        }
        self.tally.points += 1;
        let blocks = blocks(&execution.points);
        self.tally.capped += u64::from(blocks.len() > BLOCKS_MAX);
        for kept in choices(blocks.len()) {
            self.tally.images += 1;
            let image = image(&execution.points, &blocks, kept);
            let hash = mix(image.hash(), &legal);
            if !Seen::is_new(&self.seen.images, hash) {
                continue;
            }
            self.tally.distinct += 1;
            let goes_on = hash.is_multiple_of(GOES_ON);
            check(&image, self.layout, &legal, goes_on).map_err(|what| (what, kept))?;
        }
        Ok(())
    }

    /// Repeats a violation, and writes down what happens.
    pub(super) fn tell(&mut self, violation: Violation) -> Violation {
        let (config, schedule) = (&violation.config, &violation.schedule);
        let mut story = Vec::new();
        match Execution::new(self.prepared, config, true) {
            Err(why) => story.push(why),
            Ok(mut execution) => {
                schedule
                    .iter()
                    .for_each(|at| execution.step(&mut self.stacks, *at));
                if let Some(kept) = violation.kept {
                    let words = words(&execution.points, kept);
                    execution.world.trace(|| format!("the crash: {words}"));
                } else if execution.enabled().is_empty() && execution.is_over() {
                    execution.check_end();
                }
                story.extend(execution.world.lock().trace.take().unwrap_or_default());
                execution.finish(&mut self.stacks);
            }
        }
        Violation { story, ..violation }
    }
}

fn mix(hash: u64, legal: &Legal) -> u64 {
    let mut hasher = Xxh3::with_seed(hash);
    legal.hash(&mut hasher);
    hasher.finish()
}

/// What tells a state from others.
fn hash_of(_: &Execution, choices: &[(Vec<usize>, usize)]) -> u64 {
    let mut hasher = Xxh3::new();
    choices
        .iter()
        .for_each(|(able, tried)| able[*tried].hash(&mut hasher));
    hasher.finish()
}
