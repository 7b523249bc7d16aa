//! Replays a record of dm-log-writes to many points between flushes: each is what a crash there could leave. Each image
//! is audited, opened, and must hold everything that was acknowledged as durable by then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rb_core::{AuditOptions, Background, Store, StoreOptions, audit};
use rb_io::Engine;
use rb_testkit::values::next_number;
use rb_testkit::{MemDevice, MemEngine};

use super::cell::{Cell, Outcome};
use super::log_record::{Change, KEYS, changes, mark};
use super::log_writes::{Recorded, read};
use super::target::Entry;
use crate::marked::version_of;
use crate::tally::words;

/// Replays the record at `log` of a device of `capacity` bytes to at least `points` points.
pub fn log_replay(cell: &mut Cell, log: &Path, capacity: u64, seed: u64, points: u64) {
    let log = log.to_path_buf();
    cell.test("replay to points between flushes", move || {
        replay(&log, capacity, seed, points)
    });
}

/// Mark that the kernel itself adds when the mapping is removed.
const END: &str = "dm-log-writes-end";

/// Versions of the keys after a round.
type State = BTreeMap<u64, u64>;

struct Replay {
    seed: u64,
    /// Bytes that are durable so far.
    image: Vec<u8>,
    /// The last round that was acknowledged as durable.
    round: Option<u64>,
    /// States after that round, and after the one that may have been under way.
    now: State,
    next: State,
    random: u64,
    points: u64,
    torn: u64,
}

fn replay(log: &Path, capacity: u64, seed: u64, points: u64) -> Outcome {
    let log = read(log)?;
    let count =
        |log: &[Recorded], is: fn(&Recorded) -> bool| log.iter().filter(|entry| is(entry)).count();
    let marks = count(&log, |entry| matches!(entry, Recorded::Mark(_)));
    let first = log
        .iter()
        .position(|entry| matches!(entry, Recorded::Mark(_)));
    // Before the first mark, nothing must be there.
    let flushes = count(&log[first.unwrap_or(log.len())..], |entry| {
        *entry == Recorded::Flush
    });
    if flushes == 0 {
        return Err(format!(
            "a record with {marks} marks and no flush after the first tests nothing"
        ));
    }
    let each = points.div_ceil(flushes as u64).max(2);
    let mut replay = Replay {
        seed,
        image: vec![0; usize::try_from(capacity).map_err(|why| why.to_string())?],
        round: None,
        now: State::new(),
        next: State::new(),
        random: seed,
        points: 0,
        torn: 0,
    };
    let mut group: Vec<&Recorded> = Vec::new();
    for entry in &log {
        match entry {
            Recorded::Mark(text) => replay.take_mark(text)?,
            Recorded::Flush => {
                for nth in 0..each {
                    replay.point(&group, nth)?;
                }
                for entry in group.drain(..) {
                    apply(&mut replay.image, entry, u64::MAX)?;
                }
            }
            other => group.push(other),
        }
    }
    replay.point(&[], 0)?;
    let Replay {
        points: seen, torn, ..
    } = replay;
    match seen >= points {
        true => Ok(format!(
            "{} entries, {flushes} flushes, {marks} marks; {seen} images opened and audited, {torn} writes torn; seed {seed}",
            log.len()
        )),
        false => Err(format!(
            "only {seen} points of {points}: the record has {flushes} flushes"
        )),
    }
}

impl Replay {
    fn take_mark(&mut self, text: &str) -> Result<(), String> {
        if text == END {
            return Ok(());
        }
        let round = self.round.map_or(1, |round| round + 1);
        if text != mark(round) {
            return Err(format!(
                "the mark {text:?} comes where {:?} is due",
                mark(round)
            ));
        }
        self.round = Some(round);
        make(&mut self.now, &changes(self.seed, round));
        self.next = self.now.clone();
        make(&mut self.next, &changes(self.seed, round + 1));
        Ok(())
    }

    /// Checks one crash image: all flushed writes, and of the later ones none, all, or some, perhaps torn.
    fn point(&mut self, group: &[&Recorded], nth: u64) -> Result<(), String> {
        // Before the first mark there need not be a store.
        let Some(round) = self.round else {
            return Ok(());
        };
        let mut image = self.image.clone();
        for entry in group {
            let sectors = match nth {
                0 => 0,
                1 => u64::MAX,
                _ => match next_number(&mut self.random) % 4 {
                    0 | 1 => u64::MAX,
                    2 => 0,
                    _ => {
                        self.torn += 1;
                        next_number(&mut self.random) % 32
                    }
                },
            };
            apply(&mut image, entry, sectors)?;
        }
        self.points += 1;
        let point = format!(
            "round {round}, {} writes since the flush, image {nth}",
            group.len()
        );
        self.check(&image).map_err(|why| format!("{point}: {why}"))
    }

    fn check(&self, image: &[u8]) -> Result<(), String> {
        let device = MemDevice::from_image(image);
        let engine = || -> Arc<dyn Engine> { Arc::new(MemEngine::new(Arc::clone(&device))) };
        let report = audit(
            engine(),
            &AuditOptions {
                deep: true,
                ..AuditOptions::default()
            },
        );
        let report = report.map_err(|why| format!("audit: {}", words(&why)))?;
        if report.damages > 0 {
            return Err(format!("the audit found damage: {:?}", report.findings));
        }
        let options = StoreOptions {
            background: Background::Manual,
            buffer_bytes: Some(1 << 20),
            ..StoreOptions::default()
        };
        let store = Store::open(engine(), options);
        let store = store.map_err(|why| format!("it does not open: {}", words(&why)))?;
        for key in 0..KEYS {
            let name = Entry {
                key,
                version: 0,
                len: 0,
            }
            .name();
            let found = store.get(&name).map_err(|why| words(&why))?;
            let found = found.map(|bytes| version_of(key, &bytes)).transpose()?;
            let (now, next) = (self.now.get(&key).copied(), self.next.get(&key).copied());
            // A key that the round under way replaces may have its old value, none, or the new one.
            let legal = found == now || now != next && (found.is_none() || found == next);
            if !legal {
                return Err(format!(
                    "key {key} is {found:?}; durable is {now:?}, under way {next:?}"
                ));
            }
        }
        store
            .audit()
            .map_err(|why| format!("the store's accounting: {why}"))
    }
}

fn make(state: &mut State, changes: &BTreeMap<u64, Change>) {
    for (&key, change) in changes {
        match *change {
            Change::Put { version, .. } => drop(state.insert(key, version)),
            Change::Remove => drop(state.remove(&key)),
        }
    }
}

/// Applies at most `sectors` sectors of 512 bytes of an entry.
fn apply(image: &mut [u8], entry: &Recorded, sectors: u64) -> Result<(), String> {
    let (at, len) = match entry {
        Recorded::Write { at, bytes } => (*at, bytes.len() as u64),
        Recorded::Discard { at, len } => (*at, *len),
        Recorded::Flush | Recorded::Mark(_) => return Ok(()),
    };
    let kept = len.min(sectors.saturating_mul(512));
    let end = at.saturating_add(kept);
    let range = usize::try_from(at).ok().zip(usize::try_from(end).ok());
    let place = range.and_then(|(start, end)| image.get_mut(start..end));
    let place =
        place.ok_or_else(|| format!("a write of {len} bytes at {at} is beyond the device"))?;
    match entry {
        Recorded::Write { bytes, .. } => place.copy_from_slice(&bytes[..kept as usize]),
        _ => place.fill(0),
    }
    Ok(())
}
