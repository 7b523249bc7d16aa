//! A queue of the posix engine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::execute::execute;
use super::pool::{Job, Pool};
use crate::board::{Board, Wait};
use crate::device::Device;
use crate::engine::{Feature, Queue, QueueCounters, QueueOptions};
use crate::request::{OpKind, Part, PartDone};
use crate::wake::Waker;

pub(super) const NAME: &str = "posix";

/// How long a dropped queue waits for its parts. Jobs own everything they use, so a job that takes
/// longer is safe.
const DROP_WAIT: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 30_000 });

pub(super) struct PosixQueue {
    device: Arc<Device>,
    pool: Arc<Pool>,
    board: Arc<Board>,
    depth: u32,
    inline: bool,
    pushed: Vec<Part>,
    /// Number of parts held by the workers or waiting on the board.
    started: u32,
    counters: QueueCounters,
}

impl PosixQueue {
    pub(super) fn new(device: Arc<Device>, pool: Arc<Pool>, options: &QueueOptions) -> Self {
        Self {
            device,
            pool,
            board: Arc::default(),
            depth: options.depth,
            inline: options.inline,
            pushed: Vec::new(),
            started: 0,
            counters: QueueCounters::default(),
        }
    }

    fn start_all(&mut self) {
        if self.pushed.is_empty() {
            return;
        }
        self.counters.submissions += 1;
        // At most the depth, which is a u32.
        self.started += self.pushed.len() as u32;
        let Self {
            device,
            pool,
            board,
            pushed,
            ..
        } = self;
        pool.send(pushed.drain(..).map(|part| Job {
            device: Arc::clone(device),
            part,
            board: Arc::clone(board),
        }));
    }

    /// Runs a single part in the calling thread.
    fn run_inline(&mut self, done: &mut Vec<PartDone>) {
        if let Some(part) = self.pushed.pop() {
            self.counters.submissions += 1;
            done.push(execute(&self.device, part));
        }
    }
}

impl Queue for PosixQueue {
    fn engine(&self) -> &'static str {
        NAME
    }

    fn capacity_bytes(&self) -> u64 {
        self.device.capacity_bytes()
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn in_flight(&self) -> u32 {
        // Never above the depth, which is a u32.
        self.pushed.len() as u32 + self.started
    }

    fn push(&mut self, part: Part) -> Result<(), Part> {
        if self.in_flight() >= self.depth {
            return Err(part);
        }
        if matches!(part.op, OpKind::Read | OpKind::Write) {
            self.counters.unregistered_parts += 1;
        }
        self.pushed.push(part);
        self.counters.count_push(self.in_flight());
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        self.start_all();
        Ok(())
    }

    fn reap(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()> {
        let wait = Wait::new(at_least, timeout);
        // A caller that waits for one part can do it itself: that saves two thread switches.
        if self.inline && at_least > 0 && self.started == 0 && self.pushed.len() == 1 {
            self.run_inline(done);
            return Ok(());
        }
        self.start_all();
        let (count, woken) = self.board.reap(wait, self.started, done);
        self.counters.wakes += u64::from(woken);
        self.started -= count;
        Ok(())
    }

    fn cancel(&mut self, tokens: &[u64]) {
        let pushed = std::mem::take(&mut self.pushed).into_iter();
        let (unstarted, pushed): (Vec<Part>, Vec<Part>) =
            pushed.partition(|part| tokens.contains(&part.token));
        self.pushed = pushed;
        // They wait on the board, like those that were started. At most the depth, which is a u32.
        self.started += unstarted.len() as u32;
        let withdrawn = self.pool.withdraw(&self.board, tokens).into_iter();
        self.board
            .put(withdrawn.chain(unstarted).map(|part| PartDone {
                token: part.token,
                buf: part.buf,
                result: Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            }));
    }

    fn waker(&self) -> Waker {
        self.board.waker()
    }

    fn counters(&self) -> QueueCounters {
        self.counters
    }

    fn report(&self) -> Vec<Feature> {
        vec![
            Feature::on("worker threads", format!("at most {}", self.pool.allowed())),
            Feature::off("registered buffers", "the posix engine has none"),
            Feature::off("placement", "the posix engine cannot pass it on"),
        ]
    }
}

impl Drop for PosixQueue {
    fn drop(&mut self) {
        if !self.device.is_here() {
            // A forked child has none of the threads that would complete its parts.
            return;
        }
        let wait = Wait::new(u32::MAX, Some(DROP_WAIT));
        let mut done = Vec::new();
        // Parts that were pushed and never started need no wait; no thread has them.
        while self.started > 0 && wait.time_left() != Some(Duration::ZERO) {
            let (count, _) = self.board.reap(wait, self.started, &mut done);
            self.started -= count;
        }
    }
}
