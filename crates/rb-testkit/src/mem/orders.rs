//! Orders to a device to misbehave.

use std::ops::Range;

use rb_io::OpKind;

use super::faults::Fault;
use super::rates::{Chance, FaultRates};
use super::state::{MemDevice, Trap};

impl MemDevice {
    /// What is written is in a page cache from now on, as it is in a file that is not opened past Linux's: a flush that fails leaves
    /// it there clean, to be read by every engine of the device until an opening distrusts it
    /// ([`Engine::distrust_cache`](rb_io::Engine::distrust_cache)), and no later flush writes it. Not known to
    /// [`crash_points`](Self::crash_points).
    pub fn page_cache(&self) {
        self.state.lock().page_cache = true;
    }

    /// The next `op` that touches `range` fails with `errno` and changes nothing.
    pub fn fail_next(&self, op: OpKind, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(op, range, Fault::Errno(errno), Some(1));
    }

    /// The next `times` of `op` that touch `range` fail with `errno`.
    pub fn fail_times(&self, op: OpKind, range: Range<u64>, errno: i32, times: u32) {
        if times > 0 {
            self.state
                .lock()
                .faults
                .add(op, range, Fault::Errno(errno), Some(times));
        }
    }

    /// Every `op` that touches `range` fails with `errno`, until [`heal`](Self::heal).
    pub fn fail_always(&self, op: OpKind, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(op, range, Fault::Errno(errno), None);
    }

    /// The next `op` that touches `range` moves at most `bytes`.
    pub fn short_next(&self, op: OpKind, range: Range<u64>, bytes: u32) {
        self.state
            .lock()
            .faults
            .add(op, range, Fault::Short(bytes), Some(1));
    }

    /// The next read that touches `range` answers with every byte inverted: a bad transfer of a medium
    /// that is whole.
    pub fn garble_next(&self, range: Range<u64>) {
        self.state
            .lock()
            .faults
            .add(OpKind::Read, range, Fault::Garble, Some(1));
    }

    /// The next write that touches `range` fails with `errno`, and lands all the same: at the next
    /// flush, on top of whatever came between.
    pub fn late_next(&self, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(OpKind::Write, range, Fault::Late(errno), Some(1));
    }

    /// The next discard that touches `range` fails with `errno`, and lands all the same, as in
    /// [`late_next`](Self::late_next).
    pub fn late_discard(&self, range: Range<u64>, errno: i32) {
        self.state
            .lock()
            .faults
            .add(OpKind::Discard, range, Fault::Late(errno), Some(1));
    }

    /// Requests go wrong by chance, as often as the first region says that holds their first byte.
    pub fn set_rates(&self, seed: u64, regions: Vec<(Range<u64>, FaultRates)>) {
        self.state.lock().chance = Chance::new(seed, regions);
    }

    /// Forgets every scripted fault and every chance of one; holds stay.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.chance = Chance::default();
        state.lost_flushes = false;
        state.queue_errno = None;
    }

    /// Flushes succeed and make nothing durable, as a lying drive does.
    pub fn lose_flushes(&self) {
        self.state.lock().lost_flushes = true;
    }

    /// The power goes after `count` more writes and flushes: whatever comes later fails and changes
    /// nothing. For crashing at every single write of a run.
    pub fn cut_power_after(&self, count: u64) {
        self.state.lock().power = Some(count);
    }

    /// After `count` more writes and flushes, `act` is called just before the next one is executed. For a
    /// fault at every single write of a run; one trap at a time.
    pub fn before_write(&self, count: u64, act: impl FnOnce(&MemDevice) + Send + 'static) {
        self.state.lock().trap = Some(Trap {
            left: count,
            act: Box::new(act),
        });
    }

    /// Every queue of the device fails from now on: `reap` answers with `errno`.
    pub fn break_queues(&self, errno: i32) {
        self.state.lock().queue_errno = Some(errno);
    }

    /// Requests that touch `range` do not end until [`release`](Self::release): they stay with the
    /// device even if their queue goes.
    pub fn hold(&self, range: Range<u64>) {
        self.state.lock().holds.push(range);
    }
}
