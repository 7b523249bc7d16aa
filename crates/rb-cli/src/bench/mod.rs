//! `rb bench`: measures how fast a store is, and verifies every byte.
//!
//! ```text
//! prepare.rs  opens or makes the store, and fills it
//! drive.rs    the measured part
//! value.rs    values that are cheap to make
//! ```
//!
//! During the measurement the store verifies each value that it returns, as always, and the bench compares
//! its first and last word. Afterwards every value is read again and compared byte for byte.

mod drive;
mod prepare;
mod value;

use std::time::Duration;

use rb_core::EngineKind;
use serde::Serialize;

use crate::args::{BenchArgs, BenchOp};
use crate::failure::Failure;
use crate::open::close_after;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress;
use crate::rates::{bytes_per_second, percentile_us};
use crate::size::{counted, show_size};
use drive::BenchRun;
use prepare::{Prepared, prepare};

/// Longest duration of a measurement: a year.
const SECONDS_MAX: Duration = Duration::from_hours(365 * 24);

#[derive(Serialize)]
struct BenchLine {
    op: &'static str,
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

pub(crate) fn bench(
    args: &BenchArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    check(args)?;
    let time = duration(args)?;
    let prepared = prepare(args, engine, output)?;
    let measured = measure(args, &prepared, time);
    let (mut run, verified, wrong) = close_after(&prepared.store, measured)?;
    let wrong = wrong + run.tally.wrong * args.value_bytes;
    let line = BenchLine::of(args, &prepared, &mut run, verified, wrong);
    let broken = judge(&run, wrong);
    if output.is_json() {
        output.json_with(&line, broken.as_ref())?;
    } else {
        line.show(output)?;
    }
    Ok(broken.map_or(Outcome::Done, Outcome::Broken))
}

/// Returns the failure of a run with wrong bytes or failed operations.
fn judge(run: &BenchRun, wrong: u64) -> Option<Failure> {
    if wrong > 0 {
        let what = format!("{wrong} bytes are not what was put, or are missing");
        return Some(Failure::Contract { what });
    }
    let first = run.tally.first_error.as_ref()?;
    let failed = counted(run.tally.errors, "operation");
    let what = format!("{failed} failed; the first: {first}");
    Some(Failure::Contract { what })
}

/// Fills the store, measures, and reads every value again. Returns the numbers of right and wrong bytes.
fn measure(
    args: &BenchArgs,
    prepared: &Prepared,
    time: Duration,
) -> Result<(BenchRun, u64, u64), Failure> {
    prepared.fill()?;
    let run = drive::run(prepared, args, time)?;
    let (right, wrong) = verify(prepared)?;
    Ok((run, right, wrong))
}

fn check(args: &BenchArgs) -> Result<(), Failure> {
    let limits = [
        (
            "--value-bytes",
            args.value_bytes,
            value::LEN_MIN as u64,
            64 << 20,
        ),
        ("--batch", args.batch as u64, 1, 4096),
        ("--depth", args.depth as u64, 1, 4096),
        ("--threads", args.threads as u64, 1, 256),
    ];
    match limits
        .iter()
        .find(|(_, found, min, max)| !(min..=max).contains(&found))
    {
        None => Ok(()),
        Some((what, found, min, max)) => Err(Failure::usage(format!(
            "{what} is {found}: it must be {min} to {max}"
        ))),
    }
}

/// Returns the duration of the measurement.
fn duration(args: &BenchArgs) -> Result<Duration, Failure> {
    let time = Duration::try_from_secs_f64(args.seconds).ok();
    // Far more than anyone measures, and the end of the measurement is a valid `Instant`.
    let in_range = |time: &Duration| !time.is_zero() && *time <= SECONDS_MAX;
    time.filter(in_range).ok_or_else(|| {
        let max = SECONDS_MAX.as_secs();
        Failure::usage(format!(
            "--seconds is {}: it must be more than 0, and at most {max}",
            args.seconds
        ))
    })
}

/// Reads every value and compares it. Returns the numbers of right and wrong bytes.
fn verify(prepared: &Prepared) -> Result<(u64, u64), Failure> {
    let bar = progress::bar(prepared.keys.len() as u64, "verify");
    let (mut right, mut wrong) = (0, 0);
    for first in (0..prepared.keys.len()).step_by(prepared.per_call()) {
        let end = (first + prepared.per_call()).min(prepared.keys.len());
        let keys: Vec<&[u8]> = prepared.keys[first..end].iter().map(|key| &**key).collect();
        for (id, result) in (first..end).zip(prepared.store.get_many(&keys)) {
            let value = result.map_err(|source| Failure::Key {
                what: "getting",
                key: prepared.keys[id].to_vec(),
                source,
            })?;
            match value {
                Some(value) if value::is_right(id as u64, &value) => right += value.len() as u64,
                _ => wrong += prepared.value_bytes as u64,
            }
        }
        bar.set_position(end as u64);
    }
    bar.finish_and_clear();
    Ok((right, wrong))
}

impl BenchLine {
    fn of(
        args: &BenchArgs,
        prepared: &Prepared,
        run: &mut BenchRun,
        verified: u64,
        wrong: u64,
    ) -> BenchLine {
        let latencies = &mut run.tally.latencies;
        latencies.sort_unstable();
        let gigabytes = run.tally.bytes as f64 / 1e9;
        let us = |percent| (!latencies.is_empty()).then(|| percentile_us(latencies, percent));
        BenchLine {
            op: match args.op {
                BenchOp::Get => "get",
                BenchOp::Put => "put",
                BenchOp::Idle => "idle",
            },
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
            bytes_per_second: bytes_per_second(run.tally.bytes, run.time),
            values_per_second: run.tally.values as f64 / run.time.as_secs_f64(),
            p50_us: us(50.0),
            p99_us: us(99.0),
            p999_us: us(99.9),
            cpu_seconds_per_gb: (gigabytes > 0.0).then(|| run.cpu.as_secs_f64() / gigabytes),
            cpu_ratio: run.cpu.as_secs_f64() / run.time.as_secs_f64(),
            commits: run.commits,
            sync_interval_seconds: rb_core::StoreOptions::default().sync_interval.as_secs_f64(),
            errors: run.tally.errors,
            verified_bytes: verified,
            wrong_bytes: wrong,
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        if self.op == "idle" {
            return output.line(format!(
                "idle ({}): {:.3} % of one core over {:.1} s",
                self.engine,
                100.0 * self.cpu_ratio,
                self.seconds
            ));
        }
        output.line(format!(
            "{} {} ({}, {}, {} in flight{}): {:.2} GB/s, {:.0} values/s, {:.3} CPU s/GB",
            self.op,
            show_size(self.value_bytes),
            self.engine,
            counted(self.threads as u64, "thread"),
            self.depth,
            if self.blocking { ", blocking" } else { "" },
            self.bytes_per_second / 1e9,
            self.values_per_second,
            self.cpu_seconds_per_gb.unwrap_or(0.0),
        ))?;
        output.line(format!(
            "a call of {}: p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us; {}, {}; {} verified, {} wrong",
            self.batch,
            self.p50_us.unwrap_or(0.0),
            self.p99_us.unwrap_or(0.0),
            self.p999_us.unwrap_or(0.0),
            counted(self.commits, "commit"),
            counted(self.errors, "error"),
            show_size(self.verified_bytes),
            counted(self.wrong_bytes, "byte")
        ))
    }
}
