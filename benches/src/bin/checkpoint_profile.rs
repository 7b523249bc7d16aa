//! Measures what a checkpoint costs concurrent operations.
//! `cargo run --release -p rb-bench --bin checkpoint_profile -- --help` shows the arguments.
//!
//! A file store of 4 KiB values is filled, then one or more threads get and put, and verify each value. The store
//! decides when to write a checkpoint; operations that ran during one are reported separately. With as many threads as
//! cores, the checkpoint takes a core from one of them, and the tail latency shows the scheduler rather than the store.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use rb_bench::{Draws, key, median};
use rb_core::{
    ClassRequest, EngineKind, Error, FormatOptions, Put, PutOptions, Share, Store, StoreOptions,
    format,
};
use serde_json::{Value, json};

const VALUE_BYTES: usize = 4096;
const KEY_BYTES: u32 = 32;
const ROUNDS: usize = 5;
/// Gets per put.
const GETS: u64 = 1;
/// Minimum number of checkpoints in a round, however long they take.
const CHECKPOINTS: u64 = 2;
/// Operations between two checks of whether a checkpoint is being written.
const LOOK_EVERY: u64 = 32;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(&Load::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("checkpoint_profile: {why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn run(load: &Load) -> Result<(), Failure> {
    fill(load)?;
    let (mut ratios, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let round = round(load)?;
        let tail = |part: &str| round[part]["p999_us"].as_f64().unwrap_or(f64::NAN);
        ratios.push(tail("with") / tail("without"));
        rounds.push(round);
    }
    std::fs::remove_file(&load.path)?;
    println!(
        "{:#}",
        json!({ "entries": load.entries, "threads": load.threads, "engine": load.engine.to_string(), "p999_ratio": median(ratios), "rounds": rounds })
    );
    Ok(())
}

/// Measures what a checkpoint costs concurrent gets and puts of 4 KiB, in 5 rounds.
#[derive(Debug, Parser)]
struct Load {
    /// Path of the store, a file; removed afterwards.
    path: PathBuf,
    /// Entries that the store is filled with.
    #[arg(default_value_t = 1_000_000)]
    entries: u64,
    /// Minimum seconds of a round; it continues until two checkpoints were written.
    #[arg(default_value_t = 5)]
    seconds: u64,
    /// Threads that get and put.
    #[arg(default_value_t = 1)]
    threads: u64,
    /// I/O engine for the store's file: posix, io_uring or auto.
    #[arg(default_value_t = EngineKind::IoUring)]
    engine: EngineKind,
}

fn fill(load: &Load) -> Result<(), Failure> {
    let entries = load.entries;
    // Spare slots for the puts that replace entries.
    let class = ClassRequest {
        slot_bytes: VALUE_BYTES as u64,
        share: Share::Slots(entries + 1024),
    };
    format(&FormatOptions {
        key_len_max: KEY_BYTES,
        sparse: true,
        ..FormatOptions::new(&load.path, vec![class])
    })?;
    let store = open(load)?;
    for first in (0..entries).step_by(512) {
        let ids: Vec<u64> = (first..entries.min(first + 512)).collect();
        put(&store, &ids)?;
    }
    Ok(store.close()?)
}

fn open(load: &Load) -> Result<Store, Failure> {
    let options = StoreOptions {
        engine: load.engine,
        ..StoreOptions::default()
    };
    Ok(Store::open(&load.path, options)?)
}

fn put(store: &Store, ids: &[u64]) -> Result<(), Error> {
    let keyed: Vec<_> = ids.iter().map(|id| (key(*id), value(*id))).collect();
    let puts = keyed
        .iter()
        .map(|(key, value)| Put::new(key, value))
        .collect();
    store
        .put_many(puts, PutOptions::default())
        .into_iter()
        .try_for_each(|answer| answer.map(drop))
}

fn value(id: u64) -> Vec<u8> {
    id.to_le_bytes().repeat(VALUE_BYTES / 8)
}

/// Latencies of operations.
#[derive(Default)]
struct Latencies {
    /// Latencies of operations that ran while a checkpoint was being written.
    with: Vec<Duration>,
    without: Vec<Duration>,
}

fn round(load: &Load) -> Result<Value, Failure> {
    let entries = load.entries;
    let store = open(load)?;
    let stop = AtomicBool::new(false);
    let mut all = std::thread::scope(|scope| {
        let (store, stop) = (&store, &stop);
        let work = |thread| scope.spawn(move || operate(store, entries, thread, stop));
        let threads: Vec<_> = (0..load.threads).map(work).collect();
        let start = Instant::now();
        let idle = |thread: &ScopedJoinHandle<'_, _>| thread.is_finished();
        while (start.elapsed() < Duration::from_secs(load.seconds)
            || store.stats().checkpoints < CHECKPOINTS)
            && !threads.iter().any(idle)
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        let mut all = Latencies::default();
        for thread in threads {
            let of_thread = thread.join().map_err(|_| "a thread panicked")??;
            all.with.extend(of_thread.with);
            all.without.extend(of_thread.without);
        }
        Ok::<_, Failure>(all)
    })?;
    let stats = store.stats();
    store.close()?;
    Ok(json!({
        "with": words(&mut all.with),
        "without": words(&mut all.without),
        "checkpoints": stats.checkpoints,
        "longest_snapshot_hold_us": us(stats.longest_snapshot_hold),
        "longest_lock_wait_us": us(stats.index.longest_wait),
        "longest_log_wait_us": us(stats.longest_log_wait),
    }))
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn words(latencies: &mut [Duration]) -> Value {
    latencies.sort_unstable();
    let part = |part: f64| {
        let at = (latencies.len() as f64 * part) as usize;
        latencies
            .get(at.min(latencies.len().saturating_sub(1)))
            .copied()
            .map(us)
    };
    json!({
        "operations": latencies.len(),
        "p50_us": part(0.5),
        "p99_us": part(0.99),
        "p999_us": part(0.999),
        "max_us": part(1.0),
    })
}

/// Gets and puts until `stop` is set. Returns the latency of each operation.
fn operate(
    store: &Store,
    entries: u64,
    thread: u64,
    stop: &AtomicBool,
) -> Result<Latencies, Failure> {
    let mut draws = Draws::new(thread);
    let mut latencies = Latencies::default();
    let (mut done, mut with) = (0, false);
    while !stop.load(Ordering::Relaxed) {
        if done % LOOK_EVERY == 0 {
            with = store.stats().checkpointing;
        }
        done += 1;
        let id = draws.below(entries);
        let start = Instant::now();
        if draws.below(GETS + 1) == 0 {
            put(store, &[id])?;
        } else if let Some(found) = store.get(&key(id))? {
            let words = found.chunks_exact(8);
            if !words.clone().all(|word| word == id.to_le_bytes()) {
                return Err(format!("entry {id} has other bytes").into());
            }
        }
        let of = match with {
            true => &mut latencies.with,
            false => &mut latencies.without,
        };
        of.push(start.elapsed());
    }
    Ok(latencies)
}
