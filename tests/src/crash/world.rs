//! A store on a simulated device, its oracle, and one source of randomness for both.
//!
//! Operations run one at a time, in threads of their own (`schedule`), so a run is exact from its seed.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rb_core::{
    Background, ClassRequest, Durability, FormatOptions, Lock, ManualClock, OnLostMetadata,
    OpenError, Scrub, SeededRandom, Share, Store, StoreOptions, Superblock, format_engine,
};
use rb_io::Engine;
use rb_testkit::values::next_number;
use rb_testkit::{CrashImage, MemDevice, MemEngine};

use super::Trace;
use super::history::Step;
use super::legal::Legal;
use super::oracle::{KEYS, Oracle, Version};
use super::pairs::{Kind, Pairs};
use super::places::Places;
use super::states::{State, States};
use super::values::number;
use super::watch::Watch;
use crate::schedule::{Baton, Outcome, Place};

/// Slots of each of the two classes.
const SLOTS: u64 = 8;
/// Capacities of the classes in bytes.
pub(super) const CLASSES: [u64; 2] = [4096, 8192];
/// The smallest ring there is, so that it wraps and fills often.
const LOG_BYTES: u64 = 64 * 4096;
const KEY_LEN_MAX: u32 = 1024;

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) device: Arc<MemDevice>,
    pub(super) baton: Arc<Baton<Kind>>,
    pub(super) clock: Arc<ManualClock>,
    inside: Mutex<Inside>,
    trace: Option<Trace>,
    me: Weak<World>,
    /// Which world's crash left the device, and when.
    parent: Option<(Arc<World>, Step)>,
}

pub(super) struct Inside {
    random: u64,
    pub(super) oracle: Oracle,
    store: Option<Store>,
    /// Counts openings.
    pub(super) opening: u64,
    /// The store is being closed.
    pub(super) closing: bool,
    /// The keys of which the last opening found what cannot be.
    pub(super) illegal: Vec<usize>,
    /// The validator may have more to do.
    pub(super) validates: bool,
    pub(super) next_version: Version,
    pub(super) locks: Vec<Locked>,
    /// What each operation writes, by key.
    pub(super) writes: HashMap<(Option<u64>, usize), Writing>,
    pub(super) states: States,
    pub(super) pairs: Pairs,
    pub(super) violation: Option<String>,
    pub(super) layout: Option<Superblock>,
    /// The device errs, so operations may answer errors.
    pub(super) faulty: bool,
    /// Bytes were damaged that an entry may need.
    pub(super) rotten: bool,
    /// Evictions that no sync covers.
    pub(super) evicted: bool,
    pub(super) log_was_full: bool,
    /// Writes that were pending when the recording began, which are its first steps.
    pub(super) pending: usize,
}

/// A lease that the run holds.
pub(super) struct Locked {
    pub(super) key: usize,
    pub(super) generation: u64,
    pub(super) slot: Option<u32>,
    /// Held for its drop.
    pub(super) _lock: Lock,
}

/// A change that an operation has asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writing {
    pub(super) version: Version,
    pub(super) each_batch: bool,
    /// The state that it made of its key.
    pub(super) made: Option<usize>,
    /// Whether there was a value before.
    pub(super) was_there: bool,
}

/// A store as an operation found it.
pub(super) struct Held {
    pub(super) store: Store,
    pub(super) opening: u64,
}

impl World {
    /// A new store, formatted on a new device and open.
    pub(super) fn new(seed: u64, trace: Option<Trace>) -> Arc<World> {
        let classes = classes();
        let bytes = rb_format::device_bytes_for(&classes, KEY_LEN_MAX, 0, Some(LOG_BYTES));
        let device = MemDevice::new(bytes.unwrap_or_default());
        let world = World::on(device, Oracle::new(), 1, seed, trace, None);
        if let Err(why) = world.format() {
            world.fail(format!("format: {why}"));
        }
        if let Err(why) = world.open(|_| {}) {
            world.fail(format!("the first opening: {why}"));
        }
        world
    }

    /// What a crash left; not open yet.
    pub(super) fn crashed(
        &self,
        image: &CrashImage,
        at: Step,
        legal: Legal,
        seed: u64,
    ) -> Arc<World> {
        let inside = self.lock();
        let oracle = Oracle::after_crash(legal, inside.oracle.generations_at(at));
        let (trace, next) = (self.trace.clone(), inside.next_version);
        let parent = self.me.upgrade().map(|parent| (parent, at));
        let world = World::on(image.device(), oracle, next, seed, trace, parent);
        world.lock().layout = inside.layout.clone();
        world
    }

    fn on(
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
        // A panic of the store is caught as a violation elsewhere.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `below`, the next of the run's sequence.
    pub(super) fn random(&self, below: u64) -> u64 {
        next_number(&mut self.lock().random) % below.max(1)
    }

    /// Notes a violation of the contract; the first counts.
    pub(super) fn fail(&self, words: String) {
        self.trace(|| format!("VIOLATION {words}"));
        self.lock().violation.get_or_insert(words);
    }

    /// A violation, unless nothing is known.
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

    /// Why a crash at this step must not have left this version of the key.
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

    /// Panics of operations and deadlocks are violations.
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

    /// Steps of the device so far.
    pub(super) fn now(&self) -> Step {
        Step::try_from(self.device.recorded()).unwrap_or(Step::MAX)
    }

    /// Shows the oracle something, and the step of the device.
    pub(super) fn tell<T>(&self, change: impl FnOnce(&mut Oracle, Step) -> T) -> T {
        let now = self.now();
        change(&mut self.lock().oracle, now)
    }

    /// The store, if it is open.
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

    /// Drops the store and every lease on it, with no lock held: their end may be reported to the observer.
    pub(super) fn shut(&self) {
        let locks = std::mem::take(&mut self.lock().locks);
        drop(locks);
        let store = self.lock().store.take();
        drop(store);
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(MemEngine::new(Arc::clone(&self.device)))
    }

    pub(super) fn format(&self) -> Result<(), String> {
        let random = Arc::new(SeededRandom::new(self.random(u64::MAX)));
        let options = FormatOptions {
            key_len_max: KEY_LEN_MAX,
            log_bytes: Some(LOG_BYTES),
            formatted_at: 0,
            random,
            ..FormatOptions::new("", classes())
        };
        let superblock = format_engine(&self.engine(), &options).map_err(|why| why.to_string())?;
        self.lock().layout = Some(superblock);
        Ok(())
    }

    /// The durability of removes, and of puts that do not ask for another.
    fn durability(&self) -> Durability {
        match self.seed % 8 {
            0 => Durability::EachBatch,
            _ => Durability::Interval,
        }
    }

    /// Whether a remove is answered only when it is durable.
    pub(super) fn removes_each_batch(&self) -> bool {
        self.durability() == Durability::EachBatch
    }

    /// Whether freed slots are discarded.
    pub(super) fn discards(&self) -> bool {
        !self.seed.is_multiple_of(3)
    }

    /// Opens the store, and notes what is there.
    pub(super) fn open(&self, change: impl FnOnce(&mut StoreOptions)) -> Result<(), OpenError> {
        let random = Arc::new(SeededRandom::new(self.random(u64::MAX)));
        let watch = Arc::new(Watch(Weak::clone(&self.me)));
        let mut options = StoreOptions {
            background: Background::Manual,
            buffer_bytes: Some(512 << 10),
            events: Some(Arc::clone(&watch) as _),
            simulator: Some(watch),
            clock: Arc::clone(&self.clock) as _,
            random,
            shards: Some(2),
            durability: self.durability(),
            on_lost_metadata: OnLostMetadata::Scan,
            queue_depth: 16,
            discard_freed: self.discards(),
            scrub: Some(Scrub {
                bytes_per_second: NonZeroU64::MAX,
                pass_interval: Duration::from_secs(1),
            }),
            ..StoreOptions::default()
        };
        change(&mut options);
        let empty = options.start_empty;
        let store = Store::open_engine(self.engine(), options)?;
        let report = store.recovery();
        self.trace(|| {
            let what = (report.clean, report.base_sequence, &report.base_damage);
            let log = (report.log_blocks, report.log_records, &report.lost_metadata);
            format!("open: {} entries, {what:?}, {log:?}", report.entries)
        });
        let validates = !report.clean;
        if empty {
            self.tell(|oracle, now| oracle.emptied(now));
        }
        let found = self.entries(&store);
        let illegal = self.tell(|oracle, now| oracle.opened(&found, now));
        let mut inside = self.lock();
        inside.illegal = illegal;
        inside.validates = validates;
        inside.opening += 1;
        inside.closing = false;
        inside.layout = Some(store.superblock().clone());
        inside.store = Some(store);
        Ok(())
    }

    /// Each key's entry: version, generation and slot.
    fn entries(&self, store: &Store) -> Vec<Option<(Version, u64, u32)>> {
        let mut entries = Vec::new();
        store.for_each(|entry| {
            entries.push((entry.key, entry.generation, entry.slot));
            true
        });
        let mut found = vec![None; KEYS];
        for (name, generation, slot) in entries {
            let owner = self.lock().oracle.owner(generation);
            match (number(&name), owner) {
                (Some(key), Some((owner, version))) if owner == key => {
                    found[key] = Some((version, generation, slot));
                }
                (key, owner) => drop(self.check::<()>(Err(format!(
                    "an entry of key {key:?} has generation {generation}, which is that of {owner:?}"
                )))),
            }
        }
        found
    }

    /// Where things are on the device.
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

fn classes() -> Vec<ClassRequest> {
    let share = Share::Slots(SLOTS);
    CLASSES
        .map(|slot_bytes| ClassRequest { slot_bytes, share })
        .to_vec()
}
