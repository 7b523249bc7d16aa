//! `cargo xtask kill`: process death on the real path; see `rb_tests::kill`.

use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rb_tests::kill::{KillOptions, KillReport, LIFE_MS, child, child_options, run};
use rb_tests::tally::{conclude, engines};

/// Kills a process at work on a file store, again and again, and checks what it leaves.
#[derive(Debug, Parser)]
struct Args {
    /// Kills per engine.
    #[arg(long, default_value_t = 300)]
    rounds: u64,
    /// posix, io_uring, or all that work here.
    #[arg(long, default_value = "all")]
    engine: String,
    /// Decides what is done and when the kills come.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object per engine.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let Some(options) = child_options(&given) {
        eprintln!("kill: {}", child(&options));
        return ExitCode::FAILURE;
    }
    let args = Args::parse();
    conclude("kill", args.json, kill(&args))
}

fn kill(args: &Args) -> Result<Vec<KillReport>, String> {
    let program = std::env::current_exe().map_err(|why| why.to_string())?;
    let mut reports = Vec::new();
    for engine in engines(&args.engine)? {
        // Hidden by itself where standard error is not a terminal.
        let bar = ProgressBar::new(args.rounds);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(engine.to_string());
        let options = KillOptions {
            program: program.clone(),
            store: None,
            rounds: args.rounds,
            life_ms: LIFE_MS,
            engine,
            seed: args.seed,
        };
        let report = run(&options, &mut |report| {
            bar.set_message(format!("{} synced, {} lost", report.synced, report.lost));
            bar.set_position(report.rounds);
        })?;
        bar.finish_and_clear();
        reports.push(report);
    }
    Ok(reports)
}
