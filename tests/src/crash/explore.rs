//! One seed: a run, every crash point of its last part, images of each, and what follows.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use rb_core::{AuditOptions, OpenError, audit_engine};
use rb_format::FORMAT_BLOCK;
use rb_io::OpKind;
use rb_testkit::values::next_number;
use rb_testkit::{CrashImage, MemEngine};

use super::images::{choices, states_of, states_of_image};
use super::oracle::{ABSENT, KEYS, Legal, Oracle};
use super::states::{State, States};
use super::world::{World, name};

/// Restarts in a row, at most.
const DEPTH_MAX: u32 = 4;

/// Images that any run has tried.
pub(super) type Distinct = Mutex<HashSet<u64>>;

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) points: u64,
    pub(super) images: u64,
    pub(super) distinct: u64,
    pub(super) restarts: u64,
    pub(super) states: States,
    pub(super) violation: Option<String>,
}

pub(super) struct Explorer<'a> {
    pub(super) distinct: &'a Distinct,
    pub(super) tally: Tally,
    pub(super) random: u64,
    pub(super) trace: bool,
}

impl Explorer<'_> {
    /// Everything that one seed decides.
    pub(super) fn run(&mut self, seed: u64) {
        self.random = seed;
        let world = World::new(seed, self.trace);
        // Where the run is when exploring begins: a log that has wrapped, full classes, …
        let eager = self.below(3);
        match self.below(3) {
            0 => self.fill_log(&world),
            1 => self.lap_log(&world),
            _ => {}
        }
        for _ in 0..self.below(100) {
            self.step(&world, eager);
        }
        if seed.is_multiple_of(2) {
            self.lap_log(&world);
        }
        world.device.record();
        world.lock().oracle.start_history();
        let from = world.device.recorded();
        let mut facts = Vec::new();
        if seed.is_multiple_of(2) {
            // Several blocks in one commit, over the ring's end.
            (0..6).for_each(|_| world.put(5, false));
            world.commit();
        }
        for _ in 0..8 + self.below(24) {
            facts.push((world.device.recorded(), self.facts(&world)));
            self.step(&world, eager);
        }
        if self.collect(&world) {
            self.explore(&world, from, &facts);
        }
        if self.tally.violation.is_none() {
            self.rot(&world);
        }
        if self.tally.violation.is_none() && seed.is_multiple_of(4) {
            self.err_by_chance(&world);
        }
    }

    /// Puts and commits without a checkpoint, until there is no room for a record.
    fn fill_log(&mut self, world: &World) {
        for _ in 0..100 {
            if world.lock().log_was_full {
                return;
            }
            world.put(5, true);
            world.commit();
        }
    }

    /// Goes round the ring to its last blocks, so that the next commits wrap.
    fn lap_log(&mut self, world: &World) {
        let Some(places) = world.places() else { return };
        for _ in 0..100 {
            let ops = world.device.log();
            let mut writes = ops.iter().rev().filter(|op| op.op == OpKind::Write);
            let last = writes.find(|op| places.log.contains(&op.offset));
            if last.is_some_and(|op| places.log.end - op.offset <= 2 * FORMAT_BLOCK as u64) {
                return;
            }
            world.put(5, true);
            world.commit();
            world.checkpoint_if_due();
        }
    }

    /// A step of a run; `eager` runs checkpoints as they are due, sometimes or never.
    fn step(&mut self, world: &World, eager: u64) {
        let work = || {
            world.step();
            if eager == 2 || eager == 1 && world.random(4) == 0 {
                world.checkpoint_if_due();
            }
        };
        if let Err(why) = catch_unwind(AssertUnwindSafe(work)) {
            world.fail(format!("a panic: {}", words(why.as_ref())));
        }
    }

    /// Takes over what a world has seen; false if that was a violation.
    pub(super) fn collect(&mut self, world: &World) -> bool {
        let states = std::mem::take(&mut world.lock().states);
        self.tally.states.add(&states);
        if let (Some(why), None) = (world.violation(), &self.tally.violation) {
            self.tally.violation = Some(why);
        }
        self.tally.violation.is_none()
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        next_number(&mut self.random) % limit.max(1)
    }

    /// What can be said of the store between two steps.
    fn facts(&self, world: &World) -> Vec<State> {
        let mut facts = Vec::new();
        let Some(store) = world.store() else {
            return facts;
        };
        let mut reach = |state, reached: bool| facts.extend(reached.then_some(state));
        let stats = store.stats();
        reach(
            State::ClassFull,
            stats.index.classes.iter().any(|class| class.free == 0),
        );
        reach(
            State::Quarantined,
            stats
                .index
                .classes
                .iter()
                .any(|class| class.quarantined > 0),
        );
        reach(State::Discarded, stats.discard.slots > 0);
        let mut unproven = false;
        store.for_each(|entry| {
            unproven |= !entry.proven;
            !unproven
        });
        reach(State::Unproven, unproven);
        let inside = world.lock();
        reach(State::Evicted, inside.evicted);
        reach(State::Leased, !inside.locks.is_empty());
        reach(State::LogFull, inside.log_was_full);
        drop(inside);
        let written: u64 = world.places().map_or(0, |places| {
            let ops = world.device.log();
            let writes = ops.iter().filter(|op| places.log.contains(&op.offset));
            writes
                .filter(|op| op.op == OpKind::Write)
                .map(|op| u64::from(op.len))
                .sum()
        });
        let ring = world
            .places()
            .map_or(u64::MAX, |places| places.log.end - places.log.start);
        reach(State::LogLapped, written > ring);
        facts
    }

    /// Every crash point from `from` on.
    fn explore(&mut self, world: &World, from: usize, facts: &[(usize, Vec<State>)]) {
        let Some(mut points) = world.device.crash_points() else {
            return;
        };
        while points.at() < from && points.advance() {}
        loop {
            self.tally.points += 1;
            let at = points.at();
            let legal = world.lock().oracle.legal_at(at);
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
            // One copy may rot any time later, so both are durable before a store is said to be there.
            let is_there = !legal.or_empty && !legal.or_no_store;
            if is_there && states.contains(&State::Superblock) {
                let why =
                    format!("a store is there, and a superblock copy is not durable, at step {at}");
                self.tally.violation = Some(why);
                return;
            }
            states
                .into_iter()
                .for_each(|state| self.tally.states.reach(state));
            let log = places.as_ref().map_or(0..0, |places| places.log.clone());
            for kept in choices(&points, &log, &mut self.random) {
                let states = match &places {
                    Some(places) => states_of_image(&points, &kept, places),
                    None => Vec::new(),
                };
                let gap = states.contains(&State::LogGap);
                states
                    .into_iter()
                    .for_each(|state| self.tally.states.reach(state));
                self.crash(world, &points.image(&kept), at, &legal, 1, gap);
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

    /// Opens what a crash left, checks it, and sometimes goes on from there.
    /// After a `gap` in the log it goes on in any case.
    fn crash(
        &mut self,
        world: &World,
        image: &CrashImage,
        at: usize,
        legal: &Legal,
        depth: u32,
        gap: bool,
    ) {
        self.tally.images += 1;
        let seen = {
            let mut distinct = self.distinct.lock().unwrap_or_else(PoisonError::into_inner);
            !distinct.insert(image.hash())
        };
        if seen {
            return;
        }
        self.tally.distinct += 1;
        if depth == 1 && !legal.or_no_store && self.below(4) == 0 {
            audit(world, image);
        }
        let seed = next_number(&mut self.random);
        let child = world.crashed(image, at, legal.clone(), seed);
        let goes_on = depth < DEPTH_MAX && (gap || self.below(5) == 0);
        // Sometimes nothing is read, so that the next crash finds entries that nobody has proven.
        let reads = !goes_on || gap || legal.or_empty || self.below(2) == 0;
        let opens = self.open_after_crash(&child, legal, reads);
        let opened_at = child.device.recorded();
        if !self.collect(&child) || !opens || !goes_on {
            return;
        }
        if gap {
            // One block, where the lost one was.
            child.put(1, false);
            child.sync();
        } else {
            (0..self.below(10)).for_each(|_| self.step(&child, 1));
        }
        if !self.collect(&child) {
            return;
        }
        self.tally.states.reach_if(State::ThirdRestart, depth >= 2);
        self.crash_again(&child, opened_at, depth + 1);
    }

    /// Some crash points of a store that a crash left: in its recovery, and later.
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
            let legal = world.lock().oracle.legal_at(at);
            let log = world.places().map_or(0..0, |places| places.log);
            let mut all = choices(&points, &log, &mut self.random);
            for _ in 0..2 {
                let kept = all.swap_remove(self.below(all.len() as u64) as usize);
                self.crash(world, &points.image(&kept), at, &legal, depth, false);
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

    /// Opens a store after a crash and checks what is there. False if there is none, legally.
    pub(super) fn open_after_crash(&mut self, world: &World, legal: &Legal, reads: bool) -> bool {
        self.tally.restarts += 1;
        let opened = catch_unwind(AssertUnwindSafe(|| world.open(|_| {})));
        match opened {
            Err(why) => world.fail(format!("a panic: {}", words(why.as_ref()))),
            Ok(Err(OpenError::NotAStore { .. } | OpenError::Superblock { .. }))
                if legal.or_no_store =>
            {
                return false;
            }
            Ok(Err(why)) => world.fail(format!("opening after a crash: {why}")),
            Ok(Ok(())) => self.check(world, legal, reads),
        }
        true
    }

    fn check(&mut self, world: &World, legal: &Legal, reads: bool) {
        let Some(store) = world.store() else { return };
        let report = store.recovery();
        if let Some(lost) = &report.lost_metadata {
            world.fail(format!("a crash lost the metadata: {lost}"));
        }
        // A torn header is no base yet. A sound one must name what is there.
        if let Some(why) = report
            .base_damage
            .iter()
            .find(|why| !why.contains(": header"))
        {
            world.fail(format!("a crash left a base that is not whole: {why}"));
        }
        world.reach(State::OlderBase, !report.base_damage.is_empty());
        world.reach(State::Closed, report.clean && report.log_records > 0);
        if reads {
            let check = || check_all(world, legal);
            if let Err(why) = catch_unwind(AssertUnwindSafe(check)) {
                world.fail(format!("a panic: {}", words(why.as_ref())));
            }
        }
        if let Err(why) = store.audit() {
            world.fail(format!("accounting after a crash: {why}"));
        }
    }
}

/// What a crash leaves is never called damage: an audit that cries wolf is not read.
fn audit(world: &World, image: &CrashImage) {
    if world.lock().rotten {
        return;
    }
    let deep = AuditOptions {
        deep: true,
        ..AuditOptions::default()
    };
    match audit_engine(Arc::new(MemEngine::new(image.device())), &deep) {
        Ok(report) if report.damages == 0 => {}
        Ok(report) => world.fail(format!("a crash was called damage: {report:?}")),
        Err(why) => world.fail(format!("a crash cannot be audited: {why}")),
    }
}

/// Reads every key: each must be what the crash may have left.
pub(super) fn check_all(world: &World, legal: &Legal) {
    let Some(store) = world.store() else { return };
    let mut found = Vec::new();
    for key in 0..KEYS {
        let version = match store.get(&name(key)) {
            Ok(Some(value)) => world.identify(key, &value, value.generation()),
            Ok(None) => Some(ABSENT),
            Err(error) => {
                world.fail(format!("get of key {key} after a crash: {error}"));
                None
            }
        };
        found.push(version.unwrap_or(ABSENT));
    }
    if legal.or_empty && found.iter().all(|version| *version == ABSENT) {
        return world.tell(Oracle::emptied);
    }
    world.tell(Oracle::is_there);
    for (key, version) in found.into_iter().enumerate() {
        let set = &legal.keys[key];
        world.trace(|| format!("after the crash key {key} is v{version}, legal {set:?}"));
        if !world.tell(|oracle| oracle.found(key, version)) {
            world.fail(format!(
                "after a crash key {key} is version {version}, legal {set:?}"
            ));
        }
        let unsure = set.len() > 1;
        world.reach(State::UnsyncedKept, unsure && Some(&version) == set.last());
        world.reach(State::UnsyncedLost, unsure && Some(&version) != set.last());
    }
}

/// What a panic said.
fn words(why: &(dyn std::any::Any + Send)) -> String {
    let text = why.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| why.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".to_owned())
}
