//! Where workers leave what they have done and the queue's owner waits for it.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::request::PartDone;

#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<PartDone>,
    woken: bool,
    /// What the waiter waits for; 0 when nobody does. Saves waking it for every single part.
    wanted: usize,
}

impl Board {
    pub(super) fn put(&self, done: PartDone) {
        let mut state = self.state.lock();
        state.ready.push(done);
        let enough = state.wanted > 0 && state.ready.len() >= state.wanted;
        drop(state);
        if enough {
            self.changed.notify_one();
        }
    }

    pub(super) fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_one();
    }

    /// Moves what is ready to `done` without waiting; says how many.
    pub(super) fn take(&self, done: &mut Vec<PartDone>) -> usize {
        let mut state = self.state.lock();
        let count = state.ready.len();
        done.append(&mut state.ready);
        count
    }

    /// Waits until `wanted` (at least 1) are ready, a wake, or `deadline` (`None`: no limit), then
    /// moves what is ready to `done`. Says how many, and whether a wake was consumed.
    pub(super) fn wait(
        &self,
        wanted: usize,
        deadline: Option<Instant>,
        done: &mut Vec<PartDone>,
    ) -> (usize, bool) {
        let mut state = self.state.lock();
        state.wanted = wanted;
        let mut timed_out = false;
        while state.ready.len() < wanted && !state.woken && !timed_out {
            match deadline {
                Some(deadline) => {
                    timed_out = self.changed.wait_until(&mut state, deadline).timed_out();
                }
                None => self.changed.wait(&mut state),
            }
        }
        state.wanted = 0;
        let count = state.ready.len();
        done.append(&mut state.ready);
        let woken = std::mem::take(&mut state.woken);
        (count, woken)
    }
}
