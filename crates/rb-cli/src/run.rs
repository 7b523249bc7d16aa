//! From arguments to an exit code.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};
use serde::Serialize;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::plain;
use crate::{
    bench, demo, entries, format, fsck, get, info, inspect, probe, put, recover_bench, replay,
};

const ERROR: u8 = 1;
const MISS: u8 = 2;
/// As of fsck(8): errors are left, and no check was possible.
const DAMAGED: u8 = 4;
const UNUSABLE: u8 = 8;

#[derive(Serialize)]
struct ErrorLine {
    error: String,
}

/// Runs the program. Exit codes: 0 done, 1 error, 2 a miss, and of
/// `rb fsck` 4 damaged, 8 unusable.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refused(&args, &without_hidden(error)),
    };
    let mut output = Output::new(cli.json);
    let outcome = dispatch(cli, &mut output).and_then(|outcome| {
        output.flush()?;
        Ok(outcome)
    });
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Miss) => ExitCode::from(MISS),
        Ok(Outcome::Damaged) => ExitCode::from(DAMAGED),
        Ok(Outcome::Unusable) => ExitCode::from(UNUSABLE),
        Ok(Outcome::Broken(_)) if output.is_json() => ExitCode::from(ERROR),
        Ok(Outcome::Broken(failure)) => report(&mut output, failure.chain()),
        // The reader has seen enough, as in `rb ls … | head`.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => report(&mut output, failure.chain()),
    }
}

fn dispatch(cli: Cli, output: &mut Output) -> Result<Outcome, Failure> {
    let engine = cli.engine;
    match cli.command {
        Command::Demo(args) => demo::demo(&args, engine, output),
        Command::Format(args) => format::format(&args, engine, output),
        Command::Info(args) => info::info(&args, engine, output),
        Command::Probe(args) => probe::probe(&args, output),
        Command::Fsck(args) => fsck::fsck(&args, engine, output),
        Command::Inspect(args) => inspect::inspect(&args, engine, output),
        Command::Put(args) => put::put(&args, engine, output),
        Command::Get(args) => get::get(&args, engine, output),
        Command::Rm(args) => entries::remove(&args, engine, output),
        Command::Ls(args) => entries::list(&args, engine, output),
        Command::Replay(args) => replay::replay(&args, engine, output),
        Command::Bench(args) => bench::bench(&args, engine, output),
        Command::RecoverBench(args) => recover_bench::bench(&args, engine, output),
        Command::DemoChild(args) => demo::child(&args, engine, output),
        Command::RecoverProbe(fill) => recover_bench::probe(&fill, engine, output),
        Command::RecoverChurn(args) => recover_bench::churn(&args, engine, output),
    }
}

fn report(output: &mut Output, error: String) -> ExitCode {
    // There is nobody left to tell if these fail.
    if output.is_json() {
        drop(output.json(&ErrorLine { error }));
        drop(output.flush());
    } else {
        drop(writeln!(std::io::stderr(), "rb: {}", plain(&error)));
    }
    ExitCode::from(ERROR)
}

/// The error without the names of commands that are only for this program itself.
fn without_hidden(mut error: clap::Error) -> clap::Error {
    let cli = Cli::command();
    let is_hidden = |name: &String| {
        cli.find_subcommand(name)
            .is_some_and(clap::Command::is_hide_set)
    };
    for kind in [
        ContextKind::ValidSubcommand,
        ContextKind::SuggestedSubcommand,
    ] {
        let Some(ContextValue::Strings(names)) = error.remove(kind) else {
            continue;
        };
        let names: Vec<String> = names.into_iter().filter(|name| !is_hidden(name)).collect();
        if !names.is_empty() {
            error.insert(kind, ContextValue::Strings(names));
        }
    }
    error
}

/// Answers a command line that was not understood, or one that asked for help.
fn refused(args: &[OsString], error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    if !args.iter().any(|arg| arg == "--json") {
        let text = error.to_string();
        match plain(&text) {
            Cow::Borrowed(_) => drop(error.print()),
            Cow::Owned(text) => drop(write!(std::io::stderr(), "{text}")),
        }
        return ExitCode::from(ERROR);
    }
    // The first paragraph is the error, the others are advice.
    let text = error.to_string();
    let words = text.split("\n\n").next().unwrap_or_default();
    let words = words.strip_prefix("error: ").unwrap_or(words);
    let error = words.split_whitespace().collect::<Vec<_>>().join(" ");
    report(&mut Output::new(true), error)
}
