//! Uses one store through several engines and nodes: each must read byte for byte what another wrote.

use std::collections::BTreeMap;

use rb_io::{Access, Device};

use super::cell::{Cell, Outcome};
use super::target::{Entry, KIB, MIB, Target, close, entries, expect, put};
use crate::tally::words;

/// Runs, for each target, a test that writes a store through it and reads it through all others; then one that an open
/// store excludes the other targets.
pub fn cross(cell: &mut Cell, targets: &[Target]) {
    for writer in 0..targets.len() {
        let targets = targets.to_vec();
        let name = format!("written through {}", targets[writer].engine);
        cell.test(&name, move || write_and_read(&targets[writer], &targets));
    }
    let nodes: BTreeMap<_, _> = targets
        .iter()
        .map(|t| (t.path.clone(), t.clone()))
        .collect();
    for holder in nodes.values().cloned() {
        let others: Vec<Target> = nodes.values().cloned().collect();
        let name = format!("held through {}", holder.path.display());
        cell.test(&name, move || held(&holder, &others));
    }
}

fn write_and_read(writer: &Target, readers: &[Target]) -> Outcome {
    let mut all = entries(0, 24, 60_000);
    all.extend(entries(100, 24, 256 * KIB));
    all.extend(entries(200, 4, 3 * MIB - 77));
    writer.format(&[(64 * KIB, 32), (256 * KIB, 32), (3 * MIB, 8)])?;
    let store = writer.open()?;
    put(&store, &all, 8)?;
    close(&store)?;
    drop(store);
    for reader in readers {
        let store = reader.open_eager(all.len())?;
        expect(&store, &all, 8)?;
        // Each reader leaves changes for the next ones.
        replace(&mut all);
        put(&store, &all[..12], 4)?;
        close(&store)?;
    }
    let store = writer.open_eager(all.len())?;
    expect(&store, &all, 8)?;
    close(&store)?;
    let engines: Vec<_> = readers.iter().map(|reader| reader.engine.name()).collect();
    Ok(format!(
        "{} entries, read and changed through {}",
        all.len(),
        engines.join(", ")
    ))
}

fn replace(all: &mut [Entry]) {
    all[..12].iter_mut().for_each(|entry| entry.version += 1);
}

fn held(holder: &Target, others: &[Target]) -> Outcome {
    let store = holder.open()?;
    let mut refusals = Vec::new();
    for other in others {
        match Device::open(&other.path, Access::ReadWrite) {
            Err(why) if why.is_in_use() => refusals.push(words(&why)),
            Err(why) => return Err(format!("{}: {}", other.path.display(), words(&why))),
            Ok(_) => return Err(format!("{} was opened too", other.path.display())),
        }
    }
    close(&store)?;
    Ok(refusals.join("; "))
}
