//! Measures reads through NVMe passthrough alternating with fio's on the same node, in the same boot.
//!
//! fio's block is the largest transfer of the drive: the kernel does not split a passthrough command, so fio cannot
//! read a larger value in one command either, and the engine splits it into commands of that size. Both keep the same
//! number of them in flight.

use std::time::{Duration, Instant};

use rb_core::Store;
use rb_format::{Generation, Identity, StoreUuid, payload_checksum};
use rb_io::{Access, Arena, Device, Issuer, Lane, QueueCounters, QueueOptions, Request};
use serde_json::Value;

use super::cell::{Cell, Outcome};
use super::program::program;
use super::target::{KIB, MIB, Target, close, entries, expect, put};
use crate::tally::words;

/// Values in a batch, of 256 KiB each.
const VALUES: u64 = 64;
const VALUE_BYTES: usize = 256 * KIB;
/// Commands in flight. A batch has several times as many parts.
const DEPTH: u32 = 32;

/// Time that each side measures in a round.
const TURN: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// If the spread of the rounds exceeds this share of their median, more rounds follow, up to the maximum.
const SPREAD_MAX: f64 = 0.3;
const ROUNDS_MAX: usize = 11;

/// Runs the test. `least` is the minimum share of fio's bandwidth.
pub fn speed(cell: &mut Cell, target: &Target, least: Option<f64>) {
    let target = target.clone();
    let name = match least {
        Some(_) => "as fast as fio where the drive is the limit",
        None => "compared with fio",
    };
    cell.test(name, move || compare(&target, least.unwrap_or(0.0)));
}

/// MiB/s of each side in one round.
struct Round {
    store: f64,
    fio: f64,
    engine: f64,
}

fn compare(target: &Target, least: f64) -> Outcome {
    let all = entries(0, VALUES, VALUE_BYTES);
    target.format(&[(VALUE_BYTES, VALUES)])?;
    let store = target.open_with(|options| options.queue_depth = DEPTH)?;
    put(&store, &all, 16)?;
    // From now on all entries are verified, and a get reads nothing but the value.
    expect(&store, &all, all.len())?;
    let transfer = store
        .engine()
        .map_err(|why| why.to_string())?
        .limits()
        .transfer_max;
    let first = store.geometry().payload_offset(0).ok_or("no slot")?;
    let names: Vec<_> = all.iter().map(|entry| entry.name()).collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let mut lane = lane(target)?;
    let fio = Fio {
        node: target.path.display().to_string(),
        block: transfer.value,
        offset: first,
    };
    let before = store.stats().queues;
    let mut rounds: Vec<Round> = Vec::new();
    let ratio = |round: &Round| round.store / round.fio;
    while rounds.len() < ROUNDS
        || (rounds.len() < ROUNDS_MAX && spread(&rounds, ratio) > SPREAD_MAX)
    {
        rounds.push(Round {
            store: turn(|| get_all(&store, &names))?,
            fio: fio.measure()?,
            engine: turn(|| read_all(&mut lane.0, &lane.1, first))?,
        });
    }
    let queues = store.stats().queues;
    let average = QueueCounters {
        waits: queues.waits - before.waits,
        in_flight_at_waits: queues.in_flight_at_waits - before.in_flight_at_waits,
        ..queues
    }
    .in_flight_average();
    expect(&store, &all, all.len())?;
    close(&store)?;
    let (share, engine_share) = (
        median(&rounds, ratio),
        median(&rounds, |round| round.engine / round.fio),
    );
    let ratios = sorted(&rounds, ratio);
    let said = format!(
        "{share:.2} of fio ({:.2} to {:.2}, {} rounds): {:.0} of {:.0} MiB/s, in flight at most {} of {DEPTH}, on average \
         {average:.1}; engine alone {engine_share:.2} of fio, checksum alone {:.0} MiB/s; commands of {} KiB, \
         {} of {} on registered memory",
        ratios[0],
        ratios[ratios.len() - 1],
        rounds.len(),
        median(&rounds, |round| round.store),
        median(&rounds, |round| round.fio),
        queues.in_flight_max,
        checksums()?,
        transfer.value / KIB as u64,
        queues.fixed_parts,
        queues.parts,
    );
    if queues.in_flight_max != DEPTH {
        return Err(format!("the depth of {DEPTH} was not reached: {said}"));
    }
    match share >= least {
        true => Ok(said),
        false => Err(format!("less than {least}: {said}")),
    }
}

/// Gets one batch through the store; returns its bytes.
fn get_all(store: &Store, names: &[&[u8]]) -> Result<usize, String> {
    let mut bytes = 0;
    for answer in store.get_many(names) {
        let value = answer.map_err(|why| words(&why))?;
        bytes += value.ok_or("a value is not there")?.len();
    }
    Ok(bytes)
}

/// Opens a lane on the same node. It only reads, so it claims nothing.
fn lane(target: &Target) -> Result<(Lane, Arena), String> {
    let device = Device::open(&target.path, Access::ReadOnly).map_err(|why| words(&why))?;
    let engine = rb_io::open(device, target.engine)
        .map_err(|why| words(&why))?
        .engine;
    let arena = engine.arena(32 * MIB).map_err(|why| words(&why))?;
    let options = QueueOptions {
        depth: DEPTH,
        arenas: vec![arena.clone()],
        issuer: Issuer::Any,
        inline: true,
        linger: Duration::ZERO,
    };
    let queue = engine.queue(&options).map_err(|why| words(&why))?;
    Ok((Lane::new(queue, engine.limits()), arena))
}

/// Sends the same requests without a store.
fn read_all(lane: &mut Lane, arena: &Arena, first: u64) -> Result<usize, String> {
    let request = |at: u64| -> Result<Request, String> {
        let buffer = arena.take(VALUE_BYTES).ok_or("the arena is full")?;
        Ok(Request::read(at, buffer, 0, VALUE_BYTES))
    };
    let stride = (VALUE_BYTES + 4 * KIB) as u64;
    let requests: Result<Vec<_>, _> = (0..VALUES).map(|at| request(first + at * stride)).collect();
    for done in lane.run(requests?) {
        done.result.map_err(|why| words(&why))?;
    }
    Ok(VALUES as usize * VALUE_BYTES)
}

/// Measures the processor's rate of the store's checksum, over memory that is not in its cache.
fn checksums() -> Result<f64, String> {
    let bytes = vec![1; 16 * MIB];
    let identity = Identity {
        uuid: StoreUuid([1; 16]),
        epoch: 1,
    };
    turn(|| {
        for value in bytes.chunks(VALUE_BYTES) {
            std::hint::black_box(payload_checksum(&identity, Generation(1), 0, 0, value));
        }
        Ok(bytes.len())
    })
}

/// Returns the MiB/s of `step`, which returns the number of bytes it moved.
fn turn(mut step: impl FnMut() -> Result<usize, String>) -> Result<f64, String> {
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < TURN {
        bytes += step()?;
    }
    Ok(bytes as f64 / MIB as f64 / start.elapsed().as_secs_f64())
}

/// fio on the same bytes of the drive.
struct Fio {
    node: String,
    block: u64,
    offset: u64,
}

impl Fio {
    fn measure(&self) -> Result<f64, String> {
        let words = [
            "--name=reads".to_owned(),
            format!("--filename={}", self.node),
            "--ioengine=io_uring_cmd".into(),
            "--cmd_type=nvme".into(),
            "--fixedbufs".into(),
            "--registerfiles".into(),
            "--thread".into(),
            "--rw=read".into(),
            format!("--bs={}", self.block),
            format!("--iodepth={DEPTH}"),
            format!("--offset={}", self.offset),
            format!("--size={}", VALUES as usize * VALUE_BYTES),
            "--time_based".into(),
            format!("--runtime={}", TURN.as_secs()),
            "--output-format=json".into(),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = program("fio", &words)?;
        let start = text.find('{').unwrap_or_default();
        let said: Value =
            serde_json::from_str(&text[start..]).map_err(|why| format!("fio: {why}: {text}"))?;
        let job = &said["jobs"][0];
        match (job["error"].as_i64(), job["read"]["bw_bytes"].as_f64()) {
            (Some(0), Some(bytes)) if bytes > 0.0 => Ok(bytes / MIB as f64),
            _ => Err(format!("fio read nothing: {job}")),
        }
    }
}

fn sorted(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn median(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    sorted(rounds, figure)[rounds.len() / 2]
}

/// Returns the spread of the rounds as a share of their median.
fn spread(rounds: &[Round], figure: impl Fn(&Round) -> f64 + Copy) -> f64 {
    let figures = sorted(rounds, figure);
    (figures[figures.len() - 1] - figures[0]) / figures[figures.len() / 2]
}
