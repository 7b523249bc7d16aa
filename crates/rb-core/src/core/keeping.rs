//! What the store keeps and writes: the write budget, and the state of policy and budget in the policy region.
//!
//! That state is a hint. It is written without a flush, after each checkpoint and each hundredth of the budget, and a
//! failure to write or to read it is no failure of the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rb_format::{PolicyState, Superblock};
use rb_index::Budget;

use crate::clock::Clock;
use crate::core::inner::Inner;
use crate::io::meta_io::MetaIo;
use crate::options::StoreOptions;

/// Bytes of a place that are read: more than any state has.
const STATE_BYTES: u64 = 64 << 10;
/// The budget is saved after each such part of it.
const SAVED_PARTS: u64 = 100;
/// Time between two looks at what the log and the bases have written.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// The keeping of an open store.
#[derive(Debug)]
pub(crate) struct Keeping {
    /// The sequence of the last state that was written or found.
    sequence: AtomicU64,
    /// `None` without a budget.
    budget: Option<Mutex<Ledger>>,
}

/// The budget of this session.
#[derive(Debug)]
struct Ledger {
    budget: Budget,
    /// The time up to which it has passed.
    at: Duration,
    /// Time of the last look, and the bytes of log and bases up to then.
    looked: Duration,
    metadata: u64,
    /// Bytes spent since the state was saved.
    unsaved: u64,
}

impl Keeping {
    /// The keeping of a session that continues with the state of an earlier one.
    pub(crate) fn new(options: &StoreOptions, found: &PolicyState) -> Keeping {
        let clock = options.clock.as_ref();
        let ledger = |per_day: std::num::NonZeroU64| {
            let mut budget = Budget::new(per_day.get());
            budget.restore(&found.budget, wall(clock));
            let now = clock.now();
            Mutex::new(Ledger {
                budget,
                at: now,
                looked: now,
                metadata: 0,
                unsaved: 0,
            })
        };
        Keeping {
            sequence: AtomicU64::new(found.sequence),
            budget: options.write_budget_per_day.map(ledger),
        }
    }

    /// Returns whether writes are bounded.
    pub(crate) fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// The budget as it is now.
    pub(crate) fn budget(&self, inner: &Inner) -> Option<Budget> {
        self.budget.as_ref()?;
        Some(self.with(inner, |budget| budget.clone()))
    }

    /// Lets time pass, and then works with the budget.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn with<T>(&self, inner: &Inner, work: impl FnOnce(&mut Budget) -> T) -> T {
        let ledger = self.budget.as_ref().expect("the caller asked whether there is a budget");
        let mut ledger = ledger.lock();
        ledger.pass(inner);
        let before = ledger.budget.spent();
        let done = work(&mut ledger.budget);
        ledger.unsaved += ledger.budget.spent().saturating_sub(before);
        inner.index.set_write_floor(ledger.budget.floor());
        done
    }
}

impl Ledger {
    fn pass(&mut self, inner: &Inner) {
        let now = inner.options.clock.now();
        self.budget.pass(now.saturating_sub(self.at));
        self.at = now;
        if now.saturating_sub(self.looked) >= LOOK_AFTER {
            self.looked = now;
            let device = inner.lanes.requests.stats();
            let metadata = device.log.write.bytes.saturating_add(device.base.write.bytes);
            let new = metadata.saturating_sub(self.metadata);
            self.metadata = metadata;
            self.budget.charge(new);
            self.unsaved += new;
        }
    }
}

impl Inner {
    /// Writes the state of policy and budget. The caller has checked that no other session writes.
    pub(crate) fn save_keeping(&self, io: &mut MetaIo) {
        let region = &self.superblock.policy;
        let room = PolicyState::room(region).min(STATE_BYTES - FORMAT_BLOCK_BYTES);
        let budget = self.keeping.budget.as_ref().map(|ledger| {
            let mut ledger = ledger.lock();
            ledger.pass(self);
            ledger.unsaved = 0;
            ledger.budget.save(wall(self.options.clock.as_ref()))
        });
        let budget = budget.unwrap_or_default();
        let left = usize::try_from(room).unwrap_or(usize::MAX) - budget.len();
        let policy = self.index.policy_state(left);
        if budget.is_empty() && policy.is_empty() {
            return;
        }
        let sequence = self.keeping.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let state = PolicyState {
            sequence,
            budget,
            policy,
        };
        // The next one is written to the other place.
        let _ = io.write(PolicyState::offset(region, sequence), &state.encode(&self.identity));
    }

    /// Writes the state if much of the budget was spent since the last time.
    pub(crate) fn save_spending(&self, io: &mut MetaIo) {
        let is_due = self.keeping.budget.as_ref().is_some_and(|ledger| {
            let ledger = ledger.lock();
            ledger.unsaved >= (ledger.budget.per_day() / SAVED_PARTS).max(1)
        });
        if is_due {
            self.save_keeping(io);
        }
    }
}

const FORMAT_BLOCK_BYTES: u64 = rb_format::FORMAT_BLOCK as u64;

/// Reads the newer of the states of an earlier session; an empty one if there is none that is sound, or nothing to keep.
pub(crate) fn found(io: &mut MetaIo, superblock: &Superblock, options: &StoreOptions) -> PolicyState {
    if options.policy.is_none() && options.write_budget_per_day.is_none() {
        return PolicyState::default();
    }
    let region = &superblock.policy;
    let len = (PolicyState::room(region) + FORMAT_BLOCK_BYTES).min(STATE_BYTES);
    let len = usize::try_from(len).expect("a state has a bounded length");
    let places = [0, 1].map(|sequence| (PolicyState::offset(region, sequence), len));
    let answers = io.read_many(&places).unwrap_or_default().into_iter();
    let sound = answers.filter_map(|answer| {
        let bytes = answer.ok()?;
        PolicyState::decode(&bytes[..len], &superblock.identity).ok()
    });
    sound.max_by_key(|state| state.sequence).unwrap_or_default()
}

fn wall(clock: &dyn Clock) -> u64 {
    let since = clock.wall().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
