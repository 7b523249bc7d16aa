//! The report of a run.

use std::fmt;

use serde::Serialize;

use super::oracle::Counts;
use crate::tally::Report;

/// Results of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RaceReport {
    /// The engine.
    pub engine: String,
    /// The seed.
    pub seed: u64,
    /// Duration of the run.
    pub seconds: f64,
    /// The sessions' share of it.
    pub working_seconds: f64,
    /// Rounds.
    pub rounds: u64,
    /// Stores.
    pub stores: u64,
    /// Operations that ended.
    pub operations: u64,
    /// Puts and removes acknowledged, key by key.
    pub acknowledged: u64,
    /// Acknowledged changes that were durable before the session ended or was killed.
    pub durable: u64,
    /// Keys that the store refused because it was too full or too busy.
    pub refused: u64,
    /// Keys whose put was not admitted by the policy or the budget.
    pub not_admitted: u64,
    /// Syncs.
    pub syncs: u64,
    /// Entries evicted.
    pub evictions: u64,
    /// Restarts after a drop.
    pub dropped: u64,
    /// Restarts after a close.
    pub closed: u64,
    /// Restarts after a kill while the store was being opened.
    pub killed_opening: u64,
    /// Restarts after a kill while threads worked.
    pub killed_working: u64,
    /// Restarts after a kill while the store was being dropped or closed.
    pub killed_ending: u64,
    /// Log records whose order was checked.
    pub log_records: u64,
    /// Number of times that logs wrapped around their rings.
    pub ring_turns: f64,
    /// Keys compared after a restart.
    pub compared: u64,
    /// Values of several slots among those found.
    pub several: u64,
    /// Compared keys with only one possible state.
    pub exact: u64,
    /// Descriptions of violations. The run ends with the first round that has any.
    pub violations: Vec<String>,
}

impl Report for RaceReport {
    fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for RaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:.1} s, {} rounds on {} stores: {} operations, {:.0}/s, {} acknowledged, {} durable, {} refused, {} not admitted, \
             {} syncs, {} evictions; reopened after {} drops, {} closes, {} kills ({} opening, {} working, \
             {} ending); {} log records in order, {:.0} turns of rings, {} keys compared, {} of them exact, {} values of several slots; {} violations; seed {}",
            self.engine,
            self.seconds,
            self.rounds,
            self.stores,
            self.operations,
            self.operations as f64 / self.working_seconds.max(1e-9),
            self.acknowledged,
            self.durable,
            self.refused,
            self.not_admitted,
            self.syncs,
            self.evictions,
            self.dropped,
            self.closed,
            self.kills(),
            self.killed_opening,
            self.killed_working,
            self.killed_ending,
            self.log_records,
            self.ring_turns,
            self.compared,
            self.exact,
            self.several,
            self.violations.len(),
            self.seed
        )?;
        let mut lines = self.violations.iter();
        lines.try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

impl RaceReport {
    /// Returns the number of restarts after a kill.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.killed_opening + self.killed_working + self.killed_ending
    }

    pub(super) fn count(&mut self, counts: Counts) {
        let Counts {
            operations,
            syncs,
            evictions,
            acknowledged,
            durable,
            refused,
            not_admitted,
        } = counts;
        self.operations += operations;
        self.syncs += syncs;
        self.evictions += evictions;
        self.acknowledged += acknowledged;
        self.durable += durable;
        self.refused += refused;
        self.not_admitted += not_admitted;
    }
}
