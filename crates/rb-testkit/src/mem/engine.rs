//! The engine: no threads, no time; pushed parts are executed by the next `reap`.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rb_io::{
    Board, DEPTH_MAX, Engine, Feature, Limits, OpKind, OpenError, Part, PartDone, Queue,
    QueueCounters, QueueOptions, Wait, Waker,
};

use super::state::MemDevice;
use crate::conformance::Faults;

const NAME: &str = "memory";

/// An [`Engine`] over a [`MemDevice`]; engines over the same device see the same bytes.
#[derive(Debug)]
pub struct MemEngine {
    device: Arc<MemDevice>,
}

impl MemEngine {
    /// Creates an engine over `device`.
    #[must_use]
    pub fn new(device: Arc<MemDevice>) -> Self {
        Self { device }
    }

    /// Returns the device below.
    #[must_use]
    pub fn device(&self) -> &Arc<MemDevice> {
        &self.device
    }
}

impl Engine for MemEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> &Limits {
        self.device.limits()
    }

    fn capacity_bytes(&self) -> u64 {
        self.device.capacity_bytes()
    }

    fn distrust_cache(&self) -> io::Result<Option<String>> {
        self.device.state.lock().drop_page_cache();
        Ok(None)
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        let depth = options.depth;
        if !(1..=DEPTH_MAX).contains(&depth) {
            return Err(OpenError::Depth {
                depth,
                max: DEPTH_MAX,
            });
        }
        Ok(Box::new(MemQueue {
            device: Arc::clone(&self.device),
            board: Arc::default(),
            depth,
            pushed: Vec::new(),
            submitted: 0,
            executed: 0,
            counters: QueueCounters::default(),
        }))
    }
}

impl Faults for Arc<MemDevice> {
    fn fail_next(&self, op: OpKind, range: Range<u64>, errno: i32) -> bool {
        MemDevice::fail_next(self, op, range, errno);
        true
    }

    fn short_next(&self, op: OpKind, range: Range<u64>, bytes: u32) -> bool {
        MemDevice::short_next(self, op, range, bytes);
        true
    }

    fn crash(&self) -> Option<Arc<dyn Engine>> {
        Some(Arc::new(MemEngine::new(MemDevice::crash(self))))
    }
}

struct MemQueue {
    device: Arc<MemDevice>,
    board: Arc<Board>,
    depth: u32,
    pushed: Vec<Part>,
    /// Number of parts in `pushed` that were submitted.
    submitted: usize,
    /// Number of parts with the device: held, or done and not reaped.
    executed: u32,
    counters: QueueCounters,
}

impl Queue for MemQueue {
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
        self.pushed.len() as u32 + self.executed
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
        if self.submitted < self.pushed.len() {
            self.counters.submissions += 1;
            self.submitted = self.pushed.len();
        }
        Ok(())
    }

    fn reap(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()> {
        self.submit()?;
        let parts = std::mem::take(&mut self.pushed);
        self.submitted = 0;
        // A depth is a u32.
        self.executed += parts.len() as u32;
        self.device.run(parts, &self.board)?;
        if self.board.ready() < at_least as usize {
            self.device.run_slow();
        }
        let wait = Wait::new(at_least, timeout);
        let (count, woken) = self.board.reap(wait, self.executed, done);
        self.counters.wakes += u64::from(woken);
        self.executed -= count;
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.board.waker()
    }

    fn counters(&self) -> QueueCounters {
        self.counters
    }

    fn report(&self) -> Vec<Feature> {
        vec![Feature::off(
            "registered buffers",
            "the memory engine has none",
        )]
    }
}
