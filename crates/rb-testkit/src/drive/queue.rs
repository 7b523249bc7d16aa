//! A queue of a drive: its owner waits until the sent parts have completed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_io::{Feature, OpKind, Part, PartDone, Queue, QueueCounters, Wait, Waker};

use super::shared::{Bell, Drive, NAME};

pub(super) struct DriveQueue {
    drive: Arc<Drive>,
    depth: u32,
    registered: bool,
    bell: Arc<Bell>,
    pushed: Vec<Part>,
    /// Parts sent, with their completion time; `None` if held.
    sent: Vec<(Option<Instant>, PartDone)>,
    counters: QueueCounters,
}

impl DriveQueue {
    pub(super) fn new(drive: Arc<Drive>, depth: u32, registered: bool) -> DriveQueue {
        DriveQueue {
            drive,
            depth,
            registered,
            bell: Arc::default(),
            pushed: Vec::new(),
            sent: Vec::new(),
            counters: QueueCounters::default(),
        }
    }

    /// Moves completed parts to `done`. Returns the completion time of the next one.
    fn take_ended(&mut self, done: &mut Vec<PartDone>) -> Option<Instant> {
        let now = Instant::now();
        let ended = self
            .sent
            .extract_if(.., |(due, _)| due.is_some_and(|due| due <= now));
        let before = done.len();
        done.extend(ended.map(|(_, done)| done));
        if !self.registered && done.len() > before {
            let mut state = self.drive.state.lock();
            state.unregistered.end(done.len() - before);
        }
        self.sent.iter().filter_map(|(due, _)| *due).min()
    }
}

impl Drop for DriveQueue {
    fn drop(&mut self) {
        if !self.registered && !self.sent.is_empty() {
            let mut state = self.drive.state.lock();
            state.unregistered.end(self.sent.len());
        }
    }
}

impl Queue for DriveQueue {
    fn engine(&self) -> &'static str {
        NAME
    }

    fn capacity_bytes(&self) -> u64 {
        self.drive.bytes.lock().len() as u64
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn in_flight(&self) -> u32 {
        // Never above the depth, which is a u32.
        (self.pushed.len() + self.sent.len()) as u32
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
        self.counters.submissions += u64::from(!self.pushed.is_empty());
        for part in self.pushed.drain(..) {
            let due = self.drive.due(&part, self.registered, &self.bell);
            let result = self.drive.execute(&part);
            let Part { token, buf, .. } = part;
            self.sent.push((due, PartDone { token, buf, result }));
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
        let (wait, before) = (Wait::new(at_least, timeout), done.len());
        loop {
            let next = self.take_ended(done);
            // Parts in flight are at most the depth.
            let missing = wait.missing(done.len() - before, self.in_flight());
            let left = wait.time_left();
            if missing == 0 || left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            let deadline = left.map(|left| Instant::now() + left);
            let until = [deadline, next].into_iter().flatten().min();
            let bell = Arc::clone(&self.bell);
            let mut rung = bell.rung.lock();
            if !rung.woken && !rung.released {
                match until {
                    Some(until) => drop(bell.ring.wait_until(&mut rung, until)),
                    None => bell.ring.wait(&mut rung),
                }
            }
            if std::mem::take(&mut rung.released) {
                let now = Instant::now();
                for (due, _) in &mut self.sent {
                    due.get_or_insert(now);
                }
            }
            if std::mem::take(&mut rung.woken) {
                self.counters.wakes += 1;
                drop(rung);
                self.take_ended(done);
                return Ok(());
            }
        }
    }

    fn waker(&self) -> Waker {
        let bell = Arc::downgrade(&self.bell);
        Waker::new(move || {
            if let Some(bell) = bell.upgrade() {
                bell.rung.lock().woken = true;
                bell.ring.notify_all();
            }
        })
    }

    fn counters(&self) -> QueueCounters {
        self.counters
    }

    fn report(&self) -> Vec<Feature> {
        vec![Feature::off("registered buffers", "the drive has none")]
    }
}
