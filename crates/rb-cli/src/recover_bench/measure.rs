//! Opens the store in a new process, and measures the time to the first verified get.

use std::ffi::OsString;
use std::time::Instant;

use rb_core::{EngineKind, Store, StoreOptions, Validate};
use serde::{Deserialize, Serialize};

use super::fill::{id, key};
use crate::args::{FillArgs, ValidateMode};
use crate::child::{Child, output_error};
use crate::failure::Failure;
use crate::open::{close, open_quietly, writing};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::payload::{is_payload, mix};
use crate::warnings;

/// Largest number of keys tried for the first hit. After a kill the newest entries may be missing (C2).
const TRIES: u64 = 1000;

/// Times and results of one opening.
#[derive(Serialize, Deserialize)]
pub(super) struct MeasuredRestart {
    /// From the start of the opening to the first verified get.
    pub(super) first_get_seconds: f64,
    /// The opening, including the wait until the kernel has released the lock of a killed process.
    open_seconds: f64,
    base_seconds: f64,
    log_seconds: f64,
    index_seconds: f64,
    /// Entries validated before the store served.
    validated_entries: u64,
    /// Duration of that validation.
    validate_seconds: f64,
    /// From the start of the process to its first verified get, measured by the parent.
    process_seconds: f64,
    clean: bool,
    entries: u64,
    log_blocks: u64,
    log_records: u64,
    /// Gets that missed before the first hit.
    missed_gets: u64,
    /// Warnings of this opening, for the parent, which takes them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) restart_warnings: Vec<String>,
}

/// Returns the arguments of a child that opens the same store.
pub(super) fn child_args(command: &str, fill: &FillArgs, engine: EngineKind) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![command.into(), "--json".into(), "--store".into()];
    args.push(fill.store.clone().into());
    for (name, value) in [
        ("--entries", fill.entries.to_string()),
        ("--key-bytes", fill.key_bytes.to_string()),
        ("--value-bytes", fill.value_bytes.to_string()),
        ("--value-slots", fill.value_slots.to_string()),
        ("--write-every", fill.write_every.to_string()),
        ("--validate", fill.validate.name().to_owned()),
        ("--depth", fill.depth.to_string()),
        ("--engine", engine.to_string()),
    ] {
        args.push(name.into());
        args.push(value.into());
    }
    args
}

/// Measures an opening in a new process, which then closes the store.
pub(super) fn measure(fill: &FillArgs, engine: EngineKind) -> Result<MeasuredRestart, Failure> {
    let start = Instant::now();
    let mut child = Child::spawn("that measures", child_args("recover-probe", fill, engine))?;
    let line = child.line()?.unwrap_or_default();
    let process_seconds = start.elapsed().as_secs_f64();
    let measured: MeasuredRestart = match serde_json::from_str(&line) {
        Ok(measured) => measured,
        Err(_) => return Err(child.failed(output_error(&line))),
    };
    child.finish()?;
    Ok(MeasuredRestart {
        process_seconds,
        ..measured
    })
}

/// Runs in the child: opens the store and prints the measurement.
pub(crate) fn probe(
    fill: &FillArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let options = StoreOptions {
        validate: match fill.validate {
            ValidateMode::Lazy => Validate::Background,
            ValidateMode::Eager => Validate::Eager,
            ValidateMode::Off => Validate::Off,
        },
        queue_depth: fill.depth,
        ..writing(engine)
    };
    let store = open_quietly(&fill.store, options)?;
    let open_seconds = start.elapsed().as_secs_f64();
    let missed_gets = first_get(&store, fill)?;
    let first_get_seconds = start.elapsed().as_secs_f64();
    let report = store.recovery();
    output.json(&MeasuredRestart {
        first_get_seconds,
        open_seconds,
        base_seconds: report.base_time.as_secs_f64(),
        log_seconds: report.log_time.as_secs_f64(),
        index_seconds: report.index_time.as_secs_f64(),
        validated_entries: report.validated,
        validate_seconds: report.validation_time.as_secs_f64(),
        process_seconds: 0.0,
        clean: report.clean,
        entries: report.entries,
        log_blocks: report.log_blocks,
        log_records: report.log_records,
        missed_gets,
        restart_warnings: warnings::of(report),
    })?;
    output.flush()?;
    close(&store)?;
    Ok(Outcome::Done)
}

/// Gets entries until one is a hit, and returns the number of misses.
///
/// In a store whose values are written in part, it gets only entries whose values were written: a get of
/// another one is a miss that drops the entry, and the next round would find fewer.
fn first_get(store: &Store, fill: &FillArgs) -> Result<u64, Failure> {
    let mut missed = 0;
    let mut found = None;
    let mut goes_on = |id| {
        match is_there(store, fill, id) {
            Ok(false) => missed += 1,
            other => found = Some(other),
        }
        found.is_none() && missed < TRIES
    };
    if fill.write_every == 1 {
        let mut tries = 0..TRIES;
        tries.all(|at| goes_on(mix(at) % fill.entries.max(1)));
    } else {
        let is_written = |slot| u64::from(slot).is_multiple_of(fill.write_every);
        store.for_each(|entry| !is_written(entry.slot) || goes_on(id(&entry.key)));
    }
    match found {
        Some(result) => result.map(|_| missed),
        None => Err(Failure::Contract {
            what: format!("none of {missed} entries of a full store was found after a restart"),
        }),
    }
}

fn is_there(store: &Store, fill: &FillArgs, id: u64) -> Result<bool, Failure> {
    let key = key(fill, id);
    match store.get(&key) {
        Ok(Some(value)) if is_payload(id, &value) => Ok(true),
        Ok(Some(_)) => Err(Failure::Contract {
            what: format!("entry {id} has other bytes"),
        }),
        Ok(None) => Ok(false),
        Err(source) => Err(Failure::Key {
            what: "getting",
            key,
            source,
        }),
    }
}

impl MeasuredRestart {
    pub(super) fn show(&self, name: &str, output: &mut Output) -> Result<(), Failure> {
        output.line(format!(
            "{name:<20} {:>15.3} s {:>7.3} s {:>7.3} s {:>7.3} s {:>7.3} s  {:>10}",
            self.first_get_seconds,
            self.open_seconds,
            self.base_seconds,
            self.log_seconds,
            self.index_seconds,
            self.log_blocks
        ))?;
        if self.validated_entries > 0 {
            output.line(format!(
                "{:<20} {} entries validated in {:.3} s, {:.0} per second",
                "",
                self.validated_entries,
                self.validate_seconds,
                self.validated_entries as f64 / self.validate_seconds.max(1e-9)
            ))?;
        }
        Ok(())
    }
}
