//! Tests with dm-flakey: a device whose writes fail, then one that drops them silently, then one that cannot be read,
//! and recovers each time, under a store that stays open. Then one with a bad block in each metadata region in turn.

use std::path::{Path, PathBuf};

use rb_format::{
    FORMAT_BLOCK, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, SUPERBLOCK_A_OFFSET,
    SUPERBLOCK_B_OFFSET, base_header_offsets,
};
use rb_io::{Access, Device, DeviceKind};

use super::cell::{Cell, Outcome};
use super::program::program;
use super::target::{Entry, KIB, Target, close, entries, expect, get, put, sync, try_put};
use crate::tally::words;

const NAME: &str = "rb-flakey";
const KEYS: u64 = 24;
const LEN: usize = 100_000;

type Test = (&'static str, fn(&Flakey) -> Outcome);

/// Runs the tests over a mapping of the target's device.
pub fn flakey(cell: &mut Cell, target: &Target) {
    let tests: [Test; 4] = [
        ("writes fail", writes_fail),
        ("writes are dropped", writes_are_dropped),
        ("reads fail", reads_fail),
        ("a bad block in each region", each_region_has_a_bad_block),
    ];
    for (name, test) in tests {
        let target = target.clone();
        cell.test(name, move || test(&Flakey::new(&target)?));
    }
}

/// A mapping that misbehaves on request.
struct Flakey {
    device: PathBuf,
    sectors: u64,
    target: Target,
}

impl Flakey {
    fn new(over: &Target) -> Result<Flakey, String> {
        let flakey = Flakey {
            device: over.path.clone(),
            sectors: sectors(&over.path)?,
            target: Target {
                path: Path::new("/dev/mapper").join(NAME),
                ..over.clone()
            },
        };
        program("dmsetup", &["create", NAME, "--table", &flakey.table("")])?;
        sectors(&flakey.target.path)?;
        flakey.target.format(&[(128 * KIB, 3 * KEYS)])?;
        Ok(flakey)
    }

    /// Returns a table that is always up, or always down with this feature.
    fn table(&self, feature: &str) -> String {
        let (sectors, device) = (self.sectors, self.device.display());
        match feature {
            "" => format!("0 {sectors} flakey {device} 0 1000000 0"),
            _ => format!("0 {sectors} flakey {device} 0 0 1000000 1 {feature}"),
        }
    }

    /// Returns a table in which one block can be neither read nor written.
    fn without_block(&self, offset: u64) -> String {
        let (device, at, len) = (
            self.device.display(),
            offset / 512,
            FORMAT_BLOCK as u64 / 512,
        );
        let (after, rest) = (at + len, self.sectors - at - len);
        let before = match at {
            0 => String::new(),
            _ => format!("0 {at} linear {device} 0\n"),
        };
        format!("{before}{at} {len} error\n{after} {rest} linear {device} {after}")
    }

    /// Exchanges the table while the mapping stays open.
    fn set(&self, table: &str) -> Result<(), String> {
        program("dmsetup", &["suspend", "--nolockfs", NAME])?;
        let loaded = program("dmsetup", &["reload", NAME, "--table", table]);
        program("dmsetup", &["resume", NAME])?;
        loaded.map(drop)
    }
}

impl Drop for Flakey {
    fn drop(&mut self) {
        // Best effort: a failed test may still hold it open, and then the next test reports it.
        drop(program("dmsetup", &["remove", "--retry", NAME]));
    }
}

fn newer(all: &[Entry]) -> Vec<Entry> {
    let newer = |entry: &Entry| Entry {
        version: entry.version + 1,
        ..*entry
    };
    all.iter().map(newer).collect()
}

/// No put is acknowledged, existing values stay readable, and a commit that fails stops writing.
fn writes_fail(flakey: &Flakey) -> Outcome {
    let all = entries(0, KEYS, LEN);
    let store = flakey.target.open()?;
    put(&store, &all, 8)?;
    sync(&store)?;
    flakey.set(&flakey.table("error_writes"))?;
    let refused = try_put(&store, &newer(&all[..8]));
    if refused.iter().any(Result::is_ok) {
        return Err("a put was acknowledged although no write succeeds".into());
    }
    expect(&store, &all, 8)?;
    let removed = store.remove(&all[0].name());
    let Err(why) = sync(&store) else {
        return Err(format!(
            "the remove ({removed:?}) was synced although no write succeeds"
        ));
    };
    expect(&store, &all[1..], 8)?;
    drop(store);
    flakey.set(&flakey.table(""))?;
    let store = flakey.target.open()?;
    expect(&store, &all[1..], 8)?;
    put(&store, &newer(&all), 8)?;
    close(&store)?;
    drop(store);
    let store = flakey.target.open_eager(all.len())?;
    expect(&store, &newer(&all), 8)?;
    close(&store)?;
    Ok(format!(
        "refused: {}; {why}",
        refused[0].clone().err().unwrap_or_default()
    ))
}

/// A device that lies: a value that it lost is a miss, never other bytes.
fn writes_are_dropped(flakey: &Flakey) -> Outcome {
    let all = entries(0, KEYS, LEN);
    let store = flakey.target.open()?;
    put(&store, &all, 8)?;
    sync(&store)?;
    flakey.set(&flakey.table("drop_writes"))?;
    let lost = entries(100, KEYS, LEN);
    put(&store, &lost, 8)?;
    let mut missed = 0;
    for found in get(&store, &lost) {
        missed += u64::from(!found?);
    }
    expect(&store, &all, 8)?;
    drop(store);
    flakey.set(&flakey.table(""))?;
    let store = flakey.target.open()?;
    for found in get(&store, &lost) {
        if found? {
            return Err("a value is there that was never written".into());
        }
    }
    expect(&store, &all, 8)?;
    close(&store)?;
    match missed {
        KEYS => Ok(format!("{missed} values that the device lost were misses")),
        _ => Err(format!("of {KEYS} lost values {missed} were misses")),
    }
}

/// Reads fail key by key; no entry is dropped.
fn reads_fail(flakey: &Flakey) -> Outcome {
    let all = entries(0, KEYS, LEN);
    let store = flakey.target.open()?;
    put(&store, &all, 8)?;
    sync(&store)?;
    flakey.set(&format!("0 {} error", flakey.sectors))?;
    let answers = get(&store, &all);
    flakey.set(&flakey.table(""))?;
    if answers.iter().any(Result::is_ok) {
        return Err(format!(
            "a get returned a value although no read succeeds: {answers:?}"
        ));
    }
    expect(&store, &all, 8)?;
    put(&store, &newer(&all), 8)?;
    expect(&store, &newer(&all), 8)?;
    close(&store)?;
    Ok("all keys returned errors, and were there afterwards".into())
}

/// The store opens, serves, writes, commits and checkpoints around the bad block, and loses nothing.
fn each_region_has_a_bad_block(flakey: &Flakey) -> Outcome {
    let mut all = entries(0, KEYS, LEN);
    let store = flakey.target.open()?;
    put(&store, &all, 8)?;
    let superblock = store.superblock().clone();
    close(&store)?;
    drop(store);
    let [a, b] = superblock
        .bases()
        .map(|base| (base_header_offsets(base), base.offset));
    let rings = superblock.log_block_offsets(2);
    let blocks = [
        ("superblock copy A", SUPERBLOCK_A_OFFSET),
        ("superblock copy B", SUPERBLOCK_B_OFFSET),
        ("incarnation block A", INCARNATION_A_OFFSET),
        ("incarnation block B", INCARNATION_B_OFFSET),
        ("first header of base A", a.0[0]),
        ("second header of base A", a.0[1]),
        ("the section of base A", a.1 + FORMAT_BLOCK as u64),
        ("first header of base B", b.0[0]),
        ("second header of base B", b.0[1]),
        ("the section of base B", b.1 + FORMAT_BLOCK as u64),
        ("log ring 1", rings[0]),
        ("log ring 2", rings[1]),
    ];
    for (what, offset) in blocks {
        let failed = |why: String| format!("{what}, byte {offset}: {why}");
        flakey.set(&flakey.without_block(offset))?;
        for _ in 0..2 {
            let store = flakey.target.open().map_err(failed)?;
            expect(&store, &all, 8).map_err(failed)?;
            all = newer(&all);
            put(&store, &all, 8).map_err(failed)?;
            sync(&store).map_err(failed)?;
            store.checkpoint().map_err(|why| failed(words(&why)))?;
            expect(&store, &all, 8).map_err(failed)?;
            close(&store).map_err(failed)?;
        }
        flakey.set(&flakey.table(""))?;
    }
    Ok(format!("{} blocks cost nothing", blocks.len()))
}

/// Returns the size of a block device in sectors of 512 bytes. Without this check, a missing node would be created as a
/// file.
pub(super) fn sectors(device: &Path) -> Result<u64, String> {
    let opened = Device::open(device, Access::ReadOnly).map_err(|why| words(&why))?;
    match opened.kind() {
        DeviceKind::Block => Ok(opened.capacity_bytes() / 512),
        other => Err(format!(
            "{} is not a block device but {other:?}",
            device.display()
        )),
    }
}
