//! Prepares devices with initial contents, and opens the store on one.

use std::sync::Arc;

use rb_core::{
    Background, ClassRequest, Durability, Error, FormatOptions, ManualClock, OpenError,
    SeededRandom, Share, Store, StoreOptions, Superblock, Validate, format,
};
use rb_io::Engine;
use rb_testkit::{CrashImage, MemDevice, MemEngine};

use super::config::{Initial, SLOT_BYTES, SLOTS};
use super::refusal::Refusal;
use super::values::{initial_version, name, value};
use super::world::World;

/// Bytes of the smallest possible ring.
const LOG_BYTES: u64 = 64 * 4096;
const KEY_LEN_MAX: u32 = 16;

/// Devices with initial contents.
pub(super) struct Prepared {
    images: Vec<CrashImage>,
    layout: Superblock,
}

impl Prepared {
    /// Formats a device, and puts the initial contents.
    ///
    /// # Errors
    /// The error of the store.
    pub(super) fn new() -> Result<Prepared, String> {
        let classes = vec![ClassRequest {
            slot_bytes: SLOT_BYTES,
            share: Share::Slots(SLOTS),
        }];
        let bytes = rb_format::device_bytes_for(&classes, KEY_LEN_MAX, 0, Some(LOG_BYTES));
        let device = MemDevice::new(bytes.map_err(|why| why.to_string())?);
        let options = FormatOptions {
            key_len_max: KEY_LEN_MAX,
            log_bytes: Some(LOG_BYTES),
            random: Arc::new(SeededRandom::new(1)),
            ..FormatOptions::new(engine(&device), classes)
        };
        let formatted = format(&options).map_err(|why| why.to_string())?;
        let layout = formatted.superblock;
        let prepare = |initial: Initial| {
            let device = device.crash();
            device.record();
            let open = open(&device, Policy::default(), None).map_err(|why| why.to_string());
            let put = |store: Store| -> Result<(), Error> {
                for key in 0..initial.values() {
                    store.put(&name(key), &value(initial_version(key)))?;
                    store.sync()?;
                }
                Ok(())
            };
            put(open?).map_err(|why| why.to_string())?;
            let mut points = device.crash_points().ok_or("nothing was recorded")?;
            while points.advance() {}
            Ok::<_, String>(points.image(&[]))
        };
        let images = Initial::ALL.iter().map(|initial| prepare(*initial));
        Ok(Prepared {
            images: images.collect::<Result<_, _>>()?,
            layout,
        })
    }

    /// Returns the layout of the device.
    pub(super) fn layout(&self) -> &Superblock {
        &self.layout
    }

    pub(super) fn image(&self, initial: Initial) -> &CrashImage {
        &self.images[initial.values()]
    }
}

pub(super) fn engine(device: &Arc<MemDevice>) -> Arc<dyn Engine> {
    Arc::new(MemEngine::new(Arc::clone(device)))
}

/// Options in which the stores of a search differ.
#[derive(Clone, Copy, Default)]
pub(super) struct Policy {
    /// True if the store acknowledges removes only once they are durable.
    pub(super) each_batch: bool,
    /// True if it refuses what it would have to evict for.
    pub(super) refuses: bool,
}

/// Opens the store on a device, observed if there is a world.
pub(super) fn open(
    device: &Arc<MemDevice>,
    policy: Policy,
    world: Option<&Arc<World>>,
) -> Result<Store, OpenError> {
    let options = StoreOptions {
        background: Background::Manual,
        buffer_bytes: Some(64 << 10),
        clock: Arc::new(ManualClock::new()),
        random: Arc::new(SeededRandom::new(2)),
        shards: Some(2),
        queue_depth: 4,
        // Bytes of requests in a checkpoint would make states differ that are equal otherwise.
        timed: false,
        // Reads verify anyway.
        validate: Validate::Off,
        policy: policy.refuses.then(|| Arc::new(Refusal) as _),
        durability: match policy.each_batch {
            true => Durability::EachBatch,
            false => Durability::Interval,
        },
        events: world.map(|world| Arc::clone(world) as _),
        simulator: world.map(|world| Arc::clone(world) as _),
        ..StoreOptions::default()
    };
    Store::open(engine(device), options)
}
