//! What a checkpoint costs those who use the store meanwhile.
//! `cargo run --release -p rb-bench --bin checkpoint_profile -- PATH [ENTRIES] [SECONDS] [THREADS] [ENGINE]`
//!
//! A file store of 4 KiB values is filled, then one thread or more get and put, each value verified, in turns: a
//! phase without checkpoints, and one with a checkpoint after the other. With as many threads as there are cores
//! the checkpoint takes one of them away, and the tail shows the scheduler rather than the store.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rb_bench::{Draws, key, median};
use rb_core::{
    ClassRequest, EngineKind, Error, FormatOptions, Put, PutOptions, Share, Store, StoreOptions,
    StoreStats, format,
};
use serde_json::{Value, json};

const VALUE_BYTES: usize = 4096;
const KEY_BYTES: u32 = 32;
const ROUNDS: usize = 5;
/// Gets for each put.
const GETS: u64 = 3;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("checkpoint_profile: {why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn run() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("say where the store is to be made")?;
    let entries: u64 = args.next().map_or(Ok(1_000_000), |arg| arg.parse())?;
    let seconds: u64 = args.next().map_or(Ok(5), |arg| arg.parse())?;
    let threads: u64 = args.next().map_or(Ok(1), |arg| arg.parse())?;
    let engine: EngineKind = args
        .next()
        .map_or(Ok(EngineKind::IoUring), |arg| arg.parse())?;
    let path = Path::new(&path);
    let load = Load {
        path,
        entries,
        seconds,
        threads,
        engine,
    };
    fill(&load)?;
    let (mut ratios, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let without = phase(&load, false)?;
        let with = phase(&load, true)?;
        let tail = |phase: &Value| phase["p999_us"].as_f64().unwrap_or(f64::NAN);
        ratios.push(tail(&with) / tail(&without));
        rounds.push(json!({ "without": without, "with": with }));
    }
    std::fs::remove_file(path)?;
    println!(
        "{:#}",
        json!({ "entries": entries, "threads": threads, "engine": engine.to_string(), "p999_ratio": median(ratios), "rounds": rounds })
    );
    Ok(())
}

/// What is done.
struct Load<'a> {
    path: &'a Path,
    entries: u64,
    seconds: u64,
    threads: u64,
    engine: EngineKind,
}

fn fill(load: &Load<'_>) -> Result<(), Failure> {
    let Load { path, entries, .. } = *load;
    // Room for what is put while entries are replaced.
    let class = ClassRequest {
        slot_bytes: VALUE_BYTES as u64,
        share: Share::Slots(entries + 1024),
    };
    format(&FormatOptions {
        key_len_max: KEY_BYTES,
        sparse: true,
        ..FormatOptions::new(path, vec![class])
    })?;
    let store = open(load)?;
    for first in (0..entries).step_by(512) {
        let ids: Vec<u64> = (first..entries.min(first + 512)).collect();
        put(&store, &ids)?;
    }
    Ok(store.close()?)
}

fn open(load: &Load<'_>) -> Result<Store, Failure> {
    let options = StoreOptions {
        engine: load.engine,
        ..StoreOptions::default()
    };
    Ok(Store::open(load.path, options)?)
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

fn phase(load: &Load<'_>, checkpoints: bool) -> Result<Value, Failure> {
    let Load {
        entries, seconds, ..
    } = *load;
    let store = open(load)?;
    let stop = AtomicBool::new(false);
    let mut latencies = std::thread::scope(|scope| {
        let (store, stop) = (&store, &stop);
        let work = |thread| scope.spawn(move || operate(store, entries, thread, stop));
        let threads: Vec<_> = (0..load.threads).map(work).collect();
        let start = Instant::now();
        let mut failed = None;
        while start.elapsed() < Duration::from_secs(seconds) && failed.is_none() {
            match checkpoints {
                true => failed = store.checkpoint().err(),
                false => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| "a thread panicked")??);
        }
        failed.map_or(Ok(all), |error| Err(Failure::from(error)))
    })?;
    latencies.sort_unstable();
    let stats = store.stats();
    store.close()?;
    Ok(words(&latencies, &stats))
}

fn words(sorted: &[Duration], stats: &StoreStats) -> Value {
    let us = |part: f64| {
        let at = (sorted.len() as f64 * part) as usize;
        sorted
            .get(at.min(sorted.len().saturating_sub(1)))
            .map(|time| time.as_secs_f64() * 1e6)
    };
    json!({
        "operations": sorted.len(),
        "p50_us": us(0.5),
        "p99_us": us(0.99),
        "p999_us": us(0.999),
        "max_us": us(1.0),
        "checkpoints": stats.checkpoints,
        "longest_snapshot_hold_us": stats.longest_snapshot_hold.as_secs_f64() * 1e6,
        "longest_lock_wait_us": stats.index.longest_wait.as_secs_f64() * 1e6,
        "longest_log_wait_us": stats.longest_log_wait.as_secs_f64() * 1e6,
    })
}

/// Gets and puts until told to stop. Answers how long each took.
fn operate(
    store: &Store,
    entries: u64,
    thread: u64,
    stop: &AtomicBool,
) -> Result<Vec<Duration>, Failure> {
    let mut draws = Draws::new(thread);
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
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
        latencies.push(start.elapsed());
    }
    Ok(latencies)
}
