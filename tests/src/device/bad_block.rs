//! A drive with one bad block: exactly one key of a batch fails, and the store stays healthy (C7).

use super::cell::{Cell, Outcome};
use super::target::{MIB, Target, close, entries, expect, get, put, sync, try_put};

/// Direction of the requests that fail at the bad block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reads fail.
    Read,
    /// Writes fail.
    Write,
}

/// Number of keys of the batch, each with a slot of 1 MiB.
const KEYS: u64 = 64;

/// Runs the test. The bad block is at byte `at` of the device.
pub fn bad_block(cell: &mut Cell, target: &Target, direction: Direction, at: u64) {
    let target = target.clone();
    match direction {
        Direction::Read => cell.test("a block that cannot be read", move || reads(&target, at)),
        Direction::Write => cell.test("a block that cannot be written", move || {
            writes(&target, at)
        }),
    }
}

fn store(target: &Target, at: u64) -> Result<rb_core::Store, String> {
    target.format(&[(MIB, KEYS + 8)])?;
    let store = target.open()?;
    let geometry = store.geometry();
    let slots = [0, KEYS as u32].map(|slot| geometry.slot_offset(slot));
    match slots {
        [Some(first), Some(end)] if (first..end).contains(&at) => Ok(store),
        _ => Err(format!(
            "byte {at} is not in the first {KEYS} slots: {slots:?}"
        )),
    }
}

fn reads(target: &Target, at: u64) -> Outcome {
    let all = entries(0, KEYS, MIB - 5);
    let store = store(target, at)?;
    put(&store, &all, 16)?;
    close(&store)?;
    drop(store);
    // Into the caller's memory in one call, because 64 values exceed the store's buffers.
    let store = target.open_with(|options| options.buffer_bytes = Some(80 * MIB))?;
    let bad = one_of(
        &all,
        get(&store, &all).into_iter().map(|found| match found {
            Ok(true) => Ok(()),
            Ok(false) => Err("not there".into()),
            Err(why) => Err(why),
        }),
    )?;
    if bad.1 == "not there" {
        return Err(format!(
            "the entry on the bad block was dropped: {:?}",
            all[bad.0]
        ));
    }
    if !store.contains(&all[bad.0].name()) {
        return Err("an I/O error dropped the entry".into());
    }
    healthy(&store)?;
    close(&store)?;
    Ok(format!("one of {KEYS} keys failed: {}", bad.1))
}

fn writes(target: &Target, at: u64) -> Outcome {
    let all = entries(0, KEYS, MIB - 5);
    let store = store(target, at)?;
    let bad = one_of(&all, try_put(&store, &all))?;
    // Its slot is quarantined, so the same put finds another one.
    put(&store, &all[bad.0..=bad.0], 1)?;
    healthy(&store)?;
    expect(&store, &all, 16)?;
    close(&store)?;
    drop(store);
    let store = target.open()?;
    expect(&store, &all, 16)?;
    close(&store)?;
    Ok(format!("one of {KEYS} keys failed: {}", bad.1))
}

/// Returns the one result that is an error; none or several are a failure.
fn one_of(
    all: &[super::target::Entry],
    answers: impl IntoIterator<Item = Result<(), String>>,
) -> Result<(usize, String), String> {
    let failed = |(at, answer): (usize, Result<(), String>)| Some((at, answer.err()?));
    let mut failed: Vec<_> = answers.into_iter().enumerate().filter_map(failed).collect();
    match failed.len() {
        1 => Ok(failed.remove(0)),
        count => Err(format!("{count} of {} keys failed: {failed:?}", all.len())),
    }
}

/// Checks that puts, gets and syncs still work.
fn healthy(store: &rb_core::Store) -> Result<(), String> {
    let fresh = entries(1000, 4, MIB);
    put(store, &fresh, 4)?;
    sync(store)?;
    expect(store, &fresh, 4)?;
    store.audit().map_err(|why| format!("audit: {why}"))
}
