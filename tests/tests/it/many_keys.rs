//! Tests of many threads on many keys, some of them chosen for one hash: each call completes in time, and the
//! accounting is exact (C4, C6).

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rb_core::{
    ClassRequest, Error, FormatOptions, Put, PutOptions, Share, Store, StoreOptions, format,
};
use rb_format::key_hash;
use rb_testkit::{colliding, values};

use crate::support::{engines, is_long};

const THREADS: u64 = 16;
/// Maximum wait for buffers and log space, and so for any call: the device completes immediately.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Tolerance for delays of the machine.
const MORE: Duration = Duration::from_millis(100);
const LEN: usize = 100;

struct Shape {
    keys: u64,
    slots: u64,
    time: Duration,
}

fn shape() -> Shape {
    match is_long() {
        true => Shape {
            keys: 1_000_000,
            slots: 500_000,
            time: Duration::from_mins(5),
        },
        false => Shape {
            keys: 20_000,
            slots: 10_000,
            time: Duration::from_secs(1),
        },
    }
}

/// Returns a key. One in eight is of a set with one on-device hash.
fn key(seed: u64, number: u64) -> Vec<u8> {
    match number % 8 {
        0 => colliding::key(seed, number as u32).to_vec(),
        _ => number.to_le_bytes().to_vec(),
    }
}

/// Returns the next number of a pseudorandom sequence.
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 24
}

/// Results of a thread.
#[derive(Default)]
struct Met {
    calls: AtomicU64,
    evicted_or_missed: AtomicU64,
    longest_micros: AtomicU64,
}

impl Met {
    fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = call();
        let took = start.elapsed();
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.longest_micros
            .fetch_max(took.as_micros() as u64, Ordering::Relaxed);
        assert!(took <= BUSY_WAIT + MORE, "a call took {took:?}");
        answer
    }
}

fn unbusy<T>(answer: Result<T, Error>) -> T {
    answer.unwrap_or_else(|error| panic!("{error}"))
}

fn work(store: &Store, seed: u64, thread: u64, shape: &Shape, met: &Met) {
    let start = Instant::now();
    let mut state = thread * 7919 + 1;
    let mut bytes = vec![0; LEN];
    while start.elapsed() < shape.time {
        let first = next(&mut state) % shape.keys;
        let count = [1, 1, 8, 64, 1000][next(&mut state) as usize % 5].min(shape.keys / 4);
        let numbers: Vec<u64> = (0..count).map(|n| (first + n * 31) % shape.keys).collect();
        let keys: Vec<_> = numbers.iter().map(|&number| key(seed, number)).collect();
        let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        match next(&mut state) % 8 {
            0..=2 => {
                let values: Vec<_> = numbers.iter().map(|&n| values::bytes(n, LEN)).collect();
                let puts = names
                    .iter()
                    .zip(&values)
                    .map(|(key, value)| Put::new(key, value));
                let puts: Vec<_> = puts.collect();
                let answers = met.call(|| store.put_many(puts, PutOptions::default()));
                answers.into_iter().for_each(|answer| _ = unbusy(answer));
            }
            3..=5 => {
                for (answer, &number) in met
                    .call(|| store.get_many(&names))
                    .into_iter()
                    .zip(&numbers)
                {
                    match unbusy(answer) {
                        Some(found) => {
                            values::fill(number, &mut bytes);
                            assert!(found == bytes[..], "key {number} has other bytes");
                        }
                        None => drop(met.evicted_or_missed.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            }
            6 => drop(met.call(|| store.longest_prefix(&names))),
            _ => {
                let answers = met.call(|| store.remove_many(&names));
                answers.into_iter().for_each(|answer| _ = unbusy(answer));
            }
        }
    }
}

/// A thread that removed 20,000 keys in one call got `Busy` while 8 threads put, although the ring was nearly empty;
/// and each operation on a key with a common hash searched all keys with that hash.
#[test]
fn threads_on_many_keys_get_results_in_time() {
    let shape = shape();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    for engine in engines() {
        for shards in [1, 1024] {
            make(&path, &shape);
            let open = || {
                let options = StoreOptions {
                    engine,
                    shards: Some(shards),
                    busy_wait: BUSY_WAIT,
                    ..StoreOptions::default()
                };
                Store::open(&path, options).unwrap()
            };
            let store = open();
            let uuid = store.superblock().identity.uuid;
            let seed = u64::from_le_bytes(uuid.0[..8].try_into().unwrap());
            assert_eq!(
                key_hash(&uuid, &key(seed, 0)),
                key_hash(&uuid, &key(seed, 8))
            );
            let met = Met::default();
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (store, shape, met) = (&store, &shape, &met);
                    scope.spawn(move || work(store, seed, thread, shape, met));
                }
            });
            store.audit().unwrap();
            let stats = store.stats();
            let classes = &stats.index.classes;
            let live: u64 = classes.iter().map(|class| class.live).sum();
            let all: u64 = classes.iter().map(|class| class.capacity).sum();
            let free: u64 = classes.iter().map(|class| class.free).sum();
            // No call runs: each slot is live, or free.
            assert_eq!((stats.index.entries, live + free), (live, all), "{stats:?}");
            println!(
                "{engine}, {shards} shards: {} calls, longest {} us, {live} entries, {} misses",
                met.calls.load(Ordering::Relaxed),
                met.longest_micros.load(Ordering::Relaxed),
                met.evicted_or_missed.load(Ordering::Relaxed),
            );
            store.close().unwrap();
            drop(store);
            let again = open();
            assert_eq!(again.stats().index.entries, live);
            again.audit().unwrap();
            again.close().unwrap();
        }
    }
}

fn make(path: &Path, shape: &Shape) {
    let class = ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(shape.slots),
    };
    let mut options = FormatOptions::new(path, vec![class]);
    options.sparse = true;
    options.consent = true;
    options.key_len_max = colliding::KEY_LEN as u32;
    format(&options).unwrap();
}
