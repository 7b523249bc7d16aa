//! Crashes on a simulated device: at every write of a run, several in a row, against an oracle that
//! knows which values are legal (C1 to C3).

use std::sync::Arc;

use rb_core::{
    Background, ClassRequest, FormatOptions, SeededRandom, Share, Store, StoreOptions,
    format_engine,
};
use rb_io::Engine;
use rb_testkit::values::{fill, matches, next_number};
use rb_testkit::{MemDevice, MemEngine};

use crate::oracle::{Evictions, Oracle, Version, content};

const KEYS: u64 = 24;
const SLOTS: u64 = 16;
/// The length of every value; its content names the key and the version.
const LEN: usize = 3000;

struct Run {
    seed: u64,
    state: u64,
    device: Arc<MemDevice>,
    store: Option<Store>,
    evictions: Arc<Evictions>,
    oracle: Oracle,
    next_version: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let classes = vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(SLOTS),
        }];
        let bytes = rb_format::device_bytes_for(&classes, 64, 0, Some(1 << 20)).unwrap();
        let device = MemDevice::new(bytes);
        let engine: Arc<dyn Engine> = Arc::new(MemEngine::new(Arc::clone(&device)));
        let options = FormatOptions {
            key_len_max: 64,
            log_bytes: Some(1 << 20),
            random: Arc::new(SeededRandom::new(seed)),
            ..FormatOptions::new("", classes)
        };
        format_engine(&engine, &options).unwrap();
        let mut run = Run {
            seed,
            state: seed,
            device,
            store: None,
            evictions: Arc::default(),
            oracle: Oracle::default(),
            next_version: 1,
        };
        run.store = Some(run.open().unwrap());
        run
    }

    fn open(&self) -> Result<Store, rb_core::OpenError> {
        let engine: Arc<dyn Engine> = Arc::new(MemEngine::new(Arc::clone(&self.device)));
        let options = StoreOptions {
            background: Background::Manual,
            buffer_bytes: Some(1 << 20),
            events: Some(self.evictions.clone()),
            random: Arc::new(SeededRandom::new(self.seed ^ self.state)),
            shards: Some(2),
            ..StoreOptions::default()
        };
        Store::open_engine(engine, options)
    }

    fn random(&mut self, below: u64) -> u64 {
        next_number(&mut self.state) % below
    }

    fn version_of(&self, key: u64, bytes: &[u8]) -> Version {
        let known = (1..self.next_version).find(|v| matches(content(key, *v), bytes));
        assert!(
            known.is_some(),
            "seed {}: key {key} has bytes that were never put",
            self.seed
        );
        known
    }

    /// One random operation. Failures after the power went are expected, and change nothing that
    /// was acknowledged; an operation that failed may have happened or not.
    fn step(&mut self) {
        let store = self.store.clone().unwrap();
        let key = self.random(KEYS);
        let name = key.to_le_bytes();
        match self.random(100) {
            0..55 => {
                let version = self.next_version;
                self.next_version += 1;
                let mut bytes = vec![0; LEN];
                fill(content(key, version), &mut bytes);
                let answer = store.put(&name, &bytes);
                self.take_evictions();
                match answer {
                    Ok(_) => {
                        self.oracle.set(key, Some(version));
                        // The replaced value's slot may be reused before this put is durable: then
                        // a crash leaves neither (C2: a miss, or a value since the last sync).
                        self.oracle.may_become(key, None);
                    }
                    Err(_) => self.oracle.may_become(key, Some(version)),
                }
            }
            55..67 => match store.remove(&name) {
                Ok(_) => self.oracle.set(key, None),
                Err(_) => self.oracle.may_become(key, None),
            },
            67..85 => {
                if let Ok(found) = store.get(&name) {
                    let version = found.and_then(|bytes| self.version_of(key, &bytes));
                    let legal = self.oracle.now(key);
                    assert!(
                        legal.contains(&version),
                        "seed {}: key {key} is {version:?}, legal now {legal:?}",
                        self.seed
                    );
                }
            }
            85..95 => {
                if store.sync().is_ok() {
                    self.oracle.synced();
                }
            }
            95..98 => drop(store.checkpoint()),
            _ => {
                drop(store);
                let closed = self.store.take().unwrap().close().is_ok();
                if closed {
                    self.oracle.synced();
                }
                match self.open() {
                    Ok(store) => self.store = Some(store),
                    Err(_) => self.crash_and_reopen(),
                }
            }
        }
    }

    fn take_evictions(&mut self) {
        for key in self.evictions.0.lock().unwrap().drain(..) {
            self.oracle.evicted(key);
        }
    }

    /// Crashes, reopens what a crash leaves, and checks every key.
    fn crash_and_reopen(&mut self) {
        let image_seed = self.random(u64::MAX);
        let image = self.device.crash_image_seeded(image_seed);
        self.store = None;
        self.device = MemDevice::from_image(&image);
        // Another crash inside recovery: the first writes of an opening are cut short.
        if self.random(2) == 0 {
            let cut = self.random(4);
            self.device.cut_power_after(cut);
            drop(self.open());
            let image_seed = self.random(u64::MAX);
            self.device = MemDevice::from_image(&self.device.crash_image_seeded(image_seed));
        }
        let store = self.open().unwrap();
        let lost = &store.recovery().lost_metadata;
        assert!(lost.is_none(), "seed {}: {lost:?}", self.seed);
        for key in 0..KEYS {
            let found = store.get(&key.to_le_bytes()).unwrap();
            let version = found.and_then(|bytes| self.version_of(key, &bytes));
            let legal = self.oracle.may_be(key);
            assert!(
                legal.contains(&version),
                "seed {}: after a crash key {key} is {version:?}, legal {legal:?}",
                self.seed
            );
            self.oracle.seen_after_crash(key, version);
        }
        store.audit().unwrap();
        self.store = Some(store);
    }
}

/// One run: some work, then the power goes after `cut` more writes, in the middle of whatever is
/// going on; three times in a row.
fn run(seed: u64, cut: u64) {
    let mut run = Run::new(seed);
    for _ in 0..3 {
        for _ in 0..run.random(60) {
            run.step();
        }
        run.device.cut_power_after(cut);
        for _ in 0..20 {
            run.step();
        }
        run.crash_and_reopen();
    }
}

#[test]
fn crashes_lose_nothing_that_was_synced_and_bring_back_nothing_that_was_removed() {
    let runs = 250;
    for seed in 1..=runs {
        run(seed, seed % 23);
    }
}
