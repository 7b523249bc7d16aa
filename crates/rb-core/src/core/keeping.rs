//! The write budget of an open store, and the state of policy and budget that an earlier session has saved.
//!
//! That state is a hint, and a failure to read it is no failure of the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rb_format::{FORMAT_BLOCK, PolicyState, Superblock};
use rb_index::Budget;

use crate::clock::Clock;
use crate::io::meta_io::MetaIo;
use crate::options::StoreOptions;

/// Bytes of a place that are read: more than any state has.
pub(crate) const STATE_BYTES: u64 = 64 << 10;
/// The budget is saved after each such part of it.
const SAVED_PARTS: u64 = 100;
/// Time between two looks at what the log and the bases have written.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// The bounds of what an open store writes, and the number of its saved state.
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

    /// Lets time pass, and then works with the budget. `metadata` returns the bytes that log and bases have written in this
    /// session. Returns the new floor, too; `None` without a budget.
    pub(crate) fn with<T>(
        &self,
        now: Duration,
        metadata: impl FnOnce() -> u64,
        work: impl FnOnce(&mut Budget) -> T,
    ) -> Option<(T, f64)> {
        let mut ledger = self.budget.as_ref()?.lock();
        ledger.advance(now, metadata);
        let before = ledger.budget.spent();
        let done = work(&mut ledger.budget);
        ledger.unsaved += ledger.budget.spent().saturating_sub(before);
        Some((done, ledger.budget.floor()))
    }

    /// Lets time pass. Returns whether so much of the budget was spent since the state was saved that it must be saved
    /// again.
    pub(crate) fn is_due(&self, now: Duration, metadata: impl FnOnce() -> u64) -> bool {
        self.budget.as_ref().is_some_and(|ledger| {
            let mut ledger = ledger.lock();
            ledger.advance(now, metadata);
            ledger.unsaved >= (ledger.budget.per_day() / SAVED_PARTS).max(1)
        })
    }

    /// Returns the state of the budget for a later session, with all that log and bases have written until now; empty
    /// without one.
    pub(crate) fn save(&self, clock: &dyn Clock, metadata: impl FnOnce() -> u64) -> Vec<u8> {
        let saved = self.budget.as_ref().map(|ledger| {
            let mut ledger = ledger.lock();
            ledger.pass(clock.now());
            ledger.look(metadata);
            ledger.unsaved = 0;
            ledger.budget.save(wall(clock))
        });
        saved.unwrap_or_default()
    }

    /// Returns the sequence of the next state.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Ledger {
    /// Lets time pass, and looks at log and bases if the last look was a while ago.
    fn advance(&mut self, now: Duration, metadata: impl FnOnce() -> u64) {
        self.pass(now);
        if now.saturating_sub(self.looked) >= LOOK_AFTER {
            self.look(metadata);
        }
    }

    /// Lets time pass up to `now`, which another caller may have read earlier than the last one did.
    fn pass(&mut self, now: Duration) {
        self.budget.pass(now.saturating_sub(self.at));
        self.at = self.at.max(now);
    }

    /// Charges what log and bases have written since the last look.
    fn look(&mut self, metadata: impl FnOnce() -> u64) {
        self.looked = self.at;
        let metadata = metadata();
        let new = metadata.saturating_sub(self.metadata);
        self.metadata = metadata;
        self.budget.charge(new);
        self.unsaved += new;
    }
}

/// Reads the newer of the states of an earlier session; an empty one if there is none that is sound, or nothing to keep.
pub(crate) fn found(
    io: &mut MetaIo,
    superblock: &Superblock,
    options: &StoreOptions,
) -> PolicyState {
    if options.policy.is_none() && options.write_budget_per_day.is_none() {
        return PolicyState::default();
    }
    let region = &superblock.policy;
    let len = (PolicyState::room(region) + FORMAT_BLOCK as u64).min(STATE_BYTES);
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    /// The clock is read before the lock is held, so a caller may come with an earlier time than the one before it. The time
    /// in between passed twice then, and what was spent was forgotten too early.
    #[test]
    fn time_passes_once() {
        let options = StoreOptions {
            write_budget_per_day: NonZeroU64::new(1000),
            ..StoreOptions::default()
        };
        let keeping = Keeping::new(&options, &PolicyState::default());
        let start = options.clock.now();
        let at = |hours| start + Duration::from_hours(hours);
        let spent = |hours| {
            let spent = keeping.with(at(hours), || 0, |budget| budget.spent());
            spent.unwrap().0
        };
        keeping.with(at(0), || 0, |budget| budget.charge(700));
        assert_eq!([13, 1, 14].map(spent), [700; 3]);
        assert_eq!(spent(26), 0);
    }
}
