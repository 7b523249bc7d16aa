//! Result of the demo, for people and as JSON.

use std::time::Duration;

use serde::Serialize;

use super::child::Acknowledged;
use super::serve::ServedTurns;
use super::sizes::{SLOTS, VALUE_BYTES};
use super::verify::{Restart, VerifiedBlocks};
use crate::failure::Failure;
use crate::output::Output;
use crate::rates::{bytes_per_second, ratio};
use crate::size::show_size;

/// Measurements that the report consists of.
pub(super) struct DemoParts {
    pub(super) engine: String,
    pub(super) killed: Acknowledged,
    pub(super) before: Duration,
    pub(super) restart: Restart,
    pub(super) verified: VerifiedBlocks,
    pub(super) served: ServedTurns,
    pub(super) after: Duration,
    pub(super) evictions: u64,
    pub(super) live: u64,
    pub(super) close_time: Duration,
    pub(super) clean_restart: Restart,
    pub(super) kept: u64,
}

/// The result.
#[derive(Serialize)]
pub(super) struct DemoReport {
    engine: String,
    slots: u64,
    value_bytes: usize,
    turns_before_kill: u64,
    conversations_before_kill: u64,
    before_kill_seconds: f64,
    open_seconds: f64,
    base_seconds: f64,
    log_seconds: f64,
    index_seconds: f64,
    first_get_seconds: f64,
    acknowledged_blocks: u64,
    verify_seconds: f64,
    lost_blocks: u64,
    wrong_blocks: u64,
    turns_after_restart: u64,
    after_restart_seconds: f64,
    hit_ratio: f64,
    put_bytes_per_second: f64,
    get_bytes_per_second: f64,
    put_bytes: u64,
    got_bytes: u64,
    verified_bytes: u64,
    evictions: u64,
    entries: u64,
    close_seconds: f64,
    clean_open_seconds: f64,
    clean_restart_clean: bool,
    clean_restart_entries: u64,
}

impl DemoReport {
    pub(super) fn new(parts: DemoParts) -> DemoReport {
        let DemoParts {
            killed,
            restart,
            verified,
            served,
            clean_restart,
            ..
        } = parts;
        DemoReport {
            engine: parts.engine,
            slots: SLOTS,
            value_bytes: VALUE_BYTES,
            turns_before_kill: killed.turns,
            conversations_before_kill: killed.conversations,
            before_kill_seconds: parts.before.as_secs_f64(),
            open_seconds: restart.open.as_secs_f64(),
            base_seconds: restart.base.as_secs_f64(),
            log_seconds: restart.log.as_secs_f64(),
            index_seconds: restart.index.as_secs_f64(),
            first_get_seconds: (restart.open + verified.first_get).as_secs_f64(),
            acknowledged_blocks: verified.blocks,
            verify_seconds: verified.time.as_secs_f64(),
            lost_blocks: verified.lost,
            wrong_blocks: verified.wrong + served.wrong,
            turns_after_restart: served.turns,
            after_restart_seconds: parts.after.as_secs_f64(),
            hit_ratio: ratio(served.hits, served.asked),
            put_bytes_per_second: bytes_per_second(served.bytes_put, served.put_time),
            get_bytes_per_second: bytes_per_second(served.bytes_got, served.get_time),
            put_bytes: served.bytes_put,
            got_bytes: served.bytes_got,
            verified_bytes: verified.bytes + served.bytes_got,
            evictions: parts.evictions,
            entries: parts.live,
            close_seconds: parts.close_time.as_secs_f64(),
            clean_open_seconds: clean_restart.open.as_secs_f64(),
            clean_restart_clean: clean_restart.clean,
            clean_restart_entries: parts.kept,
        }
    }

    /// Returns the failure of a store that broke its contract.
    pub(super) fn judge(&self) -> Option<Failure> {
        let broken = |what: String| Some(Failure::Contract { what });
        if self.lost_blocks + self.wrong_blocks > 0 {
            return broken(format!(
                "{} blocks lost, {} with wrong bytes",
                self.lost_blocks, self.wrong_blocks
            ));
        }
        if !self.clean_restart_clean || self.clean_restart_entries != self.entries {
            return broken(format!(
                "of {} blocks, {} were there after a clean restart",
                self.entries, self.clean_restart_entries
            ));
        }
        None
    }

    pub(super) fn show(&self, output: &mut Output) -> Result<(), Failure> {
        output.line("")?;
        let mut row = |name: &str, text: String| output.line(format!("  {name:<18}{text}"));
        row(
            "before the kill",
            format!(
                "{} turns of {} conversations in {:.1} s, each synced",
                self.turns_before_kill, self.conversations_before_kill, self.before_kill_seconds
            ),
        )?;
        row(
            "restart",
            format!(
                "{:.3} s to open (base {:.3}, log {:.3}, index {:.3}), {:.3} s to the first verified get",
                self.open_seconds,
                self.base_seconds,
                self.log_seconds,
                self.index_seconds,
                self.first_get_seconds
            ),
        )?;
        row(
            "acknowledged",
            format!(
                "{} blocks checked byte for byte in {:.1} s: {} lost, {} wrong",
                self.acknowledged_blocks, self.verify_seconds, self.lost_blocks, self.wrong_blocks
            ),
        )?;
        row(
            "after it",
            format!(
                "{} turns in {:.1} s, {} blocks evicted",
                self.turns_after_restart, self.after_restart_seconds, self.evictions
            ),
        )?;
        row(
            "hit rate",
            format!("{:.1} % of the history's blocks", 100.0 * self.hit_ratio),
        )?;
        row(
            "throughput",
            format!(
                "put {:.2} GB/s, get {:.2} GB/s ({})",
                self.put_bytes_per_second / 1e9,
                self.get_bytes_per_second / 1e9,
                self.engine
            ),
        )?;
        row(
            "clean restart",
            format!(
                "{:.3} s to close, {:.3} s to open, {} of {} blocks there",
                self.close_seconds,
                self.clean_open_seconds,
                self.clean_restart_entries,
                self.entries
            ),
        )?;
        row(
            "verified",
            format!(
                "{} ({} bytes) read and compared byte for byte",
                show_size(self.verified_bytes),
                self.verified_bytes
            ),
        )
    }
}
