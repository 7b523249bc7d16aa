//! `cargo xtask race`: runs real threads on real stores and compares the results with an exact oracle; see
//! `rb_tests::race`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rb_tests::race::{Fixed, RaceOptions, RaceReport, SESSION_MS, Until, child, kept, run};
use rb_tests::tally::{conclude, engines};

/// Runs threads on small stores that are dropped, closed and killed; after each, compares every key with an oracle.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds per engine.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Instead of a time limit: kill the process in every round, until this many kills per engine.
    #[arg(long)]
    kill_rounds: Option<u64>,
    /// Threads of each round; by default 4 to 16.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=32))]
    threads: Option<u64>,
    /// Every session acknowledges only what is durable, on the smallest log.
    #[arg(long)]
    each_batch: bool,
    /// posix, io_uring, or all that work here.
    #[arg(long, default_value = "all")]
    engine: String,
    /// Seed of each thread's operations; their interleaving depends on the machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object per engine.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if child(&given) {
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    conclude("race", args.json, race(&args))
}

fn race(args: &Args) -> Result<Vec<RaceReport>, String> {
    let program = std::env::current_exe().map_err(|why| why.to_string())?;
    let mut reports = Vec::new();
    for engine in engines(&args.engine)? {
        // Hides itself if standard error is not a terminal.
        let bar = ProgressBar::new(args.kill_rounds.unwrap_or(args.seconds));
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(engine.to_string());
        let options = RaceOptions {
            program: program.clone(),
            store: None,
            engine,
            seed: args.seed,
            until: match args.kill_rounds {
                None => Until::Time(Duration::from_secs(args.seconds)),
                Some(kills) => Until::Kills(kills),
            },
            session_ms: SESSION_MS,
            keep: kept(),
            fixed: Fixed {
                threads: args.threads,
                each_batch: args.each_batch,
            },
        };
        let start = Instant::now();
        let report = run(&options, &mut |report| {
            let RaceReport {
                rounds, compared, ..
            } = report;
            bar.set_message(format!("{rounds} rounds, {compared} keys compared"));
            bar.set_position(match args.kill_rounds {
                None => start.elapsed().as_secs(),
                Some(_) => report.kills(),
            });
        })?;
        bar.finish_and_clear();
        reports.push(report);
    }
    Ok(reports)
}
