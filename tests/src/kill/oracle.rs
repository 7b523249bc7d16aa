//! What each key may hold after a kill, from what the child said.
//!
//! Each operation has a begin (its intent was said) and an end (its answer was said). One that ended
//! before another began came before it; otherwise either may have come last. After a sync, whatever was
//! certainly overwritten by something that ended before the sync began can never be seen again. What was
//! under way or came later may or may not be there.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::{KEYS, Key, is_evictable};
use super::lines::{Answer, Line};

/// A version of a key's value; none is "not there".
pub(super) type Version = Option<u64>;

/// Something that happened, or may have happened, to a key.
#[derive(Clone, Copy, Debug)]
struct Change {
    op: u64,
    effect: Version,
    begin: u64,
    end: Option<u64>,
    /// Acknowledged as done: it certainly ended whatever had ended before it began.
    done: bool,
    counted: bool,
}

impl Change {
    fn found(effect: Version) -> Change {
        Change {
            op: 0,
            effect,
            begin: 0,
            end: Some(0),
            done: true,
            counted: true,
        }
    }
}

/// What a key's state after a kill means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Exactly what was synced.
    Exact,
    /// One of several things that it may be.
    Legal,
    /// A put that was under way may have evicted it, without time left to say so.
    PerhapsEvicted,
    /// It was synced, and is not there.
    Lost,
    /// It was removed or replaced, that was synced, and it is back.
    Resurrected,
}

/// What each key may hold.
#[derive(Debug)]
pub(super) struct Oracle {
    keys: BTreeMap<Key, Vec<Change>>,
    /// Operations without an answer yet: the keys, and whether the answer says that they are durable.
    open: BTreeMap<u64, (Vec<Key>, bool)>,
    syncs: BTreeMap<u64, u64>,
    closing: u64,
    now: u64,
    pub(super) acknowledged: u64,
    pub(super) synced: u64,
    pub(super) evicted: u64,
}

impl Oracle {
    /// An empty store.
    pub(super) fn new() -> Oracle {
        Oracle {
            keys: (0..KEYS)
                .map(|key| (key, vec![Change::found(None)]))
                .collect(),
            open: BTreeMap::new(),
            syncs: BTreeMap::new(),
            closing: 0,
            now: 0,
            acknowledged: 0,
            synced: 0,
            evicted: 0,
        }
    }

    /// Takes in what the child said next.
    pub(super) fn hear(&mut self, line: &Line) -> Result<(), String> {
        self.now += 1;
        match line {
            Line::Opening | Line::Serving => {}
            Line::Closing => self.closing = self.now,
            Line::Closed => self.all_durable_at(self.closing),
            Line::Put { op, puts, durable } => {
                for &(key, version) in puts {
                    self.begin(*op, key, Some(version));
                }
                let keys = puts.iter().map(|(key, _)| *key).collect();
                self.open.insert(*op, (keys, *durable));
            }
            Line::Remove { op, keys } => {
                keys.iter().for_each(|&key| self.begin(*op, key, None));
                self.open.insert(*op, (keys.clone(), false));
            }
            Line::Answers { op, answers } => self.end(*op, answers)?,
            Line::Evicted(key) => {
                self.evicted += 1;
                if !is_evictable(*key) {
                    return Err(format!("key {key} was evicted, though its class has room"));
                }
                self.begin(0, *key, None);
                if let Some(change) = self.changes(*key).last_mut() {
                    change.end = Some(change.begin);
                }
            }
            Line::Syncing(number) => drop(self.syncs.insert(*number, self.now)),
            Line::Synced(number) => {
                let began = self.syncs.remove(number).unwrap_or(0);
                self.all_durable_at(began);
            }
            Line::Violation(what) => return Err(what.clone()),
        }
        Ok(())
    }

    /// Judges what a key holds after the kill.
    pub(super) fn judge(&self, key: Key, found: Version) -> Verdict {
        let changes = self.keys.get(&key).map_or(&[][..], Vec::as_slice);
        match changes {
            [only] if only.effect == found => Verdict::Exact,
            [_] => self.illegal(key, found),
            // What was replaced after the sync may be gone altogether: its slot may hold something else.
            _ if found.is_none() || changes.iter().any(|change| change.effect == found) => {
                Verdict::Legal
            }
            _ => self.illegal(key, found),
        }
    }

    fn illegal(&self, key: Key, found: Version) -> Verdict {
        match found {
            Some(_) => Verdict::Resurrected,
            None if is_evictable(key) && self.puts_under_way() > 0 => Verdict::PerhapsEvicted,
            None => Verdict::Lost,
        }
    }

    /// Keys of operations that had no answer yet.
    pub(super) fn puts_under_way(&self) -> usize {
        self.open.values().map(|(keys, _)| keys.len()).sum()
    }

    /// What a key may hold, in words.
    pub(super) fn legal(&self, key: Key) -> String {
        let changes = self.keys.get(&key).map_or(&[][..], Vec::as_slice);
        let effects: BTreeSet<Version> = changes.iter().map(|change| change.effect).collect();
        format!("{effects:?}")
    }

    /// Goes on from what was found after a kill.
    pub(super) fn found(&mut self, states: &[(Key, Version)]) {
        for &(key, version) in states {
            self.keys.insert(key, vec![Change::found(version)]);
        }
        self.open.clear();
        self.syncs.clear();
        self.now = 0;
    }

    fn changes(&mut self, key: Key) -> &mut Vec<Change> {
        self.keys.entry(key).or_default()
    }

    fn begin(&mut self, op: u64, key: Key, effect: Version) {
        let begin = self.now;
        self.changes(key).push(Change {
            op,
            effect,
            begin,
            end: None,
            done: false,
            counted: false,
        });
    }

    fn end(&mut self, op: u64, answers: &[Answer]) -> Result<(), String> {
        let (keys, durable) = self
            .open
            .remove(&op)
            .ok_or_else(|| format!("operation {op} has an answer and no beginning"))?;
        let now = self.now;
        for (&key, answer) in keys.iter().zip(answers) {
            let changes = self.keys.entry(key).or_default();
            let Some(at) = changes.iter().position(|change| change.op == op) else {
                continue;
            };
            if *answer != Answer::Done {
                // Nothing of it can ever be seen.
                changes.remove(at);
                continue;
            }
            let change = &mut changes[at];
            change.end = Some(now);
            change.done = true;
            self.acknowledged += 1;
            if durable {
                // Only this one is: others that ended meanwhile may have missed its commit.
                change.counted = true;
                let begin = change.begin;
                changes.retain(|change| change.end.is_none_or(|end| end >= begin));
                self.synced += 1;
            }
        }
        Ok(())
    }

    fn all_durable_at(&mut self, sync: u64) {
        for key in 0..KEYS {
            self.durable_at(key, sync);
        }
    }

    /// All of a key that ended before `sync` is durable.
    fn durable_at(&mut self, key: Key, sync: u64) {
        let changes = self.changes(key);
        let is_durable = |change: &Change| change.done && change.end.is_some_and(|end| end <= sync);
        let newest = changes.iter().filter(|change| is_durable(change));
        let newest = newest.map(|change| change.begin).max().unwrap_or(0);
        let mut synced = 0;
        for change in changes.iter_mut().filter(|change| is_durable(change)) {
            synced += u64::from(!change.counted);
            change.counted = true;
        }
        changes.retain(|change| change.end.is_none_or(|end| end >= newest));
        self.synced += synced;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(said: &[&str]) -> Oracle {
        let mut oracle = Oracle::new();
        for text in said {
            oracle.hear(&text.parse().unwrap()).unwrap();
        }
        oracle
    }

    fn verdicts(said: &[&str], found: [Version; 3]) -> [Verdict; 3] {
        let oracle = after(said);
        found.map(|version| oracle.judge(0, version))
    }

    use Verdict::{Exact, Legal, Lost, Resurrected};
    const FOUND: [Version; 3] = [None, Some(1), Some(2)];

    #[test]
    fn only_what_ended_before_the_sync_began_is_due() {
        let acknowledged = ["p 1 0:1", "a 1 d"];
        assert_eq!(verdicts(&acknowledged, FOUND), [Legal, Legal, Resurrected]);
        let synced = ["p 1 0:1", "a 1 d", "s 2", "d 2"];
        assert_eq!(verdicts(&synced, FOUND), [Lost, Exact, Resurrected]);
        let ended_within_the_sync = ["p 1 0:1", "s 2", "a 1 d", "d 2"];
        assert_eq!(verdicts(&ended_within_the_sync, FOUND)[..2], [Legal; 2]);
        let removed = ["p 1 0:1", "a 1 d", "r 3 0", "a 3 d", "s 2", "d 2"];
        assert_eq!(verdicts(&removed, FOUND), [Exact, Resurrected, Resurrected]);
        let durable_by_itself = ["P 1 0:1", "a 1 d"];
        assert_eq!(verdicts(&durable_by_itself, FOUND)[0], Lost);
        let closed = ["p 1 0:1", "a 1 d", "c", "x"];
        assert_eq!(verdicts(&closed, FOUND)[0], Lost);
    }

    #[test]
    fn of_two_at_a_time_either_may_be_last_and_what_changed_nothing_is_never_seen() {
        let both = ["p 1 0:1", "p 2 0:2", "a 1 d", "a 2 d", "s 3", "d 3"];
        assert_eq!(verdicts(&both, FOUND), [Legal; 3]);
        let one_after_the_other = ["p 1 0:1", "a 1 d", "p 2 0:2", "a 2 d", "s 3", "d 3"];
        assert_eq!(
            verdicts(&one_after_the_other, FOUND),
            [Lost, Resurrected, Exact]
        );
        let kept = ["p 1 0:1", "a 1 d", "p 2 0:2", "a 2 u", "s 3", "d 3"];
        assert_eq!(verdicts(&kept, FOUND), [Lost, Exact, Resurrected]);
    }

    /// Key 0 always has room. Key 4 may be evicted, and a put under way may have done so unsaid.
    #[test]
    fn an_eviction_is_no_loss() {
        assert!(Oracle::new().hear(&Line::Evicted(0)).is_err());
        let synced = ["p 1 4:1", "a 1 d", "s 2", "d 2"];
        assert_eq!(after(&synced).judge(4, None), Lost);
        assert_eq!(
            after(&[&synced[..], &["e 4"]].concat()).judge(4, None),
            Legal
        );
        let under_way = after(&[&synced[..], &["p 3 5:2"]].concat());
        assert_eq!(under_way.judge(4, None), Verdict::PerhapsEvicted);
    }
}
