//! `rb demo`: a workload, a kill, a restart and a check, in one command.
//!
//! ```text
//! workload.rs  a chat service: the blocks that a turn reads, and the blocks that it adds
//! serve.rs     one turn against a store: longest prefix, get, put, touch
//! child.rs     the process that is killed
//! verify.rs    checks every acknowledged block after the restart
//! report.rs    the result, for people and as JSON
//! ```
//!
//! A child serves turns, syncs after each, and then acknowledges it with a line. The parent kills the child
//! in the middle of a turn, opens the store again, and compares every block of every acknowledged turn
//! byte for byte. The first half fits into the store, so nothing may be missing. In the second half the
//! parent serves more conversations than fit.

mod child;
mod report;
mod serve;
mod sizes;
mod verify;
mod workload;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rb_core::{ClassRequest, EngineKind, FormatOptions, Share, Store};

use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::format::make;
use crate::open::{close, writing};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress;
use report::DemoReport;
use serve::ServedTurns;
use sizes::{SLOTS, VALUE_BYTES};
use workload::{SEED, Workload};

pub(crate) use child::child;

/// Longest duration of the second half, so that the demo takes less than a minute.
const SECOND_HALF_MAX: Duration = Duration::from_secs(20);
pub(crate) fn demo(
    args: &DemoArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let folder = folder(args)?;
    let path = folder.path().join("store");
    prepare(&path)?;
    step(
        output,
        &format!("a store of {SLOTS} slots of 256 KiB in {}", path.display()),
    )?;

    let start = Instant::now();
    let killed = child::serve_and_kill(&path, engine)?;
    let before = start.elapsed();
    step(
        output,
        &format!(
            "served {} turns in a child process, killed it in turn {}",
            killed.turns,
            killed.turns + 1
        ),
    )?;

    let mut workload = Workload::new(SEED);
    let (store, restart) = verify::reopen(&path, writing(engine), output)?;
    let verified = verify::verify(&store, &mut workload, killed.turns)?;
    step(
        output,
        &format!(
            "reopened in {:.3} s and checked {} acknowledged blocks: {} lost",
            restart.open.as_secs_f64(),
            verified.blocks,
            verified.lost
        ),
    )?;

    let start = Instant::now();
    let served = go_on(&store, &mut workload, args.turns)?;
    let after = start.elapsed();
    let stats = store.stats();
    let engine_name = store.engine_name().to_owned();
    let close_time = finish(store)?;
    step(
        output,
        &format!(
            "served {} more turns, which evicted {} blocks",
            served.turns, stats.index.evictions
        ),
    )?;

    let (store, clean_restart) = verify::reopen(&path, writing(engine), output)?;
    let kept = store.stats().index.entries;
    finish(store)?;

    let report = DemoReport::new(report::DemoParts {
        engine: engine_name,
        killed,
        before,
        restart,
        verified,
        served,
        after,
        evictions: stats.index.evictions,
        live: stats.index.entries,
        close_time,
        clean_restart,
        kept,
    });
    let broken = report.judge();
    if output.is_json() {
        output.json_with(&report, broken.as_ref())?;
    } else {
        report.show(output)?;
    }
    Ok(broken.map_or(Outcome::Done, Outcome::Broken))
}

/// Prints a step of the demo; nothing with `--json`.
fn step(output: &mut Output, text: &str) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(());
    }
    output.line(format!("• {text}"))?;
    output.flush()
}

fn folder(args: &DemoArgs) -> Result<tempfile::TempDir, Failure> {
    let parent: PathBuf = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let made = tempfile::Builder::new()
        .prefix("rb-demo-")
        .tempdir_in(&parent);
    made.map_err(|source| Failure::File {
        what: "making a temporary folder in",
        path: parent,
        source: without_path(&source),
    })
}

/// Removes the name of a temporary file or folder, which the user has never seen, from an error of `tempfile`.
fn without_path(error: &std::io::Error) -> std::io::Error {
    let text = error.to_string();
    let why = text.split(" at path ").next().unwrap_or(&text);
    std::io::Error::new(error.kind(), why)
}

fn prepare(path: &Path) -> Result<(), Failure> {
    let class = ClassRequest {
        slot_bytes: VALUE_BYTES as u64,
        share: Share::Slots(SLOTS),
    };
    let options = FormatOptions {
        sparse: true,
        ..FormatOptions::new(path, vec![class])
    };
    make(&options).map(drop)
}

/// Runs the second half: more conversations than fit. On a slow device it ends early.
fn go_on(store: &Store, workload: &mut Workload, turns: u64) -> Result<ServedTurns, Failure> {
    let bar = progress::bar(turns, "serving");
    let mut served = ServedTurns::default();
    let start = Instant::now();
    for turn in workload {
        if served.turns == turns || start.elapsed() > SECOND_HALF_MAX {
            break;
        }
        serve::turn(store, &turn, &mut served)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(served)
}

/// Closes the store and releases its device. Returns the time of that.
fn finish(store: Store) -> Result<Duration, Failure> {
    store.audit().map_err(|what| Failure::Contract {
        what: format!("the index does not add up: {what}"),
    })?;
    let start = Instant::now();
    close(&store)?;
    drop(store);
    Ok(start.elapsed())
}
