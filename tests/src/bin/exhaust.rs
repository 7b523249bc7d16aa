//! `cargo xtask exhaust`: every schedule of a few operations over a tiny store; see `rb_tests::exhaust`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rb_tests::exhaust::{
    Config, Initial, Kept, Operation, Options, Part, Repeat, Report, repeat, run,
};

/// Runs every schedule of a few operations over a store of two slots, with a crash at every possible point.
#[derive(Debug, Parser)]
struct Args {
    /// Number of concurrent operations.
    #[arg(long, default_value_t = 2)]
    operations: usize,
    /// Use only these operations, separated by commas; all by default.
    #[arg(long = "only", value_delimiter = ',')]
    among: Vec<Operation>,
    /// Initial contents: empty, one or both; each by default.
    #[arg(long)]
    initial: Option<Initial>,
    /// Use a policy that refuses what it would have to evict for, instead of LRU.
    #[arg(long)]
    refuses: bool,
    /// Time limit in seconds; the search may stop incomplete.
    #[arg(long)]
    seconds: Option<u64>,
    /// Shuffle the configurations with this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Try only one part of the configurations: 2/5 is the second of five.
    #[arg(long)]
    part: Option<Part>,
    /// Number of threads.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, std::num::NonZero::get))]
    threads: usize,
    /// Run one schedule of the operations of --only again: the operation of each step, a digit each.
    #[arg(long, requires = "initial")]
    schedule: Option<String>,
    /// With --schedule: the writes that the crash keeps.
    #[arg(long, requires = "schedule")]
    kept: Option<Kept>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // A panic of the store is a violation, reported at the end with its schedule.
    std::panic::set_hook(Box::new(|_| {}));
    let (good, text) = match work(&Args::parse()) {
        Ok(outcome) => outcome,
        Err(why) => {
            eprintln!("exhaust: {why}");
            return ExitCode::FAILURE;
        }
    };
    // The exit code reports it, too.
    drop(writeln!(std::io::stdout(), "{text}"));
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Returns whether no violation was found, and the text to print.
fn work(args: &Args) -> Result<(bool, String), String> {
    if let (Some(schedule), Some(initial)) = (&args.schedule, args.initial) {
        let steps = schedule.chars().map(|step| step.to_digit(10));
        let steps: Option<Vec<usize>> = steps.map(|step| Some(step? as usize)).collect();
        let config = Config {
            operations: args.among.clone(),
            initial,
            refuses: args.refuses,
        };
        let (wrong, story) = repeat(&Repeat {
            config,
            schedule: steps.ok_or_else(|| format!("{schedule:?} is not a row of digits"))?,
            kept: args.kept.clone(),
        })?;
        let text = story.into_iter().chain(wrong.clone());
        return Ok((wrong.is_none(), text.collect::<Vec<_>>().join("\n")));
    }
    let bar = match args.json {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(0),
    };
    if let Ok(style) = ProgressStyle::with_template("{elapsed} {bar:40} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let options = Options {
        operations: args.operations,
        among: match args.among.is_empty() {
            true => Operation::all(),
            false => args.among.clone(),
        },
        initial: args.initial,
        refuses: args.refuses,
        seed: args.seed,
        part: args.part.unwrap_or(Part::WHOLE),
        time: args.seconds.map(Duration::from_secs),
        threads: args.threads,
    };
    let report = run(&options, |report| {
        bar.set_length(report.configs as u64);
        bar.set_position(report.complete as u64);
        bar.set_message(format!("{} images", report.images));
    })?;
    bar.finish_and_clear();
    let text = if args.json {
        json(&report)
    } else {
        table(&report)
    };
    Ok((report.violation.is_none(), text))
}

fn json(report: &Report) -> String {
    let violation = report.violation.as_ref();
    serde_json::json!({
        "ok": violation.is_none(),
        "complete": report.is_complete(),
        "configurations": report.configs,
        "configurations_complete": report.complete,
        "schedules": report.schedules,
        "executions": report.executions,
        "states": report.states,
        "crash_points": report.points,
        "images": report.images,
        "distinct_metadata": report.metadata,
        "distinct_contents": report.contents,
        "whole_images": report.whole,
        "looked_behind": report.looked_behind,
        "violations": u8::from(violation.is_some()),
        "violation": violation.map(|violation| &violation.what),
        "repeat": violation.map(|violation| &violation.options),
        "seconds": report.time.as_secs_f64(),
    })
    .to_string()
}

fn table(report: &Report) -> String {
    let end = match report.is_complete() {
        true => "run to its end",
        false => "stopped before its end",
    };
    let mut text = format!(
        "{end}: {} of {} configurations, {} schedules, {} executions, {} states ({} times looked behind), \
         {} crash points, {} images ({} distinct metadata, {} contents of slots, {} read as a whole); \
         {} violations; {:.1} s",
        report.complete,
        report.configs,
        report.schedules,
        report.executions,
        report.states,
        report.looked_behind,
        report.points,
        report.images,
        report.metadata,
        report.contents,
        report.whole,
        u8::from(report.violation.is_some()),
        report.time.as_secs_f64()
    );
    if let Some(violation) = &report.violation {
        text.push_str(&format!("\n{}\n", violation.what));
        violation
            .story
            .iter()
            .for_each(|line| text.push_str(&format!("  {line}\n")));
        text.push_str(&format!(
            "repeat with: cargo xtask exhaust {}",
            violation.options
        ));
    }
    text
}
