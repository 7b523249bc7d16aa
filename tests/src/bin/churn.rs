//! `cargo xtask churn`: readers against delete and reuse; see `rb_tests::churn`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rb_tests::churn::{ChurnOptions, ChurnReport, run};
use rb_tests::tally::{conclude, engines};

/// Readers and writers on one store, against eviction, removal and reuse of slots.
#[derive(Debug, Parser)]
struct Args {
    /// How long, per engine; half of it with freed slots discarded.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// posix, io_uring, or all that work here.
    #[arg(long, default_value = "all")]
    engine: String,
    /// Decides what each thread does; the machine decides who comes first.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// One JSON object per engine.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    conclude("churn", args.json, churn(&args))
}

fn churn(args: &Args) -> Result<Vec<ChurnReport>, String> {
    let options = |(engine, discard)| ChurnOptions {
        engine,
        time: Duration::from_secs(args.seconds) / 2,
        discard,
        seed: args.seed,
    };
    let engines = engines(&args.engine)?.into_iter();
    let runs = engines.flat_map(|engine| [(engine, false), (engine, true)]);
    runs.map(|each| run(&options(each))).collect()
}
