//! A queue of the libblkio engine: the parts of one owner, over a port that may be shared.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::Board;
use super::driver::Driver;
use super::port::{Port, Waiting};
use crate::arena::{Arena, ArenaId};
use crate::board::Wait;
use crate::descriptors;
use crate::device::Device;
use crate::engine::{Feature, Queue, QueueCounters, QueueOptions};
use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::process::Process;
use crate::request::{OpKind, Part, PartDone};
use crate::wake::Waker;

pub(super) const NAME: &str = "libblkio";

/// Time that a dropped queue waits for its parts before it leaves them to the port.
const DROP_WAIT: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 30_000 });

/// Number of consecutive turns that may be refused temporarily, and the sleep between them.
/// Together a little under a second.
const REFUSALS_MAX: u32 = 200;
const REFUSAL_SLEEP: Duration = Duration::from_millis(4);

pub(super) struct BlkioQueue {
    process: Process,
    port: Arc<Port>,
    board: Arc<Board>,
    /// Keeps the claim on the device; `None` for a socket.
    #[expect(dead_code, reason = "it is open, that is what it is for")]
    device: Option<Arc<Device>>,
    capacity_bytes: u64,
    depth: u32,
    /// True if memory must be mapped into the driver, and the arenas that are mapped.
    needs_regions: bool,
    mapped: Vec<ArenaId>,
    pushed: Vec<Waiting>,
    /// Parts refused without being sent; reaped like any other.
    invalid: Vec<PartDone>,
    /// Number of parts held by the port or waiting on the board.
    started: u32,
    counters: QueueCounters,
    report: Vec<Feature>,
}

impl BlkioQueue {
    pub(super) fn new(
        port: Arc<Port>,
        driver: &Driver,
        device: Option<Arc<Device>>,
        capacity_bytes: u64,
        options: &QueueOptions,
    ) -> Result<Self, OpenError> {
        let board = Board::new().map_err(|source| OpenError::Engine {
            kind: EngineKind::Libblkio,
            step: "eventfd",
            reason: descriptors::none_left(&source).unwrap_or_else(|| "the kernel refused".into()),
            source: Some(source),
        })?;
        let needs_regions = driver.needs_regions();
        let (mapped, buffers) = match needs_regions {
            true => map(driver, &options.arenas),
            false => (
                Vec::new(),
                Feature::off("registered buffers", "this driver registers none"),
            ),
        };
        Ok(Self {
            process: Process::current(),
            port,
            board: Arc::new(board),
            device,
            capacity_bytes,
            depth: options.depth,
            needs_regions,
            mapped,
            pushed: Vec::new(),
            invalid: Vec::new(),
            started: 0,
            counters: QueueCounters::default(),
            report: vec![
                buffers,
                driver.report(),
                Feature::off("placement", "libblkio cannot pass it on"),
            ],
        })
    }

    /// Returns an error if a part cannot be sent. Checks the end of the device too, because
    /// libblkio zero-fills reads past the end of a file and grows the file for writes.
    fn check(&self, part: &Part) -> io::Result<()> {
        part.check()?;
        let end = part.offset.checked_add(part.len.into());
        if part.op == OpKind::Flush || end.is_some_and(|end| end <= self.capacity_bytes) {
            return Ok(());
        }
        let words = format!(
            "{:?} of {} bytes at {} passes the end of the device, {} bytes",
            part.op, part.len, part.offset, self.capacity_bytes
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, words))
    }

    /// Takes a turn of the port and collects its completions.
    fn turn(&mut self, done: &mut Vec<PartDone>) -> io::Result<()> {
        if !self.pushed.is_empty() {
            self.counters.submissions += 1;
            // At most the depth, which is a u32.
            self.started += self.pushed.len() as u32;
        }
        let mut refusals = 0;
        loop {
            let error = match self.port.turn(&self.board, self.pushed.drain(..)) {
                Ok(()) => break,
                Err(error) => error,
            };
            let again = crate::error::is_transient(&error);
            if !again || refusals == REFUSALS_MAX {
                return Err(error);
            }
            refusals += 1;
            if error.kind() != io::ErrorKind::Interrupted {
                std::thread::sleep(REFUSAL_SLEEP);
            }
        }
        done.append(&mut self.invalid);
        for ended in self.board.take() {
            self.started -= 1;
            done.push(ended.into_done());
        }
        Ok(())
    }
}

impl Queue for BlkioQueue {
    fn engine(&self) -> &'static str {
        NAME
    }

    fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn in_flight(&self) -> u32 {
        // Never above the depth, which is a u32.
        self.started + (self.pushed.len() + self.invalid.len()) as u32
    }

    fn push(&mut self, part: Part) -> Result<(), Part> {
        if self.in_flight() >= self.depth {
            return Err(part);
        }
        if let Err(error) = self.check(&part) {
            let Part { token, buf, .. } = part;
            let result = Err(error);
            self.invalid.push(PartDone { token, buf, result });
            return Ok(());
        }
        let mapped = part
            .buf
            .as_ref()
            .is_some_and(|buf| self.mapped.contains(&buf.arena().id()));
        if matches!(part.op, OpKind::Read | OpKind::Write) {
            self.counters.fixed_parts += u64::from(mapped);
            self.counters.unregistered_parts += u64::from(!mapped);
        }
        self.pushed.push(Waiting {
            direct: mapped || !self.needs_regions || part.buf.is_none(),
            board: Arc::clone(&self.board),
            part,
        });
        self.counters.count_push(self.in_flight());
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        let mut done = Vec::new();
        if !self.pushed.is_empty() {
            self.turn(&mut done)?;
        }
        // Completions are kept for the next `reap`.
        self.invalid.append(&mut done);
        Ok(())
    }

    fn reap(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()> {
        let wait = Wait::new(at_least, timeout);
        let before = done.len();
        loop {
            self.turn(done)?;
            let left = self.in_flight();
            if wait.missing(done.len() - before, left) == 0 {
                return Ok(());
            }
            if self.board.consume_wake() {
                self.counters.wakes += 1;
                return Ok(());
            }
            let time = wait.time_left();
            if time == Some(Duration::ZERO) {
                return Ok(());
            }
            self.port.sleep(&self.board, left == 0, time)?;
        }
    }

    fn waker(&self) -> Waker {
        let board = Arc::clone(&self.board);
        Waker::new(move || board.wake())
    }

    fn counters(&self) -> QueueCounters {
        self.counters
    }

    fn report(&self) -> Vec<Feature> {
        self.report.clone()
    }
}

impl Drop for BlkioQueue {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // A forked child shares the queue with its parent, and has none of the threads that
            // would complete its parts.
            return;
        }
        let deadline = Instant::now() + DROP_WAIT;
        let mut done = Vec::new();
        while self.in_flight() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            // An error means that waiting is useless; the port keeps the memory of its parts.
            if left.is_zero() || self.reap(u32::MAX, Some(left), &mut done).is_err() {
                break;
            }
        }
    }
}

fn map(driver: &Driver, arenas: &[Arena]) -> (Vec<ArenaId>, Feature) {
    const NAME: &str = "registered buffers";
    if arenas.is_empty() {
        return (Vec::new(), Feature::off(NAME, "no arena was given"));
    }
    let (mapped, outcome) = driver.map(arenas);
    let words = match &outcome {
        Ok(()) => format!("{} arenas mapped by the server", mapped.len()),
        Err(why) => format!(
            "{} of {} arenas mapped by the server; what lies elsewhere is copied: {why}",
            mapped.len(),
            arenas.len()
        ),
    };
    let feature = match mapped.is_empty() {
        true => Feature::off(NAME, words),
        false => Feature::on(NAME, words),
    };
    (mapped, feature)
}
