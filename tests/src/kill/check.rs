//! The parent's check after a kill.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rb_core::{EngineKind, Store, StoreOptions};
use rb_io::{Access, Device};

use super::KillReport;
use super::keys::{KEYS, Key, name};
use super::oracle::{Oracle, Verdict, Version};
use crate::marked::version_of;
use crate::tally::words;

/// After this the check has hung.
const WATCHDOG: Duration = Duration::from_secs(60);

/// What an opening found: each key's state, and what must not be.
#[derive(Debug, Default)]
struct Found {
    states: Vec<(Key, Version)>,
    wrong: Vec<String>,
    violations: Vec<String>,
}

/// Reads the store as the kill left it, without writing, and judges every key. Then, as `after` says,
/// leaves it so for the child to recover (0), or recovers and drops (1) or closes it (2), which must
/// change nothing. Answers what must not be.
pub(super) fn check(
    path: &Path,
    engine: EngineKind,
    after: u64,
    oracle: &mut Oracle,
    report: &mut KillReport,
) -> Vec<String> {
    // What the killed process had given to the kernel may still be under way, and then its lock holds.
    if let Err(why) = Device::open(path, Access::ReadWrite) {
        return vec![format!("the killed process is not gone: {}", words(&why))];
    }
    let found = read(path, engine, true, false);
    let mut violations = found.violations;
    report.wrong += found.wrong.len() as u64;
    violations.extend(found.wrong);
    let perhaps_before = report.perhaps_evicted;
    for &(key, version) in &found.states {
        report.verified += 1;
        let tally = match oracle.judge(key, version) {
            Verdict::Legal => continue,
            Verdict::Exact => &mut report.exact,
            Verdict::PerhapsEvicted => &mut report.perhaps_evicted,
            bad => {
                let legal = oracle.legal(key);
                violations.push(format!("key {key} is {version:?}, legal {legal}: {bad:?}"));
                match bad {
                    Verdict::Lost => &mut report.lost,
                    _ => &mut report.resurrected,
                }
            }
        };
        *tally += 1;
    }
    let perhaps = (report.perhaps_evicted - perhaps_before) as usize;
    if perhaps > oracle.puts_under_way() {
        violations.push(format!(
            "{perhaps} keys are missing, more than puts were under way"
        ));
    }
    oracle.found(&found.states);
    if after > 0 && violations.is_empty() {
        let closes = after == 2;
        let again = read(path, engine, false, closes);
        violations.extend(again.violations);
        violations.extend(again.wrong);
        if again.states != found.states {
            violations.push("opening for writing found other states than reading".into());
        }
    }
    violations
}

/// Opens the store and gets every key. In a thread, so that a hang is seen.
fn read(path: &Path, engine: EngineKind, read_only: bool, closes: bool) -> Found {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_path_buf();
    std::thread::spawn(move || {
        let mut found = Found::default();
        if let Err(why) = read_into(&path, engine, read_only, closes, &mut found) {
            found.violations.push(why);
        }
        sender.send(found)
    });
    receiver.recv_timeout(WATCHDOG).unwrap_or_else(|_| Found {
        violations: vec![format!("the check did not end within {WATCHDOG:?}")],
        ..Found::default()
    })
}

fn read_into(
    path: &Path,
    engine: EngineKind,
    read_only: bool,
    closes: bool,
    found: &mut Found,
) -> Result<(), String> {
    let options = StoreOptions {
        engine,
        read_only,
        buffer_bytes: Some(4 << 20),
        queue_depth: 64,
        ..StoreOptions::default()
    };
    let store = Store::open(path, options).map_err(|why| words(&why))?;
    if let Some(lost) = &store.recovery().lost_metadata {
        found.violations.push(format!("metadata was lost: {lost}"));
    }
    let names: Vec<_> = (0..KEYS).map(name).collect();
    let asked: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    for (key, answer) in (0..).zip(store.get_many(&asked)) {
        let bytes = answer.map_err(|why| format!("get of {key}: {}", words(&why)))?;
        match bytes.map(|bytes| version_of(key, &bytes)).transpose() {
            Ok(version) => found.states.push((key, version)),
            Err(wrong) => found.wrong.push(wrong),
        }
    }
    store.audit().map_err(|why| format!("audit: {why}"))?;
    if closes {
        store
            .close()
            .map_err(|why| format!("close: {}", words(&why)))?;
    }
    Ok(())
}
