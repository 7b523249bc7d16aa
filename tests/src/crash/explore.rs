//! Explores one seed: a run, every crash point of its last part, images of each, and the restarts that follow.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use rb_format::{FORMAT_BLOCK, Geometry};
use rb_io::OpKind;
use rb_testkit::values::next_number;
use rb_testkit::{CrashImage, CrashPoints, Recorded};

use super::check::{Crash, audit};
use super::history::Step;
use super::images::{choices, states_of, states_of_image};
use super::legal::Legal;
use super::pairs::Pairs;
use super::plan::{Fact, Facts, Plan};
use super::states::{State, States};
use super::world::{Trace, World};

/// Maximum number of consecutive restarts.
const DEPTH_MAX: u32 = 4;
/// Maximum number of operations before the recorded part of a run.
const BEFORE_MAX: u64 = 1500;

/// Hashes of images that any run has tried.
pub(super) type Distinct = Mutex<HashSet<u64>>;

/// Results of a seed.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) points: u64,
    pub(super) images: u64,
    pub(super) distinct: u64,
    pub(super) restarts: u64,
    pub(super) states: States,
    pub(super) pairs: Pairs,
    pub(super) violation: Option<String>,
}

pub(super) struct Explorer<'a> {
    pub(super) distinct: &'a Distinct,
    pub(super) tally: Tally,
    pub(super) random: u64,
    pub(super) trace: Option<Trace>,
}

impl Explorer<'_> {
    /// Runs everything that one seed decides.
    pub(super) fn run(&mut self, seed: u64) {
        self.random = seed;
        let world = World::new(seed, self.trace.clone());
        // State of the run when exploring begins: a log that has wrapped, full classes, …
        let eager = [0, 4, 1][self.below(3) as usize];
        match self.below(3) {
            0 => self.fill_log(&world),
            1 => self.lap_log(&world),
            _ => {}
        }
        Plan::new(&world, self.below(BEFORE_MAX), eager).run();
        if !self.collect(&world) {
            return;
        }
        if seed.is_multiple_of(2) {
            self.lap_log(&world);
        }
        world.device.record();
        let from = world.device.recorded();
        {
            let mut inside = world.lock();
            inside.oracle.start_history();
            inside.pending = from;
        }
        if seed.is_multiple_of(2) {
            // Several blocks in one commit, across the end of the ring.
            (0..6).for_each(|_| world.put(5));
            world.commit();
        }
        let facts = Facts::default();
        let plan = Plan::new(&world, 8 + self.below(24), eager);
        plan.with_facts(&facts).run();
        match seed % 16 {
            5 => world.format_again(),
            9 => world.empty(),
            _ => {}
        }
        if self.collect(&world) {
            let facts = facts.lock().unwrap_or_else(PoisonError::into_inner);
            self.explore(&world, from, &facts);
        }
        if self.tally.violation.is_none() {
            self.rot(&world);
        }
        if self.tally.violation.is_none() && seed.is_multiple_of(4) {
            self.err_by_chance(&world);
        }
    }

    /// Puts and commits without a checkpoint, until there is no space for a record.
    fn fill_log(&mut self, world: &World) {
        for _ in 0..100 {
            if world.lock().log_was_full {
                return;
            }
            world.put(5);
            world.commit();
        }
    }

    /// Advances to the last blocks of the ring, so that the next commits wrap.
    fn lap_log(&mut self, world: &World) {
        let Some(places) = world.places() else { return };
        for _ in 0..100 {
            let ops = world.device.log();
            let mut writes = ops.iter().rev().filter(|op| op.op == OpKind::Write);
            let last = writes.find(|op| places.log.contains(&op.offset));
            if last.is_some_and(|op| places.log.end - op.offset <= 2 * FORMAT_BLOCK as u64) {
                return;
            }
            world.put(5);
            world.commit();
            world.checkpoint_if_due();
        }
    }

    /// Takes over the states that a world has reached; returns false if it has a violation.
    pub(super) fn collect(&mut self, world: &World) -> bool {
        let (states, pairs) = {
            let mut inside = world.lock();
            let states = std::mem::take(&mut inside.states);
            (states, std::mem::take(&mut inside.pairs))
        };
        self.tally.states.add(&states);
        self.tally.pairs.add(&pairs);
        if let (Some(why), None) = (world.violation(), &self.tally.violation) {
            self.tally.violation = Some(why);
        }
        self.tally.violation.is_none()
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        next_number(&mut self.random) % limit.max(1)
    }

    /// Explores every crash point from `from` on.
    fn explore(&mut self, world: &World, from: usize, facts: &[Fact]) {
        let Some(mut points) = world.device.crash_points() else {
            return;
        };
        while points.at() < from && points.advance() {}
        loop {
            self.tally.points += 1;
            let at = points.at();
            let step = Step::try_from(at).unwrap_or(Step::MAX);
            let legal = legal_at(world, &points);
            let known = facts.partition_point(|(steps, _)| *steps <= at);
            let mut states = known
                .checked_sub(1)
                .map_or(Vec::new(), |n| facts[n].1.clone());
            let places = world.places();
            if let Some(places) = &places {
                states.extend(states_of(&points, places));
            }
            states.extend((legal.or_empty && !legal.or_no_store).then_some(State::StartEmpty));
            states.extend(legal.or_no_store.then_some(State::Format));
            // One copy may rot at any later time, so both must be durable before the store counts
            // as present.
            let is_there = !legal.or_empty && !legal.or_no_store;
            if is_there && states.contains(&State::Superblock) {
                let why =
                    format!("a store is there, and a superblock copy is not durable, at step {at}");
                self.tally.violation = Some(why);
                return;
            }
            self.reach_all(states);
            let crash = Crash {
                world,
                at: step,
                legal: &legal,
            };
            let log = places.as_ref().map_or(0..0, |places| places.log.clone());
            for kept in choices(&points, &log, &mut self.random) {
                let states = match &places {
                    Some(places) => states_of_image(&points, &kept, places),
                    None => Vec::new(),
                };
                let gap = states.contains(&State::LogGap);
                self.reach_all(states);
                self.crash(&crash, &points.image(&kept), 1, gap);
                self.collect(world);
                if let Some(why) = &mut self.tally.violation {
                    why.push_str(&format!("; crash at step {at}, kept {kept:?}"));
                    return;
                }
            }
            if !points.advance() {
                return;
            }
        }
    }

    fn reach_all(&mut self, states: Vec<State>) {
        for state in states {
            self.tally.states.reach(state);
        }
    }

    /// Opens what a crash left, checks it, and sometimes continues from there. After a `gap` in the log it always
    /// continues.
    fn crash(&mut self, crash: &Crash<'_>, image: &CrashImage, depth: u32, gap: bool) {
        self.tally.images += 1;
        let seen = {
            let mut distinct = self.distinct.lock().unwrap_or_else(PoisonError::into_inner);
            !distinct.insert(image.hash())
        };
        if seen {
            return;
        }
        self.tally.distinct += 1;
        let Crash { world, at, legal } = crash;
        if depth == 1 && !legal.or_no_store && self.below(4) == 0 {
            audit(world, image);
        }
        let seed = next_number(&mut self.random);
        let child = world.crashed(image, *at, (*legal).clone(), seed);
        let goes_on = depth < DEPTH_MAX && (gap || self.below(5) == 0);
        // Sometimes nothing is read, so that the next crash finds unverified entries.
        let reads = !goes_on || gap || legal.or_empty || self.below(2) == 0;
        self.tally.restarts += 1;
        // Opening checks the order of the log, because a simulator is set.
        let opens = crash.open(&child, reads);
        let opened_at = child.device.recorded();
        if !self.collect(&child) || !opens || !goes_on {
            return;
        }
        if gap {
            // One block, at the position of the lost one.
            child.put(1);
            child.sync();
        } else {
            Plan::new(&child, self.below(10), 4).run();
        }
        if !self.collect(&child) {
            return;
        }
        self.tally.states.reach_if(State::ThirdRestart, depth >= 2);
        self.crash_again(&child, opened_at, depth + 1);
    }

    /// Explores some crash points of a store that a crash left: in its recovery, and later.
    fn crash_again(&mut self, world: &Arc<World>, opened_at: usize, depth: u32) {
        let Some(mut points) = world.device.crash_points() else {
            return;
        };
        let end = points.steps().len() as u64;
        let mut wanted = [self.below(opened_at as u64 + 1), self.below(end + 1), end];
        wanted.sort_unstable();
        for at in wanted {
            while (points.at() as u64) < at && points.advance() {}
            let at = points.at();
            self.tally.points += 1;
            if at < opened_at {
                self.tally.states.reach(State::RecoveryAgain);
            }
            let step = Step::try_from(at).unwrap_or(Step::MAX);
            let legal = legal_at(world, &points);
            let crash = Crash {
                world,
                at: step,
                legal: &legal,
            };
            let log = world.places().map_or(0..0, |places| places.log);
            let mut all = choices(&points, &log, &mut self.random);
            for _ in 0..2 {
                let kept = all.swap_remove(self.below(all.len() as u64) as usize);
                self.crash(&crash, &points.image(&kept), depth, false);
                if let Some(why) = &mut self.tally.violation {
                    why.push_str(&format!("; crash {depth} at step {at}, kept {kept:?}"));
                    return;
                }
                if all.is_empty() {
                    break;
                }
            }
        }
    }
}

/// Returns what a crash at this point may leave.
fn legal_at(world: &World, points: &CrashPoints) -> Legal {
    let (geometry, pending) = {
        let inside = world.lock();
        (inside.layout.as_ref().map(Geometry::new), inside.pending)
    };
    let at = points.at();
    // True if no flush came between the last write before a step, anywhere in a slot, and the crash.
    // The header and the payload of a further slot are two writes.
    let loses = |slot: u32, before: Step| {
        let slot_at = |offset| {
            geometry
                .as_ref()
                .and_then(|geometry| geometry.slot_at(offset))
        };
        let before = usize::try_from(before).unwrap_or(pending);
        let (done, _) = points.steps().split_at(at);
        let is_slot = |step: &Recorded| matches!(step, Recorded::Write(write) if slot_at(write.offset) == Some(slot));
        let Some(written) = done[..before.min(at)].iter().rposition(is_slot) else {
            return false;
        };
        let mut later = 0;
        !done[written + 1..].iter().any(|step| match step {
            Recorded::Write(_) => {
                later += 1;
                false
            }
            Recorded::Flush { uncovered } => later >= *uncovered,
            Recorded::Change(_) => false,
        })
    };
    let step = Step::try_from(at).unwrap_or(Step::MAX);
    world.lock().oracle.legal_at(step, &loses)
}
