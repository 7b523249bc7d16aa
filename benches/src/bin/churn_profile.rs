//! Measures how full a store stays that is full and changes, with values of one and of several
//! slots. `cargo run --release -p rb-bench --bin churn_profile -- /dev/shm/store [--gib N]`
//!
//! The file is made for each case. Values are put until ten times the capacity has been
//! offered. Then, over one more capacity:
//!
//! * `refused_ratio`: puts that the policy has refused, of all of the run;
//! * `payload_ratio`: bytes of live values by the bytes that all slots hold, on average;
//! * `bound_ratio`: what it would be if no slot were ever free: the values' own rounding;
//! * `put_p50_us`, `put_p99_us`: latency of a put, and `put_p99_of_bytes`: the 99th percentile of
//!   microseconds per MiB, so that sizes can be compared;
//! * `neighbours_ratio`: how many slots of values lie right behind the slot before them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use rb_bench::{Draws, key};
use rb_core::policy::Learned;
use rb_core::{
    ClassRequest, FormatOptions, Payload, Put, PutOptions, PutOutcome, Share, Store, StoreOptions,
    format,
};
use rb_io::Arena;
use serde_json::{Value as Json, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const MIB: usize = 1 << 20;
const LONGEST: usize = 100 * MIB;

#[derive(Clone, Copy, ValueEnum)]
enum PolicyName {
    Lru,
    Learned,
}

#[derive(Parser)]
#[command(about = "Measure how full a changing store stays")]
struct Args {
    /// File, which is made and removed
    path: PathBuf,
    /// Capacity in GiB
    #[arg(long, default_value_t = 2)]
    gib: u64,
    /// The policy: lru or learned, which refuses some puts
    #[arg(long, default_value = "lru")]
    policy: PolicyName,
    /// How often the capacity is offered before the measurement
    #[arg(long, default_value_t = 10)]
    turnovers: usize,
}

/// Returns the length of the next value.
type Lengths = fn(&mut Draws) -> usize;

const CASES: [(&str, usize, Lengths); 5] = [
    ("log-uniform from 64 KiB to 100 MiB", MIB, log_uniform),
    ("1.05 MiB", MIB, |_| MIB + MIB / 20),
    ("64 KiB", MIB, |_| 64 << 10),
    ("16 MiB in slots of 1 MiB", MIB, |_| 16 * MIB),
    ("16 MiB in slots of 16 MiB", 16 * MIB, |_| 16 * MIB),
];

fn log_uniform(draws: &mut Draws) -> usize {
    let unit = draws.below(1 << 32) as f64 / f64::from(u32::MAX);
    let (least, most) = ((64_f64 * 1024.0).ln(), (LONGEST as f64).ln());
    ((least + unit * (most - least)).exp() as usize).clamp(1, LONGEST)
}

fn main() -> ExitCode {
    let done = Args::try_parse()
        .map_err(Failure::from)
        .and_then(|args| run(&args));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn run(args: &Args) -> Result<(), Failure> {
    for (name, slot_bytes, lengths) in CASES {
        let measured = measure(args, name, slot_bytes, lengths);
        drop(std::fs::remove_file(&args.path));
        println!("{:#}", measured?);
    }
    Ok(())
}

fn measure(args: &Args, case: &str, slot_bytes: usize, lengths: Lengths) -> Result<Json, Failure> {
    let slots = (args.gib << 30) / slot_bytes as u64;
    let class = ClassRequest {
        slot_bytes: slot_bytes as u64,
        share: Share::Slots(slots),
    };
    format(&FormatOptions {
        key_len_max: 64,
        ..FormatOptions::new(args.path.clone(), vec![class])
    })?;
    let arena = Arena::allocate(LONGEST)?;
    arena
        .lend_exclusive(0, LONGEST)?
        .bytes_mut()
        .ok_or("an exclusive loan")?
        .fill(0xA7);
    let options = StoreOptions {
        arenas: vec![arena.clone()],
        policy: match args.policy {
            PolicyName::Lru => None,
            PolicyName::Learned => Some(Arc::new(Learned::default())),
        },
        ..StoreOptions::default()
    };
    let store = Store::open(args.path.clone(), options)?;
    let capacity = (slots * slot_bytes as u64) as usize;
    let (mut draws, mut number, mut offered) = (Draws::new(1), 0, 0);
    let mut refused = 0_u64;
    let (mut latencies, mut per_mib) = (Vec::new(), Vec::new());
    let (mut payload, mut bound, mut samples) = (0.0, 0.0, 0.0);
    while offered < (args.turnovers + 1) * capacity {
        let (len, name) = (lengths(&mut draws), key(number));
        let put = Put {
            payload: Payload::Loan(arena.lend(0, len)?),
            ..Put::new(&name, &[])
        };
        // As hosts do before they put: a policy that learns sees what is missing.
        drop(store.lookup_and_pin(&[&name]));
        let start = Instant::now();
        let outcome = store.put_many(vec![put], PutOptions::default()).remove(0)?;
        (number, offered) = (number + 1, offered + len);
        if outcome == PutOutcome::NotAdmitted {
            refused += 1;
            continue;
        }
        let micros = start.elapsed().as_secs_f64() * 1e6;
        if offered > args.turnovers * capacity {
            latencies.push(micros);
            per_mib.push(micros * MIB as f64 / len as f64);
            // A look at all entries takes a while, so not after each put.
            if number % 64 == 0 {
                let (bytes, used) = live(&store, slot_bytes);
                payload += bytes / capacity as f64;
                bound += bytes / used;
                samples += 1.0;
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    per_mib.sort_by(f64::total_cmp);
    let at = |of: &[f64], share: usize| of[(of.len() - 1) * share / 100];
    let neighbours = neighbours(&store);
    let evictions = store.stats().index.evictions;
    store.close()?;
    Ok(json!({
        "case": case,
        "puts": latencies.len(),
        "evictions": evictions,
        "refused_ratio": refused as f64 / number as f64,
        "payload_ratio": payload / samples,
        "bound_ratio": bound / samples,
        "of_bound": payload / bound,
        "put_p50_us": at(&latencies, 50),
        "put_p99_us": at(&latencies, 99),
        "put_p99_of_bytes": at(&per_mib, 99),
        "neighbours_ratio": neighbours,
    }))
}

/// Returns the bytes of live values, and those that their slots hold.
fn live(store: &Store, slot_bytes: usize) -> (f64, f64) {
    let (mut bytes, mut used) = (0.0, 0.0);
    store.for_each(|entry| {
        bytes += f64::from(entry.len);
        used += ((1 + entry.more_slots.len()) * slot_bytes) as f64;
        true
    });
    (bytes, used)
}

/// Returns the share of further slots that lie right behind the slot before them.
fn neighbours(store: &Store) -> Option<f64> {
    let (mut next, mut all) = (0.0, 0.0);
    store.for_each(|entry| {
        let mut before = entry.slot;
        for &slot in &entry.more_slots {
            next += f64::from(u8::from(slot == before + 1));
            all += 1.0;
            before = slot;
        }
        true
    });
    (all > 0.0).then_some(next / all)
}
