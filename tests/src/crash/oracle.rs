//! What each key may hold, now and after a crash at any moment of the run (C1 to C3).
//!
//! `current` is what a get may answer now. `legal` is what may be found after a crash: whatever was
//! current at the last sync or later, and what was evicted since it was put, because an eviction leaves
//! no record (an evicted key may return with the bytes it had). Operations overlap, one inside the other:
//! a *window* collects everything that was current while an operation ran.

use std::collections::HashMap;

/// Number of keys in play.
pub(super) const KEYS: usize = 24;

/// A version of a key's value; 0 is "not there".
pub(super) type Version = u32;

/// Not there.
pub(super) const ABSENT: Version = 0;

/// The versions that are possible, sorted.
pub(super) type Set = Vec<Version>;

fn add(set: &mut Set, version: Version) {
    if let Err(at) = set.binary_search(&version) {
        set.insert(at, version);
    }
}

fn join(set: &mut Set, other: &Set) {
    other.iter().for_each(|version| add(set, *version));
}

/// What a crash may leave.
#[derive(Clone, Debug)]
pub(super) struct Legal {
    /// Per key.
    pub(super) keys: Vec<Set>,
    /// Or nothing at all: the store is being emptied or formatted.
    pub(super) or_empty: bool,
    /// Or no store at all: it is being formatted.
    pub(super) or_no_store: bool,
}

impl Legal {
    fn new(keys: Vec<Set>) -> Legal {
        Legal {
            keys,
            or_empty: false,
            or_no_store: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.keys.iter().all(|set| *set == [ABSENT])
    }

    /// What both allow.
    fn intersect(mut self, other: &Legal) -> Legal {
        if self.or_empty && other.is_empty() {
            return other.clone();
        }
        for (set, other) in self.keys.iter_mut().zip(&other.keys) {
            set.retain(|version| other.contains(version));
        }
        self.or_empty &= other.or_empty;
        self.or_no_store &= other.or_no_store;
        self
    }
}

/// What was current while an operation ran.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) current: Vec<Set>,
    /// Evicted before: it may return until what replaced it is durable.
    ghosts: Vec<Set>,
    changed: Vec<bool>,
}

/// A put or remove that has begun and not been answered.
#[must_use]
pub(super) struct InFlight {
    key: usize,
    version: Version,
}

#[derive(Clone, Debug)]
pub(super) struct Oracle {
    current: Vec<Set>,
    /// Evicted, so not current, and yet it may return.
    ghosts: Vec<Set>,
    legal: Legal,
    /// Changes that are made durable before they are answered.
    in_flight: Vec<(usize, Version)>,
    windows: Vec<Window>,
    /// What was legal from which recorded step of the device on.
    history: Vec<(usize, Legal)>,
    /// Which key and version each generation belongs to: it never repeats.
    generations: Generations,
}

/// Per generation its key and version, and the device's step when it was first seen.
pub(super) type Generations = HashMap<u64, (usize, Version, usize)>;

impl Oracle {
    /// Every key is absent.
    pub(super) fn new() -> Oracle {
        let nothing = vec![vec![ABSENT]; KEYS];
        Oracle::after_crash(Legal::new(nothing), Generations::new())
    }

    /// A store that a crash has left: all that is legal is possible.
    pub(super) fn after_crash(legal: Legal, generations: Generations) -> Oracle {
        Oracle {
            current: legal.keys.clone(),
            ghosts: vec![Set::new(); KEYS],
            history: vec![(0, legal.clone())],
            legal,
            in_flight: Vec::new(),
            windows: Vec::new(),
            generations,
        }
    }

    pub(super) fn current(&self, key: usize) -> &Set {
        &self.current[key]
    }

    /// What may be found after a crash when `steps` of the device were done. Where several answers
    /// were true at that step, all of them hold: the device was the same.
    pub(super) fn legal_at(&self, steps: usize) -> Legal {
        let last = self.history.partition_point(|(at, _)| *at < steps);
        let before = self.history[last.saturating_sub(1)].1.clone();
        let (_, same) = self.history.split_at(last);
        same.iter()
            .take_while(|(at, _)| *at == steps)
            .fold(before, |legal, (_, more)| legal.intersect(more))
    }

    /// Remembers what is legal from this step on. Called after every change.
    pub(super) fn mark(&mut self, steps: usize) {
        self.history.push((steps, self.legal.clone()));
    }

    /// A change of the key has begun. If it is made durable before it is answered, it may be found
    /// after a crash from now on.
    pub(super) fn begin(&mut self, key: usize, version: Version, durable: bool) -> InFlight {
        if durable {
            self.in_flight.push((key, version));
            add(&mut self.legal.keys[key], version);
            add(&mut self.legal.keys[key], ABSENT);
        }
        InFlight { key, version }
    }

    /// It was answered; `happened` if it took effect, after everything else that did.
    pub(super) fn end(&mut self, change: InFlight, happened: bool) {
        let InFlight { key, version } = change;
        if let Some(at) = self.in_flight.iter().position(|c| *c == (key, version)) {
            self.in_flight.swap_remove(at);
        }
        if happened {
            self.set(key, vec![version]);
            self.ghosts[key].clear();
        } else if version != ABSENT {
            self.legal.keys[key].retain(|legal| *legal != version);
        }
    }

    /// Until the next sync the key may also be missing: the slot of what was replaced is free, and
    /// the record that says so is not durable.
    fn set(&mut self, key: usize, set: Set) {
        join(&mut self.legal.keys[key], &set);
        add(&mut self.legal.keys[key], ABSENT);
        for window in &mut self.windows {
            join(&mut window.current[key], &set);
            window.changed[key] = true;
        }
        self.current[key] = set;
    }

    /// The key lost its slot.
    pub(super) fn evicted(&mut self, key: usize) {
        let was = std::mem::take(&mut self.current[key]);
        self.set(key, vec![ABSENT]);
        join(&mut self.ghosts[key], &was);
    }

    /// The store forgot the key because its bytes are not there. False if it had no right to.
    pub(super) fn dropped(&mut self, key: usize) -> bool {
        let legal = self.current[key].contains(&ABSENT);
        self.set(key, vec![ABSENT]);
        legal
    }

    /// The key's bytes were damaged on the medium: it may be missing.
    pub(super) fn damaged(&mut self, key: usize) {
        let mut set = self.current[key].clone();
        add(&mut set, ABSENT);
        self.set(key, set);
        // A ghost or an older base may still name it.
        add(&mut self.ghosts[key], ABSENT);
    }

    /// Any version that was ever put may be found, or none: metadata was lost and it was said so.
    pub(super) fn lost_metadata(&mut self, newest: Version) {
        for key in 0..KEYS {
            self.set(key, (ABSENT..=newest).collect());
        }
    }

    /// Starts to collect what is current.
    pub(super) fn open_window(&mut self) {
        self.windows.push(Window {
            current: self.current.clone(),
            ghosts: self.ghosts.clone(),
            changed: vec![false; KEYS],
        });
    }

    /// What was current since the window was opened. Windows nest.
    pub(super) fn close_window(&mut self) -> Window {
        self.windows.pop().unwrap_or_default()
    }

    /// Everything acknowledged before the window was opened is durable.
    pub(super) fn synced(&mut self, window: Window) {
        self.legal.keys = window.current;
        for (key, set) in self.legal.keys.iter_mut().enumerate() {
            join(set, &window.ghosts[key]);
            join(set, &self.ghosts[key]);
            if window.changed[key] {
                add(set, ABSENT);
            }
        }
        for (key, version) in &self.in_flight {
            add(&mut self.legal.keys[*key], *version);
            add(&mut self.legal.keys[*key], ABSENT);
        }
    }

    /// One key's last change is durable.
    pub(super) fn synced_key(&mut self, key: usize, version: Version) {
        if self.current[key] == [version] && self.ghosts[key].is_empty() {
            self.legal.keys[key] = vec![version];
        }
    }

    /// A get answered: the key was this at a moment of `window`.
    pub(super) fn observed(&mut self, key: usize, version: Version, window: &Window) -> bool {
        let landing = self.in_flight.contains(&(key, version));
        let still = self.current[key] == window.current[key];
        if still && window.current[key].contains(&version) {
            self.current[key] = vec![version];
        }
        landing || window.current[key].contains(&version)
    }

    /// There is a store, and it is not empty.
    pub(super) fn is_there(&mut self) {
        self.legal.or_empty = false;
        self.legal.or_no_store = false;
    }

    /// First read after a crash: what is found now is what the crash left.
    pub(super) fn found(&mut self, key: usize, version: Version) -> bool {
        let legal = self.legal.keys[key].contains(&version);
        self.current[key] = vec![version];
        self.legal.keys[key] = vec![version];
        legal
    }

    /// The store is being emptied or formatted.
    pub(super) fn begin_emptying(&mut self, formatting: bool) {
        self.legal.or_empty = true;
        self.legal.or_no_store = formatting;
    }

    /// It is empty, durably.
    pub(super) fn emptied(&mut self) {
        self.legal = Legal::new(vec![vec![ABSENT]; KEYS]);
        self.current = self.legal.keys.clone();
        self.ghosts = vec![Set::new(); KEYS];
        // Another epoch or another store: generations may begin anew.
        self.generations.clear();
    }

    /// The store is opened again without a crash: what it knew in memory alone may have changed.
    pub(super) fn reopened(&mut self) {
        for (current, legal) in self.current.iter_mut().zip(&self.legal.keys) {
            *current = legal.clone();
        }
    }

    /// Notes whose a generation is; false if it was somebody else's.
    pub(super) fn owns(
        &mut self,
        generation: u64,
        key: usize,
        version: Version,
        steps: usize,
    ) -> bool {
        let owner = self
            .generations
            .entry(generation)
            .or_insert((key, version, steps));
        (owner.0, owner.1) == (key, version)
    }

    /// The generations that were seen up to a step.
    pub(super) fn generations_at(&self, steps: usize) -> Generations {
        let seen = self.generations.iter().filter(|(_, (.., at))| *at <= steps);
        seen.map(|(generation, (key, version, _))| (*generation, (*key, *version, 0)))
            .collect()
    }

    /// Forgets the past; what is legal now is legal from the first step of a new recording on.
    pub(super) fn start_history(&mut self) {
        self.history = vec![(0, self.legal.clone())];
        for owner in self.generations.values_mut() {
            owner.2 = 0;
        }
    }
}
