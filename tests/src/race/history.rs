//! Possible contents of one key: the changes that operations made, or may have made.

use super::event::Answer;

/// Version of a key's value; `None` means absent.
pub(super) type Version = Option<u64>;

/// An operation, and the position in it.
pub(super) type Id = (u64, usize);

/// A change that happened, or may have happened, to a key. Times are positions in the journal.
#[derive(Clone, Debug)]
struct Change {
    id: Id,
    effect: Version,
    begin: u64,
    end: Option<u64>,
    /// It came after everything that had ended before this: its begin, or that of a later read that still showed the
    /// old value.
    since: u64,
    /// Time at which it was certainly done: acknowledged, or read.
    done: Option<u64>,
    /// True if it counted as durable.
    durable: bool,
    /// True if it can never be found again after a crash.
    dead: bool,
    /// Time at which it was certainly overwritten.
    over: Option<u64>,
    generation: Generation,
    /// Evictions that may have been of this one: generation, and time of the record.
    evictions: Vec<(u64, u64)>,
}

/// Knowledge of a put's generation.
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

    /// Its value was read by an operation that began at `begin` and ends now. Returns the violation, if any.
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

    /// Returns whether it certainly came before a change that came after everything that had ended by `since`.
    fn is_before(&self, since: u64) -> bool {
        self.end.is_some_and(|end| end < since) && self.since < since
    }

    /// Returns whether it may have been in force at some moment between the two.
    fn may_show(&self, begin: u64, end: u64) -> bool {
        self.begin < end && self.over.is_none_or(|over| over > begin)
    }
}

/// A key that was absent although no record explains it yet: that its value was evicted, or its put refused, must still be
/// recorded.
#[derive(Clone, Debug)]
struct Doubt {
    puts: Vec<(Id, Generation)>,
    what: String,
}

/// Judgement of a key's state after a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The only possible state.
    Exact,
    /// One of several possible states.
    Legal,
    /// It was durable, and is absent.
    Lost,
    /// It was removed or replaced durably, and is back; or it was never put.
    Resurrected,
}

/// Everything that a key may hold.
#[derive(Clone, Debug)]
pub(super) struct History {
    changes: Vec<Change>,
    doubts: Vec<Doubt>,
}

impl History {
    /// Creates the history of a key whose value was found, with its generation.
    pub(super) fn found(version: Version, generation: u64) -> History {
        History {
            changes: vec![Change::found(version, generation)],
            doubts: Vec::new(),
        }
    }

    /// Operation `id` begins now; its generation will be above `floor`. The oldest operation that is under way began at
    /// `oldest`.
    pub(super) fn begin(&mut self, id: Id, effect: Version, floor: u64, oldest: u64, now: u64) {
        // No result and no crash can show it any more.
        let is_past =
            |change: &Change| change.dead && change.over.is_some_and(|over| over < oldest);
        self.changes.retain(|change| !is_past(change));
        self.changes.push(Change {
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

    /// Operation `id` was acknowledged. If `durable`, earlier changes can never be found again.
    pub(super) fn done(&mut self, id: Id, durable: bool, now: u64) {
        let Some(change) = self.changes.iter_mut().find(|change| change.id == id) else {
            return;
        };
        change.end = Some(now);
        change.done.get_or_insert(now);
        change.durable = durable;
        let since = change.since;
        // Concurrent operations that ended may have missed this commit.
        self.overwrite(since, durable, now, |_| true);
    }

    /// Operation `id` had no effect: nothing of it can ever be seen.
    pub(super) fn undone(&mut self, id: Id) {
        self.changes.retain(|change| change.id != id);
    }

    /// Operation `id`, a put, was refused: it leaves the key without a value.
    pub(super) fn removes(&mut self, id: Id) {
        let mut changes = self.changes.iter_mut();
        if let Some(change) = changes.find(|change| change.id == id) {
            change.effect = None;
        }
        let explains = |doubt: &Doubt| doubt.puts.iter().any(|(put, _)| *put == id);
        self.doubts.retain(|doubt| !explains(doubt));
    }

    /// A put that began at `begin` kept the existing value, and that result is durable: so is the value.
    pub(super) fn existed_durably(&mut self, begin: u64, now: u64) -> u64 {
        let counted = self.durable_at(begin, now);
        self.overwrite(begin, true, now, |effect| effect.is_none());
        counted
    }

    /// A put that began at `begin` was superseded, and that result is durable: so is the newer change.
    pub(super) fn superseded_durably(&mut self, begin: u64, now: u64) {
        self.overwrite(begin, true, now, |_| true);
    }

    /// Returns whether any change may have superseded a put that began at `begin`.
    pub(super) fn was_overtaken(&self, id: Id, begin: u64) -> bool {
        let later = |change: &Change| change.id != id && change.end.is_none_or(|end| end > begin);
        self.changes.iter().any(later)
    }

    /// Marks changes that had ended before `since` as overwritten now.
    fn overwrite(&mut self, since: u64, durably: bool, now: u64, which: impl Fn(Version) -> bool) {
        for change in &mut self.changes {
            if change.is_before(since) && which(change.effect) {
                change.over.get_or_insert(now);
                change.dead |= durably;
            }
        }
    }

    /// Marks everything that was done before `moment` as durable. Returns how many acknowledged changes were not known
    /// to be durable before.
    pub(super) fn durable_at(&mut self, moment: u64, now: u64) -> u64 {
        let is_done = |change: &Change| change.done.is_some_and(|done| done < moment);
        let newest = self.changes.iter().filter(|change| is_done(change));
        let newest = newest.map(|change| change.since).max().unwrap_or(0);
        let mut counted = 0;
        for change in &mut self.changes {
            if is_done(change) && change.end.is_some() && !change.durable {
                change.durable = true;
                counted += 1;
            }
            if change.is_before(newest) {
                change.over.get_or_insert(now);
                change.dead = true;
            }
        }
        counted
    }

    /// Checks what operation `id`, which began at `begin` and ends now, saw. Returns the violation, if any.
    pub(super) fn seen(
        &mut self,
        id: Id,
        begin: u64,
        now: u64,
        answer: Answer,
    ) -> Option<&'static str> {
        let shown = |change: &&mut Change| change.id != id && change.may_show(begin, now);
        let mut shown = self.changes.iter_mut().filter(shown);
        match answer {
            Answer::Value {
                version,
                generation,
            } => {
                let Some(change) = shown.find(|change| change.effect == Some(version)) else {
                    return Some("a value that it did not have then");
                };
                let wrong = change.read(generation, begin, now);
                self.overwrite(begin, false, now, |effect| effect != Some(version));
                wrong
            }
            Answer::Present => {
                let is_there = shown.any(|change| change.effect.is_some());
                (!is_there).then_some("something where nothing was")
            }
            Answer::Absent => {
                let mut puts = Vec::new();
                for change in shown {
                    if change.effect.is_none() || !change.evictions.is_empty() {
                        return None;
                    }
                    puts.push((change.id, change.generation));
                }
                let what = format!(
                    "op {:#x} saw nothing, and no eviction explains it; it may be {}",
                    id.0,
                    self.legal()
                );
                self.doubts.push(Doubt { puts, what });
                None
            }
            Answer::Refused => None,
            _ => Some("a result of the wrong kind"),
        }
    }

    /// Records the eviction of a generation.
    pub(super) fn evicted(&mut self, generation: u64, now: u64) {
        for change in &mut self.changes {
            if change.effect.is_some() && change.generation.may_be(generation) {
                change.evictions.push((generation, now));
            }
        }
        let explains = |doubt: &Doubt| doubt.puts.iter().any(|(_, put)| put.may_be(generation));
        self.doubts.retain(|doubt| !explains(doubt));
    }

    /// Returns the observations that nothing explains, when nothing more is recorded.
    pub(super) fn doubts(&mut self) -> impl Iterator<Item = String> + use<'_> {
        self.doubts.drain(..).map(|doubt| doubt.what)
    }

    /// Judges the state found after the session. If slots may have been `reused` before a change was durable, the value
    /// before that change may be gone.
    pub(super) fn judge(&self, found: Version, reused: bool) -> Verdict {
        let changes = || self.changes.iter().filter(|change| !change.dead);
        let is_evicted = changes().any(|change| !change.evictions.is_empty());
        let is_single = changes().count() == 1;
        if changes().any(|change| change.effect == found) {
            let is_only = changes().all(|change| change.effect == found);
            return match is_only && !is_evicted {
                true => Verdict::Exact,
                false => Verdict::Legal,
            };
        }
        match found {
            Some(_) => Verdict::Resurrected,
            None if is_evicted || reused && !is_single => Verdict::Legal,
            None => Verdict::Lost,
        }
    }

    /// Returns whether every change that may be found is under way, and unseen.
    pub(super) fn is_under_way(&self) -> bool {
        let mut changes = self.changes.iter().filter(|change| !change.dead);
        changes.all(|change| change.done.is_none())
    }

    /// Describes what may be found.
    pub(super) fn legal(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        for change in self.changes.iter().filter(|change| !change.dead) {
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
            let evicted = evicted.map(|(which, _)| format!(", {which:#x} evicted"));
            let evicted: String = evicted.collect();
            words.push(format!(
                "{effect} (op {op:#x}, {end}, generation {generation:x?}{evicted})"
            ));
        }
        words.join(" or ")
    }
}
