//! `rb recover-bench`: how soon a full store serves again.
//!
//! Every opening that counts happens in a fresh process, as after a real restart; every kill is a
//! SIGKILL of a process that writes. A kill leaves the kernel's caches alone, so this measures the
//! work of a restart, not the durability of what was written: that is what the crash tests are for.

mod fill;
mod kill;
mod measure;

use std::path::Path;

use rb_core::{ClassRequest, EngineKind, FormatOptions, Share};
use serde::Serialize;

use crate::args::{FillArgs, RecoverBenchArgs, Until};
use crate::failure::Failure;
use crate::format::make;
use crate::output::Output;
use crate::run::Outcome;
use crate::size::show_size;

pub(crate) use kill::churn;
pub(crate) use measure::probe;
use measure::{Measured, measure};

/// Fewer entries are not measured. A killed process loses what it had not synced, and what it put
/// again in that time displaced older entries: up to some thousands, which must be a small part.
const ENTRIES_MIN: u64 = 20_000;

#[derive(Serialize)]
struct Bench {
    entries: u64,
    key_bytes: u32,
    value_bytes: u64,
    engine: String,
    validate: &'static str,
    depth: u32,
    log_bytes: u64,
    fill_seconds: f64,
    close_seconds: f64,
    clean: Measured,
    killed: Measured,
    killed_longest: Measured,
    #[serde(skip_serializing_if = "Option::is_none")]
    killed_full_log: Option<Measured>,
}

pub(crate) fn bench(
    args: &RecoverBenchArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let fill = &args.fill;
    check(fill)?;
    let existed = fill.store.exists();
    let log_bytes = prepare(args)?;
    let _made = Made {
        path: &fill.store,
        remove: !existed && !args.keep,
    };
    let filled = fill::fill(fill, engine, output)?;
    let clean = measure(fill, engine)?;
    let killed = kill_and_measure(fill, engine, Until::Quarter)?;
    let killed_longest = kill_and_measure(fill, engine, Until::Longest)?;
    let killed_full_log = match args.full_log {
        true => Some(kill_and_measure(fill, engine, Until::Full)?),
        false => None,
    };
    for (name, measured) in [
        ("clean close", Some(&clean)),
        ("killed, usual log", Some(&killed)),
        ("killed, longest log", Some(&killed_longest)),
        ("killed, full log", killed_full_log.as_ref()),
    ] {
        for warning in measured.iter().flat_map(|measured| &measured.warnings) {
            output.warn(format!("{name}: {warning}"));
        }
    }
    let result = Bench {
        entries: fill.entries,
        key_bytes: fill.key_bytes,
        value_bytes: fill.value_bytes,
        engine: filled.engine,
        validate: fill.validate.name(),
        depth: fill.depth,
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
    make(&options).map(|superblock| superblock.log.bytes)
}

fn kill_and_measure(
    fill: &FillArgs,
    engine: EngineKind,
    until: Until,
) -> Result<Measured, Failure> {
    kill::kill(fill, engine, until)?;
    measure(fill, engine)
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
        output.line("                    first verified get      open      base       log     index  log blocks")?;
        self.clean.show("clean close", output)?;
        self.killed.show("killed, usual log", output)?;
        self.killed_longest.show("killed, longest log", output)?;
        if let Some(full) = &self.killed_full_log {
            full.show("killed, full log", output)?;
        }
        Ok(())
    }
}
