//! What each key may hold, from what the threads did and saw.
//!
//! An operation begins and ends at places of the journal. One that ended before another began came before it;
//! otherwise either may have come last. So the state of a key that only one thread changes is known exactly, and
//! that of a shared key up to the order of overlapping operations.
//!
//! The oracle judges twice: each answer during the session (a value that was overwritten before the get began is
//! wrong, and so is a miss that no remove and no eviction explains), and each key after its end. What was
//! certainly overwritten by something durable can never be found again. An eviction leaves no record, so an
//! evicted value may be found again, or not; it names a generation, and so the put that it may concern.

use std::collections::BTreeMap;

use super::journal::{Answer, Event, What};
use super::shape::Key;

/// A version of a key's value; none is "not there".
pub(super) type Version = Option<u64>;

/// Something that happened, or may have happened, to a key.
#[derive(Clone, Debug)]
struct Change {
    /// The operation and the position in it.
    id: (u64, usize),
    effect: Version,
    begin: u64,
    end: Option<u64>,
    /// It came after all that had ended before this: its begin, or that of a later read that still showed it.
    since: u64,
    /// When it was certainly done: it was acknowledged, or read.
    done: Option<u64>,
    /// Counted as durable.
    durable: bool,
    /// It can never be found again after a crash.
    dead: bool,
    /// When it was certainly overwritten.
    over: Option<u64>,
    generation: Generation,
    /// Evictions that may have been this one's: generation, and when it was recorded.
    evictions: Vec<(u64, u64)>,
}

/// Operations from this one on are the reads of all keys when the threads of a session have ended.
pub(super) const LAST_READS: u64 = 1 << 63;

/// What is known of a put's generation.
#[derive(Clone, Copy, Debug)]
enum Generation {
    Is(u64),
    /// It was drawn after this one had been seen.
    Above(u64),
}

impl Generation {
    fn may_be(self, other: u64) -> bool {
        match self {
            Generation::Is(own) => own == other,
            Generation::Above(floor) => floor < other,
        }
    }
}

impl Change {
    fn found(effect: Version, generation: u64) -> Change {
        Change {
            id: (0, 0),
            effect,
            begin: 0,
            end: Some(0),
            since: 0,
            done: Some(0),
            durable: true,
            dead: false,
            over: None,
            generation: Generation::Is(generation),
            evictions: Vec::new(),
        }
    }

    /// Its value was read by an operation that began at `begin` and ends now. Returns what is wrong with that.
    fn read(&mut self, generation: u64, begin: u64, now: u64) -> Option<&'static str> {
        let was = std::mem::replace(&mut self.generation, Generation::Is(generation));
        self.evictions.retain(|(which, _)| *which == generation);
        self.since = self.since.max(begin);
        self.done.get_or_insert(now);
        let is_gone = self.evictions.iter().any(|(_, when)| *when < begin);
        match (was.may_be(generation), is_gone) {
            (true, false) => None,
            (true, true) => Some("a value that had been evicted"),
            (false, _) => Some("another generation of the same value"),
        }
    }

    /// Whether it certainly came before something that came after all that had ended by `since`.
    fn is_before(&self, since: u64) -> bool {
        self.end.is_some_and(|end| end < since) && self.since < since
    }

    /// Whether it may have been in force at some moment between the two.
    fn may_show(&self, begin: u64, end: u64) -> bool {
        self.begin < end && self.over.is_none_or(|over| over > begin)
    }
}

/// A key that was not there although nothing said so yet: its eviction must still be recorded.
#[derive(Clone, Debug)]
struct Doubt {
    puts: Vec<Generation>,
    what: String,
}

#[derive(Clone, Debug, Default)]
struct History {
    changes: Vec<Change>,
    doubts: Vec<Doubt>,
}

/// An operation without an answer yet.
#[derive(Clone, Debug)]
struct Open {
    what: What,
    begin: u64,
}

/// What a key's state after a session means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The only thing that it could be.
    Exact,
    /// One of several things that it may be.
    Legal,
    /// It was durable, and is not there.
    Lost,
    /// It was removed or replaced, that was durable, and it is back; or it was never put.
    Resurrected,
}

/// What was counted over all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) operations: u64,
    pub(super) syncs: u64,
    pub(super) evictions: u64,
    /// Puts and removes acknowledged, key by key, and those of them that were durable at the end of the session.
    pub(super) acknowledged: u64,
    pub(super) durable: u64,
    /// Keys that the store was too full or too busy for.
    pub(super) refused: u64,
}

/// What each key may hold.
#[derive(Debug)]
pub(super) struct Oracle {
    keys: Vec<History>,
    open: BTreeMap<u64, Open>,
    now: u64,
    /// The highest generation that was seen.
    high: u64,
    /// The session acknowledges only what is durable. Then no slot is used again before it may be.
    each_batch: bool,
    /// Keys that were not there when all operations had ended.
    absent: Vec<Key>,
    pub(super) counts: Counts,
    pub(super) wrong: Vec<String>,
}

impl Oracle {
    /// An empty store.
    pub(super) fn new(keys: u64) -> Oracle {
        let empty = History {
            changes: vec![Change::found(None, 0)],
            doubts: Vec::new(),
        };
        Oracle {
            keys: vec![empty; keys as usize],
            open: BTreeMap::new(),
            now: 0,
            high: 0,
            each_batch: false,
            absent: Vec::new(),
            counts: Counts::default(),
            wrong: Vec::new(),
        }
    }

    /// A session begins.
    pub(super) fn begin(&mut self, each_batch: bool) {
        self.each_batch = each_batch;
    }

    /// Takes in the next record.
    pub(super) fn hear(&mut self, event: Event) {
        self.now += 1;
        match event {
            Event::Serving => {}
            Event::Begin { op, what } => self.began(op, what),
            Event::End { op, answers } => match self.open.remove(&op) {
                Some(open) => self.ended(op, &open, &answers),
                None => self.wrong(format!("operation {op:#x} ended and never began")),
            },
            Event::Evicted { key, generation } => self.evicted(key, generation),
            Event::Violation(what) => self.wrong(what),
        }
    }

    /// The session ended by itself: every operation has its answer, every eviction is recorded.
    pub(super) fn ended_whole(&mut self) {
        if let Some((op, Open { what, .. })) = self.open.first_key_value() {
            self.wrong
                .push(format!("operation {op:#x} never ended: {what:?}"));
        }
        let doubts = self
            .keys
            .iter_mut()
            .flat_map(|history| history.doubts.drain(..));
        self.wrong.extend(doubts.map(|doubt| doubt.what));
    }

    /// Judges what a key holds after the session.
    pub(super) fn judge(&self, key: Key, found: Version) -> Verdict {
        let changes = || self.history(key).iter().filter(|change| !change.dead);
        let is_evicted = changes().any(|change| !change.evictions.is_empty());
        let is_exact = changes().count() == 1 && !is_evicted;
        if changes().any(|change| change.effect == found) {
            return if is_exact {
                Verdict::Exact
            } else {
                Verdict::Legal
            };
        }
        match found {
            Some(_) => Verdict::Resurrected,
            None if is_evicted => Verdict::Legal,
            None if changes().count() > 1 && self.reuse_recorded(key) => Verdict::Legal,
            None => Verdict::Lost,
        }
    }

    /// Whether the slot of a value of `key` may hold something else although the key's next change is not
    /// durable yet. Where only durable changes are acknowledged that must not be (C2). Elsewhere the store may do
    /// so and does not report it yet: any key with such a change may be missing.
    fn reuse_recorded(&self, _key: Key) -> bool {
        !self.each_batch
    }

    /// What a key may hold, in words.
    pub(super) fn legal(&self, key: Key) -> String {
        let mut words: Vec<String> = Vec::new();
        for change in self.history(key).iter().filter(|change| !change.dead) {
            let Change {
                id: (op, _),
                effect,
                end,
                durable,
                evictions,
                generation,
                ..
            } = change;
            let effect = effect.map_or("absent".into(), |version| format!("version {version:#x}"));
            let end = match (end, durable) {
                (None, _) => "not acknowledged",
                (Some(_), false) => "acknowledged",
                (Some(_), true) => "durable",
            };
            let evicted = evictions.iter();
            let evicted: String = evicted
                .map(|(which, _)| format!(", {which:#x} evicted"))
                .collect();
            words.push(format!(
                "{effect} (op {op:#x}, {end}, {generation:x?}{evicted})"
            ));
        }
        words.join(" or ")
    }

    /// Goes on from what was found: versions and their generations.
    pub(super) fn found(&mut self, states: &[(Key, Option<(u64, u64)>)]) {
        for &(key, state) in states {
            let (version, generation) = state.unzip();
            self.high = self.high.max(generation.unwrap_or(0));
            self.keys[key as usize] = History {
                changes: vec![Change::found(version, generation.unwrap_or(0))],
                doubts: Vec::new(),
            };
        }
        self.open.clear();
        self.absent.clear();
        self.now = 0;
    }

    fn history(&self, key: Key) -> &[Change] {
        self.keys
            .get(key as usize)
            .map_or(&[], |history| &history.changes)
    }

    fn changes(&mut self, key: Key) -> &mut Vec<Change> {
        &mut self.keys[key as usize].changes
    }

    fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    fn began(&mut self, op: u64, what: What) {
        match &what {
            What::Put { puts, .. } => {
                for (at, &(key, version)) in puts.iter().enumerate() {
                    self.change(key, (op, at), Some(version));
                }
            }
            What::Remove { keys, .. } => {
                for (at, &key) in keys.iter().enumerate() {
                    self.change(key, (op, at), None);
                }
            }
            _ => {}
        }
        let begin = self.now;
        self.open.insert(op, Open { what, begin });
    }

    fn change(&mut self, key: Key, id: (u64, usize), effect: Version) {
        let (now, floor) = (self.now, self.high);
        let oldest = self.open.values().map(|open| open.begin).min();
        let changes = self.changes(key);
        // What no answer and no crash can show any more.
        changes.retain(|change| !change.dead || change.over >= oldest.or(Some(now)));
        changes.push(Change {
            id,
            effect,
            begin: now,
            end: None,
            since: now,
            done: None,
            durable: false,
            dead: false,
            over: None,
            generation: Generation::Above(floor),
            evictions: Vec::new(),
        });
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
                    let again = puts[..at].iter().any(|(other, _)| *other == key);
                    if answer == Answer::Existed && !again {
                        // A later put of the key is kept out by the first one of its batch, which a remove may
                        // have overtaken before anything else could see it.
                        self.seen(key, (op, at), begin, Answer::Present);
                    }
                    self.put_ended(key, (op, at), *keeps, *durable, begin, answer);
                }
            }
            What::Remove { durable, keys } => {
                for (at, (&key, &answer)) in keys.iter().zip(answers).enumerate() {
                    self.remove_ended(key, (op, at), *durable, begin, answer);
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
                // A close writes down what is there, so what was evicted does not come back.
                for key in std::mem::take(&mut self.absent) {
                    *self.changes(key) = vec![Change::found(None, 0)];
                }
            }
        }
    }

    fn put_ended(
        &mut self,
        key: Key,
        id: (u64, usize),
        keeps: bool,
        durable: bool,
        begin: u64,
        answer: Answer,
    ) {
        match answer {
            Answer::Stored => {
                if keeps {
                    self.seen(key, id, begin, Answer::Absent);
                }
                self.done(key, id, durable);
                return;
            }
            Answer::Existed => {}
            Answer::Superseded => self.overtaken(key, id, begin),
            Answer::Refused => self.counts.refused += 1,
            other => self.wrong(format!("the put of {key} was answered {other:?}")),
        }
        // Nothing of it can ever be seen.
        self.changes(key).retain(|change| change.id != id);
        if !durable || answer == Answer::Refused {
            return;
        }
        // What it was kept for or overtaken by is durable, and came after all that had ended before it began.
        let now = self.now;
        if answer == Answer::Existed {
            self.durable_at(key, begin);
        }
        for change in self.changes(key) {
            let shown = answer == Answer::Existed && change.effect.is_some();
            if change.is_before(begin) && !shown {
                change.dead = true;
                change.over.get_or_insert(now);
            }
        }
    }

    /// Something must have come after a put of which that was said, and it was not there before the put began.
    fn overtaken(&mut self, key: Key, id: (u64, usize), begin: u64) {
        let later = |change: &Change| change.id != id && change.end.is_none_or(|end| end > begin);
        if !self.history(key).iter().any(later) {
            let words = self.saw(id.0, key, "that it was overtaken, and nothing did that");
            self.wrong(words);
        }
    }

    fn remove_ended(
        &mut self,
        key: Key,
        id: (u64, usize),
        durable: bool,
        begin: u64,
        answer: Answer,
    ) {
        if answer == Answer::Refused {
            // It may have been done in part: it stays without an end.
            self.counts.refused += 1;
            return;
        }
        self.seen(key, id, begin, answer);
        self.done(key, id, durable);
    }

    fn done(&mut self, key: Key, id: (u64, usize), durable: bool) {
        let now = self.now;
        let changes = self.changes(key);
        let Some(at) = changes.iter().position(|change| change.id == id) else {
            return;
        };
        let change = &mut changes[at];
        change.end = Some(now);
        change.done.get_or_insert(now);
        change.durable = durable;
        let since = change.since;
        for change in changes.iter_mut().filter(|change| change.is_before(since)) {
            change.over.get_or_insert(now);
            // Of others that ended meanwhile nobody knows whether this commit had them.
            change.dead |= durable;
        }
        self.counts.acknowledged += 1;
        self.counts.durable += u64::from(durable);
    }

    fn all_durable_at(&mut self, moment: u64) {
        (0..self.keys.len() as Key).for_each(|key| self.durable_at(key, moment));
    }

    /// All of a key that was done before `moment` is durable.
    fn durable_at(&mut self, key: Key, moment: u64) {
        let mut counted = 0;
        let changes = self.changes(key);
        let is_done = |change: &Change| change.done.is_some_and(|done| done < moment);
        let newest = changes.iter().filter(|change| is_done(change));
        let newest = newest.map(|change| change.since).max().unwrap_or(0);
        for change in changes {
            if is_done(change) && !change.durable {
                change.durable = true;
                counted += 1;
            }
            change.dead |= change.is_before(newest);
        }
        self.counts.durable += counted;
    }

    /// Judges what operation `id`, which began at `begin` and ends now, saw of a key.
    fn seen(&mut self, key: Key, id: (u64, usize), begin: u64, answer: Answer) {
        let (op, now) = (id.0, self.now);
        let wrong = match answer {
            Answer::Value {
                version,
                generation,
            } => {
                self.high = self.high.max(generation);
                let shown = self.may_show(key, id, begin);
                let shown = shown.into_iter().find(|c| c.effect == Some(version));
                match shown {
                    None => Some("a value that it did not have then"),
                    Some(change) => {
                        let wrong = change.read(generation, begin, now);
                        for change in self.changes(key) {
                            if change.is_before(begin) && change.effect != Some(version) {
                                change.over.get_or_insert(now);
                            }
                        }
                        wrong
                    }
                }
            }
            Answer::Present => {
                let shown = self.may_show(key, id, begin);
                let is_there = shown.iter().any(|change| change.effect.is_some());
                (!is_there).then_some("something where nothing was")
            }
            Answer::Absent => {
                let shown = self.may_show(key, id, begin);
                let is_gone = |c: &&mut Change| c.effect.is_none() || !c.evictions.is_empty();
                if !shown.iter().any(is_gone) {
                    let puts = shown.iter().map(|change| change.generation).collect();
                    let what = self.saw(op, key, "nothing, and no eviction says why");
                    let doubt = Doubt { puts, what };
                    self.keys[key as usize].doubts.push(doubt);
                }
                None
            }
            Answer::Refused => {
                self.counts.refused += 1;
                None
            }
            _ => Some("an answer that it has no use for"),
        };
        if let Some(wrong) = wrong {
            let words = self.saw(op, key, wrong);
            self.wrong(format!("{words}; it was {answer:x?} at {now}"));
        }
    }

    fn saw(&self, op: u64, key: Key, what: &str) -> String {
        let legal = self.legal(key);
        format!("op {op:#x} saw of key {key} {what}; it may be {legal}")
    }

    /// What another operation than `id` may have seen of a key since `begin`.
    fn may_show(&mut self, key: Key, id: (u64, usize), begin: u64) -> Vec<&mut Change> {
        let now = self.now;
        let changes = self.changes(key).iter_mut();
        changes
            .filter(|change| change.id != id && change.may_show(begin, now))
            .collect()
    }

    fn evicted(&mut self, key: Key, generation: u64) {
        self.counts.evictions += 1;
        self.high = self.high.max(generation);
        let now = self.now;
        let Some(history) = self.keys.get_mut(key as usize) else {
            self.wrong(format!("key {key} was evicted, and there is no such key"));
            return;
        };
        for change in &mut history.changes {
            if change.effect.is_some() && change.generation.may_be(generation) {
                change.evictions.push((generation, now));
            }
        }
        let explains = |doubt: &Doubt| doubt.puts.iter().any(|put| put.may_be(generation));
        history.doubts.retain(|doubt| !explains(doubt));
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
