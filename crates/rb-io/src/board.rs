//! Collects parts completed by other threads, and lets the queue's owner wait for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::request::PartDone;
use crate::wake::Waker;

/// The arguments of one call of [`Queue::reap`](crate::Queue::reap), with the timeout as a
/// deadline. For authors of engines.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    at_least: u32,
    /// `None` means no limit.
    deadline: Option<Instant>,
}

impl Wait {
    /// Creates a wait from the arguments of `reap`.
    #[must_use]
    pub fn new(at_least: u32, timeout: Option<Duration>) -> Wait {
        // A timeout too long for the clock means no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Wait { at_least, deadline }
    }

    /// Returns how many completions are missing if `got` are ready and `left` more are in flight.
    /// [`u32::MAX`] if nothing is in flight: only a wake or the timeout ends the wait.
    #[must_use]
    pub fn missing(&self, got: usize, left: u32) -> u32 {
        if self.at_least > 0 && got == 0 && left == 0 {
            return u32::MAX;
        }
        let got = u32::try_from(got).unwrap_or(u32::MAX);
        self.at_least
            .min(got.saturating_add(left))
            .saturating_sub(got)
    }

    /// Returns the time left; `None` means no limit.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// Collects parts completed by other threads until the queue's owner reaps them. For authors of
/// engines.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<PartDone>,
    woken: bool,
    /// Number of parts that the waiter needs, 0 without a waiter. Avoids a wakeup for every part.
    wanted: usize,
}

impl Board {
    /// Adds completed parts in one step.
    pub fn put(&self, done: impl IntoIterator<Item = PartDone>) {
        let mut state = self.state.lock();
        state.ready.extend(done);
        let enough = state.wanted > 0 && state.ready.len() >= state.wanted;
        // Notify outside the lock, which the woken thread takes at once.
        drop(state);
        if enough {
            self.changed.notify_one();
        }
    }

    /// Returns the number of parts that can be reaped without waiting.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Returns a waker for the queue's owner. It does nothing once the board is gone.
    #[must_use]
    pub fn waker(self: &Arc<Self>) -> Waker {
        let board = Arc::downgrade(self);
        Waker::new(move || {
            if let Some(board) = board.upgrade() {
                board.state.lock().woken = true;
                board.changed.notify_one();
            }
        })
    }

    /// Waits as `wait` specifies and moves ready parts to `done`. `started` is the number of parts
    /// that were put or will be. Returns how many were moved, and whether a wake was consumed: only
    /// a call that had to wait consumes one.
    pub fn reap(&self, wait: Wait, started: u32, done: &mut Vec<PartDone>) -> (u32, bool) {
        let mut state = self.state.lock();
        // At most the depth, which is a u32.
        let left = started.saturating_sub(state.ready.len() as u32);
        let missing = wait.missing(state.ready.len(), left);
        let mut woken = false;
        if missing > 0 {
            let wanted = state.ready.len().saturating_add(missing as usize);
            state.wanted = wanted;
            let mut timed_out = false;
            while state.ready.len() < wanted && !state.woken && !timed_out {
                match wait.deadline {
                    Some(deadline) => {
                        timed_out = self.changed.wait_until(&mut state, deadline).timed_out();
                    }
                    None => self.changed.wait(&mut state),
                }
            }
            state.wanted = 0;
            woken = std::mem::take(&mut state.woken);
        }
        let count = state.ready.len() as u32;
        done.append(&mut state.ready);
        (count, woken)
    }
}
