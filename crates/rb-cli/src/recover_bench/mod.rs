//! `rb recover-bench`: how soon a full store serves again.
//!
//! Every opening that counts happens in a fresh process, as after a real restart; every kill is a
//! SIGKILL of a process that writes. A kill leaves the kernel's caches alone, so this measures the
//! work of a restart, not the durability of what was written: that is what the crash tests are for.
//!
//! ```text
//! fill.rs     the entries
//! thin.rs     an engine that leaves most of their values out
//! kill.rs     the process that writes and is killed
//! measure.rs  the process that is measured
//! case.rs     one kind of restart, in rounds
//! ```

mod case;
mod fill;
mod kill;
mod measure;
mod thin;

use std::path::Path;

use rb_core::{ClassRequest, EngineKind, FormatOptions, Share};
use serde::Serialize;

use crate::args::{FillArgs, RecoverBenchArgs, Until, ValidateMode};
use crate::failure::Failure;
use crate::format::make;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::size::show_size;

use case::Case;
pub(crate) use kill::churn;
pub(crate) use measure::probe;

/// Fewer entries are not measured. A killed process loses what it had not synced, and what it put
/// again in that time displaced older entries: up to some thousands, which must be a small part.
const ENTRIES_MIN: u64 = 20_000;

/// Fewer values are not written: the first is looked for in the time that is measured.
const WRITTEN_MIN: u64 = 1000;

#[derive(Serialize)]
struct Bench {
    entries: u64,
    key_bytes: u32,
    value_bytes: u64,
    engine: String,
    validate: &'static str,
    depth: u32,
    write_every: u64,
    log_bytes: u64,
    fill_seconds: f64,
    close_seconds: f64,
    clean: Case,
    killed: Case,
    killed_longest: Case,
    #[serde(skip_serializing_if = "Option::is_none")]
    killed_full_log: Option<Case>,
}

pub(crate) fn bench(
    args: &RecoverBenchArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let mut fill = args.fill.clone();
    check(&fill)?;
    if fill.write_every > 1 {
        fill.validate = ValidateMode::Off;
    }
    let fill = &fill;
    let existed = fill.store.exists();
    let log_bytes = prepare(args)?;
    let _made = Made {
        path: &fill.store,
        remove: !existed && !args.keep,
    };
    let filled = fill::fill(fill, engine, output)?;
    let mut case = |until| Case::measure(fill, engine, until, args.rounds, output);
    let clean = case(None)?;
    let killed = case(Some(Until::Quarter))?;
    let killed_longest = case(Some(Until::Longest))?;
    let killed_full_log = match args.full_log {
        true => Some(case(Some(Until::Full))?),
        false => None,
    };
    let result = Bench {
        entries: fill.entries,
        key_bytes: fill.key_bytes,
        value_bytes: fill.value_bytes,
        engine: filled.engine,
        validate: fill.validate.name(),
        depth: fill.depth,
        write_every: fill.write_every,
        log_bytes,
        fill_seconds: filled.seconds,
        close_seconds: filled.close_seconds,
        clean,
        killed,
        killed_longest,
        killed_full_log,
    };
    if output.is_json() {
        output.json(&result)?;
    } else {
        result.show(output)?;
    }
    Ok(Outcome::Done)
}

fn check(fill: &FillArgs) -> Result<(), Failure> {
    if !(8..=1024).contains(&fill.key_bytes) {
        let why = format!("--key-bytes is {}: 8 to 1024 is possible", fill.key_bytes);
        return Err(Failure::usage(why));
    }
    if fill.value_bytes == 0 {
        return Err(Failure::usage(
            "--value-bytes is 0: values have at least 1 byte",
        ));
    }
    if fill.entries < ENTRIES_MIN {
        return Err(Failure::usage(format!(
            "--entries is {}: at least {ENTRIES_MIN} are needed, because a killed process loses what it had put again and not synced, up to some thousands of entries: of fewer that could be all",
            fill.entries
        )));
    }
    let max = fill.entries / WRITTEN_MIN;
    if !(1..=max).contains(&fill.write_every) {
        return Err(Failure::usage(format!(
            "--write-every is {}: 1 to {max} is possible with {} entries, because the first value is looked for in the time that is measured, and at least {WRITTEN_MIN} are to be there",
            fill.write_every, fill.entries
        )));
    }
    if fill.write_every > 1 && fill.validate == ValidateMode::Eager {
        return Err(Failure::usage(
            "--validate eager drops the entries whose values --write-every leaves out: only off is possible with it",
        ));
    }
    Ok(())
}

/// Makes the store; answers the length of its log.
fn prepare(args: &RecoverBenchArgs) -> Result<u64, Failure> {
    let fill = &args.fill;
    let slot_bytes = fill
        .value_bytes
        .next_multiple_of(rb_format::FORMAT_BLOCK as u64);
    let class = ClassRequest {
        slot_bytes,
        share: Share::Slots(fill.entries),
    };
    let options = FormatOptions {
        key_len_max: fill.key_bytes,
        sparse: true,
        consent: args.yes,
        ..FormatOptions::new(&fill.store, vec![class])
    };
    make(&options).map(|formatted| formatted.superblock.log.bytes)
}

/// A store that this run made, to be removed however the run ends.
struct Made<'a> {
    path: &'a Path,
    remove: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.remove {
            // Nobody is left to hear of a failure, and the file's name was given by the user.
            drop(std::fs::remove_file(self.path));
        }
    }
}

impl Bench {
    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        output.line(format!(
            "{} entries, keys of {} bytes, values of {}, log of {} ({}); filled in {:.1} s, closed in {:.3} s",
            self.entries,
            self.key_bytes,
            show_size(self.value_bytes),
            show_size(self.log_bytes),
            self.engine,
            self.fill_seconds,
            self.close_seconds
        ))?;
        if self.write_every > 1 {
            output.line(format!(
                "values only in each slot whose number is a multiple of {}; nothing is validated",
                self.write_every
            ))?;
        }
        output.line("                    first verified get      open      base       log     index  log blocks")?;
        let measured = [&self.clean, &self.killed, &self.killed_longest];
        for case in measured.into_iter().chain(&self.killed_full_log) {
            case.show(output)?;
        }
        Ok(())
    }
}
