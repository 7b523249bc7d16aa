//! Creates and opens the store of a world.

use std::num::NonZeroU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rb_core::policy::{Learned, PolicyFactory};
use rb_core::{
    Background, ClassRequest, FormatOptions, OnLostMetadata, OpenError, Scrub, SeededRandom, Share,
    Store, StoreOptions, format,
};
use rb_io::Engine;
use rb_testkit::{CrashImage, MemDevice, MemEngine};

use super::history::Step;
use super::legal::Legal;
use super::oracle::Oracle;
use super::values::{CLASSES, all_slots, number, slots_of};
use super::version::{KEYS, Version};
use super::watch::Watch;
use super::world::{Trace, World};

/// Slots of each of the two classes. The values of several slots share the larger one.
const SLOTS: [u64; 2] = [8, 12];
/// Bytes of the smallest possible ring, so that it wraps and fills often.
const LOG_BYTES: u64 = 64 * 4096;
const KEY_LEN_MAX: u32 = 1024;

/// Bytes of some dozens of puts.
const SMALL_BUDGET: NonZeroU64 = NonZeroU64::new(512 << 10).unwrap();

impl World {
    /// Creates a world with a new device, formatted and open.
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

    /// Creates a world from what a crash left; it is not open yet.
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
        world.lock().layout.clone_from(&inside.layout);
        world
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
            ..FormatOptions::new(self.engine(), classes())
        };
        let formatted = format(&options).map_err(|why| why.to_string())?;
        self.lock().layout = Some(formatted.superblock);
        Ok(())
    }

    /// Every other session has the learned policy, which continues with what its predecessors saved.
    fn policy(&self) -> Option<Arc<dyn PolicyFactory>> {
        let number = self.seed.wrapping_add(self.lock().opening);
        number
            .is_multiple_of(2)
            .then(|| Arc::new(Learned::default()) as _)
    }

    /// One session in four may write little.
    fn write_budget(&self) -> Option<NonZeroU64> {
        let number = self.seed.wrapping_add(self.lock().opening);
        (number % 4 == 1).then_some(SMALL_BUDGET)
    }

    /// Opens the store, and records its entries in the oracle.
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
            policy: self.policy(),
            write_budget_per_day: self.write_budget(),
            scrub: Some(Scrub {
                bytes_per_second: NonZeroU64::MAX,
                pass_interval: Duration::from_secs(1),
            }),
            ..StoreOptions::default()
        };
        change(&mut options);
        let empty = options.start_empty;
        let store = Store::open(self.engine(), options)?;
        let report = store.recovery();
        self.trace(|| {
            let what = (report.clean, report.base_sequence, &report.base_damage);
            let log = (report.log_blocks, report.log_records, &report.lost_metadata);
            format!("open: {} entries, {what:?}, {log:?}", report.entries)
        });
        let validates = !report.clean;
        if empty {
            self.record(Oracle::emptied);
        }
        let found = self.entries(&store);
        let illegal = self.record(|oracle, now| oracle.opened(&found, now));
        let mut inside = self.lock();
        inside.illegal = illegal;
        inside.validates = validates;
        inside.opening += 1;
        inside.closing = false;
        inside.layout = Some(store.superblock().clone());
        inside.store = Some(store);
        Ok(())
    }

    /// Returns each key's entry: version, generation and slots.
    fn entries(&self, store: &Store) -> Vec<Option<(Version, u64, Vec<u32>)>> {
        let mut entries = Vec::new();
        store.for_each(|entry| {
            let slots = all_slots(&entry);
            entries.push((entry.key, entry.generation, slots));
            true
        });
        let mut found = vec![None; KEYS];
        for (name, generation, slots) in entries {
            let owner = self.lock().oracle.owner(generation);
            match (number(&name), owner) {
                (Some(key), Some((owner, version))) if owner == key => {
                    let wanted = slots_of(version);
                    if slots.len() != wanted {
                        let words = format!("key {key} version {version} was found in slots {slots:?}, and fills {wanted}");
                        self.check::<()>(Err(words));
                    }
                    found[key] = Some((version, generation, slots));
                }
                (key, owner) => drop(self.check::<()>(Err(format!(
                    "an entry of key {key:?} has generation {generation}, which is that of {owner:?}"
                )))),
            }
        }
        found
    }
}

fn classes() -> Vec<ClassRequest> {
    let classes = CLASSES.into_iter().zip(SLOTS);
    classes
        .map(|(slot_bytes, slots)| ClassRequest {
            slot_bytes,
            share: Share::Slots(slots),
        })
        .collect()
}
