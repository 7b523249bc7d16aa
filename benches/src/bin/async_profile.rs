//! Measures the overhead of an async call over a blocking one, with an engine that completes immediately.
//! `cargo run --release -p rb-bench --bin async_profile -- [SECONDS]`
//!
//! The engine copies to and from memory in the submitting thread, so only software is measured: the CPU time per value
//! of 64 KiB, in calls of one and of four values, blocking and with 32 values in flight. The copy and the checksum are
//! included in both.

use std::collections::VecDeque;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use parking_lot::Mutex;
use rb_bench::key;
use rb_core::{ClassRequest, FormatOptions, Limits, Share, Store, StoreOptions, format};
use rb_io::{
    Board, Engine, Feature, OpKind, OpenError, Part, PartDone, Queue, QueueCounters, QueueOptions,
    Wait, Waker,
};
use serde_json::json;

const VALUE_BYTES: usize = 64 << 10;
const VALUES: u64 = 512;
const DEVICE_BYTES: usize = 128 << 20;
/// Values in flight of async calls.
const IN_FLIGHT: usize = 32;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
struct Memory {
    bytes: Mutex<Vec<u8>>,
    limits: Limits,
}

#[derive(Debug)]
struct NullEngine(Arc<Memory>);

impl Engine for NullEngine {
    fn name(&self) -> &'static str {
        "null"
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn capacity_bytes(&self) -> u64 {
        DEVICE_BYTES as u64
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        Ok(Box::new(NullQueue {
            memory: Arc::clone(&self.0),
            depth: options.depth,
            board: Arc::default(),
            started: 0,
        }))
    }
}

struct NullQueue {
    memory: Arc<Memory>,
    depth: u32,
    board: Arc<Board>,
    started: u32,
}

impl NullQueue {
    fn execute(&self, part: &Part) -> io::Result<u32> {
        let at = part.offset as usize;
        let range = at..at + part.len as usize;
        let mut bytes = self.memory.bytes.lock();
        match (part.op, &part.buf) {
            (OpKind::Read, Some(buf)) => buf.copy_from(part.buf_offset, &bytes[range])?,
            (OpKind::Write, Some(buf)) => buf.copy_to(part.buf_offset, &mut bytes[range])?,
            _ => {}
        }
        Ok(part.len)
    }
}

impl Queue for NullQueue {
    fn engine(&self) -> &'static str {
        "null"
    }

    fn capacity_bytes(&self) -> u64 {
        DEVICE_BYTES as u64
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn in_flight(&self) -> u32 {
        self.started
    }

    fn push(&mut self, part: Part) -> Result<(), Part> {
        if self.in_flight() >= self.depth {
            return Err(part);
        }
        let result = self.execute(&part);
        let Part { token, buf, .. } = part;
        self.board.put([PartDone { token, buf, result }]);
        self.started += 1;
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reap(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()> {
        let (count, _) = self
            .board
            .reap(Wait::new(at_least, timeout), self.started, done);
        self.started -= count;
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.board.waker()
    }

    fn counters(&self) -> QueueCounters {
        QueueCounters::default()
    }

    fn report(&self) -> Vec<Feature> {
        Vec::new()
    }
}

/// Measures the CPU time of async and of blocking gets, with an engine that completes immediately.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds of each of the four measurements, for example 0.5.
    #[arg(default_value_t = 1.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("async_profile: {why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn run(args: &Args) -> Result<(), Failure> {
    let time = Duration::try_from_secs_f64(args.seconds)?;
    let engine: Arc<dyn Engine> = Arc::new(NullEngine(Arc::new(Memory {
        bytes: Mutex::new(vec![0; DEVICE_BYTES]),
        limits: Limits::simple(4096, 1 << 30, "null engine"),
    })));
    let class = ClassRequest {
        slot_bytes: VALUE_BYTES as u64,
        share: Share::Slots(VALUES * 2),
    };
    format(&FormatOptions::new(Arc::clone(&engine), vec![class]))?;
    let store = Store::open(engine, StoreOptions::default())?;
    let value = vec![7; VALUE_BYTES];
    let keys: Vec<_> = (0..VALUES).map(key).collect();
    for key in &keys {
        store.put(key, &value)?;
    }
    let mut measured = Vec::new();
    for size in [1, 4] {
        let calls: Vec<Vec<&[u8]>> = keys
            .chunks(size)
            .map(|keys| keys.iter().map(|key| &key[..]).collect())
            .collect();
        let blocking = cpu_of(time, &calls, |calls| {
            for keys in calls {
                store
                    .get_many(keys)
                    .into_iter()
                    .try_for_each(|found| found.map(drop))?;
            }
            Ok(())
        })?;
        let pending = cpu_of(time, &calls, |calls| {
            let mut flying = VecDeque::new();
            for keys in calls {
                flying.push_back(store.get_many_async(keys));
                if flying.len() * size >= IN_FLIGHT
                    && let Some(first) = flying.pop_front()
                {
                    first
                        .wait()
                        .into_iter()
                        .try_for_each(|found| found.map(drop))?;
                }
            }
            for operation in flying {
                operation
                    .wait()
                    .into_iter()
                    .try_for_each(|found| found.map(drop))?;
            }
            Ok(())
        })?;
        measured.push(json!({
            "keys_per_call": size,
            "blocking_cpu_us_per_value": blocking,
            "async_cpu_us_per_value": pending,
            "difference_us": pending - blocking,
        }));
    }
    println!("{:#}", json!(measured));
    store.close()?;
    Ok(())
}

/// Returns the CPU time of all threads in microseconds per value.
fn cpu_of(
    time: Duration,
    calls: &[Vec<&[u8]>],
    mut round: impl FnMut(&[Vec<&[u8]>]) -> Result<(), rb_core::Error>,
) -> Result<f64, Failure> {
    round(calls)?;
    let (start, before, mut values) = (Instant::now(), cpu()?, 0);
    while start.elapsed() < time {
        round(calls)?;
        values += calls.iter().map(Vec::len).sum::<usize>();
    }
    Ok((cpu()? - before).as_secs_f64() * 1e6 / values as f64)
}

/// Returns the CPU time of this process, in the resolution of the scheduler's accounting.
fn cpu() -> Result<Duration, Failure> {
    let mut all = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let nanos = stat.split(' ').next().ok_or("no time in schedstat")?;
        all += Duration::from_nanos(nanos.parse()?);
    }
    Ok(all)
}
