//! Runs the operations of one configuration step by step, as a schedule says.

use std::sync::Arc;

use rb_core::{HeldLock, Store, SwitchPoint};
use rb_testkit::CrashPoints;

use super::config::{Config, Operation};
use super::failure::Failure;
use super::fiber::{Fiber, Stacks, Stood};
use super::observed::{Before, observed};
use super::prepared::{Policy, Prepared, open};
use super::running::Running;
use super::values::{name, value};
use super::world::World;
use crate::schedule::{Place, Wait};

/// Number of rounds in which suspended operations must end.
const ROUNDS_MAX: u32 = 10_000;

pub(super) struct Execution {
    pub(super) world: Arc<World>,
    pub(super) points: CrashPoints,
    pub(super) store: Store,
    fibers: Vec<Option<Fiber>>,
}

impl Execution {
    /// Opens a store over the initial contents, with no operation begun.
    ///
    /// # Errors
    /// If the store does not open.
    pub(super) fn new(
        prepared: &Prepared,
        config: &Config,
        trace: bool,
    ) -> Result<Execution, String> {
        let (device, mut points) = prepared.image(config.initial).recording();
        let world = World::new(config, trace);
        let policy = Policy {
            each_batch: config.is_each_batch(),
            refuses: config.refuses,
        };
        let store = open(&device, policy, Some(&world));
        let store = store.map_err(|why| format!("the store does not open: {why}"))?;
        if config.refuses {
            // With two bases of its own, a store knows of which keys nothing can return.
            for _ in 0..2 {
                let written = store.checkpoint();
                written.map_err(|why| format!("no base can be written: {why}"))?;
            }
        }
        world.opened(&store);
        let hooks = Arc::clone(&world);
        device.observe(move |moment, requests| hooks.device(moment, requests));
        points.catch_up();
        Ok(Execution {
            fibers: config.operations.iter().map(|_| None).collect(),
            world,
            points,
            store,
        })
    }

    /// Returns the operations that can do a step. Of equal operations the first begins first: every other order only
    /// swaps their values, and nothing depends on the bytes of a value.
    pub(super) fn enabled(&self) -> Vec<usize> {
        let inside = self.world.lock();
        let all = &inside.operations;
        let goes_on = |running: &Running| !running.ended && running.goes_on();
        if let Some(at) = all.iter().position(goes_on) {
            return vec![at];
        }
        let begins_later = |at: usize| {
            let mut before = all[..at].iter();
            !all[at].began
                && before.any(|other| !other.began && other.operation == all[at].operation)
        };
        (0..all.len())
            .filter(|at| !all[*at].ended && !begins_later(*at) && !is_stuck(all, *at))
            .collect()
    }

    /// Returns the violation so far, if any, with this schedule.
    pub(super) fn verdict(&self, schedule: &[usize]) -> Result<(), Failure> {
        let violation = self.world.lock().violation.clone();
        violation.map_or(Ok(()), |what| {
            Err(Failure {
                what,
                schedule: schedule.to_vec(),
                ..Failure::default()
            })
        })
    }

    /// Runs an operation to its next place. Returns a hash of everything it has seen of the store.
    pub(super) fn step(&mut self, stacks: &mut Stacks, at: usize) -> u64 {
        let running = self.world.lock().operations[at].clone();
        let before = Before::new(&self.store, &running);
        self.resume(stacks, at);
        let running = self.world.lock().operations[at].clone();
        if let Some(header) = before.header_made(&running) {
            self.world.lock().operations[at].observe(header);
        }
        // A wait sees nothing, however often it looks.
        if !matches!(running.place, Some(Place::Waits(_))) {
            let observed = observed(&self.store, before, &running);
            self.world.lock().operations[at].observe(observed);
        }
        self.world.lock().operations[at].observed
    }

    /// Runs an operation to its next place as in another execution, in which it had then seen `seen`.
    pub(super) fn repeat(&mut self, stacks: &mut Stacks, at: usize, seen: u64) {
        self.resume(stacks, at);
        self.world.lock().operations[at].observed = seen;
    }

    fn resume(&mut self, stacks: &mut Stacks, at: usize) {
        if self.fibers[at].is_none() {
            let (world, store) = (Arc::clone(&self.world), self.store.clone());
            self.fibers[at] = Some(stacks.fiber(move || world.operate(at, &store)));
        }
        self.world.lock().current = Some(at);
        let stood = self.fibers[at].as_mut().map(Fiber::resume);
        match stood {
            Some(Stood::At(place)) => self.world.trace(|| format!("stops at {place:?}")),
            Some(Stood::Ended) | None => {}
            Some(Stood::Panicked(words)) => {
                self.world.fail(format!("a panic: {words}"));
                self.world.lock().operations[at].ended = true;
            }
        }
        self.world.lock().current = None;
        if self.world.lock().operations[at].ended {
            self.fibers[at]
                .take()
                .into_iter()
                .for_each(|fiber| stacks.give_back(fiber));
        }
        self.points.catch_up();
    }

    /// No operation can do a step: checks that all have ended, and that the store is sound and has what it should.
    pub(super) fn check_end(&self) {
        let inside = self.world.lock();
        if !inside.operations.iter().all(|running| running.ended) {
            drop(inside);
            return self.world.fail("a deadlock".into());
        }
        let closed = inside
            .operations
            .iter()
            .any(|running| running.operation == Operation::Close);
        let oracle = inside.oracle.clone();
        drop(inside);
        if let Err(why) = self.store.audit() {
            self.world
                .fail(format!("the accounting after the last operation: {why}"));
        }
        for key in (0..super::config::KEYS).filter(|_| !closed) {
            let wanted = oracle.current(key);
            let found = match self.store.get(&name(key)) {
                Ok(found) => found.map(|found| (found.to_vec(), found.generation())),
                Err(why) => return self.world.fail(format!("get of key {key}: {why}")),
            };
            let wanted = wanted.map(|(version, generation)| (value(version), generation));
            if found != wanted {
                let found = found.map(|(bytes, generation)| (bytes[1], generation));
                self.world.fail(format!(
                    "key {key} is {found:?} after the last operation, and should be {:?}",
                    oracle.current(key)
                ));
            }
        }
    }

    /// Runs everything that has begun to its end, and drops the store.
    pub(super) fn finish(mut self, stacks: &mut Stacks) {
        self.world.lock().ending = true;
        let begun = |execution: &Execution| -> Vec<usize> {
            let fibers = execution.fibers.iter().enumerate();
            fibers
                .filter_map(|(at, fiber)| fiber.as_ref().map(|_| at))
                .collect()
        };
        for _ in 0..ROUNDS_MAX {
            let left = begun(&self);
            if left.is_empty() {
                return;
            }
            left.into_iter().for_each(|at| self.resume(stacks, at));
        }
        // A deadlock. Operations that hold the store stay suspended.
        let fibers = std::mem::take(&mut self.fibers);
        fibers.into_iter().flatten().for_each(Fiber::abandon);
        std::mem::forget(self);
    }
}

/// Returns whether an operation waits for something that another one surely holds.
fn is_stuck(all: &[Running], at: usize) -> bool {
    let Some(Place::Waits(Wait::Lock(lock))) = all[at].place else {
        return false;
    };
    let mut others = all
        .iter()
        .enumerate()
        .filter(|(other, running)| *other != at && running.began && !running.ended);
    others.any(|(_, running)| match lock {
        HeldLock::Gate => !matches!(
            running.place,
            // A second close is not inside: it waits for the first.
            Some(Place::Waits(Wait::Lock(HeldLock::Gate | HeldLock::Close)))
        ),
        HeldLock::Close => running.operation == Operation::Close && running.place != all[at].place,
        lock => running
            .passed
            .is_some_and(|point: SwitchPoint| point.holds().contains(&lock)),
    })
}
