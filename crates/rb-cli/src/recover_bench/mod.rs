//! `rb recover-bench`: measures how soon a full store serves again.
//!
//! Every measured opening happens in a new process, as after a real restart. Every kill is a SIGKILL of a
//! process that writes. The kernel's caches survive it, so this measures the work of a restart, not the
//! durability of writes: the crash tests check that.
//!
//! ```text
//! fill.rs     puts the entries
//! thin.rs     an engine that skips the writes of most values
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

use case::RestartCase;
pub(crate) use kill::churn;
pub(crate) use measure::probe;

const BLOCK: u64 = rb_format::FORMAT_BLOCK as u64;

/// Smallest number of entries. A killed process loses unsynced puts, which had replaced older entries: up to
/// some thousands, which must be a small part of all.
const ENTRIES_MIN: u64 = 20_000;

/// Smallest number of written values: the measured time includes the search for one of them.
const WRITTEN_MIN: u64 = 1000;

#[derive(Serialize)]
struct RecoverBenchLine {
    entries: u64,
    key_bytes: u32,
    value_bytes: u64,
    value_slots: u64,
    engine: String,
    validate: &'static str,
    validate_depth: u32,
    write_every: u64,
    log_bytes: u64,
    fill_seconds: f64,
    close_seconds: f64,
    cases: Vec<RestartCase>,
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
    let _made = TemporaryStore {
        path: &fill.store,
        remove: !existed && !args.keep,
    };
    let filled = fill::fill(fill, engine, output)?;
    let mut case = |until| RestartCase::measure(fill, engine, until, args.rounds, output);
    let mut cases = vec![
        case(None)?,
        case(Some(Until::Usual))?,
        case(Some(Until::Longest))?,
    ];
    if args.full_log {
        cases.push(case(Some(Until::Full))?);
    }
    let result = RecoverBenchLine {
        entries: fill.entries,
        key_bytes: fill.key_bytes,
        value_bytes: fill.value_bytes,
        value_slots: fill.value_slots,
        engine: filled.engine,
        validate: fill.validate.name(),
        validate_depth: fill.depth,
        write_every: fill.write_every,
        log_bytes,
        fill_seconds: filled.seconds,
        close_seconds: filled.close_seconds,
        cases,
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
        let why = format!("--key-bytes is {}: it must be 8 to 1024", fill.key_bytes);
        return Err(Failure::usage(why));
    }
    if !(1..=4096).contains(&fill.depth) {
        let why = format!("--depth is {}: it must be 1 to 4096", fill.depth);
        return Err(Failure::usage(why));
    }
    if fill.value_bytes == 0 {
        return Err(Failure::usage(
            "--value-bytes is 0: values have at least 1 byte",
        ));
    }
    let max = fill.value_bytes.div_ceil(BLOCK).min(256);
    if !(1..=max).contains(&fill.value_slots) {
        return Err(Failure::usage(format!(
            "--value-slots is {}: values of {} bytes take 1 to {max} slots, each of which has at least {BLOCK} bytes of its value",
            fill.value_slots, fill.value_bytes
        )));
    }
    if fill.value_slots > 1 && fill.write_every > 1 {
        return Err(Failure::usage(
            "--value-slots: --write-every skips single slots, which is not possible for values of several",
        ));
    }
    if fill.entries < ENTRIES_MIN {
        return Err(Failure::usage(format!(
            "--entries is {}: at least {ENTRIES_MIN} are needed, because a killed process loses its unsynced puts, up to some thousands of entries, which could be all of a smaller store",
            fill.entries
        )));
    }
    let max = fill.entries / WRITTEN_MIN;
    if !(1..=max).contains(&fill.write_every) {
        return Err(Failure::usage(format!(
            "--write-every is {}: with {} entries it must be 1 to {max}, because the measured time includes the search for a written value, so at least {WRITTEN_MIN} must be written",
            fill.write_every, fill.entries
        )));
    }
    if fill.write_every > 1 && fill.validate == ValidateMode::Eager {
        return Err(Failure::usage(
            "--validate eager drops the entries whose values --write-every skips: only off is possible with it",
        ));
    }
    Ok(())
}

/// Makes the store. Returns the length of one ring of its log in bytes.
fn prepare(args: &RecoverBenchArgs) -> Result<u64, Failure> {
    let fill = &args.fill;
    let slot_bytes = fill
        .value_bytes
        .div_ceil(fill.value_slots)
        .next_multiple_of(BLOCK);
    if fill.value_bytes.div_ceil(slot_bytes) != fill.value_slots {
        let (slots, bytes) = (fill.value_slots, fill.value_bytes);
        return Err(Failure::usage(format!(
            "--value-slots is {slots}: no slot size, a multiple of {BLOCK} bytes, makes values of {bytes} bytes take so many"
        )));
    }
    let class = ClassRequest {
        slot_bytes,
        share: Share::Slots(fill.entries.saturating_mul(fill.value_slots)),
    };
    let options = FormatOptions {
        key_len_max: fill.key_bytes,
        sparse: true,
        consent: args.yes,
        ..FormatOptions::new(&fill.store, vec![class])
    };
    make(&options).map(|formatted| formatted.superblock.log.bytes)
}

/// A store that this run made. Dropping this removes the store, however the run ends.
struct TemporaryStore<'a> {
    path: &'a Path,
    remove: bool,
}

impl Drop for TemporaryStore<'_> {
    fn drop(&mut self) {
        if self.remove {
            // A failure leaves a file whose name the user gave.
            drop(std::fs::remove_file(self.path));
        }
    }
}

impl RecoverBenchLine {
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
                "values only in slots whose number is a multiple of {}; nothing is validated",
                self.write_every
            ))?;
        }
        output.line("                    first verified get      open      base       log     index  log blocks")?;
        for case in &self.cases {
            case.show(output)?;
        }
        Ok(())
    }
}
