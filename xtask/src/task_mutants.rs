//! Runs mutants: deliberate faults, each of which its harness must find.
//!
//! That a harness finds nothing means something only if it finds faults that are known to be there. Each file of
//! `tests/mutants` breaks one statement that matters. It names a function and a statement, not a file and a line, so
//! the surrounding code may change and move. The edits are made in a copy of the tree, never in the tree itself.

mod harness;
mod misfit;
mod mutant;
mod name;
mod sources;
#[cfg(test)]
mod tests;
mod tokens;
mod tree;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use harness::Harness;
use mutant::Mutant;
use sources::Sources;

/// Time after which a harness that exceeds its own time limit has hung.
const PATIENCE: Duration = Duration::from_mins(2);
/// A build that takes longer has hung.
const BUILD_TIME: Duration = Duration::from_mins(30);

/// Maximum characters of a harness's output that the table shows; the rest is in its file and in the JSON.
const SAID_MAX: usize = 100;
/// Maximum characters of a harness's command that the table shows.
const LINE_MAX: usize = 20;

/// Result of a harness for one mutant.
struct Answer {
    found: bool,
    seconds: f64,
    said: String,
}

/// The options of `cargo xtask mutants`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Make only the mutants whose MUTANT/HARNESS, such as flush-commit/crash, contains this.
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
    /// Seconds that each harness has to find a mutant.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Print one line of JSON for each harness of a mutant.
    #[arg(long)]
    json: bool,
    /// Only check that each mutant compiles, which takes seconds for each. One that does not tests nothing.
    #[arg(long, conflicts_with = "json")]
    build: bool,
}

/// Makes each mutant and runs its harnesses.
///
/// # Errors
/// If a mutant is not found, does not match or does not build, or the filter matches none.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let Options {
        filter,
        seconds,
        json: as_json,
        build,
    } = options;
    let mutants: Result<Vec<Mutant>, String> = mutant::all()?.into_iter().collect();
    let mutants = mutants?;
    let pairs = mutants.iter().flat_map(|mutant| {
        let with = move |harness| (mutant, harness);
        mutant.found_by.iter().map(with)
    });
    let pairs: Vec<(&Mutant, &Harness)> = pairs
        .filter(|(mutant, harness)| id(mutant, harness).contains(filter.as_str()))
        .collect();
    if pairs.is_empty() {
        return Err(format!("no mutant has {filter:?} in its name or harness"));
    }
    if *build {
        return build_each(&pairs);
    }
    let mut missed = 0;
    let mut lines = Vec::new();
    for (at, (mutant, harness)) in pairs.iter().enumerate() {
        let (number, count) = (at + 1, pairs.len());
        eprintln!(
            "== {number} of {count}, {}: {}",
            id(mutant, harness),
            mutant.what
        );
        let answer = try_one(mutant, harness, *seconds).unwrap_or_else(|why| Answer {
            found: false,
            seconds: 0.0,
            said: why,
        });
        missed += usize::from(!answer.found);
        lines.push(match *as_json {
            true => answer.json(mutant, harness),
            false => answer.line(mutant, harness),
        });
    }
    tree::refresh()?;
    lines.sort_unstable();
    if !*as_json {
        lines.insert(0, row("mutant", "found by", "after", "it said"));
    }
    let text = lines.join("\n");
    writeln!(std::io::stdout(), "{text}").map_err(|why| why.to_string())?;
    match missed {
        0 => Ok(()),
        _ => Err(format!("{missed} of {} mutants not found", pairs.len())),
    }
}

/// Checks that each mutant still matches the sources exactly. Returns the number of mutants.
///
/// # Errors
/// If the mutants cannot be read.
pub(crate) fn check(breaches: &mut Vec<String>) -> Result<usize, String> {
    let mutants = mutant::all()?;
    let count = mutants.len();
    let mut crates: BTreeMap<(String, Option<String>), Result<Sources, String>> = BTreeMap::new();
    for mutant in mutants {
        let mutant = match mutant {
            Ok(mutant) => mutant,
            Err(why) => {
                breaches.push(why);
                continue;
            }
        };
        let sources = crates
            .entry((mutant.package.clone(), mutant.tests.clone()))
            .or_insert_with(|| Sources::load(&mutant.package, mutant.tests.as_deref()));
        let misfits = match sources {
            Ok(sources) => mutant.apply(sources).err().unwrap_or_default(),
            Err(why) => vec![why.clone()],
        };
        let (folder, name) = (mutant::FOLDER, &mutant.name);
        let shown = misfits
            .iter()
            .map(|why| format!("{folder}/{name}.toml: {why}"));
        breaches.extend(shown);
    }
    Ok(count)
}

/// Checks that each mutant compiles, once for all its harnesses. One of loom's compiles with loom.
fn build_each(pairs: &[(&Mutant, &Harness)]) -> Result<(), String> {
    let mut broken = Vec::new();
    let mut last = None;
    let mut count = 0;
    for (mutant, harness) in pairs {
        if last.replace(&mutant.name) == Some(&mutant.name) {
            continue;
        }
        count += 1;
        make(mutant)?;
        let (_, environment) = harness.build();
        let mut check = tree::cargo();
        check.args(["check", "-p", &mutant.package, "--lib"]);
        check.args(mutant.tests.as_ref().map(|_| "--tests"));
        check.envs(environment.iter().copied());
        let (status, output) = tree::run_to_file(&mut check, &mutant.name, BUILD_TIME)?;
        if !status.is_some_and(|status| status.success()) {
            eprintln!("{}: {output}", mutant.name);
            broken.push(mutant.name.as_str());
        }
    }
    tree::refresh()?;
    match broken.as_slice() {
        [] => {
            eprintln!("== {count} mutants compile");
            Ok(())
        }
        broken => Err(format!("{} do not compile", broken.join(", "))),
    }
}

/// Makes the mutant in the copy.
fn make(mutant: &Mutant) -> Result<(), String> {
    tree::refresh()?;
    let files = mutant.apply(&Sources::load(&mutant.package, mutant.tests.as_deref())?);
    for (path, text) in files.map_err(|misfits| misfits.join("; "))? {
        tree::write(&path, text.as_bytes())?;
    }
    Ok(())
}

/// Returns the name that the filter is matched with.
fn id(mutant: &Mutant, harness: &Harness) -> String {
    format!("{}/{}", mutant.name, harness.line)
}

/// Makes the mutant in the copy, builds the harness there and runs it.
fn try_one(mutant: &Mutant, harness: &Harness, seconds: u32) -> Result<Answer, String> {
    make(mutant)?;
    let id = id(mutant, harness);
    let xtask: (_, &[(&str, &str)]) = (vec!["build", "-p", "xtask"], &[]);
    for (words, environment) in [xtask, harness.build()] {
        let mut build = tree::cargo();
        build.args(words).envs(environment.iter().copied());
        let (status, output) = tree::run_to_file(&mut build, &id, BUILD_TIME)?;
        if !status.is_some_and(|status| status.success()) {
            return Err(format!("it does not build: {output}"));
        }
    }
    let mut command = tree::cargo();
    command.args(harness.words(seconds));
    let start = Instant::now();
    let time = Duration::from_secs(seconds.into()) + PATIENCE;
    let (status, output) = tree::run_to_file(&mut command, &id, time)?;
    let seconds = start.elapsed().as_secs_f64();
    let (found, said) = match (status, harness.violation(&output)) {
        (None, _) => (false, "it hung".to_owned()),
        (Some(status), Some(said)) => (!status.success(), said),
        (Some(status), None) => (false, format!("no violation, {status}")),
    };
    Ok(Answer {
        found,
        seconds,
        said,
    })
}

impl Answer {
    fn json(&self, mutant: &Mutant, harness: &Harness) -> String {
        json!({
            "mutant": mutant.name,
            "what": mutant.what,
            "harness": harness.line,
            "found": self.found,
            "seconds": self.seconds,
            "said": self.said,
        })
        .to_string()
    }

    fn line(&self, mutant: &Mutant, harness: &Harness) -> String {
        let after = match self.found {
            true => format!("{:.1} s", self.seconds),
            false => "NOT FOUND".to_owned(),
        };
        row(&mutant.name, &harness.line, &after, &self.said)
    }
}

fn row(mutant: &str, line: &str, after: &str, said: &str) -> String {
    let line: String = line.chars().take(LINE_MAX).collect();
    let said: String = said.chars().take(SAID_MAX).collect();
    format!("{mutant:28} {line:LINE_MAX$} {after:>11}  {said}")
}
