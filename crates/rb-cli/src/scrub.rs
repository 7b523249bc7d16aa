//! `rb scrub`: verifies every value once, through the process that has the store open, or by itself.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

use rb_core::monitor::{self, MonitorError, ScrubProgress};
use rb_core::{Background, EngineKind, Scrub, Store, StoreOptions};
use serde::Serialize;

use crate::args::ScrubArgs;
use crate::failure::Failure;
use crate::open::{Agreed, close_after, look_before_writing, open, writing};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress;
use crate::size::{counted, show_size};

/// Time between two looks at a scrub of another process.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Looks without an answer, each a second long, after which the process counts as gone.
const SILENT_MAX: u32 = 10;

/// Entries per step.
const STEP: usize = 256;

#[derive(Serialize)]
struct ScrubbedLine {
    /// `None` if no process had the store open.
    process: Option<u32>,
    running: bool,
    scrubbed_entries: u64,
    scrub_entries: u64,
    scrubbed_bytes: u64,
    dropped_entries: u64,
    read_errors: u64,
    seconds: f64,
}

pub(crate) fn scrub(
    args: &ScrubArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let Some(rate) = NonZeroU64::new(args.rate.unwrap_or(u64::MAX)) else {
        let why = "--rate is 0: a scrub reads at least a byte in a second".into();
        return Err(Failure::Usage { why });
    };
    let start = Instant::now();
    let (process, progress) = match monitor::scrub(&args.path, rate) {
        Ok(()) => follow(&args.path, args.start)?,
        Err(MonitorError::NotOpen { .. }) => (None, by_itself(args, rate, engine, output)?),
        // The process that does not answer may have another store open. If not, this one cannot be opened.
        Err(source @ MonitorError::NoAnswer { .. }) => {
            let scrubbed = by_itself(args, rate, engine, output);
            (None, scrubbed.map_err(|_| Failure::Monitor { source })?)
        }
        Err(source) => return Err(Failure::Monitor { source }),
    };
    let line = ScrubbedLine {
        process,
        running: progress.running,
        scrubbed_entries: progress.done.entries,
        scrub_entries: progress.of,
        scrubbed_bytes: progress.done.bytes,
        dropped_entries: progress.done.dropped,
        read_errors: progress.done.errors,
        seconds: start.elapsed().as_secs_f64(),
    };
    if output.is_json() {
        output.json(&line)?;
    } else {
        output.line(line.text())?;
    }
    match (line.dropped_entries, line.read_errors) {
        (0, 0) => Ok(Outcome::Done),
        _ => Ok(Outcome::Damaged),
    }
}

impl ScrubbedLine {
    fn text(&self) -> String {
        let by = match self.process {
            Some(process) => format!(" by process {process}"),
            None => String::new(),
        };
        if self.running {
            return format!(
                "the scrub of {} is running{by}: rb stats shows its progress",
                counted(self.scrub_entries, "entry")
            );
        }
        format!(
            "{} of {} verified{by} in {:.1} s: {} dropped as damaged, {}",
            counted(self.scrubbed_entries, "entry"),
            show_size(self.scrubbed_bytes),
            self.seconds,
            self.dropped_entries,
            counted(self.read_errors, "failed read")
        )
    }
}

/// Waits for the end of the scrub that another process has started.
fn follow(path: &Path, only_start: bool) -> Result<(Option<u32>, ScrubProgress), Failure> {
    let bar = progress::bar(0, "scrub");
    let mut silent = 0;
    loop {
        let session = match monitor::session(path) {
            Ok(session) => session,
            // It was busy for a moment.
            Err(MonitorError::NoAnswer { .. }) if silent < SILENT_MAX => {
                silent += 1;
                continue;
            }
            Err(source) => return Err(Failure::Monitor { source }),
        };
        silent = 0;
        let Some(progress) = session.scrub else {
            // Another process has opened the store since.
            let why = "the process that scrubbed has closed the store".into();
            return Err(Failure::Usage { why });
        };
        bar.set_length(progress.of.max(progress.done.entries));
        bar.set_position(progress.done.entries);
        if !progress.running || only_start {
            bar.finish_and_clear();
            return Ok((Some(session.process), progress));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Opens the store and scrubs it.
fn by_itself(
    args: &ScrubArgs,
    bytes_per_second: NonZeroU64,
    engine: EngineKind,
    output: &mut Output,
) -> Result<ScrubProgress, Failure> {
    let agreed = Agreed {
        accept_lost_metadata: args.accept_lost_metadata,
        force: args.force,
    };
    look_before_writing(&args.path, engine, agreed, output)?;
    let options = StoreOptions {
        force: args.force,
        scrub: Some(Scrub::daily(bytes_per_second)),
        // No other scrub, and no validation at the same time.
        background: Background::Manual,
        ..writing(engine)
    };
    let store = open(&args.path, options, output)?;
    let scrubbed = one_pass(&store);
    close_after(&store, scrubbed)
}

fn one_pass(store: &Store) -> Result<ScrubProgress, Failure> {
    let of = store.stats().index.entries;
    let bar = progress::bar(of, "scrub");
    loop {
        let step = store.step_scrub(STEP).map_err(|source| Failure::Store {
            what: "scrubbing",
            source,
        })?;
        let done = store.stats().scrub;
        bar.set_position(done.entries);
        if done.passes > 0 {
            bar.finish_and_clear();
            let running = false;
            return Ok(ScrubProgress { of, done, running });
        }
        std::thread::sleep(step.unwrap_or_default());
    }
}
