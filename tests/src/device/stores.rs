//! The longer tests of a store on a device: killed at work, and used like the cache of a prefix server.

use std::collections::BTreeSet;

use rb_core::{Arena, Payload, Put, PutOptions, Store};
use rb_testkit::values::next_number;

use super::cell::Outcome;
use super::target::{Entry, KIB, MIB, Target, close, entries, expect, get, put};
use crate::marked::{bytes_of, version_of};
use crate::race::{self, Fixed, RaceOptions, Until};
use crate::tally::{Report, words};

/// Number of kills of a child at work, and its longest working time: in an emulated machine, opening takes a while.
const KILLS: u64 = 6;
const SESSION_MS: u64 = 1500;

pub(super) fn killed(target: &Target) -> Outcome {
    let program = std::env::current_exe().map_err(|why| why.to_string())?;
    let options = RaceOptions {
        program,
        store: Some(target.path.clone()),
        engine: target.engine,
        seed: 5,
        until: Until::Kills(KILLS),
        session_ms: SESSION_MS,
        fixed: Fixed::default(),
        keep: std::env::temp_dir(),
    };
    let report = race::run(&options, &mut |_| {})?;
    match report.is_good() {
        true => Ok(report.to_string()),
        false => Err(report.to_string()),
    }
}

/// Replays requests of growing sessions, as a prefix server makes them: look up all blocks of the prompt, then put
/// those that were missed. Recently used sessions return most often.
pub(super) fn replay(target: &Target) -> Outcome {
    const REQUESTS: u32 = 90;
    const SESSIONS: u64 = 24;
    const BLOCKS: u64 = 16;
    const BLOCK_BYTES: usize = 64 * KIB;
    target.format(&[(BLOCK_BYTES, 96)])?;
    let mut store = target.open()?;
    let mut state = 11;
    let mut grown = [0; SESSIONS as usize];
    let mut seen = BTreeSet::new();
    let (mut hits, mut misses, mut returned) = (0_u64, 0_u64, 0_u64);
    for request in 0..REQUESTS {
        let (a, b) = (next_number(&mut state), next_number(&mut state));
        let session = (a % SESSIONS).min(b % SESSIONS);
        let blocks = &mut grown[session as usize];
        *blocks = (*blocks + 1 + next_number(&mut state) % 4).min(BLOCKS);
        let entry = |block| Entry {
            key: session * BLOCKS + block,
            version: 1,
            len: BLOCK_BYTES,
        };
        let prompt: Vec<Entry> = (0..*blocks).map(entry).collect();
        let mut missed = Vec::new();
        for (&entry, found) in prompt.iter().zip(get(&store, &prompt)) {
            match found? {
                true => hits += 1,
                false => missed.push(entry),
            }
            returned += u64::from(!seen.insert(entry.key));
        }
        misses += missed.len() as u64;
        put(&store, &missed, missed.len().max(1))?;
        if request == REQUESTS / 2 {
            close(&store)?;
            drop(store);
            store = target.open()?;
        }
    }
    store.audit().map_err(|why| format!("audit: {why}"))?;
    close(&store)?;
    let said = format!(
        "{REQUESTS} requests: {hits} hits and {misses} misses, {returned} blocks asked for again"
    );
    match hits > returned / 2 {
        true => Ok(said),
        false => Err(format!("{said}: too few of them hits")),
    }
}

/// Values over 1 to 16 slots, copied and straight from and into memory of the caller's: all are there after a close, the
/// audit reads them, and a store that is overfilled with them keeps every value that it lists.
pub(super) fn several_slots(target: &Target) -> Outcome {
    const SLOT: usize = 64 * KIB;
    const SLOTS: u64 = 256;
    target.format(&[(SLOT, SLOTS)])?;
    let memory = Arena::allocate(MIB).map_err(|why| words(&why))?;
    let store = target.open_with(|options| {
        options.arenas = vec![memory.clone()];
        options.direct_min = SLOT;
    })?;
    let of_lengths = |first: u64| -> Vec<Entry> {
        let lengths = (1..=16).map(|slots| slots * SLOT - 777 * (slots % 3));
        (first..)
            .zip(lengths)
            .flat_map(|(key, len)| entries(key, 1, len))
            .collect()
    };
    let copied = of_lengths(0);
    let direct = &of_lengths(100)[..12];
    put(&store, &copied, 4)?;
    for entry in direct {
        put_from(&store, &memory, entry)?;
        get_into(&store, &memory, entry)?;
    }
    let stats = store.stats();
    close(&store)?;
    drop(store);
    target.audit((copied.len() + direct.len()) as u64)?;
    let store = target.open_eager(copied.len() + direct.len())?;
    expect(&store, &copied, 3)?;
    expect(&store, direct, 5)?;
    // Six times as many slots as there are.
    for round in 0..12 {
        put(&store, &of_lengths(1000 + 100 * round), 5)?;
    }
    store.audit().map_err(|why| format!("audit: {why}"))?;
    close(&store)?;
    let live = store.stats().index.entries;
    drop(store);
    target.audit(live)?;
    let direct_bytes: usize = direct.iter().map(|entry| 2 * entry.len).sum();
    let said = format!(
        "{} of {direct_bytes} bytes direct, {live} values live in {SLOTS} slots after 12 rounds",
        stats.bytes_direct
    );
    // A device that refuses the caller's memory is given a copy, and a length that is no multiple of its block as well.
    match stats.bytes_direct > 0 || stats.direct_refused > 0 {
        true => Ok(said),
        false => Err(said),
    }
}

fn put_from(store: &Store, memory: &Arena, entry: &Entry) -> Result<(), String> {
    let mut loan = memory
        .lend_exclusive(0, entry.len)
        .map_err(|why| words(&why))?;
    let bytes = loan.bytes_mut().ok_or("the memory is lent to others")?;
    bytes.copy_from_slice(&bytes_of(entry.key, entry.version, entry.len));
    let name = entry.name();
    let put = Put {
        payload: Payload::Loan(loan),
        ..Put::new(&name, &[])
    };
    match store.put_many(vec![put], PutOptions::default()).remove(0) {
        Ok(outcome) if outcome.is_written() => Ok(()),
        other => Err(format!("put of {entry:?} from memory: {other:?}")),
    }
}

fn get_into(store: &Store, memory: &Arena, entry: &Entry) -> Result<(), String> {
    let loan = memory
        .lend_exclusive(0, entry.len)
        .map_err(|why| words(&why))?;
    let found = store.get_many_at(&[&entry.name()], vec![loan]).remove(0);
    let found = found
        .map_err(|why| words(&why))?
        .ok_or_else(|| format!("{entry:?} is not there"))?;
    let mut bytes = vec![0; found.len];
    found.loan.copy_to(0, &mut bytes);
    let version = version_of(entry.key, &bytes)?;
    match (version, found.len) == (entry.version, entry.len) {
        true => Ok(()),
        false => Err(format!(
            "version {version} of {} bytes for {entry:?}",
            found.len
        )),
    }
}
