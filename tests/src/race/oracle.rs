//! Knows what each key may hold, from what the threads did and saw.
//!
//! An operation begins and ends at positions of the journal. One that ended before another began came before it;
//! otherwise either may have come last. So the state of a key that only one thread changes is known exactly, and that
//! of a shared key up to the order of overlapping operations that no read decides.
//!
//! The oracle judges twice: each result during the session (a value that was overwritten before the get began is wrong,
//! and so is a miss that no remove and no eviction explains), and each key after its end. A value that was certainly
//! overwritten by a durable change can never be found again. An eviction leaves no record, so an evicted value may be
//! found again, or not; it names a generation, and so the put that it may concern.

use std::collections::BTreeMap;

use super::event::{Answer, Event, What};
use super::history::{History, Id, Verdict, Version};
use super::shape::Key;

/// Number of the first of the operations that read all keys when the threads of a session have ended.
pub(super) const LAST_READS: u64 = 1 << 63;

/// Counts of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) operations: u64,
    pub(super) syncs: u64,
    pub(super) evictions: u64,
    /// Puts and removes acknowledged, key by key, and those of them that were durable before the session ended.
    pub(super) acknowledged: u64,
    pub(super) durable: u64,
    /// Keys that the store refused because it was too full or too busy.
    pub(super) refused: u64,
    /// Keys whose put was not admitted.
    pub(super) not_admitted: u64,
}

/// An operation without a result yet.
#[derive(Clone, Debug)]
struct Open {
    what: What,
    begin: u64,
}

/// Possible contents of each key.
#[derive(Debug)]
pub(super) struct Oracle {
    keys: Vec<History>,
    open: BTreeMap<u64, Open>,
    now: u64,
    /// The highest generation that was seen.
    high: u64,
    /// True if the session acknowledges only what is durable.
    each_batch: bool,
    /// True if its puts may be refused.
    refuses: bool,
    /// Keys that were absent when all operations had ended.
    absent: Vec<Key>,
    pub(super) counts: Counts,
    pub(super) wrong: Vec<String>,
}

impl Oracle {
    /// Creates the oracle of an empty store.
    pub(super) fn new(keys: u64) -> Oracle {
        Oracle {
            keys: vec![History::found(None, 0); keys as usize],
            open: BTreeMap::new(),
            now: 0,
            high: 0,
            each_batch: false,
            refuses: false,
            absent: Vec::new(),
            counts: Counts::default(),
            wrong: Vec::new(),
        }
    }

    /// Begins a session. With `refuses` its puts may be refused.
    pub(super) fn begin(&mut self, each_batch: bool, refuses: bool) {
        self.each_batch = each_batch;
        self.refuses = refuses;
    }

    /// Processes the next record.
    pub(super) fn hear(&mut self, event: Event) {
        self.now += 1;
        match event {
            Event::Serving => {}
            Event::Begin { op, what } => self.began(op, what),
            Event::End { op, answers } => match self.open.remove(&op) {
                Some(open) => self.ended(op, &open, &answers),
                None => self
                    .wrong
                    .push(format!("operation {op:#x} ended and never began")),
            },
            Event::Evicted { key, generation } => {
                self.counts.evictions += 1;
                self.high = self.high.max(generation);
                let now = self.now;
                match self.keys.get_mut(key as usize) {
                    Some(history) => history.evicted(generation, now),
                    None => self.wrong.push(format!("no key {key} can be evicted")),
                }
            }
            Event::Violation(what) => self.wrong.push(what),
        }
    }

    /// Checks a session that ended by itself: every operation has its result, every eviction is recorded.
    pub(super) fn ended_whole(&mut self) {
        if let Some((op, Open { what, .. })) = self.open.first_key_value() {
            let what = format!("operation {op:#x} never ended: {what:?}");
            self.wrong.push(what);
        }
        for (key, history) in self.keys.iter_mut().enumerate() {
            let doubts = history.doubts();
            self.wrong
                .extend(doubts.map(|doubt| format!("key {key}: {doubt}")));
        }
    }

    /// Judges what a key holds after the session.
    pub(super) fn judge(&self, key: Key, found: Version) -> Verdict {
        let verdict = self.keys[key as usize].judge(found, self.reuse_recorded(key));
        match verdict == Verdict::Lost && self.may_be_refused(key) {
            true => Verdict::Legal,
            false => verdict,
        }
    }

    /// Returns whether nothing but puts under way can be in force, of which one may have been refused and have removed the
    /// key. A put is not refused while the key has another value.
    fn may_be_refused(&self, key: Key) -> bool {
        let removes = |open: &Open| match &open.what {
            What::Put { keeps, puts, .. } => !keeps && puts.iter().any(|(put, _)| *put == key),
            _ => false,
        };
        let of_key = &self.keys[key as usize];
        self.refuses && of_key.is_under_way() && self.open.values().any(removes)
    }

    /// Returns whether the slot of a value of `key` may hold something else although the key's next change is not
    /// durable yet. This is forbidden if only durable changes are acknowledged (C2). Otherwise the store may do so and
    /// does not report it yet: any key with such a change may be missing.
    fn reuse_recorded(&self, _key: Key) -> bool {
        !self.each_batch
    }

    /// Describes what a key may hold.
    pub(super) fn legal(&self, key: Key) -> String {
        self.keys[key as usize].legal()
    }

    /// Returns whether the session was cut off in the middle of puts.
    pub(super) fn puts_under_way(&self) -> bool {
        let mut open = self.open.values();
        open.any(|open| matches!(open.what, What::Put { .. }))
    }

    /// Continues from what was found: versions and their generations.
    pub(super) fn found(&mut self, states: &[(Key, Option<(u64, u64)>)]) {
        for &(key, state) in states {
            let (version, generation) = state.unzip();
            let generation = generation.unwrap_or(0);
            self.high = self.high.max(generation);
            self.keys[key as usize] = History::found(version, generation);
        }
        self.open.clear();
        self.absent.clear();
        self.now = 0;
    }

    fn began(&mut self, op: u64, what: What) {
        let (now, high) = (self.now, self.high);
        let begins = self.open.values().map(|open| open.begin);
        let oldest = begins.min().unwrap_or(now);
        let mut begin = |at, key: Key, effect| {
            self.keys[key as usize].begin((op, at), effect, high, oldest, now);
        };
        match &what {
            What::Put { puts, .. } => {
                let puts = puts.iter().enumerate();
                puts.for_each(|(at, &(key, version))| begin(at, key, Some(version)));
            }
            What::Remove { keys, .. } => {
                let keys = keys.iter().enumerate();
                keys.for_each(|(at, &key)| begin(at, key, None));
            }
            _ => {}
        }
        self.open.insert(op, Open { what, begin: now });
    }

    fn ended(&mut self, op: u64, open: &Open, answers: &[Answer]) {
        self.counts.operations += 1;
        let begin = open.begin;
        match &open.what {
            What::Put {
                keeps,
                durable,
                puts,
            } => {
                for (at, (&(key, _), &answer)) in puts.iter().zip(answers).enumerate() {
                    let first = !puts[..at].iter().any(|(other, _)| *other == key);
                    let seen = match answer {
                        Answer::Written if *keeps => Some(Answer::Absent),
                        // A later put of the same key in the batch kept the first one, which a
                        // remove may have overtaken before any other operation could see it.
                        Answer::Existed if first => Some(Answer::Present),
                        _ => None,
                    };
                    if let Some(seen) = seen {
                        self.seen(key, (op, at), begin, seen);
                    }
                    if answer == Answer::NotAdmitted {
                        self.not_admitted(key, (op, at), (*keeps, *durable), begin);
                        continue;
                    }
                    self.put_ended(key, (op, at), *durable, begin, answer);
                }
            }
            What::Remove { durable, keys } => {
                for (at, (&key, &answer)) in keys.iter().zip(answers).enumerate() {
                    self.seen(key, (op, at), begin, answer);
                    // A refused operation may have been done in part: it stays without an end.
                    if answer != Answer::Refused {
                        self.done(key, (op, at), *durable);
                    }
                }
            }
            What::Get(keys) | What::Look(keys) => {
                for (at, (&key, &answer)) in keys.iter().zip(answers).enumerate() {
                    self.seen(key, (op, at), begin, answer);
                    if op >= LAST_READS && answer == Answer::Absent {
                        self.absent.push(key);
                    }
                }
            }
            What::Checkpoint => {}
            What::Sync | What::Drop => {
                self.counts.syncs += u64::from(open.what == What::Sync);
                self.all_durable_at(begin);
            }
            What::Close => {
                self.all_durable_at(begin);
                // A close records the entries, so evicted ones do not come back.
                for key in std::mem::take(&mut self.absent) {
                    self.keys[key as usize] = History::found(None, 0);
                }
            }
        }
    }

    fn put_ended(&mut self, key: Key, id: Id, durable: bool, begin: u64, answer: Answer) {
        let now = self.now;
        if answer == Answer::Written {
            self.done(key, id, durable);
            return;
        }
        let history = &mut self.keys[key as usize];
        let was_overtaken = history.was_overtaken(id, begin);
        history.undone(id);
        match answer {
            Answer::Existed if durable => {
                self.counts.durable += history.existed_durably(begin, now);
            }
            Answer::Superseded if !was_overtaken => {
                self.wrong(
                    id.0,
                    key,
                    "that it was superseded, and nothing superseded it",
                );
            }
            Answer::Superseded if durable => history.superseded_durably(begin, now),
            Answer::Existed | Answer::Superseded => {}
            Answer::Refused => self.counts.refused += 1,
            _ => self.wrong(id.0, key, "a result that no put returns"),
        }
    }

    /// A refused put has seen that the key had no value. One that replaces is a change of the key like a remove.
    fn not_admitted(&mut self, key: Key, id: Id, (keeps, durable): (bool, bool), begin: u64) {
        self.counts.not_admitted += 1;
        self.seen(key, id, begin, Answer::Absent);
        let history = &mut self.keys[key as usize];
        if keeps {
            history.undone(id);
            return;
        }
        history.removes(id);
        history.done(id, durable, self.now);
    }

    fn done(&mut self, key: Key, id: Id, durable: bool) {
        self.keys[key as usize].done(id, durable, self.now);
        self.counts.acknowledged += 1;
        self.counts.durable += u64::from(durable);
    }

    fn all_durable_at(&mut self, moment: u64) {
        let (histories, now) = (self.keys.iter_mut(), self.now);
        let counted = histories.map(|history| history.durable_at(moment, now));
        let counted: u64 = counted.sum();
        self.counts.durable += counted;
    }

    fn seen(&mut self, key: Key, id: Id, begin: u64, answer: Answer) {
        self.counts.refused += u64::from(answer == Answer::Refused);
        if let Answer::Value { generation, .. } = answer {
            self.high = self.high.max(generation);
        }
        let wrong = self.keys[key as usize].seen(id, begin, self.now, answer);
        if let Some(wrong) = wrong {
            self.wrong(id.0, key, wrong);
        }
    }

    fn wrong(&mut self, op: u64, key: Key, what: &str) {
        let (legal, now) = (self.legal(key), self.now);
        self.wrong.push(format!(
            "op {op:#x} saw of key {key} {what}, at record {now}; it may be {legal}"
        ));
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
