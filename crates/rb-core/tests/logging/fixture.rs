//! A store on a device in memory, with keys, values and metadata that have a mark.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rb_core::{
    Background, ClassRequest, Event, Events, FormatOptions, ManualClock, OpenError, Put,
    PutOptions, PutOutcome, SeededRandom, Share, Store, StoreOptions, format,
};
use rb_format::FORMAT_BLOCK;
use rb_io::{Limits, OpKind};
use rb_testkit::{MemDevice, MemEngine};

use crate::capture::{call, is_outside};

/// In every key, value and metadata.
pub(crate) const MARK: &str = "s3cr3t";
/// Errors of a device that cannot read or write a block, that has no space, and that refuses memory.
pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EFAULT: i32 = 14;
/// Time of day when the store was formatted.
const FORMATTED: u64 = 1000;

pub(crate) fn key(n: u64) -> Vec<u8> {
    format!("{MARK}-key-{n}").into_bytes()
}

pub(crate) fn value(n: u64) -> Vec<u8> {
    format!("{MARK}-value-{n} ").repeat(100).into_bytes()
}

/// Puts a value with metadata that expires at `seconds` after the format.
pub(crate) fn put_until(store: &Store, n: u64, seconds: u64) -> PutOutcome {
    let (key, value) = (key(n), value(n));
    let until = UNIX_EPOCH + Duration::from_secs(FORMATTED + seconds);
    let put = Put::new(&key, &value)
        .with_metadata(MARK.as_bytes())
        .with_expiry(until);
    store
        .put_many(vec![put], PutOptions::default())
        .remove(0)
        .unwrap()
}

#[derive(Debug)]
struct Observer;

impl Events for Observer {
    fn event(&self, _: &Event<'_>) {
        assert!(is_outside(), "the store calls the host inside a span");
    }
}

pub(crate) struct Sim {
    pub(crate) device: Arc<MemDevice>,
    pub(crate) clock: Arc<ManualClock>,
}

impl Sim {
    pub(crate) const SLOTS: u64 = 32;

    /// Makes a store of slots of 4 KiB, on a device that takes discards.
    pub(crate) fn new() -> Sim {
        Sim::with(Limits::simple(512, 1 << 20, "memory device"))
    }

    pub(crate) fn with(limits: Limits) -> Sim {
        let classes = vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(Sim::SLOTS),
        }];
        let log_bytes = Some(64 * FORMAT_BLOCK as u64);
        let bytes = rb_format::device_bytes_for(&classes, 1024, 64, log_bytes).unwrap();
        let device = MemDevice::with_limits(bytes, limits);
        let engine = Arc::new(MemEngine::new(Arc::clone(&device)));
        let options = FormatOptions {
            key_len_max: 1024,
            metadata_len_max: 64,
            log_bytes,
            formatted_at: FORMATTED,
            random: Arc::new(SeededRandom::new(1)),
            ..FormatOptions::new(engine, classes)
        };
        format(&options).unwrap();
        Sim::on(device)
    }

    fn on(device: Arc<MemDevice>) -> Sim {
        let clock = Arc::new(ManualClock::new());
        clock.set_wall(UNIX_EPOCH + Duration::from_secs(FORMATTED));
        Sim { device, clock }
    }

    pub(crate) fn crash(&self) -> Sim {
        Sim::on(self.device.crash())
    }

    pub(crate) fn open(&self) -> Store {
        self.open_with(|_| {})
    }

    /// Opens the store; the subscriber calls it from then on.
    pub(crate) fn open_with(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        let store = self.try_open(change).unwrap();
        call(Some(&store));
        store
    }

    /// Opens the store; the subscriber calls none.
    pub(crate) fn try_open(
        &self,
        change: impl FnOnce(&mut StoreOptions),
    ) -> Result<Store, OpenError> {
        call(None);
        let mut options = StoreOptions {
            background: Background::Manual,
            buffer_bytes: Some(1 << 20),
            clock: self.clock.clone(),
            events: Some(Arc::new(Observer)),
            random: Arc::new(SeededRandom::new(self.device.log().len() as u64)),
            ..StoreOptions::default()
        };
        change(&mut options);
        Store::open(Arc::new(MemEngine::new(Arc::clone(&self.device))), options)
    }

    /// The range of all slots.
    pub(crate) fn slots(&self, store: &Store) -> Range<u64> {
        store.geometry().slot_offset(0).unwrap()..store.superblock().log_2.offset
    }

    /// Makes every read of a slot fail.
    pub(crate) fn fail_reads(&self, store: &Store) {
        self.device
            .fail_always(OpKind::Read, self.slots(store), EIO);
    }

    /// Damages the value of a key.
    pub(crate) fn corrupt_value(&self, store: &Store, n: u64) {
        let mut slot = None;
        store.for_each(|entry| {
            if entry.key[..] == key(n) {
                slot = Some(entry.slot);
            }
            true
        });
        let at = store.geometry().slot_offset(slot.unwrap()).unwrap() + FORMAT_BLOCK as u64;
        self.device.corrupt(at..at + 8);
    }
}
