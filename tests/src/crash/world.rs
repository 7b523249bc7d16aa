//! A store on a simulated device, its oracle, and one source of randomness for both.
//!
//! Everything happens in one thread, so a run is exact from its seed. What other callers would do at the
//! same time happens *inside* an operation: whenever the store sends requests, and again before it learns of
//! their end, another operation may run from start to end (`steps.rs`).

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rb_core::{
    Background, ClassRequest, Event, Events, FormatOptions, Lock, ManualClock, OnLostMetadata,
    OpenError, SeededRandom, Share, Store, StoreOptions, Superblock, format_engine,
};
use rb_io::Engine;
use rb_testkit::values::{fill, matches, next_number};
use rb_testkit::{CrashImage, MemDevice, MemEngine};

use super::oracle::{ABSENT, KEYS, Legal, Oracle, Version};
use super::states::{State, States};

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
    inside: Mutex<Inside>,
    me: Weak<World>,
}

pub(super) struct Inside {
    random: u64,
    pub(super) oracle: Oracle,
    pub(super) store: Option<Store>,
    pub(super) next_version: Version,
    pub(super) locks: Vec<Locked>,
    pub(super) doing: Vec<Doing>,
    pub(super) states: States,
    pub(super) violation: Option<String>,
    pub(super) layout: Option<Superblock>,
    /// The device errs, so answers may be errors and entries may be missing.
    pub(super) faulty: bool,
    /// Bytes were damaged that an entry may need.
    pub(super) rotten: bool,
    /// Evictions that no sync covers.
    pub(super) evicted: bool,
    pub(super) log_was_full: bool,
    trace: bool,
}

/// A lease that the run holds.
pub(super) struct Locked {
    pub(super) key: usize,
    pub(super) version: Vec<Version>,
    /// Held for its drop.
    pub(super) _lock: Lock,
}

/// What the store is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Put,
    /// It is made durable before it is answered.
    PutDurably,
    Get,
    Commit,
    Checkpoint,
    Discard,
    /// Another operation at this time would wait for this one.
    Alone,
}

impl World {
    /// A new store, formatted on a new device and open.
    pub(super) fn new(seed: u64, trace: bool) -> Arc<World> {
        let classes = classes();
        let bytes = rb_format::device_bytes_for(&classes, KEY_LEN_MAX, 0, Some(LOG_BYTES));
        let device = MemDevice::new(bytes.unwrap_or_default());
        let world = World::on(device, Oracle::new(), 1, seed, trace);
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
        steps: usize,
        legal: Legal,
        seed: u64,
    ) -> Arc<World> {
        let inside = self.lock();
        let oracle = Oracle::after_crash(legal, inside.oracle.generations_at(steps));
        let world = World::on(
            image.device(),
            oracle,
            inside.next_version,
            seed,
            inside.trace,
        );
        world.lock().layout = inside.layout.clone();
        world
    }

    fn on(
        device: Arc<MemDevice>,
        oracle: Oracle,
        next_version: Version,
        seed: u64,
        trace: bool,
    ) -> Arc<World> {
        let world = Arc::new_cyclic(|me| World {
            seed,
            device,
            inside: Mutex::new(Inside {
                random: seed,
                oracle,
                store: None,
                next_version,
                locks: Vec::new(),
                doing: Vec::new(),
                states: States::default(),
                violation: None,
                layout: None,
                faulty: false,
                rotten: false,
                evicted: false,
                log_was_full: false,
                trace,
            }),
            me: Weak::clone(me),
        });
        let me = Arc::downgrade(&world);
        world.device.observe(move |moment, ops| {
            if let Some(world) = me.upgrade() {
                world.intrude(moment, ops);
            }
        });
        world
    }

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

    pub(super) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    pub(super) fn trace(&self, words: impl FnOnce() -> String) {
        let inside = self.lock();
        if inside.trace {
            let indent = "  ".repeat(inside.doing.len());
            eprintln!("{:5} {indent}{}", self.device.recorded(), words());
        }
    }

    pub(super) fn reach(&self, state: State, reached: bool) {
        self.lock().states.reach_if(state, reached);
    }

    /// Changes the oracle and remembers from which step of the device on.
    pub(super) fn tell<T>(&self, change: impl FnOnce(&mut Oracle) -> T) -> T {
        let steps = self.device.recorded();
        let mut inside = self.lock();
        let answer = change(&mut inside.oracle);
        inside.oracle.mark(steps);
        answer
    }

    pub(super) fn store(&self) -> Option<Store> {
        self.lock().store.clone()
    }

    /// Drops the store and every lease on it, with no lock held: their end may be told to the observer.
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

    /// Opens the store.
    pub(super) fn open(&self, change: impl FnOnce(&mut StoreOptions)) -> Result<(), OpenError> {
        let random = Arc::new(SeededRandom::new(self.random(u64::MAX)));
        let mut options = StoreOptions {
            background: Background::Manual,
            buffer_bytes: Some(256 << 10),
            events: Some(Arc::new(Watch(Weak::clone(&self.me)))),
            clock: Arc::new(ManualClock::new()),
            random,
            shards: Some(2),
            on_lost_metadata: OnLostMetadata::Scan,
            queue_depth: 16,
            discard_freed: self.seed % 2 == 1,
            ..StoreOptions::default()
        };
        change(&mut options);
        let store = Store::open_engine(self.engine(), options)?;
        self.trace(|| format!("open {:?}", store.recovery()));
        let mut inside = self.lock();
        inside.layout = Some(store.superblock().clone());
        inside.store = Some(store);
        Ok(())
    }

    /// Where things are on the device.
    pub(super) fn places(&self) -> Option<Places> {
        let inside = self.lock();
        inside.layout.as_ref().map(Places::new)
    }

    /// Which version the bytes are, if they were ever put for the key.
    pub(super) fn version_of(&self, key: usize, bytes: &[u8]) -> Option<Version> {
        let head = bytes.get(..4)?;
        let version = Version::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let rest = bytes.get(4..)?;
        let known = (ABSENT + 1..self.lock().next_version).contains(&version);
        (known && bytes.len() == length(version) && matches(content(key, version), rest))
            .then_some(version)
    }
}

/// The length of a version's value: most are small, of any length; some need the larger class.
fn length(version: Version) -> usize {
    let mut random = u64::from(version);
    let number = next_number(&mut random) as usize;
    match number % 4 {
        0 => CLASSES[0] as usize + 1 + number / 4 % (CLASSES[1] - CLASSES[0]) as usize,
        1 => 100 + number / 4 % 400,
        _ => 100 + number / 4 % (CLASSES[0] as usize - 99),
    }
}

fn content(key: usize, version: Version) -> u64 {
    (key as u64) << 32 | u64::from(version)
}

/// A version's bytes.
pub(super) fn value(key: usize, version: Version) -> Vec<u8> {
    let mut bytes = vec![0; length(version)];
    bytes[..4].copy_from_slice(&version.to_le_bytes());
    fill(content(key, version), &mut bytes[4..]);
    bytes
}

/// A key's name: every third is so long that three records fill a log block.
pub(super) fn name(key: usize) -> Vec<u8> {
    let mut name = vec![b'k'; if key.is_multiple_of(3) { 1000 } else { 8 }];
    name[0] = key as u8;
    name
}

/// The key that a name belongs to.
pub(super) fn number(name: &[u8]) -> Option<usize> {
    name.first()
        .map(|key| usize::from(*key))
        .filter(|key| *key < KEYS)
}

fn classes() -> Vec<ClassRequest> {
    let share = Share::Slots(SLOTS);
    CLASSES
        .map(|slot_bytes| ClassRequest { slot_bytes, share })
        .to_vec()
}

/// The parts of a device.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) superblocks: [Range<u64>; 2],
    pub(super) incarnations: Range<u64>,
    pub(super) bases: [Range<u64>; 2],
    pub(super) log: Range<u64>,
    pub(super) slots: Range<u64>,
}

impl Places {
    fn new(layout: &Superblock) -> Places {
        let block = rb_format::FORMAT_BLOCK as u64;
        let [a, b] = [
            rb_format::SUPERBLOCK_A_OFFSET,
            rb_format::SUPERBLOCK_B_OFFSET,
        ];
        let range = |region: &rb_format::Region| region.offset..region.offset + region.bytes;
        Places {
            superblocks: [a..a + block, b..b + block],
            incarnations: rb_format::INCARNATION_A_OFFSET..rb_format::INCARNATION_B_OFFSET + block,
            bases: [range(&layout.base_a), range(&layout.base_b)],
            log: range(&layout.log),
            slots: range(&layout.log).end..layout.device_bytes,
        }
    }
}

/// Tells the oracle what vanishes without being asked.
#[derive(Debug)]
struct Watch(Weak<World>);

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Events for Watch {
    fn event(&self, event: &Event<'_>) {
        let Some(world) = self.0.upgrade() else {
            return;
        };
        match event {
            Event::Evicted { key, .. } => {
                let Some(key) = number(key) else { return };
                let leased = {
                    let inside = world.lock();
                    let current = inside.oracle.current(key);
                    let holds = |lock: &Locked| lock.key == key && lock.version == *current;
                    current.len() == 1 && inside.locks.iter().any(holds)
                };
                world.trace(|| format!("evicted {key}"));
                if leased {
                    world.fail(format!("key {key} was evicted under a lease"));
                }
                world.tell(|oracle| oracle.evicted(key));
                world.lock().evicted = true;
            }
            Event::Dropped { key, reason, .. } => {
                let Some(key) = number(key) else { return };
                world.trace(|| format!("dropped {key} {reason:?}"));
                let legal = world.tell(|oracle| oracle.dropped(key));
                if !legal && !world.lock().faulty {
                    world.fail(format!(
                        "key {key} was dropped ({reason:?}) and must be there"
                    ));
                }
                world.reach(State::DataLost, legal);
            }
            Event::BadSlot { .. } => world.reach(State::BadSlot, true),
            Event::Poisoned { reason } => {
                world.trace(|| format!("poisoned {reason}"));
                if !world.lock().faulty {
                    world.fail(format!("poisoned: {reason}"));
                }
            }
            _ => {}
        }
    }
}
