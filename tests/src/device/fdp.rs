//! Tests flexible data placement: the drive's own count of what it wrote to each handle must show that the data went
//! where it was sent.

use std::num::NonZeroU16;
use std::path::Path;

use rb_core::{Lifetime, Placement, PlacementId, Put, PutOptions};
use serde_json::Value;

use super::cell::{Cell, Outcome};
use super::program::program;
use super::target::{Entry, MIB, Target, close, entries, expect};
use crate::marked::bytes_of;
use crate::tally::words;

/// Number of values sent to each handle.
const VALUES: u64 = 8;

/// Runs the test on a character node of a namespace with placement handles.
pub fn fdp(cell: &mut Cell, target: &Target) {
    let shared = target.clone();
    cell.test("data goes to its placement handle", move || place(&shared));
    let shared = target.clone();
    cell.test("unknown placement ids are refused", move || refuse(&shared));
}

/// The last handle is for metadata, each other one for a lifetime class: nothing goes anywhere else.
fn place(target: &Target) -> Outcome {
    target.format(&[(MIB, 128)])?;
    let handles = handles(target)?;
    let counted = media_writes(&target.path)?.len();
    if counted != usize::from(handles) {
        return Err(format!(
            "the drive has {counted} handles, the engine {handles}"
        ));
    }
    let store = target.open_with(|options| {
        options.placement = Placement {
            metadata: placement_id(handles),
            lifetimes: (1..handles).filter_map(placement_id).collect(),
        };
    })?;
    let block = u64::from(
        store
            .engine()
            .map_err(|why| why.to_string())?
            .limits()
            .block
            .value,
    );
    let mut all = Vec::new();
    let mut metadata = 0;
    let wear_before = wear(target)?;
    for id in 1..handles {
        let before = media_writes(&target.path)?;
        let batch = entries(u64::from(id) * 100, VALUES, MIB - 9);
        put(&store, &batch, (id - 1) as u8)?;
        store.sync().map_err(|why| words(&why))?;
        let after = media_writes(&target.path)?;
        let mut written: Vec<u64> = before
            .iter()
            .zip(&after)
            .map(|(before, after)| before.wrapping_sub(*after).wrapping_mul(block))
            .collect();
        metadata += written.pop().unwrap_or(0);
        let due = VALUES * (MIB as u64 + 4096);
        for (handle, &bytes) in written.iter().enumerate() {
            let expected = if handle + 1 == usize::from(id) {
                due
            } else {
                0
            };
            if bytes != expected {
                return Err(format!(
                    "{due} bytes were sent to placement id {id}; handle {handle} wrote {bytes}: {written:?}"
                ));
            }
        }
        all.extend(batch);
    }
    let wear_after = wear(target)?;
    let counted_bytes = wear_after.0 - wear_before.0;
    let sent = all.len() as u64 * (MIB as u64 + 4096) + metadata;
    if counted_bytes < sent || wear_after.1 == 0 {
        return Err(format!(
            "{sent} bytes were sent, the drive counts {counted_bytes}, and {} in all",
            wear_after.1
        ));
    }
    if metadata == 0 {
        return Err("no metadata went to the last handle".into());
    }
    expect(&store, &all, 8)?;
    close(&store)?;
    Ok(format!(
        "{counted} handles, {VALUES} MiB to each but the last, {metadata} bytes of metadata to that; of {sent} bytes the drive counts {counted_bytes}"
    ))
}

/// Returns what the drive says that hosts have written, with placement handles and in all.
fn wear(target: &Target) -> Result<(u64, u64), String> {
    let wear = rb_io::wear(&target.path).map_err(|why| format!("its wear: {why}"))?;
    let wear = wear.ok_or("it is no NVMe drive")?;
    let placed = wear.placed.ok_or("the drive has no FDP statistics")?;
    Ok((placed.host_bytes, wear.written_bytes))
}

fn refuse(target: &Target) -> Outcome {
    let handles = handles(target)?;
    let mut said = Vec::new();
    for id in [handles + 1, u16::MAX] {
        let opened = target.open_with(|options| {
            options.placement.lifetimes = placement_id(id).into_iter().collect();
        });
        match opened {
            Err(why) => said.push(why),
            Ok(_) => return Err(format!("id {id} of {handles} was accepted")),
        }
    }
    Ok(said.join("; "))
}

/// Returns the number of placement ids that the engine reports.
fn handles(target: &Target) -> Result<u16, String> {
    let store = target.open()?;
    let handles = store
        .engine()
        .map_err(|why| why.to_string())?
        .limits()
        .placements;
    close(&store)?;
    let handles = handles.ok_or("the engine reports no placement ids")?;
    Ok(handles.value)
}

fn placement_id(id: u16) -> Option<PlacementId> {
    NonZeroU16::new(id).map(PlacementId)
}

fn put(store: &rb_core::Store, batch: &[Entry], class: u8) -> Result<(), String> {
    let values = batch.iter().map(|entry| {
        let value = bytes_of(entry.key, entry.version, entry.len);
        (entry.name(), value)
    });
    let values: Vec<_> = values.collect();
    let puts = values
        .iter()
        .map(|(name, value)| Put::new(name, value))
        .collect();
    let options = PutOptions {
        lifetime: Some(Lifetime(class)),
        ..PutOptions::default()
    };
    for answer in store.put_many(puts, options) {
        answer.map_err(|why| words(&why))?;
    }
    Ok(())
}

/// Returns how much each handle may still write to its reclaim unit, in logical blocks, in the order of the handles.
fn media_writes(node: &Path) -> Result<Vec<u64>, String> {
    let node = node.display().to_string();
    let text = program("nvme", &["fdp", "status", &node, "--output-format=json"])?;
    let status: Value = serde_json::from_str(&text).map_err(|why| format!("{why}: {text}"))?;
    let handles = status["ruhss"].as_array().into_iter().flatten();
    Ok(handles
        .filter_map(|handle| handle["ruamw"].as_u64())
        .collect())
}
