//! Injects faults into a device.

use std::ops::Range;

use rb_io::OpKind;

use super::faults::Fault;
use super::rates::{Chance, FaultRates};
use super::state::{MemDevice, Trap};

impl MemDevice {
    /// Puts writes into a page cache from now on, like a file opened without `O_DIRECT` on Linux: a
    /// failed flush leaves them there clean, readable through every engine of the device until an
    /// opener distrusts the cache ([`Engine::distrust_cache`](rb_io::Engine::distrust_cache)), and
    /// no later flush writes them. Not modelled by [`crash_points`](Self::crash_points).
    pub fn page_cache(&self) {
        self.state.lock().page_cache = true;
    }

    /// Makes the next `op` that touches `range` fail with `errno` and change nothing.
    pub fn fail_next(&self, op: OpKind, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(op, range, Fault::Errno(errno), Some(1));
    }

    /// Makes the next `times` of `op` that touch `range` fail with `errno`.
    pub fn fail_times(&self, op: OpKind, range: Range<u64>, errno: i32, times: u32) {
        if times > 0 {
            self.state
                .lock()
                .faults
                .add(op, range, Fault::Errno(errno), Some(times));
        }
    }

    /// Makes every `op` that touches `range` fail with `errno`, until [`heal`](Self::heal).
    pub fn fail_always(&self, op: OpKind, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(op, range, Fault::Errno(errno), None);
    }

    /// Makes the next `op` that touches `range` move at most `bytes`.
    pub fn short_next(&self, op: OpKind, range: Range<u64>, bytes: u32) {
        self.state
            .lock()
            .faults
            .add(op, range, Fault::Short(bytes), Some(1));
    }

    /// Makes the next read that touches `range` return every byte inverted: a bad transfer from an
    /// intact medium.
    pub fn garble_next(&self, range: Range<u64>) {
        self.state
            .lock()
            .faults
            .add(OpKind::Read, range, Fault::Garble, Some(1));
    }

    /// Makes the next write that touches `range` fail with `errno` but land anyway: at the next
    /// flush, on top of any writes in between.
    pub fn late_next(&self, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(OpKind::Write, range, Fault::Late(errno), Some(1));
    }

    /// Makes the next discard that touches `range` fail with `errno` but land anyway, as in
    /// [`late_next`](Self::late_next).
    pub fn late_discard(&self, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(OpKind::Discard, range, Fault::Late(errno), Some(1));
    }

    /// Makes requests fail at random, at the rates of the first region that contains their first
    /// byte.
    pub fn set_rates(&self, seed: u64, regions: Vec<(Range<u64>, FaultRates)>) {
        self.state.lock().chance = Chance::new(seed, regions);
    }

    /// Removes every scripted fault and every random one; holds stay.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.chance = Chance::default();
        state.lost_flushes = false;
        state.queue_errno = None;
    }

    /// Makes flushes succeed without making anything durable, like a lying drive.
    pub fn lose_flushes(&self) {
        self.state.lock().lost_flushes = true;
    }

    /// Cuts the power after `count` more writes and flushes: everything later fails and changes
    /// nothing. For crashing at every single write of a run.
    pub fn cut_power_after(&self, count: u64) {
        self.state.lock().power = Some(count);
    }

    /// Calls `act` just before the write or flush that follows `count` more of them. For a fault at
    /// every single write of a run; one trap at a time.
    pub fn before_write(&self, count: u64, act: impl FnOnce(&MemDevice) + Send + 'static) {
        self.state.lock().trap = Some(Trap {
            left: count,
            act: Box::new(act),
        });
    }

    /// Breaks every queue of the device from now on: `reap` fails with `errno`.
    pub fn break_queues(&self, errno: i32) {
        self.state.lock().queue_errno = Some(errno);
    }

    /// Holds requests that touch `range` until [`release`](Self::release): they stay with the
    /// device even if their queue is dropped.
    pub fn hold(&self, range: Range<u64>) {
        self.state.lock().holds.push(range);
    }
}
