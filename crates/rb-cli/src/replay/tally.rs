//! Counts of a replay, and its result.

use std::time::Duration;

use rb_core::{Error, Store, StoreStats};
use rb_report::{Operation, Section};
use serde::Serialize;

use crate::args::ReplayArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::page;
use crate::rates::{bytes_per_second, ratio};
use crate::series::Kind;
use crate::size::{counted, show_size};

/// Counts of a replay, over all its sessions.
#[derive(Default)]
pub(super) struct ReplayTally {
    pub(super) requests: u64,
    pub(super) block_refs: u64,
    pub(super) block_hits: u64,
    pub(super) prefix_hits: u64,
    pub(super) wrong_blocks: u64,
    pub(super) wrong_bytes: u64,
    pub(super) put_bytes: u64,
    pub(super) got_bytes: u64,
    pub(super) get_errors: u64,
    pub(super) put_errors: u64,
    /// Blocks that the policy did not admit.
    pub(super) refused_blocks: u64,
    pub(super) entries: u64,
    pub(super) get_time: Duration,
    pub(super) put_time: Duration,
    pub(super) touch_time: Duration,
    pub(super) fill_time: Duration,
    pub(super) check_time: Duration,
    evictions: u64,
    dropped: u64,
    submissions: u64,
    checkpoints: u64,
    restarts: u64,
    restart_max: Duration,
    close_max: Duration,
    entries_min: Option<u64>,
    entries_lost: u64,
    first_error: Option<String>,
}

impl ReplayTally {
    /// Keeps the text of the first error as an example.
    pub(super) fn note(&mut self, error: &Error) {
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Adds the counts of one session. They end with the session.
    pub(super) fn absorb(&mut self, stats: &StoreStats) {
        self.evictions += stats.index.evictions;
        self.dropped += stats.dropped;
        self.submissions += stats.queues.submissions;
        self.checkpoints += stats.checkpoints;
    }

    pub(super) fn restarted(
        &mut self,
        closed: Duration,
        opened: Duration,
        before: u64,
        after: u64,
    ) {
        self.restarts += 1;
        self.close_max = self.close_max.max(closed);
        self.restart_max = self.restart_max.max(opened);
        self.entries_min = Some(self.entries_min.map_or(after, |min| min.min(after)));
        self.entries_lost += before.saturating_sub(after);
    }

    /// Returns the failure of a replay with wrong bytes or failed operations.
    pub(super) fn judge(&self) -> Option<Failure> {
        if self.wrong_bytes > 0 {
            return Some(Failure::Contract {
                what: format!(
                    "{} bytes of {} hits were wrong",
                    self.wrong_bytes, self.wrong_blocks
                ),
            });
        }
        (self.get_errors + self.put_errors > 0).then(|| Failure::Replay {
            gets: self.get_errors,
            puts: self.put_errors,
            first: self.first_error.clone().unwrap_or_default(),
        })
    }

    pub(super) fn line(
        &self,
        setting: Setting,
        seconds: f64,
        operations: Vec<Operation>,
    ) -> ReplayLine {
        let gets = operations
            .iter()
            .find(|operation| operation.op == Kind::Get.name());
        let us = |latency: fn(&Operation) -> Option<f64>| gets.and_then(latency).unwrap_or(0.0);
        ReplayLine {
            requests: self.requests,
            block_refs: self.block_refs,
            block_hits: self.block_hits,
            prefix_hits: self.prefix_hits,
            hit_ratio: ratio(self.block_hits, self.block_refs),
            prefix_hit_ratio: ratio(self.prefix_hits, self.block_refs),
            evictions: self.evictions,
            entries: self.entries,
            wrong_bytes: self.wrong_bytes,
            dropped_entries: self.dropped,
            get_errors: self.get_errors,
            put_errors: self.put_errors,
            refused_blocks: self.refused_blocks,
            first_error: self.first_error.clone(),
            put_bytes: self.put_bytes,
            got_bytes: self.got_bytes,
            seconds,
            get_seconds: self.get_time.as_secs_f64(),
            put_seconds: self.put_time.as_secs_f64(),
            touch_seconds: self.touch_time.as_secs_f64(),
            payload_seconds: self.fill_time.as_secs_f64(),
            check_seconds: self.check_time.as_secs_f64(),
            put_bytes_per_second: bytes_per_second(self.put_bytes, self.put_time),
            get_bytes_per_second: bytes_per_second(self.got_bytes, self.get_time),
            get_p50_us: us(|gets| gets.p50_us),
            get_p99_us: us(|gets| gets.p99_us),
            submissions: self.submissions,
            checkpoints: self.checkpoints,
            restarts: self.restarts,
            open_seconds_max: self.restart_max.as_secs_f64(),
            close_seconds_max: self.close_max.as_secs_f64(),
            entries_min_at_restart: self.entries_min,
            entries_lost_at_restart: self.entries_lost,
            operations,
            setting,
        }
    }
}

/// Settings of the replay.
#[derive(Serialize)]
pub(super) struct Setting {
    engine: String,
    policy: &'static str,
    shards: usize,
    slots: u32,
    slot_bytes: u64,
    value_bytes: usize,
}

impl Setting {
    pub(super) fn of(store: &Store, args: &ReplayArgs, value_bytes: usize) -> Setting {
        Setting {
            engine: store.engine_name().to_owned(),
            policy: args.policy.name(),
            shards: store.shards(),
            slots: store.geometry().slots(),
            slot_bytes: args.slot_bytes,
            value_bytes,
        }
    }
}

/// The result.
#[derive(Serialize)]
pub(super) struct ReplayLine {
    requests: u64,
    block_refs: u64,
    block_hits: u64,
    prefix_hits: u64,
    hit_ratio: f64,
    prefix_hit_ratio: f64,
    evictions: u64,
    entries: u64,
    wrong_bytes: u64,
    dropped_entries: u64,
    get_errors: u64,
    put_errors: u64,
    refused_blocks: u64,
    /// Shown to people; JSON has it in `error`.
    #[serde(skip)]
    first_error: Option<String>,
    put_bytes: u64,
    got_bytes: u64,
    seconds: f64,
    get_seconds: f64,
    put_seconds: f64,
    touch_seconds: f64,
    payload_seconds: f64,
    check_seconds: f64,
    put_bytes_per_second: f64,
    get_bytes_per_second: f64,
    get_p50_us: f64,
    get_p99_us: f64,
    submissions: u64,
    checkpoints: u64,
    restarts: u64,
    open_seconds_max: f64,
    close_seconds_max: f64,
    entries_min_at_restart: Option<u64>,
    entries_lost_at_restart: u64,
    /// Shown on the page.
    #[serde(skip)]
    operations: Vec<Operation>,
    #[serde(flatten)]
    setting: Setting,
}

impl ReplayLine {
    pub(super) fn show(&self, output: &mut Output) -> Result<(), Failure> {
        let s = &self.setting;
        output.line(format!(
            "{}, {} of {} through {} of {} ({}, {})",
            counted(self.requests, "request"),
            counted(self.block_refs, "block"),
            show_size(s.value_bytes as u64),
            counted(u64::from(s.slots), "slot"),
            show_size(s.slot_bytes),
            s.engine,
            counted(s.shards as u64, "shard")
        ))?;
        output.line(format!(
            "  hits      {} ({:.2} %), {} of them in prefixes ({:.2} %)",
            counted(self.block_hits, "block"),
            100.0 * self.hit_ratio,
            self.prefix_hits,
            100.0 * self.prefix_hit_ratio
        ))?;
        output.line(format!(
            "  verified  {}, {} wrong",
            show_size(self.got_bytes),
            counted(self.wrong_bytes, "byte")
        ))?;
        output.line(format!(
            "  evicted   {}, {} at the end; {} refused by the policy ({})",
            self.evictions,
            counted(self.entries, "entry"),
            counted(self.refused_blocks, "block"),
            s.policy
        ))?;
        output.line(format!(
            "  put       {:.2} GB/s   get {:.2} GB/s, a batch p50 {:.2} ms, p99 {:.2} ms",
            self.put_bytes_per_second / 1e9,
            self.get_bytes_per_second / 1e9,
            self.get_p50_us / 1e3,
            self.get_p99_us / 1e3
        ))?;
        output.line(format!(
            "  seconds   {:.2}: get {:.2}, check {:.2}, payload {:.2}, put {:.2}, touch {:.2}",
            self.seconds,
            self.get_seconds,
            self.check_seconds,
            self.payload_seconds,
            self.put_seconds,
            self.touch_seconds
        ))?;
        if let Some(entries_min) = self.entries_min_at_restart {
            output.line(format!(
                "  restarts  {}, longest open {:.3} s, longest close {:.3} s, at least {}, {} lost",
                self.restarts,
                self.open_seconds_max,
                self.close_seconds_max,
                counted(entries_min, "entry"),
                self.entries_lost_at_restart
            ))?;
        }
        if let Some(error) = &self.first_error {
            output.line(format!(
                "  errors    {}, {}; the first: {error}",
                counted(self.get_errors, "get"),
                counted(self.put_errors, "put")
            ))?;
        }
        Ok(())
    }

    /// Returns the page.
    pub(super) fn page(
        &self,
        args: &ReplayArgs,
        store: &Store,
        broken: Option<&Failure>,
    ) -> String {
        let s = &self.setting;
        let mut result = Section::new("Result")
            .sentence(format!(
                "Of {}, {} were hits ({:.2} %), {} of them before the first miss of their request ({:.2} %).",
                counted(self.block_refs, "block"),
                self.block_hits,
                100.0 * self.hit_ratio,
                self.prefix_hits,
                100.0 * self.prefix_hit_ratio
            ))
            .sentence(format!(
                "{} were put at {:.2} GB/s, {} returned at {:.2} GB/s and compared: {} wrong.",
                show_size(self.put_bytes),
                self.put_bytes_per_second / 1e9,
                show_size(self.got_bytes),
                self.get_bytes_per_second / 1e9,
                counted(self.wrong_bytes, "byte")
            ))
            .sentence(format!(
                "{} evicted, {} at the end.",
                counted(self.evictions, "entry"),
                self.entries
            ))
            .sentence(format!(
                "Of {:.2} s, gets took {:.2} s, puts {:.2} s and touches {:.2} s. Comparing values took {:.2} s and making them {:.2} s; \
                 the throughput over time includes these.",
                self.seconds,
                self.get_seconds,
                self.put_seconds,
                self.touch_seconds,
                self.check_seconds,
                self.payload_seconds
            ));
        if self.restarts > 0 {
            result = result.sentence(format!(
                "{}: the longest opening took {:.3} s, the longest close {:.3} s.",
                counted(self.restarts, "restart"),
                self.open_seconds_max,
                self.close_seconds_max
            ));
        }
        if let Some(broken) = broken {
            result = result.sentence(format!("The replay failed: {}.", broken.chain()));
        }
        let page = page::head("rb replay", store, &args.store)
            .fact(
                "trace",
                format!(
                    "{}, {}",
                    args.trace.display(),
                    counted(self.requests, "request")
                ),
            )
            .fact(
                "slots",
                format!(
                    "{} of {}, values of {}, {}",
                    s.slots,
                    show_size(s.slot_bytes),
                    show_size(s.value_bytes as u64),
                    counted(s.shards as u64, "shard")
                ),
            )
            .fact("call", "all gets, or all puts, of a request")
            .section(result);
        page::figures(page, &self.operations).html()
    }
}
