//! What the demo measured, for people and as JSON.

use std::time::Duration;

use serde::Serialize;

use super::child::Killed;
use super::serve::Served;
use super::sizes::{SLOTS, VALUE_BYTES};
use super::verify::{Restart, Verified};
use crate::failure::Failure;
use crate::output::Output;
use crate::rates::{gbps, ratio};
use crate::size::show_size;

/// What the report is made of.
pub(super) struct Parts {
    pub(super) engine: String,
    pub(super) killed: Killed,
    pub(super) before: Duration,
    pub(super) restart: Restart,
    pub(super) verified: Verified,
    pub(super) served: Served,
    pub(super) after: Duration,
    pub(super) evictions: u64,
    pub(super) live: u64,
    pub(super) close_time: Duration,
    pub(super) clean_restart: Restart,
    pub(super) kept: u64,
}

/// The result. Rates are 0 to 1, times are seconds, GB are 10^9 bytes.
#[derive(Serialize)]
pub(super) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    engine: String,
    slots: u64,
    value_bytes: usize,
    turns_before_kill: u64,
    conversations_before_kill: u64,
    seconds_before_kill: f64,
    restart_seconds: f64,
    restart_base_seconds: f64,
    restart_log_seconds: f64,
    restart_index_seconds: f64,
    first_get_seconds: f64,
    acknowledged_blocks: u64,
    verify_seconds: f64,
    lost: u64,
    wrong: u64,
    turns_after_restart: u64,
    seconds_after_restart: f64,
    hit_rate: f64,
    put_gbps: f64,
    get_gbps: f64,
    bytes_put: u64,
    bytes_got: u64,
    verified_bytes: u64,
    evictions: u64,
    live: u64,
    close_seconds: f64,
    clean_restart_seconds: f64,
    clean_restart_clean: bool,
    clean_restart_live: u64,
}

impl Report {
    pub(super) fn new(parts: Parts) -> Report {
        let Parts {
            killed,
            restart,
            verified,
            served,
            clean_restart,
            ..
        } = parts;
        let mut report = Report {
            error: None,
            engine: parts.engine,
            slots: SLOTS,
            value_bytes: VALUE_BYTES,
            turns_before_kill: killed.turns,
            conversations_before_kill: killed.conversations,
            seconds_before_kill: parts.before.as_secs_f64(),
            restart_seconds: restart.open.as_secs_f64(),
            restart_base_seconds: restart.base.as_secs_f64(),
            restart_log_seconds: restart.log.as_secs_f64(),
            restart_index_seconds: restart.index.as_secs_f64(),
            first_get_seconds: (restart.open + verified.first_get).as_secs_f64(),
            acknowledged_blocks: verified.blocks,
            verify_seconds: verified.time.as_secs_f64(),
            lost: verified.lost,
            wrong: verified.wrong + served.wrong,
            turns_after_restart: served.turns,
            seconds_after_restart: parts.after.as_secs_f64(),
            hit_rate: ratio(served.hits, served.asked),
            put_gbps: gbps(served.bytes_put, served.put_time),
            get_gbps: gbps(served.bytes_got, served.get_time),
            bytes_put: served.bytes_put,
            bytes_got: served.bytes_got,
            verified_bytes: verified.bytes + served.bytes_got,
            evictions: parts.evictions,
            live: parts.live,
            close_seconds: parts.close_time.as_secs_f64(),
            clean_restart_seconds: clean_restart.open.as_secs_f64(),
            clean_restart_clean: clean_restart.clean,
            clean_restart_live: parts.kept,
        };
        report.error = report.judge().map(|failure| failure.chain());
        report
    }

    /// How the store broke its contract, if it did.
    pub(super) fn judge(&self) -> Option<Failure> {
        let broken = |what: String| Some(Failure::Contract { what });
        if self.lost + self.wrong > 0 {
            return broken(format!(
                "{} blocks lost, {} with wrong bytes",
                self.lost, self.wrong
            ));
        }
        if !self.clean_restart_clean || self.clean_restart_live != self.live {
            return broken(format!(
                "of {} blocks, {} were there after a clean restart",
                self.live, self.clean_restart_live
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
                self.turns_before_kill, self.conversations_before_kill, self.seconds_before_kill
            ),
        )?;
        row(
            "restart",
            format!(
                "{:.3} s to open (base {:.3}, log {:.3}, index {:.3}), {:.3} s to the first verified get",
                self.restart_seconds,
                self.restart_base_seconds,
                self.restart_log_seconds,
                self.restart_index_seconds,
                self.first_get_seconds
            ),
        )?;
        row(
            "acknowledged",
            format!(
                "{} blocks checked byte for byte in {:.1} s: {} lost, {} wrong",
                self.acknowledged_blocks, self.verify_seconds, self.lost, self.wrong
            ),
        )?;
        row(
            "after it",
            format!(
                "{} turns in {:.1} s, {} blocks evicted",
                self.turns_after_restart, self.seconds_after_restart, self.evictions
            ),
        )?;
        row(
            "hit rate",
            format!("{:.1} % of the history's blocks", 100.0 * self.hit_rate),
        )?;
        row(
            "throughput",
            format!(
                "put {:.2} GB/s, get {:.2} GB/s ({})",
                self.put_gbps, self.get_gbps, self.engine
            ),
        )?;
        row(
            "clean restart",
            format!(
                "{:.3} s to close, {:.3} s to open, {} of {} blocks there",
                self.close_seconds, self.clean_restart_seconds, self.clean_restart_live, self.live
            ),
        )?;
        row(
            "verified",
            format!(
                "{} ({} bytes) read back right, every byte looked at",
                show_size(self.verified_bytes),
                self.verified_bytes
            ),
        )
    }
}
