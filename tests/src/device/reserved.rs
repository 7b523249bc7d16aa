//! Tests one disk that two hosts reach: the host that has reserved it writes, the other cannot.

use rb_core::{Exclusive, Store};

use super::cell::{Cell, Outcome};
use super::target::{KIB, MIB, Target, close, entries, expect, put, sync};

const KEYS: u64 = 16;

/// Runs the test; `other` is the path of the other host to the same disk.
pub fn reserved(cell: &mut Cell, target: &Target, other: &Target) {
    let (target, other) = (target.clone(), other.clone());
    cell.test("a disk that one of two hosts has reserved", move || {
        test(&target, &other)
    });
}

fn open(target: &Target, exclusive: Exclusive) -> Result<Store, String> {
    target.open_with(|options| options.exclusive = exclusive)
}

fn test(ours: &Target, theirs: &Target) -> Outcome {
    let all = entries(0, KEYS, 50_000);
    ours.format(&[(64 * KIB, 4 * KEYS)])?;
    let store = open(ours, Exclusive::Reserve)?;
    put(&store, &all, 4)?;
    sync(&store)?;
    let Err(refused) = open(theirs, Exclusive::Reserve) else {
        return Err("both hosts have reserved the disk".into());
    };
    if !refused.contains("another host has reserved it") {
        return Err(refused);
    }
    // Without a reservation of its own the other host cannot write either: opening fails at its
    // first write.
    if let Ok(taken) = open(theirs, Exclusive::Lock) {
        return Err(format!(
            "the other host has opened it: {:?}",
            taken.recovery()
        ));
    }
    let more = entries(100, KEYS, 50_000);
    put(&store, &more, 4)?;
    sync(&store)?;
    expect(&store, &all, 4)?;
    close(&store)?;
    drop(store);
    let store = open(theirs, Exclusive::Reserve)?;
    expect(&store, &all, 4)?;
    expect(&store, &more, 4)?;
    close(&store)?;
    drop(store);
    let small = entries(200, 1, MIB / 64);
    let store = open(ours, Exclusive::Lock)?;
    put(&store, &small, 1)?;
    close(&store)?;
    Ok(refused)
}
