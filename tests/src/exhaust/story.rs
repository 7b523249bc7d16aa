//! A violation in words, and how to see it again.

use super::check::Checker;
use super::config::Config;
use super::execution::Execution;
use super::failure::Failure;
use super::fiber::Stacks;
use super::images::{Kept, Spots};
use super::prepared::Prepared;
use super::state;

/// What breaks the contract, and how to see it again.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What is wrong.
    pub what: String,
    /// What happened, step by step.
    pub story: Vec<String>,
    /// The options that repeat exactly this.
    pub options: String,
}

/// What is repeated: one schedule, and what its crash leaves.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// The operations, and what is there before.
    pub config: Config,
    /// Which operation does each step.
    pub schedule: Vec<usize>,
    /// What the crash leaves; none: there is no crash.
    pub kept: Option<Kept>,
}

impl Violation {
    /// Runs a failure again, and writes down what happens.
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
    /// Runs it. Returns what is wrong, if something is, and what happened.
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

/// In what the states before and after the last step of two schedules differ.
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
