//! The suite of one engine on one device: the promises of every engine, then those of the store over it.

use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use rb_io::{Access, Device, Engine};
use rb_testkit::conformance;

use super::cell::{Cell, Outcome};
use super::stores;
use super::target::{Entry, KIB, MIB, Target, close, entries, expect, get, put, sync, try_put};
use crate::tally::words;

/// Number of values in a batch whose parts must be in flight together.
const BATCH: usize = 64;

const SECOND_OPENER: &str = "a second opener is refused";

type Test = (&'static str, fn(&Target) -> Outcome);

const TESTS: &[Test] = &[
    ("conformance", engine_conforms),
    ("put, get, remove", put_get_remove),
    ("restart after a close", restart_after_close),
    ("restart after a drop", restart_after_drop),
    ("killed at work", stores::killed),
    ("full device", full_device),
    ("values of several slots", stores::several_slots),
    ("a batch is in flight together", batch_in_flight),
    (SECOND_OPENER, second_opener),
    ("trace replay", stores::replay),
];

/// Runs all tests.
pub fn suite(cell: &mut Cell, target: &Target) {
    let is_socket = std::fs::metadata(&target.path).is_ok_and(|node| node.file_type().is_socket());
    for &(name, test) in TESTS {
        if is_socket && name == SECOND_OPENER {
            cell.skip(
                name,
                "a vhost-user socket has nothing that could be claimed",
            );
            continue;
        }
        let target = target.clone();
        cell.test(name, move || test(&target));
    }
}

fn engine_conforms(target: &Target) -> Outcome {
    let open = || {
        let device = Device::open(&target.path, Access::ReadWrite)?;
        rb_io::open(device, target.engine)
    };
    // Reported once as an error, rather than by a panic in each check.
    let opened = open().map_err(|why| words(&why))?;
    let limits = *opened.engine.limits();
    drop(opened);
    let factory = || -> Arc<dyn Engine> {
        match open() {
            Ok(opened) => opened.engine,
            Err(why) => panic!("{}", words(&why)),
        }
    };
    conformance::run(target.engine.name(), &factory);
    let (block, transfer) = (limits.block, limits.transfer_max);
    Ok(format!(
        "blocks of {}, transfers of {} KiB ({})",
        block.value,
        transfer.value / 1024,
        transfer.source
    ))
}

fn put_get_remove(target: &Target) -> Outcome {
    target.format(&[(16 * KIB, 32), (256 * KIB, 32), (2 * MIB, 8)])?;
    let store = target.open()?;
    let lens = [
        24,
        4095,
        4096,
        4097,
        16 * KIB,
        100_001,
        256 * KIB,
        300_000,
        2 * MIB,
    ];
    let mut all: Vec<Entry> = Vec::new();
    for (first, len) in (0..).step_by(3).zip(lens) {
        all.extend(entries(first, if len > 256 * KIB { 2 } else { 3 }, len));
    }
    put(&store, &all, 7)?;
    expect(&store, &all, 1)?;
    expect(&store, &all, 9)?;
    all.iter_mut()
        .step_by(2)
        .for_each(|entry| entry.version = 2);
    put(&store, &all, 5)?;
    let (gone, kept) = all.split_at(all.len() / 2);
    for entry in gone {
        let removed = store.remove(&entry.name());
        if removed.map_err(|why| words(&why))?.is_none() {
            return Err(format!("{entry:?} was not there to be removed"));
        }
    }
    for (entry, found) in gone.iter().zip(get(&store, gone)) {
        if found? {
            return Err(format!("{entry:?} was removed and is there"));
        }
    }
    expect(&store, kept, 9)?;
    store.audit().map_err(|why| format!("audit: {why}"))?;
    close(&store)?;
    Ok(format!("{} values of 24 bytes to 2 MiB", all.len()))
}

fn restart_after_close(target: &Target) -> Outcome {
    let all = entries(0, 48, 200_000);
    target.format(&[(256 * KIB, 64)])?;
    let store = target.open()?;
    put(&store, &all, 16)?;
    close(&store)?;
    drop(store);
    let store = target.open_eager(all.len())?;
    if !store.recovery().clean {
        return Err("the store was closed, and is not clean".into());
    }
    expect(&store, &all, 16)?;
    close(&store)?;
    drop(store);
    target.audit(48)?;
    Ok("48 entries recovered, validated and audited".into())
}

/// Synced values are there after a drop without a close.
fn restart_after_drop(target: &Target) -> Outcome {
    let synced = entries(0, 40, 100_000);
    target.format(&[(128 * KIB, 64)])?;
    let store = target.open()?;
    put(&store, &synced, 10)?;
    sync(&store)?;
    put(&store, &entries(100, 8, 50_000), 8)?;
    drop(store);
    let store = target.open()?;
    if store.recovery().clean {
        return Err("the store was not closed, and is clean".into());
    }
    expect(&store, &synced, 10)?;
    let recovered = store.recovery().entries;
    close(&store)?;
    drop(store);
    target.open_eager(recovered as usize)?;
    Ok(format!(
        "{recovered} entries recovered, {} due",
        synced.len()
    ))
}

/// Puts three times as many values as slots: every put is accepted, and a restart finds a full device.
fn full_device(target: &Target) -> Outcome {
    const SLOTS: u64 = 40;
    let all = entries(0, 3 * SLOTS, 256 * KIB);
    target.format(&[(256 * KIB, SLOTS)])?;
    let store = target.open()?;
    put(&store, &all, 8)?;
    let live = |store: &rb_core::Store| -> Result<u64, String> {
        let mut live = 0;
        for batch in all.chunks(8) {
            for found in get(store, batch) {
                live += u64::from(found?);
            }
        }
        Ok(live)
    };
    let before = live(&store)?;
    close(&store)?;
    drop(store);
    let store = target.open_eager(SLOTS as usize)?;
    let after = live(&store)?;
    put(&store, &all[..8], 8)?;
    close(&store)?;
    match (before, after) {
        (SLOTS, SLOTS) => Ok(format!("{} puts into {SLOTS} slots", all.len())),
        _ => Err(format!(
            "{before} entries live, {after} after a restart, of {SLOTS} slots"
        )),
    }
}

/// Gets 64 values of 256 KiB in one call: at least that many parts, up to the depth, are in flight together.
fn batch_in_flight(target: &Target) -> Outcome {
    const DEPTH: u32 = 48;
    let all = entries(0, BATCH as u64, 256 * KIB);
    target.format(&[(256 * KIB, BATCH as u64)])?;
    let store = target.open_with(|options| options.queue_depth = DEPTH)?;
    let answers = try_put(&store, &all);
    answers.into_iter().collect::<Result<(), _>>()?;
    expect(&store, &all, BATCH)?;
    let queues = store.stats().queues;
    close(&store)?;
    let said = format!(
        "{} in flight at most, {} parts, {} of them on registered memory",
        queues.in_flight_max, queues.parts, queues.fixed_parts
    );
    match queues.in_flight_max == DEPTH {
        true => Ok(said),
        false => Err(format!("{said}; the depth is {DEPTH}")),
    }
}

fn second_opener(target: &Target) -> Outcome {
    let store = target.open()?;
    match Device::open(&target.path, Access::ReadWrite) {
        Ok(_) => Err("the device was opened for writing a second time".into()),
        Err(why) if why.is_in_use() => close(&store).map(|()| words(&why)),
        Err(why) => Err(words(&why)),
    }
}
