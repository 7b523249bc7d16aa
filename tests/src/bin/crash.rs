//! `cargo xtask crash`: simulates crashes for some minutes and prints what was covered.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rb_tests::crash::{Kind, Options, Report, run};

/// Crashes a store on a simulated device at every write, and checks each image that is left.
#[derive(Parser)]
struct Args {
    /// Time limit in minutes, such as 0.5.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Maximum number of seeds. With 1 and the seed of a violation, exactly that run is repeated.
    #[arg(long, default_value_t = u64::MAX)]
    runs: u64,
    /// Number of threads.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, std::num::NonZero::get))]
    threads: usize,
    /// Print every operation of the runs.
    #[arg(long)]
    trace: bool,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
    /// Do not fail if an interesting state was not reached: for short runs.
    #[arg(long)]
    allow_missed: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let bar = match args.json {
        true => ProgressBar::hidden(),
        false => ProgressBar::new_spinner(),
    };
    if let Ok(style) = ProgressStyle::with_template("{elapsed} {pos} images, {per_sec}") {
        bar.set_style(style);
    }
    // A panic of the store is a violation, reported at the end with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options {
        seed: args.seed,
        runs: args.runs,
        time: Duration::from_secs_f64(args.minutes.max(0.0) * 60.0),
        threads: args.threads,
        trace: args
            .trace
            .then(|| Arc::new(|line: &str| eprintln!("{line}")) as _),
    };
    let report = run(&options, |images| bar.set_position(images));
    bar.finish_and_clear();
    let all_reached = report.states.missed().is_empty() && report.pairs.rarest().0 > 0;
    let ok = report.violation.is_none() && (all_reached || args.allow_missed);
    let text = if args.json {
        json(&report, ok)
    } else {
        table(&report)
    };
    println(&text);
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn println(text: &str) {
    println!("{text}");
}

fn json(report: &Report, ok: bool) -> String {
    let states: serde_json::Map<_, _> = report
        .states
        .counts()
        .map(|(state, count)| (state.to_string(), count.into()))
        .collect();
    let violation = report.violation.as_ref();
    let kinds = || Kind::ALL.iter().map(Kind::to_string);
    let pairs: serde_json::Map<_, _> = report
        .pairs
        .rows()
        .map(|(place, counts)| {
            let counts = counts.iter().map(|count| serde_json::Value::from(*count));
            let row: serde_json::Map<_, _> = kinds().zip(counts).collect();
            (place, row.into())
        })
        .collect();
    serde_json::json!({
        "ok": ok,
        "runs": report.runs,
        "crash_points": report.points,
        "images": report.images,
        "distinct_images": report.distinct,
        "restarts": report.restarts,
        "violations": u8::from(violation.is_some()),
        "violation_seed": violation.map(|(seed, _)| seed),
        "violation": violation.map(|(_, why)| why),
        "seconds": report.time.as_secs_f64(),
        "states": states,
        "pairs": pairs,
    })
    .to_string()
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<18}{value}\n"));
    line("runs", report.runs.to_string());
    line("crash points", report.points.to_string());
    line("images", report.images.to_string());
    line("distinct images", report.distinct.to_string());
    line("restarts", report.restarts.to_string());
    line("seconds", format!("{:.1}", report.time.as_secs_f64()));
    match &report.violation {
        None => line("violations", "0".into()),
        Some((seed, why)) => {
            line("violations", format!("1, seed {seed}: {why}"));
            line(
                "repeat with",
                format!("cargo xtask crash --seed {seed} --runs 1 --trace"),
            );
        }
    }
    text.push('\n');
    for (state, count) in report.states.counts() {
        let note = if count == 0 { "   NEVER REACHED" } else { "" };
        text.push_str(&format!("{count:>10}  {state}{note}\n"));
    }
    text.push_str(&pairs(report));
    text
}

/// Lists how often each operation began at each place of another.
fn pairs(report: &Report) -> String {
    let mut text = String::from("\nOperations that began at a place of another:\n");
    for (kinds, first) in Kind::ALL.chunks(5).zip((1..).step_by(5)) {
        for (number, kind) in (first..).zip(kinds) {
            text.push_str(&format!("{number:>4} {kind:<16}"));
        }
        text.push('\n');
    }
    text.push_str(&format!("{:24}", ""));
    (1..=Kind::ALL.len()).for_each(|number| text.push_str(&format!("{number:>7}")));
    text.push('\n');
    for (place, counts) in report.pairs.rows() {
        text.push_str(&format!("{place:<24}"));
        for count in counts {
            text.push_str(&format!("{count:>7}"));
        }
        text.push('\n');
    }
    let (count, place, kind) = report.pairs.rarest();
    let note = if count == 0 { "   NEVER REACHED" } else { "" };
    text.push_str(&format!(
        "{count:>8} times or more; least: {kind}, {place}{note}\n"
    ));
    text
}
