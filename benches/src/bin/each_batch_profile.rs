//! Measures the cost of `EachBatch`: the latency of a lone put, and the rate of many threads that mostly put existing
//! keys.
//! `cargo run --release -p rb-bench --bin each_batch_profile -- --help` shows the arguments.
//!
//! First, one thread puts values of 64 KiB one after the other, each durable before the next. Then sixteen threads put
//! one value at a time and keep existing ones: nine of ten keys already exist durably, the tenth is new.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use rb_bench::key;
use rb_core::{
    ClassRequest, Durability, EngineKind, FormatOptions, Put, PutMode, PutOptions, PutOutcome,
    Share, Store, StoreOptions, format,
};
use serde_json::json;

const THREADS: u64 = 16;
const VALUE_BYTES: usize = 64 << 10;
const SLOTS: u64 = 8192;
/// Number of keys that exist durably before the threads begin.
const KNOWN: u64 = 2048;
/// One put in this many is of a new key.
const NEW_EVERY: u64 = 10;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures lone durable puts, then puts of sixteen threads that mostly put existing keys.
#[derive(Debug, Parser)]
struct Args {
    /// Path of the store: a file, removed afterwards.
    path: PathBuf,
    /// Seconds of each of the two measurements.
    #[arg(default_value_t = 3)]
    seconds: u64,
    /// I/O engine for the store's file: posix, io_uring or auto.
    #[arg(default_value_t = EngineKind::IoUring)]
    engine: EngineKind,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("each_batch_profile: {why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn run(args: &Args) -> Result<(), Failure> {
    let Args {
        path,
        seconds,
        engine,
    } = args;
    let class = ClassRequest {
        slot_bytes: VALUE_BYTES as u64,
        share: Share::Slots(SLOTS),
    };
    format(&FormatOptions {
        key_len_max: 64,
        force: true,
        ..FormatOptions::new(path, vec![class])
    })?;
    let store = Store::open(
        path,
        StoreOptions {
            engine: *engine,
            durability: Durability::EachBatch,
            ..StoreOptions::default()
        },
    )?;
    let value = vec![7; VALUE_BYTES];
    for first in (0..KNOWN).step_by(64) {
        let keys: Vec<_> = (first..first + 64).map(name).collect();
        let puts = keys.iter().map(|key| Put::new(key, &value)).collect();
        for answer in store.put_many(puts, PutOptions::default()) {
            answer?;
        }
    }
    let time = Duration::from_secs(*seconds);
    let latencies = lone_puts(&store, &value, time)?;
    let (duplicates, rate) = many_duplicates(&store, &value, time)?;
    let at = |share: usize| latencies[latencies.len() * share / 1000].as_secs_f64() * 1e6;
    println!(
        "{:#}",
        json!({
            "engine": engine.to_string(),
            "lone_puts": latencies.len(),
            "lone_put_p50_us": at(500),
            "lone_put_p99_us": at(990),
            "duplicates": duplicates,
            "puts_per_second": rate,
        })
    );
    store.close()?;
    std::fs::remove_file(path)?;
    Ok(())
}

fn name(number: u64) -> [u8; 32] {
    key(number)
}

/// Returns the latencies of consecutive puts, sorted.
fn lone_puts(store: &Store, value: &[u8], time: Duration) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    let start = Instant::now();
    for number in 0.. {
        if start.elapsed() >= time {
            break;
        }
        let begun = Instant::now();
        store.put(&name(number % KNOWN), value)?;
        latencies.push(begun.elapsed());
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// Returns the number of duplicates that were kept, and the puts per second.
fn many_duplicates(store: &Store, value: &[u8], time: Duration) -> Result<(u64, f64), Failure> {
    let options = PutOptions {
        mode: PutMode::KeepExisting,
        ..PutOptions::default()
    };
    let (next, existed) = (AtomicU64::new(KNOWN), AtomicU64::new(0));
    let begin = Barrier::new(THREADS as usize);
    let work = |thread: u64| -> Result<u64, Failure> {
        begin.wait();
        let (start, mut puts) = (Instant::now(), 0);
        while start.elapsed() < time {
            let number = match puts % NEW_EVERY == thread % NEW_EVERY {
                true => next.fetch_add(1, Ordering::Relaxed),
                false => (puts * 7 + thread * 131) % KNOWN,
            };
            let key = name(number);
            let answer = store.put_many(vec![Put::new(&key, value)], options);
            for answer in answer {
                if answer? == PutOutcome::Existed {
                    existed.fetch_add(1, Ordering::Relaxed);
                }
            }
            puts += 1;
        }
        Ok(puts)
    };
    let mut puts = 0;
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        for thread in threads {
            puts += thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok::<_, Failure>(())
    })?;
    let rate = puts as f64 / time.as_secs_f64();
    Ok((existed.load(Ordering::Relaxed), rate))
}
