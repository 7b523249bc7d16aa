//! The result of a run: a line of JSON, lines for people, or a page.

use rb_core::Store;
use rb_report::{Operation, Section};
use serde::Serialize;

use super::choice::get_percent;
use super::drive::{self, BenchRun};
use super::prepare::Prepared;
use crate::args::{BenchArgs, BenchOp};
use crate::failure::Failure;
use crate::output::Output;
use crate::page;
use crate::rates::bytes_per_second;
use crate::size::{counted, show_size};

/// The result.
#[derive(Serialize)]
pub(super) struct BenchLine {
    op: &'static str,
    /// Part of the calls that are gets; `None` without calls.
    get_ratio: Option<f64>,
    /// `None` if all keys are equally likely.
    zipf_exponent: Option<f64>,
    engine: String,
    value_bytes: u64,
    batch: usize,
    /// Values in flight on each thread, in whole calls.
    depth: usize,
    threads: usize,
    blocking: bool,
    seconds: f64,
    bytes_per_second: f64,
    values_per_second: f64,
    /// Latency of a call; `None` without calls.
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    max_us: Option<f64>,
    /// The figures of gets and of puts, without those that had no calls.
    operations: Vec<Operation>,
    /// `None` if no bytes were moved.
    cpu_seconds_per_gb: Option<f64>,
    /// CPU time by wall time: 1 is one core.
    cpu_ratio: f64,
    commits: u64,
    sync_interval_seconds: f64,
    errors: u64,
    verified_bytes: u64,
    wrong_bytes: u64,
}

impl BenchLine {
    pub(super) fn of(
        args: &BenchArgs,
        prepared: &Prepared,
        run: &BenchRun,
        verified: u64,
        wrong: u64,
    ) -> BenchLine {
        let calls = &run.measured;
        let gigabytes = calls.bytes() as f64 / 1e9;
        BenchLine {
            op: match args.op {
                BenchOp::Get => "get",
                BenchOp::Put => "put",
                BenchOp::Mixed => "mixed",
                BenchOp::Idle => "idle",
            },
            get_ratio: get_percent(args).map(|percent| f64::from(percent) / 100.0),
            zipf_exponent: args.zipf,
            engine: prepared.store.engine_name().to_owned(),
            value_bytes: args.value_bytes,
            batch: args.batch,
            depth: if args.blocking {
                args.batch
            } else {
                drive::calls(args) * args.batch
            },
            threads: args.threads,
            blocking: args.blocking,
            seconds: run.time.as_secs_f64(),
            bytes_per_second: bytes_per_second(calls.bytes(), run.time),
            values_per_second: calls.values() as f64 / run.time.as_secs_f64(),
            p50_us: calls.us(0.5),
            p99_us: calls.us(0.99),
            p999_us: calls.us(0.999),
            max_us: calls.max_us(),
            operations: calls.operations(),
            cpu_seconds_per_gb: (gigabytes > 0.0).then(|| run.cpu.as_secs_f64() / gigabytes),
            cpu_ratio: run.cpu.as_secs_f64() / run.time.as_secs_f64(),
            commits: run.commits,
            sync_interval_seconds: rb_core::StoreOptions::default().sync_interval.as_secs_f64(),
            errors: run.tally.errors,
            verified_bytes: verified,
            wrong_bytes: wrong,
        }
    }

    pub(super) fn show(&self, output: &mut Output) -> Result<(), Failure> {
        if self.op == "idle" {
            return output.line(format!(
                "idle ({}): {:.3} % of one core over {:.1} s",
                self.engine,
                100.0 * self.cpu_ratio,
                self.seconds
            ));
        }
        output.line(format!(
            "{} {} ({}, {}, {} in flight{}{}): {:.2} GB/s, {:.0} values/s, {:.3} CPU s/GB",
            self.op,
            show_size(self.value_bytes),
            self.engine,
            counted(self.threads as u64, "thread"),
            self.depth,
            if self.blocking { ", blocking" } else { "" },
            self.choice(),
            self.bytes_per_second / 1e9,
            self.values_per_second,
            self.cpu_seconds_per_gb.unwrap_or(0.0),
        ))?;
        output.line(format!(
            "a call of {}: p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, longest {:.0} us; {}, {}; {} verified, {} wrong",
            self.batch,
            self.p50_us.unwrap_or(0.0),
            self.p99_us.unwrap_or(0.0),
            self.p999_us.unwrap_or(0.0),
            self.max_us.unwrap_or(0.0),
            counted(self.commits, "commit"),
            counted(self.errors, "error"),
            show_size(self.verified_bytes),
            counted(self.wrong_bytes, "byte")
        ))?;
        if self.operations.len() > 1 {
            for operation in &self.operations {
                let us = |latency: Option<f64>| latency.unwrap_or(0.0);
                output.line(format!(
                    "{}: {}, p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, longest {:.0} us",
                    operation.op,
                    counted(operation.calls, "call"),
                    us(operation.p50_us),
                    us(operation.p99_us),
                    us(operation.p999_us),
                    us(operation.max_us)
                ))?;
            }
        }
        Ok(())
    }

    /// Describes the choice of operations and keys, unless it is the usual one.
    fn choice(&self) -> String {
        let mut words = String::new();
        if let ("mixed", Some(ratio)) = (self.op, self.get_ratio) {
            words += &format!(", {:.0} % gets", 100.0 * ratio);
        }
        if let Some(exponent) = self.zipf_exponent {
            words += &format!(", Zipf {exponent}");
        }
        words
    }

    /// Returns the page.
    pub(super) fn page(&self, args: &BenchArgs, store: &Store, broken: Option<&Failure>) -> String {
        let keys = match self.zipf_exponent {
            Some(exponent) => format!("chosen by Zipf's law with the exponent {exponent}"),
            None => "chosen at random, all equally likely".to_owned(),
        };
        let calls = if self.blocking { "blocking" } else { "async" };
        let load = match self.op {
            "idle" => "none: the cost of an open store without callers".to_owned(),
            op => format!(
                "{op}{}, values of {}, {calls} calls of {}, {} in flight on each of {}",
                match op {
                    "mixed" => format!(" ({:.0} % gets)", 100.0 * self.get_ratio.unwrap_or(0.0)),
                    _ => String::new(),
                },
                show_size(self.value_bytes),
                counted(self.batch as u64, "value"),
                self.depth,
                counted(self.threads as u64, "thread"),
            ),
        };
        let mut result = Section::new("Result").sentence(match self.op {
            "idle" => format!("{:.3} % of one core in {:.1} s.", 100.0 * self.cpu_ratio, self.seconds),
            _ => format!(
                "{:.2} GB/s and {:.0} values per second over {:.1} s, with {:.2} cores busy, which is {:.3} s of CPU time for each GB.",
                self.bytes_per_second / 1e9,
                self.values_per_second,
                self.seconds,
                self.cpu_ratio,
                self.cpu_seconds_per_gb.unwrap_or(0.0)
            ),
        });
        result = result.sentence(format!(
            "{} in the measurement. Afterwards every value was read again and compared: {} were right, {} wrong or missing.",
            counted(self.commits, "group commit"),
            show_size(self.verified_bytes),
            counted(self.wrong_bytes, "byte"),
        ));
        if let Some(broken) = broken {
            result = result.sentence(format!("The run failed: {}.", broken.chain()));
        }
        let page = page::head("rb bench", store, &args.store)
            .fact("load", load)
            .fact("keys", keys)
            .section(result);
        page::figures(page, &self.operations).html()
    }
}
