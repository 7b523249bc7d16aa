//! Works with the write budget, and saves its state and that of the policy.
//!
//! The state is a hint. It is written without a flush, after each checkpoint and each hundredth of the budget, and a failure
//! to write it is no failure of the store.

use rb_format::{FORMAT_BLOCK, PolicyState};
use rb_index::Budget;

use crate::core::inner::Inner;
use crate::core::keeping::STATE_BYTES;
use crate::io::meta_io::MetaIo;

impl Inner {
    /// The write budget as it is now; `None` without one.
    pub(crate) fn budget(&self) -> Option<Budget> {
        self.with_budget(|budget| budget.clone())
    }

    /// Works with the write budget, if there is one. The caller holds no lock.
    pub(crate) fn with_budget<T>(&self, work: impl FnOnce(&mut Budget) -> T) -> Option<T> {
        let now = self.options.clock.now();
        let (done, floor) = self.keeping.with(now, || self.metadata_bytes(), work)?;
        self.index.set_write_floor(floor);
        Some(done)
    }

    /// Bytes that log and bases have written in this session.
    fn metadata_bytes(&self) -> u64 {
        let device = self.lanes.requests.stats();
        let log = device.log.write.bytes;
        log.saturating_add(device.base.write.bytes)
    }

    /// Writes the state of policy and budget. The caller has checked that no other session writes.
    pub(crate) fn save_keeping(&self, io: &mut MetaIo) {
        let region = &self.superblock.policy;
        let room = PolicyState::room(region).min(STATE_BYTES - FORMAT_BLOCK as u64);
        let clock = self.options.clock.as_ref();
        let budget = self.keeping.save(clock, || self.metadata_bytes());
        let left = usize::try_from(room).unwrap_or(usize::MAX);
        let policy = self.index.policy_state(left.saturating_sub(budget.len()));
        if budget.is_empty() && policy.is_empty() {
            return;
        }
        let sequence = self.keeping.next_sequence();
        let state = PolicyState {
            sequence,
            budget,
            policy,
        };
        let place = PolicyState::offset(region, sequence);
        // The next state is written to the other place.
        let _ = io.write(place, &state.encode(&self.identity));
    }

    /// Writes the state if much of the budget was spent since the last time.
    pub(crate) fn save_spending(&self, io: &mut MetaIo) {
        let now = self.options.clock.now();
        if self.keeping.is_due(now, || self.metadata_bytes()) {
            self.save_keeping(io);
        }
    }
}
