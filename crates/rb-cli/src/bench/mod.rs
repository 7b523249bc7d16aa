//! `rb bench`: how fast a store is, and whether every byte is right.
//!
//! ```text
//! prepare.rs  the store, made or found, with every key of the run in it
//! drive.rs    the measured part
//! value.rs    values that cost next to nothing to make
//! ```
//!
//! While the clock runs the store verifies each value that it serves, as always, and the bench looks at its
//! first and last word. Afterwards every value is read once more and compared byte for byte.

mod drive;
mod prepare;
mod value;

use rb_core::EngineKind;
use serde::Serialize;

use crate::args::{BenchArgs, BenchOp};
use crate::failure::Failure;
use crate::open::close_after;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress;
use crate::rates::{gbps, percentile_ms};
use crate::size::show_size;
use drive::Run;
use prepare::{Prepared, prepare};

#[derive(Serialize)]
struct Line {
    op: &'static str,
    engine: String,
    value_bytes: u64,
    batch: usize,
    /// Values in flight on each thread; of blocking calls, the batch.
    depth: usize,
    threads: usize,
    blocking: bool,
    seconds: f64,
    gbps: f64,
    /// Values, not calls.
    ops_per_s: f64,
    /// Of a call.
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    cpu_s_per_gb: f64,
    /// Of one core.
    cpu_percent: f64,
    commits: u64,
    sync_interval_ms: f64,
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
    let prepared = prepare(args, engine, output)?;
    let measured = measure(args, &prepared);
    let (mut run, verified, wrong) = close_after(&prepared.store, measured)?;
    let wrong = wrong + run.tally.wrong * args.value_bytes;
    let line = Line::of(args, &prepared, &mut run, verified, wrong);
    if output.is_json() {
        output.json(&line)?;
    } else {
        line.show(output)?;
    }
    if wrong > 0 {
        let what = format!("{wrong} bytes are not what was put");
        return Ok(Outcome::Broken(Failure::Contract { what }));
    }
    match run.tally.first_error {
        None => Ok(Outcome::Done),
        Some(first) => {
            let what = format!("{} operations failed; the first: {first}", run.tally.errors);
            Ok(Outcome::Broken(Failure::Contract { what }))
        }
    }
}

/// Fills the store, measures, and reads everything once more. Answers the bytes that were right then, and those that were not.
fn measure(args: &BenchArgs, prepared: &Prepared) -> Result<(Run, u64, u64), Failure> {
    prepared.fill()?;
    let run = drive::run(prepared, args)?;
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
            "{what} is {found}: {min} to {max} is possible"
        ))),
    }
}

/// Reads every value and compares it. Answers the bytes that are right, and those that are not.
fn verify(prepared: &Prepared) -> Result<(u64, u64), Failure> {
    let bar = progress::bar(prepared.keys.len() as u64, "verify");
    let (mut right, mut wrong) = (0, 0);
    for first in (0..prepared.keys.len()).step_by(prepared.per_call()) {
        let end = (first + prepared.per_call()).min(prepared.keys.len());
        let keys: Vec<&[u8]> = prepared.keys[first..end].iter().map(|key| &**key).collect();
        for (id, answer) in (first..end).zip(prepared.store.get_many(&keys)) {
            let value = answer.map_err(|source| Failure::Key {
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

impl Line {
    fn of(args: &BenchArgs, prepared: &Prepared, run: &mut Run, verified: u64, wrong: u64) -> Line {
        let latencies = &mut run.tally.latencies;
        latencies.sort_unstable();
        let gigabytes = run.tally.bytes as f64 / 1e9;
        let us = |percent| percentile_ms(latencies, percent) * 1e3;
        Line {
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
                args.depth
            },
            threads: args.threads,
            blocking: args.blocking,
            seconds: run.time.as_secs_f64(),
            gbps: gbps(run.tally.bytes, run.time),
            ops_per_s: run.tally.values as f64 / run.time.as_secs_f64(),
            p50_us: us(50.0),
            p99_us: us(99.0),
            p999_us: us(99.9),
            cpu_s_per_gb: if gigabytes > 0.0 {
                run.cpu.as_secs_f64() / gigabytes
            } else {
                0.0
            },
            cpu_percent: 100.0 * run.cpu.as_secs_f64() / run.time.as_secs_f64(),
            commits: run.commits,
            sync_interval_ms: rb_core::StoreOptions::default().sync_interval.as_secs_f64() * 1e3,
            errors: run.tally.errors,
            verified_bytes: verified,
            wrong_bytes: wrong,
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        if self.op == "idle" {
            return output.line(format!(
                "idle ({}): {:.3} % of one core over {:.1} s",
                self.engine, self.cpu_percent, self.seconds
            ));
        }
        output.line(format!(
            "{} {} ({}, {} thread{}, {} in flight{}): {:.2} GB/s, {:.0} values/s, {:.3} CPU s/GB",
            self.op,
            show_size(self.value_bytes),
            self.engine,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            self.depth,
            if self.blocking { ", blocking" } else { "" },
            self.gbps,
            self.ops_per_s,
            self.cpu_s_per_gb,
        ))?;
        output.line(format!(
            "a call of {}: p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us; {} commits, {} errors; {} verified, {} bytes wrong",
            self.batch,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.commits,
            self.errors,
            show_size(self.verified_bytes),
            self.wrong_bytes
        ))
    }
}
