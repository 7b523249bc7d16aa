//! `rb replay`: drives a store with a trace of KV-cache requests and checks every byte it returns.
//!
//! ```text
//! drive.rs  one request: get all, put what missed, touch all
//! tally.rs  counts and the result
//! ```

mod drive;
mod tally;

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use rb_core::{ClassRequest, EngineKind, Expected, FormatOptions, Share, Store, StoreOptions};

use crate::args::ReplayArgs;
use crate::failure::Failure;
use crate::format::{check_slots, make};
use crate::open::{close, open};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::page;
use crate::progress;
use crate::series::Series;
use crate::trace;
use drive::Driver;
use tally::{ReplayTally, Setting};

/// Buffer memory of the store in bytes, unless four slots need more. Not the store's default, because the
/// size of a batch depends on it.
const BUFFERS: usize = 128 << 20;
/// Length of the keys: a block id has 8 bytes.
const KEY_BYTES: u32 = 8;

pub(crate) fn replay(
    args: &ReplayArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    // The arguments are checked before the store is made, which may replace another one.
    let value_bytes = value_bytes(args)?;
    check_shards(args)?;
    let html = page::place(args.html.as_deref(), &[&args.store, &args.trace])?;
    let requests = trace::read(&args.trace, args.requests)?;
    prepare(args)?;
    let options = options(args, engine, value_bytes);
    let bar = progress::bar(requests.len() as u64, "replay");
    let mut store = open(&args.store, options.clone(), output)?;
    let driver = Driver::new(value_bytes, buffer_bytes(value_bytes));
    let mut tally = ReplayTally::default();
    let series = Series::start(ProgressBar::hidden());
    let mut recorder = series.recorder();
    let start = Instant::now();
    for (number, request) in requests.iter().enumerate() {
        driver.request(&store, &request.hash_ids, &mut tally, &mut recorder)?;
        bar.inc(1);
        let done = number as u64 + 1;
        let more = done < requests.len() as u64;
        if more
            && args
                .restart_every
                .is_some_and(|every| done.is_multiple_of(every))
        {
            store = restart(store, &args.store, &options, &mut tally, output)?;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(recorder);
    let measured = series.finish();
    let setting = Setting::of(&store, args, value_bytes);
    tally.absorb(&store.stats());
    tally.entries = store.stats().index.entries;
    finish(&store, &bar)?;
    let mut broken = tally.judge();
    let line = tally.line(setting, seconds, measured.operations());
    if let Some(html) = &html {
        let text = line.page(args, &store, broken.as_ref());
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

fn finish(store: &Store, bar: &ProgressBar) -> Result<(), Failure> {
    bar.finish_and_clear();
    store.audit().map_err(|what| Failure::Contract {
        what: format!("the index does not add up: {what}"),
    })?;
    close(store)
}

fn value_bytes(args: &ReplayArgs) -> Result<usize, Failure> {
    if args.slot_bytes == 0 {
        return Err(Failure::usage(
            "--slot-bytes is 0: slots have at least 4096 bytes",
        ));
    }
    check_slots(args.slots)?;
    let bytes = args.value_bytes.unwrap_or(args.slot_bytes);
    if bytes == 0 || bytes > args.slot_bytes {
        return Err(Failure::usage(format!(
            "--value-bytes is {bytes}: it must be 1 to {} (--slot-bytes)",
            args.slot_bytes
        )));
    }
    usize::try_from(bytes)
        .map_err(|_| Failure::usage(format!("--value-bytes {bytes} is too large")))
}

fn check_shards(args: &ReplayArgs) -> Result<(), Failure> {
    match args.shards {
        Some(shards) if !shards.is_power_of_two() || shards > 1024 => Err(Failure::usage(format!(
            "--shards is {shards}: it must be a power of two from 1 to 1024"
        ))),
        _ => Ok(()),
    }
}

fn buffer_bytes(value_bytes: usize) -> usize {
    BUFFERS.max(4 * (value_bytes + 8192))
}

fn options(args: &ReplayArgs, engine: EngineKind, value_bytes: usize) -> StoreOptions {
    StoreOptions {
        engine,
        shards: args.shards,
        policy: args.policy.factory(),
        write_budget_per_day: args.write_budget.and_then(NonZeroU64::new),
        placement: args.placement.placement(),
        buffer_bytes: Some(buffer_bytes(value_bytes)),
        expected: Expected {
            slot_bytes: vec![args.slot_bytes],
            slots: Some(args.slots),
            ..Expected::default()
        },
        ..StoreOptions::default()
    }
}

/// Makes a store with exactly `--slots` slots.
fn prepare(args: &ReplayArgs) -> Result<(), Failure> {
    let path = &args.store;
    if !args.yes && !is_empty(path) && rb_core::is_store(path) {
        return Err(Failure::Consent {
            path: path.clone(),
            found: "it holds a store",
        });
    }
    let class = ClassRequest {
        slot_bytes: args.slot_bytes,
        share: Share::Slots(args.slots),
    };
    let options = FormatOptions {
        key_len_max: KEY_BYTES,
        consent: args.yes,
        ..FormatOptions::new(path, vec![class])
    };
    make(&options).map(drop)
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |meta| meta.is_file() && meta.len() == 0)
}

/// Closes the store, opens it again, and counts the times and the entries.
fn restart(
    store: Store,
    path: &Path,
    options: &StoreOptions,
    tally: &mut ReplayTally,
    output: &mut Output,
) -> Result<Store, Failure> {
    tally.absorb(&store.stats());
    let before = store.stats().index.entries;
    let start = Instant::now();
    close(&store)?;
    // The device stays locked until its last handle is dropped.
    drop(store);
    let closed = start.elapsed();
    let start = Instant::now();
    let store = open(path, options.clone(), output)?;
    tally.restarted(closed, start.elapsed(), before, store.stats().index.entries);
    Ok(store)
}
