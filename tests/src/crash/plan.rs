//! Decides from a run's seed which operation continues, or begins, at every place.

use std::sync::{Arc, Mutex, PoisonError};

use rb_core::HeldLock;

use super::pairs::{Kind, Pairs};
use super::states::State;
use super::world::World;
use crate::schedule::{Chooser, Next, Place, Standing};

/// Frequency of each kind of operation if nothing else determines it; the sum is 100.
const SHARES: &[(Kind, u64)] = &[
    (Kind::Put, 22),
    (Kind::PutEachBatch, 7),
    (Kind::PutKeep, 6),
    (Kind::Remove, 11),
    (Kind::Get, 12),
    (Kind::Lease, 8),
    (Kind::Unlease, 4),
    (Kind::Sync, 7),
    (Kind::Commit, 3),
    (Kind::Checkpoint, 4),
    (Kind::Validate, 3),
    (Kind::Scrub, 3),
    (Kind::Discard, 6),
    (Kind::Close, 4),
];

/// Facts about the store at a step of the device.
pub(super) type Fact = (usize, Vec<State>);

/// Plan of a part of a run.
pub(super) struct Plan {
    world: Arc<World>,
    /// Operations that have yet to begin.
    left: u64,
    /// Maximum number of concurrent operations.
    most: usize,
    /// One place in this many is used to switch.
    often: u64,
    /// One checkpoint in this many is written when it is due; 0: none.
    eager: u64,
    /// True if the plan has checked for a due checkpoint since the last operation.
    looked: bool,
    /// True for the main part of a run; false for the few operations that check what a crash left.
    is_long: bool,
    /// One operation in this many runs alone; 0: none.
    alone: u64,
    /// Facts at each beginning of an operation, if they are collected.
    facts: Option<Facts>,
    /// True if the device fails at random.
    faulty: bool,
}

/// Collected facts; they are taken when the run has ended.
pub(super) type Facts = Arc<Mutex<Vec<Fact>>>;

impl Plan {
    /// Makes a plan of `count` operations, with habits drawn from the world's seed.
    pub(super) fn new(world: &Arc<World>, count: u64, eager: u64) -> Plan {
        Plan {
            world: Arc::clone(world),
            left: count,
            most: 1 + world.random(4) as usize,
            often: 2 << world.random(4),
            eager,
            looked: true,
            is_long: count > 10,
            alone: 16,
            facts: None,
            faulty: false,
        }
    }

    pub(super) fn with_facts(self, facts: &Facts) -> Plan {
        let facts = Some(Arc::clone(facts));
        Plan { facts, ..self }
    }

    /// Uses only operations that may fail, for a device that fails at random.
    pub(super) fn faulty(self) -> Plan {
        Plan {
            faulty: true,
            alone: 0,
            ..self
        }
    }

    /// Runs the plan; failures are recorded as violations of the world.
    pub(super) fn run(self) {
        let world = Arc::clone(&self.world);
        let outcome = world.baton.run(self);
        world.judge_run(outcome);
    }

    fn draw(&self) -> Kind {
        // Entries are validated only for a short time, and few discards have work to do.
        let both = self.world.discards() && self.world.can(Kind::Validate);
        if both && self.world.random(2) == 0 {
            return [Kind::Remove, Kind::Commit, Kind::Discard][self.world.random(3) as usize];
        }
        let mut number = self.world.random(100);
        for &(kind, share) in SHARES {
            if number < share {
                return kind;
            }
            number -= share;
        }
        Kind::Put
    }

    /// Returns a kind of operation that has work to do now.
    fn fitting(&self, kind: Kind) -> Kind {
        let fits = !self.faulty
            || matches!(
                kind,
                Kind::Put
                    | Kind::PutEachBatch
                    | Kind::Remove
                    | Kind::Get
                    | Kind::Sync
                    | Kind::Checkpoint
                    | Kind::Validate
            );
        match kind {
            kind if fits && self.world.can(kind) => kind,
            Kind::Unlease => Kind::Lease,
            _ => Kind::Put,
        }
    }

    /// Returns the kind that began least often at a place of this run, and how often. The seed decides between equals;
    /// in a long run, a kind that seldom has work comes first.
    fn rarest(&self, place: usize) -> (Kind, u64) {
        let counts = self.world.lock().pairs.of(place).to_vec();
        let first = self.world.random(counts.len() as u64) as usize;
        let all = (0..counts.len()).map(|at| (first + at) % counts.len());
        // There is little to validate: a close ends it, and each step uses some of it up.
        let spared = self.world.can(Kind::Validate) && self.world.random(4) != 0;
        let able = all.filter(|at| {
            let kind = Kind::ALL[*at];
            let again = kind == Kind::Validate && counts[*at] > 0;
            self.fitting(kind) == kind && !(spared && (again || kind == Kind::Close))
        });
        let seldom = |kind| matches!(kind, Kind::Validate | Kind::Unlease | Kind::Discard);
        let rarest = able.min_by_key(|at| (counts[*at], !self.is_long || !seldom(Kind::ALL[*at])));
        rarest.map_or((Kind::Put, u64::MAX), |at| (Kind::ALL[at], counts[at]))
    }

    fn start(&mut self, kind: Kind) -> Next<Kind> {
        if let Some(facts) = &self.facts {
            let known = (self.world.device.recorded(), self.world.facts());
            facts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(known);
        }
        self.left = self.left.saturating_sub(1);
        self.looked = false;
        let world = Arc::clone(&self.world);
        Next::Start(kind, Box::new(move || world.operate(kind)))
    }

    /// Decides after an operation has ended while others are suspended.
    fn start_next(&mut self, live: usize) -> Option<Next<Kind>> {
        let open = self.world.is_open() && !self.world.lock().closing;
        let starts = open && self.left > 0 && live < self.most;
        if !starts || self.world.random(2) == 0 {
            return None;
        }
        let kind = self.fitting(self.draw());
        Some(self.start(kind))
    }

    /// Decides while no operation is under way.
    fn start_first(&mut self) -> Next<Kind> {
        self.world.settle();
        if self.left == 0 || !self.world.is_open() {
            return Next::Stop;
        }
        let due = self.eager > 0 && !std::mem::replace(&mut self.looked, true);
        if due && self.world.random(self.eager) == 0 {
            let world = Arc::clone(&self.world);
            return Next::Start(
                Kind::Checkpoint,
                Box::new(move || world.checkpoint_if_due()),
            );
        }
        if self.alone > 0 && self.world.random(self.alone) == 0 {
            return self.start(Kind::Alone);
        }
        let kind = self.fitting(self.draw());
        self.start(kind)
    }

    /// May start a new operation at a place of the running one.
    fn start_at(&mut self, place: Place, live: usize) -> Option<Next<Kind>> {
        if self.left == 0 || !self.world.is_open() {
            return None;
        }
        let number = Pairs::number(place)?;
        let closing = self.world.lock().closing;
        // Operations that begin during a close are refused, so few of them suffice.
        let open = match place {
            Place::At(point) => !closing || point.holds().contains(&HeldLock::Close),
            _ => !closing,
        };
        // Each kind begins as soon as it can at a place where it never has, then as drawn.
        let (rarest, count) = self.rarest(number);
        let wanted = open && count == 0 && live <= self.most.max(2);
        let often = match open {
            true => self.often,
            false => 8 * self.often,
        };
        let drawn = live < self.most && self.world.random(often) == 0;
        if !wanted && !drawn {
            return None;
        }
        let kind = match !wanted && self.world.random(2) == 0 {
            true => self.fitting(self.draw()),
            false => rarest,
        };
        self.world.lock().pairs.count(number, kind);
        Some(self.start(kind))
    }
}

impl Chooser<Kind> for Plan {
    fn next(
        &mut self,
        running: Option<Standing<Kind>>,
        suspended: &[Standing<Kind>],
    ) -> Next<Kind> {
        let able: Vec<u64> = suspended
            .iter()
            .filter(|one| !one.stuck)
            .map(|one| one.id)
            .collect();
        let resume = |world: &World| Next::Resume(able[world.random(able.len() as u64) as usize]);
        let Some(running) = running else {
            if suspended.is_empty() {
                return self.start_first();
            }
            let next = self.start_next(suspended.len());
            return next.unwrap_or_else(|| resume(&self.world));
        };
        if running.kind == Kind::Alone {
            return Next::GoOn;
        }
        if running.stuck {
            return resume(&self.world);
        }
        if let Some(next) = self.start_at(running.place, suspended.len() + 1) {
            return next;
        }
        if !able.is_empty() && self.world.random(self.often) == 0 {
            return resume(&self.world);
        }
        Next::GoOn
    }
}
