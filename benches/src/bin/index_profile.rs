//! Measures the index: memory per entry, time per lookup, and contention of threads for locks.
//! `cargo run --release -p rb-bench --bin index_profile [-- --json]`

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use peak_alloc::PeakAlloc;
use rb_bench::{Draws, empty_index, fill_index, key, median};
use rb_index::{Index, LockPurpose, NewEntry, Place, PutMode, Reserve, SlotId};
use serde_json::{Value, json};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ENTRIES: u32 = 1_000_000;
const SHARDS: u32 = 64;
const KEY_BYTES: usize = 32;
const ROUNDS: usize = 5;
const BATCH: usize = 32;
/// Number of keys of the hot set.
const HOT: u64 = 1_000;
/// Number of lookups in one round.
const LOOKUPS: usize = 1_000_000;

/// A key to look up, with its hash.
type Query = (u64, [u8; KEY_BYTES]);

/// Measures the index: memory per entry, time per lookup, contention of threads.
#[derive(Debug, Parser)]
struct Args {
    /// Print one line of JSON; otherwise it is indented.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn main() {
    let args = Args::parse();
    let result = json!({
        "entries": ENTRIES,
        "shards": SHARDS,
        "memory": memory(),
        "lookups": lookups(),
        "contention": contention(),
    });
    if args.json {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
}

/// Measures the bytes per entry, without its key, of full indexes of many sizes: the worst is just above a size at
/// which the tables double.
fn memory() -> Value {
    let sizes = (0..=16).map(|step| 600_000 + 50_000 * step);
    let bytes = |entries: u32| {
        let before = MEMORY.current_usage();
        let index = empty_index(entries, SHARDS);
        fill_index(&index, entries);
        let used = MEMORY.current_usage() - before;
        drop(index);
        used as f64 / f64::from(entries) - KEY_BYTES as f64
    };
    let all: Vec<(u32, f64)> = sizes.map(|entries| (entries, bytes(entries))).collect();
    let worst = all.iter().fold(
        (0, 0.0),
        |worst, now| if now.1 > worst.1 { *now } else { worst },
    );
    let mean = all.iter().map(|(_, bytes)| bytes).sum::<f64>() / all.len() as f64;
    json!({ "bytes_per_entry_worst": worst.1, "at_entries": worst.0, "bytes_per_entry_mean": mean })
}

fn lookups() -> Value {
    let index = empty_index(ENTRIES, SHARDS);
    fill_index(&index, ENTRIES);
    let hot = queries(&index, 1, HOT);
    let random = queries(&index, 2, u64::from(ENTRIES));
    let single = |queries: &[Query]| rounds(|| time_single(&index, queries));
    let leased = rounds(|| time_leases(&index, &random));
    let replaced = puts(&random);
    let batched = rounds(|| time_batches(&index, &random));
    let miss = rounds(miss_cost);
    let another = empty_index(ENTRIES, SHARDS);
    fill_index(&another, ENTRIES);
    // Measured alternately, because the speed of a shared machine changes. Two threads on two
    // indexes share nothing, so their rate is what the machine can deliver.
    let round = |_| {
        [
            time_single(&index, &random),
            time_two_threads(&index, &index, &random),
            time_two_threads(&index, &another, &random),
        ]
    };
    let rounds_of_three: Vec<[f64; 3]> = (0..ROUNDS).map(round).collect();
    let of = |figure: fn(&[f64; 3]) -> f64| median(rounds_of_three.iter().map(figure).collect());
    let one = of(|times| times[0]);
    json!({
        "hot_ns": single(&hot),
        "random_ns": one,
        "random_lease_and_release_ns": leased,
        "random_replacing_put_ns": replaced,
        "batch_of_32_ns_per_key": batched,
        "miss_ns": miss,
        "random_in_misses": one / miss,
        "two_threads_ns_per_key": of(|times| times[1]),
        "two_threads_speedup": of(|times| times[0] / times[1]),
        "two_threads_on_two_indexes_speedup": of(|times| times[0] / times[2]),
    })
}

/// Measures a put that replaces another one, with random keys of a full index with a few slots to spare.
fn puts(queries: &[Query]) -> f64 {
    let index = empty_index(ENTRIES + 1_000, SHARDS);
    fill_index(&index, ENTRIES);
    let generation = AtomicU64::new(u64::from(ENTRIES) + 2_000);
    rounds(|| {
        let start = Instant::now();
        for (hash, key) in queries {
            put(&index, *hash, key, &generation);
        }
        nanos(start, queries.len())
    })
}

fn time_single(index: &Index, queries: &[Query]) -> f64 {
    let start = Instant::now();
    for (hash, key) in queries {
        let shard = index.lock(index.shard_of(*hash), LockPurpose::Operation);
        assert!(
            black_box(shard.get(*hash, key)).is_some(),
            "every key is there"
        );
    }
    nanos(start, queries.len())
}

fn time_leases(index: &Index, queries: &[Query]) -> f64 {
    let start = Instant::now();
    for (hash, key) in queries {
        let mut shard = index.lock(index.shard_of(*hash), LockPurpose::Operation);
        if let Some(lease) = shard.lease(*hash, key, Place::default()) {
            shard.release(lease);
        }
    }
    nanos(start, queries.len())
}

fn time_batches(index: &Index, queries: &[Query]) -> f64 {
    let start = Instant::now();
    let mut found = Vec::with_capacity(BATCH);
    for batch in queries.chunks(BATCH) {
        found.clear();
        let hashes: [u64; BATCH] =
            std::array::from_fn(|at| batch.get(at).map_or(0, |query| query.0));
        index.prefetch(&hashes[..batch.len()]);
        for (hash, key) in batch {
            let shard = index.lock(index.shard_of(*hash), LockPurpose::Operation);
            found.push(shard.get(*hash, key));
        }
        assert!(
            black_box(&found).iter().all(Option::is_some),
            "every key is there"
        );
    }
    nanos(start, queries.len())
}

/// Each thread looks up half of the keys, in an index of its own or in a common one.
fn time_two_threads(one: &Index, other: &Index, queries: &[Query]) -> f64 {
    let barrier = Barrier::new(2);
    let work = |index: &Index, queries: &[Query]| {
        barrier.wait();
        time_single(index, queries)
    };
    let halves = queries.split_at(queries.len() / 2);
    let (a, b) = std::thread::scope(|scope| {
        let other = scope.spawn(|| work(other, halves.1));
        (work(one, halves.0), other.join().unwrap_or(f64::NAN))
    });
    a.max(b) / 2.0
}

/// Returns the keys of the entries below `below`, in a random order.
fn queries(index: &Index, seed: u64, below: u64) -> Vec<Query> {
    let mut draws = Draws::new(seed);
    (0..LOOKUPS)
        .map(|_| {
            let key = key(draws.below(below));
            (index.hash(&key), key)
        })
        .collect()
}

/// Measures one dependent read of memory that is in no cache: follows a random cycle through 256 MiB.
fn miss_cost() -> f64 {
    const PLACES: u32 = (256 << 20) / 64;
    const STEPS: usize = 1_000_000;
    let mut order: Vec<u32> = (0..PLACES).collect();
    let mut draws = Draws::new(3);
    // Sattolo's shuffle makes one cycle of all positions.
    for at in (1..PLACES as usize).rev() {
        order.swap(at, draws.below(at as u64) as usize);
    }
    let mut lines = vec![[0_u32; 16]; PLACES as usize];
    for (line, next) in lines.iter_mut().zip(order) {
        line[0] = next;
    }
    let start = Instant::now();
    let mut at = 0;
    for _ in 0..STEPS {
        at = lines[at as usize][0];
    }
    black_box(at);
    nanos(start, STEPS)
}

/// Counts failed first attempts to take a shard's lock, per million operations of 8 threads.
fn contention() -> Value {
    let of = |shards: u32| {
        let (contended, seconds) = mixed(shards);
        json!({ "shards": shards, "contended_per_million": contended, "million_ops_seconds": seconds })
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runs = [1, 4, 16, 64, 256].map(of);
    json!({
        "threads": THREADS,
        "cores": threads,
        "runs": runs,
    })
}

const THREADS: u64 = 8;

fn mixed(shards: u32) -> (f64, f64) {
    const OPERATIONS: u64 = 1_000_000;
    const KEYS: u64 = 100_000;
    let index = empty_index(200_000, shards);
    let generation = AtomicU64::new(1);
    let barrier = Barrier::new(THREADS as usize);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (index, generation, barrier) = (&index, &generation, &barrier);
            scope.spawn(move || {
                let mut draws = Draws::new(thread);
                barrier.wait();
                for _ in 0..OPERATIONS / THREADS {
                    let key = key(draws.below(KEYS));
                    let hash = index.hash(&key);
                    match draws.below(10) {
                        0..=6 => get(index, hash, &key),
                        7..=8 => put(index, hash, &key, generation),
                        _ => {
                            let mut shard =
                                index.lock(index.shard_of(hash), LockPurpose::Operation);
                            let generation = generation.fetch_add(1, Ordering::Relaxed);
                            black_box(shard.remove(hash, &key, generation));
                        }
                    }
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    index.audit().unwrap_or_else(|why| panic!("{why}"));
    let contended = index.stats().contended_locks as f64;
    (
        contended / OPERATIONS as f64 * 1e6,
        seconds * 1e6 / OPERATIONS as f64,
    )
}

fn get(index: &Index, hash: u64, key: &[u8]) {
    let shard = index.shard_of(hash);
    let lease = index
        .lock(shard, LockPurpose::Operation)
        .lease(hash, key, Place::default());
    if let Some(lease) = lease {
        index.lock(shard, LockPurpose::Operation).release(lease);
    }
}

fn put(index: &Index, hash: u64, key: &[u8], generation: &AtomicU64) {
    let shard = index.shard_of(hash);
    let mut slots: Vec<SlotId> = Vec::new();
    index.take_free(0, 1, &mut slots);
    let Some(slot) = slots.pop() else { return };
    let reserved = {
        let mut shard = index.lock(shard, LockPurpose::Operation);
        let generation = generation.fetch_add(1, Ordering::Relaxed);
        shard.reserve(
            hash,
            key,
            &[slot],
            generation,
            PutMode::Replace,
            Place::default(),
        )
    };
    let Reserve::Reserved(reservation) = reserved else {
        return index.give_back(&[slot]);
    };
    let entry = NewEntry {
        slot,
        more: &[],
        payload_len: 65_536,
        payload_checksum: 1,
        placement: 0,
        expiry: 0,
        metadata: &[],
        verified: true,
    };
    index
        .lock(shard, LockPurpose::Operation)
        .publish(reservation, key, entry);
}

fn rounds(mut measure: impl FnMut() -> f64) -> f64 {
    median((0..ROUNDS).map(|_| measure()).collect())
}

fn nanos(start: Instant, steps: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / steps as f64
}
