//! An engine of one's own: a device in RAM, checked by the conformance suite, with a store on it.
//!
//! `cargo run -p rb-examples --bin own_engine`
//!
//! An engine is two traits. [`Engine`] names limits and capacity and opens queues; a [`Queue`] takes parts that are
//! within the limits and hands each back when it has ended. This one executes a part when it is submitted. The
//! [`Board`] does the waiting: timeouts, wakes, and threads that complete parts later.
#![expect(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rb_core::{ClassRequest, FormatOptions, Share, Source, Store, StoreOptions, format};
use rb_io::{
    Board, DEPTH_MAX, Engine, Feature, Limits, OpKind, OpenError, Part, PartDone, Queue,
    QueueCounters, QueueOptions, Wait, Waker,
};
use rb_testkit::conformance;

const NAME: &str = "ram";

fn main() -> Result<(), Box<dyn Error>> {
    let checked = conformance::run(NAME, &|| {
        Arc::new(RamEngine::new(conformance::CAPACITY_MIN))
    });
    println!("{} checks of the conformance suite passed", checked.passed);
    assert!(checked.passed > 0);

    let engine: Arc<dyn Engine> = Arc::new(RamEngine::new(16 << 20));
    let class = ClassRequest {
        slot_bytes: 64 << 10,
        share: Share::Rest,
    };
    format(&FormatOptions::new(
        Source::Engine(Arc::clone(&engine)),
        vec![class],
    ))?;
    let store = Store::open(Arc::clone(&engine), StoreOptions::default())?;
    assert_eq!(store.engine_name(), NAME);
    store.put(b"key", &[7; 50_000])?;
    store.close()?;

    // The bytes belong to the engine, not to the store.
    let store = Store::open(engine, StoreOptions::default())?;
    let value = store.get(b"key")?.ok_or("it was put")?;
    assert_eq!(&value[..], [7; 50_000]);
    println!("a store on it kept its value over a restart");
    Ok(store.close()?)
}

type Bytes = Arc<Mutex<Vec<u8>>>;

/// A device in RAM. Engines and queues share its bytes.
#[derive(Debug)]
struct RamEngine {
    bytes: Bytes,
    limits: Limits,
}

impl RamEngine {
    fn new(bytes: u64) -> RamEngine {
        RamEngine {
            bytes: Arc::new(Mutex::new(vec![0; bytes as usize])),
            limits: Limits::simple(512, 1 << 20, NAME),
        }
    }
}

impl Engine for RamEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn capacity_bytes(&self) -> u64 {
        lock(&self.bytes).len() as u64
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        let (depth, max) = (options.depth, DEPTH_MAX);
        if !(1..=max).contains(&depth) {
            return Err(OpenError::Depth { depth, max });
        }
        Ok(Box::new(RamQueue {
            bytes: Arc::clone(&self.bytes),
            depth,
            pushed: Vec::new(),
            executed: 0,
            board: Arc::default(),
            counters: QueueCounters::default(),
        }))
    }
}

struct RamQueue {
    bytes: Bytes,
    depth: u32,
    pushed: Vec<Part>,
    /// Parts on the board.
    executed: u32,
    board: Arc<Board>,
    counters: QueueCounters,
}

impl Queue for RamQueue {
    fn engine(&self) -> &'static str {
        NAME
    }

    fn capacity_bytes(&self) -> u64 {
        lock(&self.bytes).len() as u64
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn in_flight(&self) -> u32 {
        self.pushed.len() as u32 + self.executed
    }

    fn push(&mut self, part: Part) -> Result<(), Part> {
        if self.in_flight() >= self.depth {
            return Err(part);
        }
        let transfers = matches!(part.op, OpKind::Read | OpKind::Write);
        self.counters.unregistered_parts += u64::from(transfers);
        self.pushed.push(part);
        self.counters.count_push(self.in_flight());
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        if self.pushed.is_empty() {
            return Ok(());
        }
        self.counters.submissions += 1;
        let mut device = lock(&self.bytes);
        let done = self.pushed.drain(..).map(|part| PartDone {
            token: part.token,
            result: execute(&mut device, &part),
            buf: part.buf,
        });
        let done: Vec<PartDone> = done.collect();
        self.executed += done.len() as u32;
        self.board.put(done);
        Ok(())
    }

    fn reap(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()> {
        self.submit()?;
        let wait = Wait::new(at_least, timeout);
        let (count, woken) = self.board.reap(wait, self.executed, done);
        self.executed -= count;
        self.counters.wakes += u64::from(woken);
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.board.waker()
    }

    fn counters(&self) -> QueueCounters {
        self.counters
    }

    fn report(&self) -> Vec<Feature> {
        vec![Feature::off("registered buffers", "RAM needs none")]
    }
}

/// Executes one part. Returns the bytes moved, which at the end of the device are fewer than asked for.
fn execute(device: &mut [u8], part: &Part) -> io::Result<u32> {
    part.check()?;
    let start = device.len().min(part.offset as usize);
    let end = device.len().min(start + part.len as usize);
    let range = &mut device[start..end];
    match (part.op, &part.buf) {
        (OpKind::Read, Some(buf)) => buf.copy_from(part.buf_offset, range)?,
        (OpKind::Write, Some(buf)) => buf.copy_to(part.buf_offset, range)?,
        // `check` has refused a transfer without a buffer.
        (OpKind::Read | OpKind::Write, None) => return Err(io::ErrorKind::InvalidInput.into()),
        (OpKind::Flush, _) => return Ok(0),
        // What a discarded range reads as is not defined; zeros are allowed.
        (OpKind::Discard, _) => range.fill(0),
    }
    Ok((end - start) as u32)
}

fn lock(bytes: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}
