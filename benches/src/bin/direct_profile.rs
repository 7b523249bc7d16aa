//! Measures gets into and puts from the caller's memory against bare transfers of the same bytes.
//! `cargo run --release -p rb-bench --bin direct_profile -- /dev/loop0 [--rounds N] [--seconds S]`
//!
//! The device is overwritten. Every contender moves the same bytes with the same engine in batches
//! of the same size, alternating; the figures are medians of the rounds: bytes per second, and CPU
//! seconds of this process (kernel included) per gigabyte.
//!
//! * `raw`: bare transfers of the payload from and into registered memory, as fio does them;
//! * `checksum`: the checksum of the payload in memory that no cache has;
//! * `direct`, `copied`: the store, from and into lent memory, and by buffers of its own;
//! * `in_eight`: as `direct`, in eight calls.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rb_bench::{Failure, key, median, program};
use rb_core::{
    ClassRequest, EngineKind, FormatOptions, Payload, Put, PutOptions, Share, Store, StoreOptions,
    format,
};
use rb_format::PieceChecksum;
use rb_io::{Access, Arena, Buffer, Device, Lane, QueueOptions, Request};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value as Json, json};

const MIB: usize = 1 << 20;

#[derive(Parser)]
#[command(about = "Measure direct gets and puts against bare transfers")]
struct Args {
    /// Block device or file, which is overwritten
    path: PathBuf,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that each contender takes in a round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    case: String,
    /// Engine
    #[arg(long, default_value = "io_uring")]
    engine: EngineKind,
}

/// The shape of a comparison.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    value_bytes: usize,
    /// Values in a batch.
    batch: usize,
    slot_bytes: usize,
}

const CASES: [Case; 5] = [
    Case {
        name: "1 MiB, batches of 32",
        value_bytes: MIB,
        batch: 32,
        slot_bytes: MIB,
    },
    Case {
        name: "16 MiB in one slot, batches of 4",
        value_bytes: 16 * MIB,
        batch: 4,
        slot_bytes: 16 * MIB,
    },
    Case {
        name: "16 MiB in slots of 1 MiB, batches of 4",
        value_bytes: 16 * MIB,
        batch: 4,
        slot_bytes: MIB,
    },
    Case {
        name: "64 MiB in slots of 1 MiB, alone",
        value_bytes: 64 * MIB,
        batch: 1,
        slot_bytes: MIB,
    },
    Case {
        name: "20 MiB in slots of 1 MiB, batches of 64",
        value_bytes: 20 * MIB,
        batch: 64,
        slot_bytes: MIB,
    },
];

fn main() -> ExitCode {
    program(run)
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn run(args: Args) -> Result<(), Failure> {
    let capacity = Device::open(&args.path, Access::ReadOnly)?.capacity_bytes();
    let chosen = CASES
        .into_iter()
        .filter(|case| case.name.contains(&args.case));
    for case in chosen {
        let fits = capacity as usize > 2 * case.value_bytes * case.batch;
        if !fits {
            println!("{}: the device is too small", case.name);
            continue;
        }
        println!("{:#}", measure(&args, case)?);
    }
    Ok(())
}

/// The figures of one contender by round: bytes per second, and CPU seconds per gigabyte.
#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    cpu: Vec<f64>,
}

const CONTENDERS: [&str; 9] = [
    "raw_write",
    "put_direct",
    "put_in_eight",
    "put_copied",
    "raw_read",
    "get_direct",
    "get_in_eight",
    "get_copied",
    "checksum",
];

fn measure(args: &Args, case: Case) -> Result<Json, Failure> {
    let bytes = case.value_bytes * case.batch;
    let arena = Arena::allocate(bytes)?;
    fill(&arena, bytes)?;
    let mut figures: [Figures; CONTENDERS.len()] = Default::default();
    for _ in 0..args.rounds {
        let mut raw = Raw::open(args, case, &arena)?;
        let write = timed(args, bytes, || raw.all(Request::write))?;
        let read = timed(args, bytes, || raw.all(Request::read))?;
        drop(raw);
        let (store, keys) = open(args, case, &arena)?;
        let keys: Vec<&[u8]> = keys.iter().map(<[u8; 32]>::as_slice).collect();
        let (all, eighth) = (case.batch, case.batch.div_ceil(8));
        let put_whole = timed(args, bytes, || put_direct(&store, case, &arena, &keys, all))?;
        let put_eighth = timed(args, bytes, || {
            put_direct(&store, case, &arena, &keys, eighth)
        })?;
        let get_whole = timed(args, bytes, || get_direct(&store, case, &arena, &keys, all))?;
        let get_eighth = timed(args, bytes, || {
            get_direct(&store, case, &arena, &keys, eighth)
        })?;
        assert_eq!(store.stats().bytes_copied, 0, "nothing may be copied");
        // As many values as the store has buffers for.
        let few = (case.batch).min((256 * MIB) / case.value_bytes);
        let value = vec![0xA7; case.value_bytes];
        let put_copied = timed(args, few * case.value_bytes, || {
            put_copied(&store, &value, &keys[..few])
        })?;
        let get_copied = timed(args, few * case.value_bytes, || {
            get_copied(&store, &keys[..few])
        })?;
        drop(store);
        let sum = timed(args, bytes, || checksums(&arena, bytes))?;
        let round = [
            write, put_whole, put_eighth, put_copied, read, get_whole, get_eighth, get_copied, sum,
        ];
        for (figures, (rate, cpu)) in figures.iter_mut().zip(round) {
            figures.rates.push(rate);
            figures.cpu.push(cpu);
        }
    }
    let mut out = Map::new();
    out.insert("case".into(), case.name.into());
    for (name, Figures { rates, cpu }) in CONTENDERS.into_iter().zip(figures) {
        let (rate, cpu) = (median(rates), median(cpu));
        let figures = json!({ "bytes_per_second": rate, "cpu_seconds_per_gb": cpu });
        out.insert(name.into(), figures);
    }
    Ok(out.into())
}

fn fill(arena: &Arena, bytes: usize) -> Result<(), Failure> {
    let mut loan = arena.lend_exclusive(0, bytes)?;
    loan.bytes_mut().ok_or("an exclusive loan")?.fill(0xA7);
    Ok(())
}

/// Repeats `work`, which moves `bytes`, and returns bytes per second and CPU seconds per gigabyte.
fn timed(
    args: &Args,
    bytes: usize,
    mut work: impl FnMut() -> Result<(), Failure>,
) -> Result<(f64, f64), Failure> {
    work()?;
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut moved = 0.0;
    while start.elapsed().as_secs_f64() < args.seconds {
        work()?;
        moved += bytes as f64;
    }
    let cpu = cpu_time().saturating_sub(cpu).as_secs_f64();
    Ok((moved / start.elapsed().as_secs_f64(), cpu / (moved / 1e9)))
}

/// CPU time of this process, including the kernel's helper threads of its rings.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Bare transfers, as a benchmark of the device makes them.
struct Raw {
    lane: Lane,
    arena: Arena,
    case: Case,
}

impl Raw {
    fn open(args: &Args, case: Case, arena: &Arena) -> Result<Raw, Failure> {
        let device = Arc::new(Device::open(&args.path, Access::ReadWrite)?);
        let engine = rb_io::open(device, args.engine)?.engine;
        let options = QueueOptions {
            depth: 256,
            arenas: vec![arena.clone()],
            ..QueueOptions::default()
        };
        let lane = Lane::new(engine.queue(&options)?, engine.limits());
        let arena = arena.clone();
        Ok(Raw { lane, arena, case })
    }

    fn all(&mut self, transfer: fn(u64, Buffer, usize, usize) -> Request) -> Result<(), Failure> {
        let len = self.case.value_bytes;
        let mut requests = Vec::new();
        for number in 0..self.case.batch {
            let buffer = self.arena.take_at(number * len, len)?;
            // Transfers of 1 MiB, as those of the store are.
            requests.push(transfer((number * len) as u64, buffer, 0, len));
        }
        for done in self.lane.run(requests) {
            done.result?;
        }
        Ok(())
    }
}

fn open(args: &Args, case: Case, arena: &Arena) -> Result<(Store, Vec<[u8; 32]>), Failure> {
    let class = ClassRequest {
        slot_bytes: case.slot_bytes as u64,
        share: Share::Rest,
    };
    format(&FormatOptions {
        force: true,
        ..FormatOptions::new(args.path.clone(), vec![class])
    })?;
    let options = StoreOptions {
        engine: args.engine,
        arenas: vec![arena.clone()],
        buffer_bytes: Some(320 * MIB),
        ..StoreOptions::default()
    };
    let keys = (0..case.batch as u64).map(key).collect();
    Ok((Store::open(args.path.clone(), options)?, keys))
}

/// Puts all values, `together` in a call.
fn put_direct(
    store: &Store,
    case: Case,
    arena: &Arena,
    keys: &[&[u8]],
    together: usize,
) -> Result<(), Failure> {
    let numbered: Vec<_> = keys.iter().enumerate().collect();
    for call in numbered.chunks(together) {
        let mut puts = Vec::new();
        for (number, name) in call {
            let loan = arena.lend(number * case.value_bytes, case.value_bytes)?;
            let payload = Payload::Loan(loan);
            puts.push(Put {
                payload,
                ..Put::new(name, &[])
            });
        }
        for outcome in store.put_many(puts, PutOptions::default()) {
            outcome?;
        }
    }
    Ok(())
}

/// Gets all values, `together` in a call.
fn get_direct(
    store: &Store,
    case: Case,
    arena: &Arena,
    keys: &[&[u8]],
    together: usize,
) -> Result<(), Failure> {
    let loan = |number| arena.lend_exclusive(number * case.value_bytes, case.value_bytes);
    for (call, keys) in keys.chunks(together).enumerate() {
        let loans = (call * together..).take(keys.len()).map(loan);
        for found in store.get_many_at(keys, loans.collect::<Result<_, _>>()?) {
            found?.ok_or("a miss")?;
        }
    }
    Ok(())
}

fn put_copied(store: &Store, value: &[u8], keys: &[&[u8]]) -> Result<(), Failure> {
    let puts = keys.iter().map(|name| Put::new(name, value)).collect();
    for outcome in store.put_many(puts, PutOptions::default()) {
        outcome?;
    }
    Ok(())
}

fn get_copied(store: &Store, keys: &[&[u8]]) -> Result<(), Failure> {
    for found in store.get_many(keys) {
        found?.ok_or("a miss")?;
    }
    Ok(())
}

/// Checksums memory that no cache has, by pieces of 1 MiB.
fn checksums(arena: &Arena, bytes: usize) -> Result<(), Failure> {
    let loan = arena.lend_exclusive(0, bytes)?;
    let memory = loan.bytes().ok_or("an exclusive loan")?;
    for piece in memory.chunks(MIB) {
        std::hint::black_box(PieceChecksum::new(piece));
    }
    Ok(())
}
