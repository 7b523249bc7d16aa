//! Runs a store on a device of which dm-log-writes records everything. Acknowledged durable rounds are marked in the
//! record, so each position in it determines what must be there.
//!
//! The work is a function of the seed and the round, so the replay knows it, too.

use std::collections::BTreeMap;
use std::path::Path;

use rb_core::{Durability, Put, PutOptions, Store};
use rb_testkit::values::next_number;

use super::cell::{Cell, Outcome};
use super::flakey::sectors;
use super::program::program;
use super::target::{Entry, Target, close, sync};
use crate::marked::bytes_of;
use crate::tally::words;

const NAME: &str = "rb-log";
/// Number of keys of the work.
pub(super) const KEYS: u64 = 32;
/// Each class has three times as many slots as there are keys: nothing is ever evicted.
const CLASSES: [(usize, u64); 2] = [(4096, 3 * KEYS), (16 << 10, 3 * KEYS)];

/// Change of a key in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put { version: u64, len: usize },
    Remove,
}

/// Returns the changes of a round, in order, each of a different key.
pub(super) fn changes(seed: u64, round: u64) -> BTreeMap<u64, Change> {
    let mut state = seed ^ round << 20;
    let count = 1 + next_number(&mut state) % 9;
    let mut one = || {
        let key = next_number(&mut state) % KEYS;
        let change = match next_number(&mut state) % 5 {
            0 => Change::Remove,
            _ => Change::Put {
                version: round,
                len: 24 + (next_number(&mut state) % 16_000) as usize,
            },
        };
        (key, change)
    };
    (0..count).map(|_| one()).collect()
}

/// Returns the mark which records that all rounds up to this one are durable.
pub(super) fn mark(round: u64) -> String {
    format!("round-{round}")
}

/// Records `rounds` rounds of work on `data` to the device `log`.
pub fn log_record(cell: &mut Cell, data: &Target, log: &Path, seed: u64, rounds: u64) {
    let (data, log) = (data.clone(), log.to_path_buf());
    cell.test("work under dm-log-writes", move || {
        record(&data, &log, seed, rounds)
    });
}

fn record(data: &Target, log: &Path, seed: u64, rounds: u64) -> Outcome {
    let length = sectors(&data.path)?;
    let table = format!(
        "0 {length} log-writes {} {}",
        data.path.display(),
        log.display()
    );
    program("dmsetup", &["create", NAME, "--table", &table])?;
    let mapped = Target {
        path: Path::new("/dev/mapper").join(NAME),
        ..data.clone()
    };
    let worked = sectors(&mapped.path).and_then(|_| work(&mapped, seed, rounds));
    // Ends the record, regardless of the result of the work.
    program("dmsetup", &["remove", "--retry", NAME])?;
    worked
}

fn work(target: &Target, seed: u64, rounds: u64) -> Outcome {
    target.format(&CLASSES)?;
    let mut store = target.open()?;
    sync(&store)?;
    for round in 1..=rounds {
        match round % 8 {
            3 => store.checkpoint().map_err(|why| words(&why))?,
            5 => {
                drop(store);
                store = target.open()?;
            }
            7 => {
                close(&store)?;
                drop(store);
                store = target.open()?;
            }
            _ => {}
        }
        act(&store, &changes(seed, round), round)?;
        program("dmsetup", &["message", NAME, "0", "mark", &mark(round)])?;
    }
    close(&store)?;
    Ok(format!("{rounds} rounds, seed {seed}"))
}

/// Makes a round's changes, durably: half of the rounds by a sync, half batch by batch.
fn act(store: &Store, changes: &BTreeMap<u64, Change>, round: u64) -> Result<(), String> {
    let each_batch = round.is_multiple_of(2);
    let name = |key| {
        Entry {
            key,
            version: 0,
            len: 0,
        }
        .name()
    };
    let mut values = Vec::new();
    let mut gone = Vec::new();
    for (&key, change) in changes {
        match *change {
            Change::Put { version, len } => values.push((name(key), bytes_of(key, version, len))),
            Change::Remove => gone.push(name(key)),
        }
    }
    let asked: Vec<&[u8]> = gone.iter().map(Vec::as_slice).collect();
    for answer in store.remove_many(&asked) {
        answer.map_err(|why| words(&why))?;
    }
    let puts: Vec<_> = values
        .iter()
        .map(|(name, value)| Put::new(name, value))
        .collect();
    // A durable batch makes everything durable that was acknowledged before it, the removes too.
    let options = PutOptions {
        durability: each_batch.then_some(Durability::EachBatch),
        ..PutOptions::default()
    };
    let nothing = puts.is_empty();
    for answer in store.put_many(puts, options) {
        answer.map_err(|why| words(&why))?;
    }
    match each_batch && !nothing {
        true => Ok(()),
        false => sync(store),
    }
}
