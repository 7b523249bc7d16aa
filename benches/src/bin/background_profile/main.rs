//! Measures what the store's background work adds to the latency of gets on a drive that is the bottleneck.
//! `cargo xtask bench --target background` runs it.
//!
//! The drive is a model in memory that serves requests in order, 20 times slower than an SSD so that the cores are not
//! the bottleneck (`DriveSpeed::ssd`). Threads get values of 64 KiB, once with pauses that leave the drive a quarter of
//! its time, once without pauses. Each round opens the store without the service and with it, and compares the two.

mod load;
mod service;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use load::{Latencies, Load};
use rb_bench::median;
use serde_json::{Value, json};
use service::{Fixture, Service};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures what the store's background work adds to gets on a drive that is the bottleneck.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each service under each load.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a measurement; a round has two.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Measure only the services whose name contains this.
    #[arg(long, default_value = "", hide_default_value = true)]
    service: String,
    /// Print JSON at the end instead of a line for each service and load.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("background_profile: {why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn run(options: &Options) -> Result<(), Failure> {
    let time = Duration::try_from_secs_f64(options.seconds)?;
    let mut fixture = Fixture::new()?;
    let mut lines = Vec::new();
    for service in Service::ALL {
        if !service.name().contains(&options.service) {
            continue;
        }
        for load in Load::ALL {
            let mut rounds = Vec::new();
            for _ in 0..options.rounds {
                let (without, with, done) = fixture.round(service, load, time)?;
                rounds.push(Round {
                    without,
                    with,
                    done,
                });
            }
            let line = summary(service, load, &rounds);
            if !options.json {
                println!("{}", shown(&line));
            }
            lines.push(line);
        }
    }
    if options.json {
        println!("{:#}", json!(lines));
    }
    Ok(())
}

/// Measurements of one round: without the service, then with it.
struct Round {
    without: Latencies,
    with: Latencies,
    /// Share of its work that the service did, and the time it took.
    done: (f64, Duration),
}

fn summary(service: Service, load: Load, rounds: &[Round]) -> Value {
    let of = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let ratio = |quantile: f64| {
        let mut all: Vec<f64> = rounds
            .iter()
            .map(|round| round.with.micros(quantile) / round.without.micros(quantile))
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        json!({ "median": median(all.clone()), "min": all.first(), "max": all.last() })
    };
    json!({
        "service": service.name(),
        "load": load.name(),
        "gets_per_second_without": of(&|round| round.without.per_second()),
        "gets_per_second_with": of(&|round| round.with.per_second()),
        "gets_with": of(&|round| round.with.count() as f64),
        "p50_us_without": of(&|round| round.without.micros(0.5)),
        "p50_us_with": of(&|round| round.with.micros(0.5)),
        "p99_us_without": of(&|round| round.without.micros(0.99)),
        "p99_us_with": of(&|round| round.with.micros(0.99)),
        "p50_ratio": ratio(0.5),
        "p99_ratio": ratio(0.99),
        "done": of(&|round| round.done.0),
        "service_seconds": of(&|round| round.done.1.as_secs_f64()),
    })
}

fn shown(line: &Value) -> String {
    let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
    let spread = |name: &str| {
        let at = |which: &str| line[name][which].as_f64().unwrap_or(f64::NAN);
        format!("{:.2} [{:.2}-{:.2}]", at("median"), at("min"), at("max"))
    };
    format!(
        "{:10} {:9} p50 x{} p99 x{}  p99 {:6.0} -> {:6.0} us  gets/s {:5.0} -> {:5.0}  done {:5.1} % in {:.2} s",
        line["service"].as_str().unwrap_or_default(),
        line["load"].as_str().unwrap_or_default(),
        spread("p50_ratio"),
        spread("p99_ratio"),
        number("p99_us_without"),
        number("p99_us_with"),
        number("gets_per_second_without"),
        number("gets_per_second_with"),
        number("done") * 100.0,
        number("service_seconds"),
    )
}
