//! Describes a violation, and how to repeat it.

use super::check::Checker;
use super::config::Config;
use super::execution::Execution;
use super::failure::Failure;
use super::fiber::Stacks;
use super::images::{Kept, Spots};
use super::prepared::Prepared;
use super::state;

/// A violation of the contract, and how to repeat it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Description of the violation.
    pub what: String,
    /// The steps that led to it.
    pub story: Vec<String>,
    /// The options that repeat exactly this.
    pub options: String,
}

/// A schedule to repeat, and the writes that its crash keeps.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// The operations, and the initial contents.
    pub config: Config,
    /// Number of the operation that does each step.
    pub schedule: Vec<usize>,
    /// Writes that the crash keeps; `None`: there is no crash.
    pub kept: Option<Kept>,
}

impl Violation {
    /// Runs a failure again, and records its steps.
    pub(super) fn of(prepared: &Prepared, config: &Config, failure: &Failure) -> Violation {
        let Failure {
            what,
            schedule,
            kept,
            other,
        } = failure;
        let repeat = Repeat {
            config: config.clone(),
            schedule: schedule.clone(),
            kept: kept.clone(),
        };
        let mut story = repeat.run(prepared).1;
        if let Some(other) = other {
            story.extend(differences(prepared, config, [schedule, other]));
        }
        let steps: String = schedule.iter().map(ToString::to_string).collect();
        let kept = kept
            .as_ref()
            .map_or(String::new(), |kept| format!(" --kept {kept}"));
        Violation {
            what: what.clone(),
            story,
            options: format!("{config} --schedule {steps}{kept}"),
        }
    }
}

impl Repeat {
    /// Runs the schedule. Returns the violation, if any, and a list of the steps.
    pub(super) fn run(&self, prepared: &Prepared) -> (Option<String>, Vec<String>) {
        let mut stacks = Stacks::default();
        let mut execution = match Execution::new(prepared, &self.config, true) {
            Ok(execution) => execution,
            Err(why) => return (Some(why), Vec::new()),
        };
        for &step in &self.schedule {
            execution.step(&mut stacks, step);
        }
        let mut wrong = None;
        if let Some(kept) = &self.kept {
            let legal = execution.world.lock().oracle.legal();
            let spots = Spots::new(&execution.points);
            if spots.has(kept) {
                let words = spots.words(kept);
                execution.world.trace(|| format!("the crash: {words}"));
            }
            let checker = Checker::new(prepared.layout());
            wrong = checker.image(&execution.points, kept, &legal).err();
        } else if execution.enabled().is_empty() {
            execution.check_end();
        }
        let mut inside = execution.world.lock();
        let wrong = wrong.or(inside.violation.clone());
        let story = inside.trace.take().unwrap_or_default();
        drop(inside);
        execution.finish(&mut stacks);
        (wrong, story)
    }
}

/// Lists how the states before and after the last step of two schedules differ.
fn differences(prepared: &Prepared, config: &Config, schedules: [&Vec<usize>; 2]) -> Vec<String> {
    let mut stacks = Stacks::default();
    let mut states = |schedule: &Vec<usize>| {
        let mut states = Vec::new();
        if let Ok(mut execution) = Execution::new(prepared, config, false) {
            for &step in schedule {
                states = state::words(&execution);
                execution.step(&mut stacks, step);
            }
            states.push("-- after the last step --".into());
            states.extend(state::words(&execution));
            execution.finish(&mut stacks);
        }
        states
    };
    let [one, other] = schedules.map(&mut states);
    let mut lines = vec![format!("the other schedule: {:?}", schedules[1])];
    for (one, other) in one.iter().zip(&other) {
        if one != other {
            lines.extend([format!("this:  {one}"), format!("other: {other}")]);
        } else if one.starts_with("--") {
            lines.push(one.clone());
        }
    }
    lines
}
