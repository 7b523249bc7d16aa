//! Draws from a run's seed which operation goes on, or begins, at every place.

use std::sync::{Arc, Mutex, PoisonError};

use rb_core::HeldLock;

use super::pairs::{Kind, Pairs};
use super::states::State;
use super::world::World;
use crate::schedule::{Chooser, Next, Place, Standing};

/// How often each sort of operation begins if nothing else asks for one, in all 100.
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

/// What is known of the store at a step of the device.
pub(super) type Fact = (usize, Vec<State>);

/// A part of a run.
pub(super) struct Plan {
    world: Arc<World>,
    /// Operations still to begin.
    left: u64,
    /// Operations at the same time, at most.
    most: usize,
    /// One place in so many is used to switch.
    often: u64,
    /// One checkpoint in so many is written when it is due; 0: none.
    eager: u64,
    /// Whether a checkpoint may be due was looked at since the last operation.
    looked: bool,
    /// More operations than a look at what a crash left.
    is_long: bool,
    /// One operation in so many is alone; 0: none.
    alone: u64,
    /// What is known at each beginning, if that is wanted.
    facts: Option<Facts>,
    /// What a device that errs takes.
    faulty: bool,
}

/// Collects facts; they are taken when the run has ended.
pub(super) type Facts = Arc<Mutex<Vec<Fact>>>;

impl Plan {
    /// `count` operations, with the habits that the world's seed gives them.
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

    /// On a device that errs, only operations that may fail.
    pub(super) fn faulty(self) -> Plan {
        Plan {
            faulty: true,
            alone: 0,
            ..self
        }
    }

    /// Runs it; what goes wrong is a violation of the world.
    pub(super) fn run(self) {
        let world = Arc::clone(&self.world);
        let outcome = world.baton.run(self);
        world.judge_run(outcome);
    }

    fn draw(&self) -> Kind {
        // There is little time in which entries are still validated, and few discards find anything.
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

    /// A sort of operation that has something to do now.
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

    /// The sort that began least often at a place of this run, and how often. Between equals the seed decides; in a long
    /// run one that seldom has something to do comes first.
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

    /// An operation has ended, and others are suspended.
    fn start_next(&mut self, live: usize) -> Option<Next<Kind>> {
        let open = self.world.is_open() && !self.world.lock().closing;
        let starts = open && self.left > 0 && live < self.most;
        if !starts || self.world.random(2) == 0 {
            return None;
        }
        let kind = self.fitting(self.draw());
        Some(self.start(kind))
    }

    /// No operation is under way.
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

    /// Perhaps a new operation, at a place of the running one.
    fn start_at(&mut self, place: Place, live: usize) -> Option<Next<Kind>> {
        if self.left == 0 || !self.world.is_open() {
            return None;
        }
        let number = Pairs::number(place)?;
        let closing = self.world.lock().closing;
        // What begins in a close is refused, so little of it is enough.
        let open = match place {
            Place::At(point) => !closing || point.holds().contains(&HeldLock::Close),
            _ => !closing,
        };
        // Each sort begins as soon as it can where it never did, then as drawn.
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
