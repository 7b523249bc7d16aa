//! Measures the cost of timing operations and requests.
//! `cargo run --release -p rb-bench --bin timed_profile -- FILE [--rounds N]`
//!
//! The file is overwritten; it should lie in memory. The same calls run on a store that is timed and
//! on one that is not, alternating. The figures are medians of the rounds in nanoseconds a call.
//!
//! What reporting costs is the difference between builds: without the feature `tracing`; with `--features tracing`, where
//! no subscriber listens; and that with `--log info` or `--log debug`, where one formats lines and drops them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use rb_bench::{Failure, key, median, program};
use rb_core::{ClassRequest, EngineKind, FormatOptions, Share, Store, StoreOptions};
use serde_json::{Map, json};

const KEYS: u64 = 256;
const VALUE_BYTES: usize = 64 << 10;

#[derive(Parser)]
#[command(about = "Measure what statistics cost")]
struct Args {
    /// File to overwrite
    path: PathBuf,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Engine
    #[arg(long, default_value = "io_uring")]
    engine: EngineKind,
    /// Level of a subscriber that drops its lines; needs the feature tracing
    #[arg(long)]
    log: Option<String>,
}

/// An operation, and its number of calls in a round.
type Case = (
    &'static str,
    u64,
    fn(&Store, &[u8; 32], &[u8]) -> Result<(), Failure>,
);

const CASES: [Case; 4] = [
    ("get_miss", 200_000, |store, key, _| {
        let mut other = *key;
        other[31] ^= 0xFF;
        store.get(&other)?;
        Ok(())
    }),
    ("get_hit", 4_000, |store, key, _| {
        store.get(key)?.ok_or("a miss")?;
        Ok(())
    }),
    ("put", 4_000, |store, key, value| {
        store.put(key, value)?;
        Ok(())
    }),
    ("remove", 20_000, |store, key, _| {
        let mut other = *key;
        other[31] ^= 0xFF;
        store.remove(&other)?;
        Ok(())
    }),
];

fn main() -> ExitCode {
    program(run)
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn run(args: Args) -> Result<(), Failure> {
    if let Some(level) = &args.log {
        subscribe(level)?;
    }
    let mut figures = CASES.map(|_| [Vec::new(), Vec::new()]);
    let value = vec![0xA7; VALUE_BYTES];
    for round in 0..args.rounds {
        // Each goes first in half of the rounds.
        for timed in [round % 2 == 0, round % 2 != 0] {
            let store = open(&args, timed)?;
            for number in 0..KEYS {
                store.put(&key(number), &value)?;
            }
            for ((_, calls, call), figures) in CASES.iter().zip(&mut figures) {
                let start = Instant::now();
                for number in 0..*calls {
                    call(&store, &key(number % KEYS), &value)?;
                }
                let nanos = start.elapsed().as_nanos() as f64 / *calls as f64;
                figures[usize::from(timed)].push(nanos);
            }
            store.close()?;
        }
    }
    let mut out = Map::new();
    for ((name, ..), [off, on]) in CASES.into_iter().zip(figures) {
        let (off, on) = (median(off), median(on));
        let case = json!({ "off_ns": off, "on_ns": on, "more_ns": on - off, "ratio": on / off });
        out.insert(name.into(), case);
    }
    println!("{:#}", serde_json::Value::Object(out));
    Ok(())
}

fn open(args: &Args, timed: bool) -> Result<Store, Failure> {
    let class = ClassRequest {
        slot_bytes: VALUE_BYTES as u64,
        share: Share::Slots(2 * KEYS),
    };
    let mut format = FormatOptions::new(args.path.clone(), vec![class]);
    format.force = true;
    let options = StoreOptions {
        engine: args.engine,
        timed,
        ..StoreOptions::default()
    };
    Ok(Store::open_or_create(&format, options)?)
}

#[cfg(feature = "tracing")]
fn subscribe(level: &str) -> Result<(), Failure> {
    use tracing_subscriber::fmt::format::FmtSpan;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(level)?)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(std::io::sink)
        .try_init()?;
    Ok(())
}

#[cfg(not(feature = "tracing"))]
fn subscribe(_: &str) -> Result<(), Failure> {
    Err("--log needs the feature tracing".into())
}
