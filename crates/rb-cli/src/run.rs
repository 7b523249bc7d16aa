//! From arguments to an exit code.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::plain;
use crate::version::VersionLine;
use crate::{
    bench, clear, demo, entries, format, fsck, get, info, inspect, log, probe, put, recover_bench,
    replay, scrub, simulate, watch,
};

const ERROR: u8 = 1;
const MISS: u8 = 2;
/// The codes of fsck(8) for "errors left uncorrected" and "operational error".
const DAMAGED: u8 = 4;
const UNUSABLE: u8 = 8;

/// Runs the program. Exit codes: 0 done, 1 error, 2 a miss; `rb fsck` also 4 damaged and 8 unusable; `rb scrub` also 4 damaged;
/// `rb stats` and `rb top` also 4 with an alarm; `rb probe` also 8 unusable.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refused(&args, &without_hidden(error)),
    };
    if let Some(filter) = &cli.log {
        log::start(filter);
    }
    let mut output = Output::new(cli.json, Some(cli.command.name()));
    let outcome = dispatch(cli, &mut output).and_then(|outcome| {
        output.flush()?;
        Ok(outcome)
    });
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Miss) => ExitCode::from(MISS),
        Ok(Outcome::Damaged | Outcome::Alarm) => ExitCode::from(DAMAGED),
        Ok(Outcome::Unusable) => ExitCode::from(UNUSABLE),
        Ok(Outcome::Broken(_)) if output.is_json() => ExitCode::from(ERROR),
        Ok(Outcome::Broken(failure)) => report(&mut output, failure.chain()),
        // The reader has closed the pipe, as in `rb ls … | head`.
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
        Command::Probe(args) => probe::probe(&args, engine, output),
        Command::Fsck(args) => fsck::fsck(&args, engine, output),
        Command::Inspect(args) => inspect::inspect(&args, engine, output),
        Command::Put(args) => put::put(&args, engine, output),
        Command::Get(args) => get::get(&args, engine, output),
        Command::Rm(args) => entries::remove(&args, engine, output),
        Command::Ls(args) => entries::list(&args, engine, output),
        Command::Stats(args) => watch::stats(&args, output),
        Command::Top(args) => watch::top(&args, output),
        Command::Scrub(args) => scrub::scrub(&args, engine, output),
        Command::Clear(args) => clear::clear(&args, engine, output),
        Command::Replay(args) => replay::replay(&args, engine, output),
        Command::Simulate(args) => simulate::simulate(&args, output),
        Command::Bench(args) => bench::bench(&args, engine, output),
        Command::RecoverBench(args) => recover_bench::bench(&args, engine, output),
        Command::DemoChild(args) => demo::child(&args, engine, output),
        Command::RecoverProbe(fill) => recover_bench::probe(&fill, engine, output),
        Command::RecoverChurn(args) => recover_bench::churn(&args, engine, output),
    }
}

fn report(output: &mut Output, error: String) -> ExitCode {
    // If both outputs are closed, only the exit code is left.
    if output.is_json() {
        // Standard output may be what failed: then the error goes to standard error.
        let written = output.json_error(error.clone());
        if written.and_then(|()| output.flush()).is_err() {
            drop(writeln!(std::io::stderr(), "rb: {}", plain(&error)));
        }
    } else {
        drop(writeln!(std::io::stderr(), "rb: {}", plain(&error)));
    }
    ExitCode::from(ERROR)
}

/// Removes the names of the hidden commands from an error.
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

/// Reports a command line that was not understood, or prints the help or the version that was asked for.
fn refused(args: &[OsString], error: &clap::Error) -> ExitCode {
    let json = args.iter().any(|arg| arg == "--json");
    if json && error.kind() == ErrorKind::DisplayVersion {
        return version_line();
    }
    if !error.use_stderr() {
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    // `rb` without arguments prints its help.
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        drop(error.print());
        return ExitCode::from(ERROR);
    }
    let mut text = one_line(&error.to_string());
    if error.kind() == ErrorKind::InvalidUtf8 {
        let which = args.iter().filter(|arg| arg.to_str().is_none());
        which.for_each(|arg| {
            let bytes = arg.as_encoded_bytes().escape_ascii();
            text.push_str(&format!(" \"{bytes}\""));
        });
    }
    report(&mut Output::new(json, None), text)
}

/// Prints the version as one line of JSON.
fn version_line() -> ExitCode {
    let mut output = Output::new(true, Some("version"));
    let written = output.json(&VersionLine::new());
    match written.and_then(|()| output.flush()) {
        Err(failure) if !failure.is_broken_pipe() => report(&mut output, failure.chain()),
        _ => ExitCode::SUCCESS,
    }
}

/// The error itself on one line, without the tips and the usage that follow it.
fn one_line(text: &str) -> String {
    let ends = ["\n\nUsage:", "\n\n  tip:", "\n\nFor more information"];
    let end = ends.iter().filter_map(|end| text.find(end)).min();
    let text = &text[..end.unwrap_or(text.len())];
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
