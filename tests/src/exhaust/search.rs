//! Searches every schedule of one configuration, depth first.
//!
//! The search is stateless: it runs the real store again from the prepared device for each schedule that it has not
//! tried, and follows it until all operations have ended or it reaches a known state (`state.rs`).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rb_testkit::values::next_number;

use super::check::{Checker, Looked};
use super::config::Config;
use super::digest::digest;
use super::execution::Execution;
use super::failure::Failure;
use super::fiber::Stacks;
use super::prepared::Prepared;
use super::state;

/// One cut in this many is checked: the execution continues, and each step must lead where the same step from the same
/// state led before.
const LOOKS_BEHIND: u64 = 16;

/// Counts of what was tried.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) executions: u64,
    pub(super) schedules: u64,
    pub(super) states: u64,
    pub(super) looked_behind: u64,
    pub(super) points: u64,
    pub(super) looked: Looked,
}

pub(super) struct Search<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) checker: &'a Checker<'a>,
    /// Crash points that any search has seen.
    pub(super) seen: &'a Mutex<HashSet<u64>>,
    pub(super) stacks: Stacks,
    pub(super) tally: Tally,
    pub(super) until: Option<Instant>,
}

/// Result of a search.
pub(super) enum End {
    Complete,
    /// The time was over.
    Stopped,
    Failed(Failure),
}

/// Knowledge about one configuration.
#[derive(Default)]
struct Known {
    states: HashSet<u64>,
    /// State that a step of an operation leads to from a state, and the schedule that showed it.
    steps: HashMap<(u64, usize), (u64, Vec<usize>)>,
    /// States behind cuts.
    behind: HashMap<u64, Vec<usize>>,
}

impl Known {
    /// Records that a step leads from a state to another.
    fn step(&mut self, from: u64, to: u64, schedule: &[usize]) -> Result<(), Failure> {
        let last = schedule.last().copied().unwrap_or_default();
        let (led, way) = self
            .steps
            .entry((from, last))
            .or_insert_with(|| (to, schedule.to_vec()));
        if *led == to {
            return Ok(());
        }
        Err(Failure {
            what: "the search cannot distinguish states: the same step led elsewhere".into(),
            schedule: schedule.to_vec(),
            other: Some(way.clone()),
            ..Failure::default()
        })
    }
}

/// A position in a schedule: its state, the operations that can do a step, and the chosen one.
struct Choice {
    state: u64,
    able: Vec<usize>,
    tried: usize,
    /// Hash of what that operation had seen after its step.
    seen: u64,
}

impl Choice {
    fn step(&self) -> usize {
        self.able[self.tried]
    }
}

fn schedule_of(choices: &[Choice]) -> Vec<usize> {
    choices.iter().map(Choice::step).collect()
}

impl Search<'_> {
    /// Tries every schedule of a configuration.
    pub(super) fn run(&mut self, config: &Config) -> End {
        let mut known = Known::default();
        let mut choices: Vec<Choice> = Vec::new();
        loop {
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return End::Stopped;
            }
            if let Err(failure) = self.execute(config, &mut choices, &mut known) {
                return End::Failed(failure);
            }
            loop {
                match choices.last_mut() {
                    None => return self.completed(&known),
                    Some(choice) if choice.tried + 1 < choice.able.len() => {
                        choice.tried += 1;
                        break;
                    }
                    Some(_) => drop(choices.pop()),
                }
            }
        }
    }

    fn completed(&mut self, known: &Known) -> End {
        let mut behind = known.behind.iter();
        let missed = behind.find(|(state, _)| !known.states.contains(state));
        missed.map_or(End::Complete, |(_, schedule)| {
            End::Failed(Failure {
                what: "the search has left out a state behind one that it had seen".into(),
                schedule: schedule.clone(),
                ..Failure::default()
            })
        })
    }

    /// Runs the schedule so far, and continues in the first way that is new.
    fn execute(
        &mut self,
        config: &Config,
        choices: &mut Vec<Choice>,
        known: &mut Known,
    ) -> Result<(), Failure> {
        self.tally.executions += 1;
        let new = Execution::new(self.prepared, config, false);
        let mut execution = new.map_err(|what| Failure {
            what,
            ..Failure::default()
        })?;
        // Only the last step differs from the previous schedule.
        if let Some((last, others)) = choices.split_last_mut() {
            for choice in others {
                execution.repeat(&mut self.stacks, choice.step(), choice.seen);
            }
            last.seen = execution.step(&mut self.stacks, last.step());
        }
        let outcome = self.go_on(&mut execution, choices, known);
        execution.finish(&mut self.stacks);
        outcome
    }

    fn go_on(
        &mut self,
        execution: &mut Execution,
        choices: &mut Vec<Choice>,
        known: &mut Known,
    ) -> Result<(), Failure> {
        loop {
            let schedule = schedule_of(choices);
            execution.verdict(&schedule)?;
            let state = state::hash(execution);
            if let Some(choice) = choices.last() {
                known.step(choice.state, state, &schedule)?;
            }
            if !known.states.insert(state) {
                return match self.tally.executions.is_multiple_of(LOOKS_BEHIND) {
                    true => self.look_behind(execution, state, schedule, known),
                    false => Ok(()),
                };
            }
            self.tally.states += 1;
            self.crash(execution, &schedule)?;
            let able = execution.enabled();
            let Some(first) = able.first().copied() else {
                self.tally.schedules += 1;
                execution.check_end();
                return execution.verdict(&schedule);
            };
            choices.push(Choice {
                state,
                able,
                tried: 0,
                seen: execution.step(&mut self.stacks, first),
            });
        }
    }

    /// Continues behind a known state, in any order.
    fn look_behind(
        &mut self,
        execution: &mut Execution,
        mut state: u64,
        mut schedule: Vec<usize>,
        known: &mut Known,
    ) -> Result<(), Failure> {
        self.tally.looked_behind += 1;
        let mut random = state;
        loop {
            let able = execution.enabled();
            if able.is_empty() {
                execution.check_end();
                return execution.verdict(&schedule);
            }
            let next = able[next_number(&mut random) as usize % able.len()];
            execution.step(&mut self.stacks, next);
            schedule.push(next);
            execution.verdict(&schedule)?;
            let from = std::mem::replace(&mut state, state::hash(execution));
            known.step(from, state, &schedule)?;
            known
                .behind
                .entry(state)
                .or_insert_with(|| schedule.clone());
        }
    }

    /// Tries everything that a crash now can leave.
    fn crash(&mut self, execution: &Execution, schedule: &[usize]) -> Result<(), Failure> {
        let legal = execution.world.lock().oracle.legal();
        let point = digest((execution.points.hash(), &legal));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.insert(point) {
            return Ok(());
        }
        drop(seen);
        self.tally.points += 1;
        let looked = &mut self.tally.looked;
        let checked = self.checker.point(&execution.points, &legal, looked);
        checked.map_err(|(what, kept)| Failure {
            what,
            schedule: schedule.to_vec(),
            kept: Some(kept),
            other: None,
        })
    }
}
