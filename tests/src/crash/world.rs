//! A store on a simulated device, its oracle, and one source of randomness for both.
//!
//! Operations run one at a time, each in its own thread (`schedule`), so the seed determines a run exactly.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rb_core::{Durability, ManualClock, Pin, Store, Superblock};
use rb_testkit::MemDevice;
use rb_testkit::values::next_number;

use super::history::Step;
use super::oracle::Oracle;
use super::pairs::{Kind, Pairs};
use super::places::Places;
use super::states::{State, States};
use super::version::Version;
use crate::schedule::{Baton, Outcome, Place};

/// Receives a description of every operation and change of a run.
pub type Trace = Arc<dyn Fn(&str) + Send + Sync>;

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) device: Arc<MemDevice>,
    pub(super) baton: Arc<Baton<Kind>>,
    pub(super) clock: Arc<ManualClock>,
    inside: Mutex<Inside>,
    pub(super) trace: Option<Trace>,
    pub(super) me: Weak<World>,
    /// World and step of the crash that left the device.
    pub(super) parent: Option<(Arc<World>, Step)>,
}

pub(super) struct Inside {
    random: u64,
    pub(super) oracle: Oracle,
    pub(super) store: Option<Store>,
    /// Number of sessions so far.
    pub(super) opening: u64,
    /// True while the store is being closed.
    pub(super) closing: bool,
    /// Keys of which the last opening found an illegal entry.
    pub(super) illegal: Vec<usize>,
    /// True if the validator may have more to do.
    pub(super) validates: bool,
    pub(super) next_version: Version,
    pub(super) locks: Vec<Locked>,
    /// Slots that evictions gave to each operation that is under way.
    pub(super) given: HashSet<(Option<u64>, u32)>,
    /// Pending change of each operation, by operation and key.
    pub(super) writes: HashMap<(Option<u64>, usize), Writing>,
    pub(super) states: States,
    pub(super) pairs: Pairs,
    pub(super) violation: Option<String>,
    pub(super) layout: Option<Superblock>,
    /// True if the device fails at random, so that operations may return errors.
    pub(super) faulty: bool,
    /// True if bytes were damaged that an entry may need.
    pub(super) rotten: bool,
    /// True if there are evictions that no sync covers.
    pub(super) evicted: bool,
    pub(super) log_was_full: bool,
    /// Writes that were pending when the recording began; they are its first steps.
    pub(super) pending: usize,
}

/// A lease that the run holds.
pub(super) struct Locked {
    pub(super) key: usize,
    pub(super) generation: u64,
    pub(super) slots: Vec<u32>,
    /// Held only to be dropped.
    pub(super) pin: Pin,
}

/// A change that an operation requested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writing {
    pub(super) version: Version,
    pub(super) each_batch: bool,
    /// State of the key that the change made.
    pub(super) made: Option<usize>,
    /// True if there was a value before.
    pub(super) was_there: bool,
}

/// A store that an operation uses.
pub(super) struct Held {
    pub(super) store: Store,
    pub(super) opening: u64,
}

impl World {
    pub(super) fn on(
        device: Arc<MemDevice>,
        oracle: Oracle,
        next_version: Version,
        seed: u64,
        trace: Option<Trace>,
        parent: Option<(Arc<World>, Step)>,
    ) -> Arc<World> {
        let world = Arc::new_cyclic(|me| World {
            seed,
            device,
            baton: Arc::default(),
            clock: Arc::default(),
            inside: Mutex::new(Inside {
                random: seed,
                oracle,
                store: None,
                opening: 0,
                closing: false,
                illegal: Vec::new(),
                validates: false,
                next_version,
                locks: Vec::new(),
                given: HashSet::new(),
                writes: HashMap::new(),
                states: States::default(),
                pairs: Pairs::default(),
                violation: None,
                layout: None,
                faulty: false,
                rotten: false,
                evicted: false,
                log_was_full: false,
                pending: 0,
            }),
            trace,
            me: Weak::clone(me),
            parent,
        });
        let baton = Arc::clone(&world.baton);
        world
            .device
            .observe(move |moment, _| baton.reach(Place::Device(moment)));
        world
    }

    /// The guard must be dropped before the store is called: the store reports changes to the world.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inside> {
        // A panic of the store is recorded as a violation elsewhere.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a number below `below`, the next of the run's sequence.
    pub(super) fn random(&self, below: u64) -> u64 {
        next_number(&mut self.lock().random) % below.max(1)
    }

    /// Records a violation of the contract; only the first counts.
    pub(super) fn fail(&self, words: String) {
        self.trace(|| format!("VIOLATION {words}"));
        self.lock().violation.get_or_insert(words);
    }

    /// Records an error as a violation, unless the oracle knows too little.
    pub(super) fn check<T>(&self, outcome: Result<T, String>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(words) => {
                if !self.lock().oracle.loose {
                    self.fail(words);
                }
                None
            }
        }
    }

    /// Explains why a crash at this step must not have left this version of the key.
    pub(super) fn explain(&self, at: Step, key: usize, found: Version) -> String {
        let inherited = self.lock().oracle.is_inherited(at);
        match &self.parent {
            Some((parent, at)) if inherited => parent.explain(*at, key, found),
            _ => self.lock().oracle.explain(at, key, found),
        }
    }

    pub(super) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    /// Records panics of operations and deadlocks as violations.
    pub(super) fn judge_run(&self, outcome: Outcome) {
        for words in outcome.failures {
            self.fail(words);
        }
    }

    pub(super) fn trace(&self, words: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let operation = match self.baton.current() {
                Some(id) => format!("#{id}"),
                None => String::new(),
            };
            let step = self.device.recorded();
            trace(&format!("{step:5} {operation:>5} {}", words()));
        }
    }

    pub(super) fn reach(&self, state: State, reached: bool) {
        self.lock().states.reach_if(state, reached);
    }

    /// Returns the number of the device's steps so far.
    pub(super) fn now(&self) -> Step {
        Step::try_from(self.device.recorded()).unwrap_or(Step::MAX)
    }

    /// Calls the oracle with the current step of the device.
    pub(super) fn record<T>(&self, change: impl FnOnce(&mut Oracle, Step) -> T) -> T {
        let now = self.now();
        change(&mut self.lock().oracle, now)
    }

    /// Returns the store, if it is open.
    pub(super) fn held(&self) -> Option<Held> {
        let inside = self.lock();
        let store = inside.store.clone()?;
        let opening = inside.opening;
        Some(Held { store, opening })
    }

    pub(super) fn store(&self) -> Option<Store> {
        self.held().map(|held| held.store)
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().store.is_some()
    }

    /// Drops the store and every lease on it, without holding a lock: the drops may notify the observer.
    pub(super) fn shut(&self) {
        let locks = std::mem::take(&mut self.lock().locks);
        drop(locks);
        let store = self.lock().store.take();
        drop(store);
    }

    /// Returns the durability of removes, and of puts that do not ask for another one.
    pub(super) fn durability(&self) -> Durability {
        match self.seed % 8 {
            0 => Durability::EachBatch,
            _ => Durability::Interval,
        }
    }

    /// Returns whether removes complete only once they are durable.
    pub(super) fn removes_each_batch(&self) -> bool {
        self.durability() == Durability::EachBatch
    }

    /// Returns whether freed slots are discarded.
    pub(super) fn discards(&self) -> bool {
        !self.seed.is_multiple_of(3)
    }

    /// Returns the locations on the device.
    pub(super) fn places(&self) -> Option<Places> {
        let inside = self.lock();
        inside.layout.as_ref().map(Places::new)
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
