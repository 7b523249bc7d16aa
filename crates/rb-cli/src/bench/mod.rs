//! `rb bench`: measures how fast a store is, and verifies every byte.
//!
//! ```text
//! prepare.rs  opens or makes the store, and fills it
//! choice.rs   what each call does, and its keys
//! drive.rs    the measured part
//! line.rs     the result
//! value.rs    values that are cheap to make
//! ```
//!
//! During the measurement the store verifies each value that it returns, as always, and the bench compares
//! its first and last word. Afterwards every value is read again and compared byte for byte.

mod choice;
mod drive;
mod line;
mod prepare;
mod value;

use std::time::Duration;

use rb_core::EngineKind;

use crate::args::{BenchArgs, BenchOp};
use crate::failure::Failure;
use crate::open::close_after;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::page;
use crate::progress;
use crate::size::counted;
use drive::BenchRun;
use line::BenchLine;
use prepare::{Prepared, prepare};

/// Longest duration of a measurement: a year.
const SECONDS_MAX: Duration = Duration::from_hours(365 * 24);

pub(crate) fn bench(
    args: &BenchArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    check(args)?;
    let time = duration(args)?;
    let html = page::place(args.html.as_deref(), &[&args.store])?;
    let prepared = prepare(args, engine, output)?;
    let measured = measure(args, &prepared, time);
    let (run, verified, wrong) = close_after(&prepared.store, measured)?;
    let wrong = wrong + run.tally.wrong * args.value_bytes;
    let line = BenchLine::of(args, &prepared, &run, verified, wrong);
    let mut broken = judge(&run, wrong);
    if let Some(html) = &html {
        let text = line.page(args, &prepared.store, broken.as_ref());
        // The result is shown even if its page cannot be written.
        broken = broken.or(html.write(text.as_bytes(), output).err());
    }
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
    match args.get_percent {
        Some(_) if args.op != BenchOp::Mixed => {
            return Err(Failure::usage("--get-percent is for --op mixed"));
        }
        Some(percent @ 101..) => {
            return Err(Failure::usage(format!(
                "--get-percent is {percent}: it must be 0 to 100"
            )));
        }
        _ => {}
    }
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
