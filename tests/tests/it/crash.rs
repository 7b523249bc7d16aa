//! Crashes on a simulated device: at every write of a run, several in a row and inside recovery, against
//! an oracle that knows which values are legal (C1 to C3). The runs put, replace, keep, remove, get, in
//! batches and async, with both durabilities and two slot classes, over a log that wraps.
//!
//! `CRASH_RUNS` sets the number of runs and `CRASH_FROM` the first seed; `TRACE` prints each step.

use std::collections::BTreeSet;
use std::sync::Arc;

use rb_core::{
    AuditOptions, Background, ClassRequest, Durability, Error, FormatOptions, Put, PutMode,
    PutOptions, SeededRandom, Share, Store, StoreOptions, Stored, audit_engine, format_engine,
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
        let classes = [4096, 8192]
            .map(|slot_bytes| ClassRequest {
                slot_bytes,
                share: Share::Slots(SLOTS / 2),
            })
            .to_vec();
        let bytes = rb_format::device_bytes_for(&classes, 64, 0, Some(64 * 4096)).unwrap();
        let device = MemDevice::new(bytes);
        let engine: Arc<dyn Engine> = Arc::new(MemEngine::new(Arc::clone(&device)));
        let options = FormatOptions {
            key_len_max: 64,
            log_bytes: Some(64 * 4096),
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

    /// Whether to print each step.
    fn trace() -> bool {
        std::env::var("TRACE").is_ok()
    }

    /// One random operation. Failures after the power went are expected, and change nothing that
    /// was acknowledged; an operation that failed may have happened or not.
    fn step(&mut self) {
        let store = self.store.clone().unwrap();
        let key = self.random(KEYS);
        let name = key.to_le_bytes();
        let mut keys = BTreeSet::from([key]);
        for _ in 0..self.random(4) {
            keys.insert(self.random(KEYS));
        }
        let keys: Vec<u64> = keys.into_iter().collect();
        let names: Vec<_> = keys.iter().map(|k| k.to_le_bytes()).collect();
        match self.random(100) {
            0..55 => {
                let first = self.next_version;
                self.next_version += keys.len() as u64;
                let values: Vec<_> = (first..)
                    .zip(&keys)
                    .map(|(version, key)| {
                        let mut bytes = vec![0; if version % 3 == 0 { 2 * LEN } else { LEN }];
                        fill(content(*key, version), &mut bytes);
                        bytes
                    })
                    .collect();
                let puts = names
                    .iter()
                    .zip(&values)
                    .map(|(k, v)| Put::new(k, v))
                    .collect();
                let each = self.random(6) == 0;
                let keep = self.random(5) == 0;
                let options = PutOptions {
                    durability: each.then_some(Durability::EachBatch),
                    mode: if keep {
                        PutMode::KeepExisting
                    } else {
                        PutMode::Replace
                    },
                    ..PutOptions::default()
                };
                let answers = if self.random(4) == 0 {
                    store.put_many_async(puts, options).wait()
                } else {
                    store.put_many(puts, options)
                };
                self.take_evictions();
                let all = answers.iter().all(Result::is_ok)
                    && answers.iter().any(|a| matches!(a, Ok(Stored::Stored)));
                if Run::trace() {
                    for ((k, v), a) in keys.iter().zip(first..).zip(&answers) {
                        eprintln!("put {k} v{v} keep {keep} each {each}: {a:?}");
                    }
                }
                for ((key, version), answer) in keys.iter().zip(first..).zip(answers) {
                    match answer {
                        Ok(Stored::Stored) => {
                            self.oracle.set(*key, Some(version));
                            self.oracle.may_become(*key, None);
                        }
                        Ok(_) => {}
                        Err(Error::Busy { .. }) => {}
                        Err(_) => self.oracle.may_be_put(*key, version),
                    }
                }
                if each && all {
                    self.oracle.synced();
                }
            }
            55..67 => {
                let asked: Vec<&[u8]> = names.iter().map(|n| &n[..]).collect();
                for (key, answer) in keys.iter().zip(store.remove_many(&asked)) {
                    if Run::trace() {
                        eprintln!("remove {key}: {answer:?}");
                    }
                    match answer {
                        Ok(_) => self.oracle.set(*key, None),
                        Err(Error::Busy { .. }) => {}
                        Err(_) => self.oracle.may_become(*key, None),
                    }
                }
            }
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
                let answer = store.sync();
                if Run::trace() {
                    eprintln!("sync {answer:?}");
                }
                if answer.is_ok() {
                    self.oracle.synced();
                }
            }
            95..98 => {
                let a = store.checkpoint();
                if Run::trace() {
                    eprintln!("checkpoint {a:?}");
                }
            }
            98 => drop(store.step_checkpoint()),
            _ => {
                drop(store);
                let closed = self.store.take().unwrap().close();
                if Run::trace() {
                    eprintln!("close {closed:?}");
                }
                let closed = closed.is_ok();
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
            if std::env::var("TRACE").is_ok() {
                eprintln!("  evicted {key}");
            }
            self.oracle.evicted(key);
        }
    }

    /// Crashes, reopens what a crash leaves, and checks every key.
    fn crash_and_reopen(&mut self) {
        if Run::trace() {
            eprintln!("CRASH");
        }
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
        // What a crash leaves is never called damage: an audit that cries wolf is not read.
        let engine: Arc<dyn Engine> = Arc::new(MemEngine::new(Arc::clone(&self.device)));
        let deep = AuditOptions {
            deep: true,
            ..AuditOptions::default()
        };
        let report = audit_engine(engine, &deep).unwrap();
        assert_eq!(report.damages, 0, "seed {}: {report:#?}", self.seed);
        let store = self.open().unwrap();
        let damage: Vec<_> = store
            .recovery()
            .base_damage
            .iter()
            .filter(|why| !why.contains("base header"))
            .collect();
        if std::env::var("STRICT").is_ok() {
            assert!(damage.is_empty(), "seed {}: {damage:?}", self.seed);
        }
        let lost = &store.recovery().lost_metadata;
        assert!(lost.is_none(), "seed {}: {lost:?}", self.seed);
        for key in 0..KEYS {
            let found = store.get(&key.to_le_bytes()).unwrap();
            let version = found.and_then(|bytes| self.version_of(key, &bytes));
            let legal = self.oracle.may_be(key);
            if Run::trace() {
                eprintln!("after crash {key} {version:?} legal {legal:?}");
            }
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
        for _ in 0..run.random(160) {
            run.step();
            drop(run.store.as_ref().unwrap().step_checkpoint());
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
    let from: u64 = std::env::var("CRASH_FROM")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let runs: u64 = std::env::var("CRASH_RUNS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(250);
    for seed in from..from + runs {
        run(seed, seed % 41);
    }
}
