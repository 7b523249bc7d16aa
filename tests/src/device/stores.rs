//! The longer tests of a store on a device: killed at work, and used like the cache of a prefix server.

use std::collections::BTreeSet;

use rb_testkit::values::next_number;

use super::cell::Outcome;
use super::target::{Entry, KIB, Target, close, get, put};
use crate::race::{self, Fixed, RaceOptions, Until};
use crate::tally::Report;

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
