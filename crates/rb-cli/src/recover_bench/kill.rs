//! Writes until the log has the wanted length, and is killed there.

use std::ffi::OsString;
use std::time::Duration;

use rb_core::{Background, EngineKind, Store, StoreOptions};

use super::fill::put;
use super::measure::child_args;
use super::thin;
use crate::args::{FillArgs, RecoverChurnArgs, Until};
use crate::child::{Child, output_error};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::payload::mix;

/// Entries of one batch: few, so that the log grows in small steps.
const BATCH: u64 = 64;
/// Number of checkpoints after which the longest log is known.
const CHECKPOINTS: u32 = 2;

/// Line that the child prints when its log has the wanted length.
const READY: &str = "ready";

/// Starts a child that writes until the log has the wanted length, and kills it there.
pub(super) fn kill(fill: &FillArgs, engine: EngineKind, until: Until) -> Result<(), Failure> {
    let mut args = child_args("recover-churn", fill, engine);
    args.extend(["--until", until.name()].map(OsString::from));
    let mut child = Child::spawn("that writes until it is killed", args)?;
    match child.line()? {
        Some(line) if line == READY => child.kill().map(drop),
        other => Err(child.failed(output_error(&other.unwrap_or_default()))),
    }
}

/// Runs in the child. Ends when the process is killed, or when the parent's end closes its output.
pub(crate) fn churn(
    args: &RecoverChurnArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let background = match args.until {
        Until::Usual | Until::Longest => Background::Threads,
        Until::Full => Background::Manual,
    };
    // Without checkpoints the log fills up, and a wait for space would be useless.
    let busy_wait = match args.until {
        Until::Usual | Until::Longest => StoreOptions::default().busy_wait,
        Until::Full => Duration::ZERO,
    };
    let options = StoreOptions {
        engine,
        background,
        busy_wait,
        ..StoreOptions::default()
    };
    let store = thin::open(&args.fill, options)?;
    let mut writer = LogWriter {
        store: &store,
        fill: &args.fill,
        batch: 0,
    };
    match args.until {
        Until::Usual => writer.until_due()?,
        Until::Longest => writer.until_longest()?,
        Until::Full => writer.until_full()?,
    }
    output.line(READY)?;
    output.flush()?;
    loop {
        // The log stays long only if writing goes on while the checkpoint runs.
        match args.until {
            Until::Longest => writer.step().map(drop)?,
            Until::Usual | Until::Full => std::thread::sleep(Duration::from_millis(10)),
        }
        // Fails if the parent has ended.
        output.line("waiting")?;
        output.flush()?;
    }
}

struct LogWriter<'a> {
    store: &'a Store,
    fill: &'a FillArgs,
    batch: u64,
}

impl LogWriter<'_> {
    /// Puts a batch of random entries again. Returns the length of the log that a restart would replay,
    /// in blocks.
    fn step(&mut self) -> Result<u64, Failure> {
        let first = self.batch * BATCH;
        self.batch += 1;
        let ids = (first..first + BATCH).map(|at| mix(at) % self.fill.entries.max(1));
        put(self.store, self.fill, ids)?;
        Ok(self.store.stats().replay_blocks)
    }

    fn sync(&self) -> Result<(), Failure> {
        self.store.sync().map_err(|source| Failure::Store {
            what: "syncing",
            source,
        })
    }

    fn until_due(&mut self) -> Result<(), Failure> {
        loop {
            let length = self.step()?;
            let due = self.store.stats().checkpoint_blocks;
            // A margin of a batch and its commit, so that no checkpoint starts.
            if length + (due / 16).max(8) >= due {
                break;
            }
        }
        self.sync()
    }

    fn until_longest(&mut self) -> Result<(), Failure> {
        let (mut longest, mut last, mut checkpoints) = (0, 0, 0);
        loop {
            let length = self.step()?;
            checkpoints += u32::from(length < last);
            if checkpoints > CHECKPOINTS && near(length, longest, checkpoints) {
                return Ok(());
            }
            longest = longest.max(length);
            last = length;
        }
    }

    fn until_full(&mut self) -> Result<(), Failure> {
        loop {
            match self.step() {
                Ok(_) => {}
                Err(Failure::Key {
                    source: rb_core::Error::Busy { .. },
                    ..
                }) => break,
                Err(other) => return Err(other),
            }
            self.store.step_commit().map_err(|source| Failure::Store {
                what: "committing",
                source,
            })?;
        }
        self.sync()
    }
}

/// Returns whether a log is about as long as the longest one seen: within 2 %, and 2 % more for each
/// further checkpoint, so that one outlier does not prevent the end.
fn near(length: u64, longest: u64, checkpoints: u32) -> bool {
    let slack = u64::from(2 * (checkpoints - CHECKPOINTS)).min(100);
    length * 100 >= longest * (100 - slack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_the_longest_log_ends() {
        assert!(near(98, 100, CHECKPOINTS + 1));
        assert!(!near(97, 100, CHECKPOINTS + 1));
        assert!(near(50, 100, CHECKPOINTS + 25));
        assert!(near(0, 100, CHECKPOINTS + 1000));
    }
}
