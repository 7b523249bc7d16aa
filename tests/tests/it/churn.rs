//! Several threads on one store: writers that own their keys and know what each must be, readers of
//! everything, against eviction, reuse and a log ring that goes round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rb_core::{
    ClassRequest, Durability, Event, Events, Payload, Put, PutMode, PutOptions, Share, Store,
    Stored,
};
use rb_testkit::values::{fill, matches, next_number};

use crate::support::{Bed, engines};

const WRITERS: u64 = 3;
const READERS: u64 = 2;
const KEYS: u64 = 40; // per writer
const SLOTS: u64 = 24; // per class: far fewer than keys

fn name(key: u64) -> Vec<u8> {
    format!("churn-{key}").into_bytes()
}

/// Length and content of a version of a key; the first 16 bytes tell which.
fn bytes_of(key: u64, version: u64) -> Vec<u8> {
    let mut state = key << 32 | version;
    let len = match next_number(&mut state) % 4 {
        0 => 16 + next_number(&mut state) % 100,
        1 => 4096,
        2 => 4096 + next_number(&mut state) % 12_000,
        _ => 16 * 1024 + next_number(&mut state) % (48 * 1024),
    } as usize;
    let mut bytes = vec![0; len];
    fill(key << 40 | version, &mut bytes[16..]);
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..16].copy_from_slice(&version.to_le_bytes());
    bytes
}

fn version_of(key: u64, bytes: &[u8], seed: u64) -> u64 {
    assert_eq!(
        bytes[..8],
        key.to_le_bytes(),
        "seed {seed}: key {key} has another key's bytes"
    );
    let version = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
    assert!(
        matches(key << 40 | version, &bytes[16..]) && bytes.len() == bytes_of(key, version).len(),
        "seed {seed}: key {key} has bytes that were never put"
    );
    version
}

#[derive(Debug, Default)]
struct Gone(Mutex<BTreeSet<u64>>);

impl Events for Gone {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Evicted { key, .. } => {
                let key = std::str::from_utf8(key).unwrap()[6..].parse().unwrap();
                self.0.lock().unwrap().insert(key);
            }
            other => panic!("a healthy store has no event like {other:?}"),
        }
    }
}

struct Writer {
    store: Store,
    seed: u64,
    state: u64,
    first: u64,
    versions: BTreeMap<u64, u64>,
    current: BTreeMap<u64, Option<u64>>,
}

impl Writer {
    fn random(&mut self, below: u64) -> u64 {
        next_number(&mut self.state) % below
    }

    fn some_keys(&mut self) -> Vec<u64> {
        let count = 1 + self.random(6);
        let mut keys = BTreeSet::new();
        for _ in 0..count {
            keys.insert(self.first + self.random(KEYS));
        }
        keys.into_iter().collect()
    }

    fn check(&self, key: u64, found: Option<&[u8]>, what: &str) {
        if let Some(bytes) = found {
            let version = version_of(key, bytes, self.seed);
            let current = self.current.get(&key).copied().flatten();
            assert_eq!(
                Some(version),
                current,
                "seed {}: key {key} by {what} is not current",
                self.seed
            );
        }
    }

    fn step(&mut self) {
        let keys = self.some_keys();
        let names: Vec<_> = keys.iter().map(|k| name(*k)).collect();
        let asked: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        match self.random(100) {
            0..45 => {
                let values: Vec<_> = keys
                    .iter()
                    .map(|key| {
                        let version = self.versions.entry(*key).or_insert(0);
                        *version += 1;
                        bytes_of(*key, *version)
                    })
                    .collect();
                let own = self.random(2) == 0;
                let puts: Vec<_> = asked
                    .iter()
                    .zip(&values)
                    .map(|(key, bytes)| {
                        let payload = if own && let Ok(mut buf) = self.store.buffer(bytes.len()) {
                            buf.copy_from_slice(bytes);
                            Payload::Buffer(buf)
                        } else {
                            Payload::Bytes(bytes)
                        };
                        Put {
                            key,
                            payload,
                            metadata: &[],
                        }
                    })
                    .collect();
                let mode = if self.random(4) == 0 {
                    PutMode::KeepExisting
                } else {
                    PutMode::Replace
                };
                let durability = (self.random(12) == 0).then_some(Durability::EachBatch);
                let options = PutOptions {
                    mode,
                    durability,
                    ..PutOptions::default()
                };
                let answers = if self.random(3) == 0 {
                    self.store.put_many_async(puts, options).wait()
                } else {
                    self.store.put_many(puts, options)
                };
                for (key, answer) in keys.iter().zip(answers) {
                    match answer {
                        Ok(Stored::Stored) => {
                            self.current.insert(*key, Some(self.versions[key]));
                        }
                        Ok(Stored::Existed) => assert_eq!(mode, PutMode::KeepExisting),
                        other => panic!("seed {}: put of {key}: {other:?}", self.seed),
                    }
                }
            }
            45..60 => {
                for (key, answer) in keys.iter().zip(self.store.remove_many(&asked)) {
                    answer.unwrap();
                    self.current.insert(*key, None);
                }
            }
            60..80 => {
                for (key, answer) in keys.iter().zip(self.store.get_many(&asked)) {
                    self.check(*key, answer.unwrap().as_deref(), "get");
                }
            }
            80..88 => {
                for (key, answer) in keys.iter().zip(self.store.get_many_async(&asked).wait()) {
                    self.check(*key, answer.unwrap().as_deref(), "async get");
                }
            }
            88..94 => {
                // A lock is held over a remove and puts of others.
                let locks = self.store.lookup_and_lock(&asked);
                for (key, lock) in keys.iter().zip(&locks) {
                    assert!(lock.is_none() || self.current.get(key).copied().flatten().is_some());
                }
                drop(self.store.remove(&names[0]));
                self.current.insert(keys[0], None);
                self.store.unlock(locks.into_iter().flatten().collect());
            }
            94..97 => self.store.sync().unwrap(),
            97..98 => self.store.checkpoint().unwrap(),
            _ => drop(self.store.touch_many(&asked)),
        }
    }
}

#[test]
fn churn_on_both_engines() {
    let seconds: u64 = std::env::var("CHURN_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(5);
    for engine in engines() {
        let seed: u64 = std::env::var("CHURN_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(7);
        let classes = [4096, 16 * 1024, 64 * 1024]
            .map(|slot_bytes| ClassRequest {
                slot_bytes,
                share: Share::Slots(SLOTS),
            })
            .to_vec();
        let bed = Bed::with(classes, |o| {
            o.key_len_max = 64;
            o.log_bytes = Some(1 << 20);
        })
        .on(engine);
        let gone = Arc::new(Gone::default());
        let events = gone.clone();
        let store = bed.open_with(|o| {
            o.events = Some(events);
            o.shards = Some(4);
            o.buffer_bytes = Some(8 << 20);
        });
        let stop = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicU64::new(0));
        let until = Instant::now() + Duration::from_secs(seconds);
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| {
                let mut writer = Writer {
                    store: store.clone(),
                    seed,
                    state: seed * 1000 + w,
                    first: w * KEYS,
                    versions: BTreeMap::new(),
                    current: BTreeMap::new(),
                };
                std::thread::spawn(move || {
                    let mut steps = 0_u64;
                    while Instant::now() < until {
                        writer.step();
                        steps += 1;
                    }
                    (writer.current.clone(), steps)
                })
            })
            .collect();
        let readers: Vec<_> = (0..READERS)
            .map(|r| {
                let (store, stop, reads) = (store.clone(), stop.clone(), reads.clone());
                std::thread::spawn(move || {
                    let mut state = seed * 77 + r;
                    while !stop.load(Ordering::Relaxed) {
                        let keys: Vec<u64> = (0..8)
                            .map(|_| next_number(&mut state) % (WRITERS * KEYS))
                            .collect();
                        let names: Vec<_> = keys.iter().map(|k| name(*k)).collect();
                        let asked: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
                        for (key, answer) in keys.iter().zip(store.get_many(&asked)) {
                            if let Some(bytes) = answer.unwrap() {
                                version_of(*key, &bytes, seed);
                                reads.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                })
            })
            .collect();
        let mut current = BTreeMap::new();
        let mut steps = 0;
        for writer in writers {
            let (map, n) = writer.join().unwrap();
            current.extend(map);
            steps += n;
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|r| r.join().unwrap());
        let stats = store.stats();
        println!(
            "{engine:?}: {steps} steps, {} verified reads, evictions {}, commits {}, checkpoints {}, dropped {}",
            reads.load(Ordering::Relaxed),
            stats.index.evictions,
            stats.commits,
            stats.checkpoints,
            stats.dropped
        );
        assert_eq!(stats.dropped, 0);
        for class in &stats.index.classes {
            assert_eq!(
                (class.reserved, class.retired, class.quarantined, class.bad),
                (0, 0, 0, 0),
                "{class:?}"
            );
        }
        store.audit().unwrap();
        store.sync().unwrap();
        // What a kill leaves after the sync, and what a close leaves, are the same.
        let live: BTreeSet<u64> = current
            .keys()
            .copied()
            .filter(|k| store.contains(&name(*k)))
            .collect();
        let image = bed.image();
        let check = |store: &Store, what: &str| {
            for (key, version) in &current {
                let found = store.get(&name(*key)).unwrap();
                let found = found.map(|bytes| version_of(*key, &bytes, seed));
                if live.contains(key) {
                    assert_eq!(found, *version, "{what}: key {key}");
                } else {
                    assert_eq!(found, None, "{what}: key {key}");
                }
            }
            store.audit().unwrap();
        };
        // An evicted key may come back after a crash if nothing took its slot yet: none here, all is quiet.
        let crashed = image.open();
        for (key, version) in &current {
            let found = crashed
                .get(&name(*key))
                .unwrap()
                .map(|b| version_of(*key, &b, seed));
            assert!(
                found == *version || found.is_none() && !live.contains(key),
                "kill: key {key} {found:?}"
            );
        }
        crashed.audit().unwrap();
        drop(crashed);
        check(&store, "before");
        store.close().unwrap();
        drop(store);
        let store = bed.open();
        assert!(store.recovery().clean);
        check(&store, "after");
    }
}
