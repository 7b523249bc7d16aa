//! Measures the index with the learned policy against LRU, alternately: lookups, puts and evictions, on one and two threads.
//! `cargo run --release -p rb-bench --bin policy_profile [-- --json]`

use std::hint::black_box;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::Duration;

use clap::Parser;
use peak_alloc::PeakAlloc;
use rb_bench::{Draws, empty_index, key, median};
use rb_index::{
    Index, IndexError, Judged, Learned, Lease, LockPurpose, NewEntry, Note, Policies,
    PolicyFactory, Purpose, PutMode, Reserve, Room, SharedPolicy, SlotId,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const SLOTS: u32 = 1_000_000;
const SHARDS: u32 = 64;
/// Keys of a chain, which are one batch.
const CHAIN: u64 = 32;
/// Chains of one round.
const CHAINS: u32 = 2_000;
const ROUNDS: usize = 7;

/// Measures the learned policy against LRU.
#[derive(Debug, Parser)]
struct Args {
    /// Print one line of JSON; otherwise it is indented.
    #[arg(long)]
    json: bool,
}

/// Makes the learned policy, and keeps its shared part.
#[derive(Debug, Default)]
struct Tapped(OnceLock<Arc<dyn SharedPolicy>>);

impl PolicyFactory for Tapped {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        let policies = Learned::alone().policies(room)?;
        if let Some(shared) = &policies.shared {
            self.0.get_or_init(|| Arc::clone(shared));
        }
        Ok(policies)
    }
}

/// An index that is full of chains, each of which was looked up a few times.
struct Bed {
    index: Index,
    generation: u64,
    /// Chains 0 to this one were put; the last ones are there.
    next: u64,
    bytes: usize,
}

/// Nanoseconds of each step for LRU and for the learned policy.
type Pair = [f64; 2];

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn main() {
    let args = Args::parse();
    let tapped = Tapped::default();
    let mut beds = [Bed::new(None), Bed::new(Some(&tapped))];
    let extra = beds[1].bytes as f64 - beds[0].bytes as f64;
    let mut rounds: Vec<[Pair; 6]> = Vec::new();
    for round in 0..ROUNDS as u64 {
        let steps: [fn(&mut Bed, u64) -> f64; 6] =
            [hits, hits_of_two_threads, misses, replaces, puts, evictions];
        rounds.push(steps.map(|step| {
            let [lru, learned] = &mut beds;
            [step(lru, round), step(learned, round)]
        }));
    }
    let choices = tapped.0.get().map(|shared| choices(&**shared));
    let step = |at: usize| -> Value {
        let of = |policy: usize| median(rounds.iter().map(|round| round[at][policy]).collect());
        let ratios = rounds.iter().map(|round| round[at][1] / round[at][0]);
        json!({ "lru_ns": of(0), "learned_ns": of(1), "ratio": median(ratios.collect()) })
    };
    let result = json!({
        "slots": SLOTS,
        "shards": SHARDS,
        "batch": CHAIN,
        "hit_lookup_and_release_per_key": step(0),
        "hit_lookup_and_release_per_key_of_two_threads": step(1),
        "miss_lookup_per_key": step(2),
        "replacing_put_per_key": step(3),
        "put_with_eviction_per_key": step(4),
        "eviction": step(5),
        "choice_of_victim_ns": choices,
        "bytes_per_slot_more": extra / f64::from(SLOTS),
    });
    for bed in &beds {
        bed.index.audit().unwrap_or_else(|why| panic!("{why}"));
    }
    if args.json {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
}

impl Bed {
    fn new(policy: Option<&dyn PolicyFactory>) -> Bed {
        let before = MEMORY.current_usage();
        let mut index = empty_index(SLOTS, SHARDS);
        if let Some(policy) = policy {
            index
                .use_policy(policy, &[])
                .unwrap_or_else(|why| panic!("{why}"));
            // As a store does whose puts may be refused.
            index.track_unrecorded().expect("there is memory");
        }
        let (generation, next, bytes) = (1, 0, 0);
        let mut bed = Bed {
            index,
            generation,
            next,
            bytes,
        };
        let mut draws = Draws::new(7);
        while bed.next * CHAIN < u64::from(SLOTS) * 5 / 4 {
            let keys = bed.new_chain();
            bed.look_up(&keys);
            bed.put(&keys, PutMode::KeepExisting);
            let back = draws.below(20_000).min(bed.next - 1);
            bed.look_up(&chain(bed.next - 1 - back));
        }
        bed.bytes = MEMORY.current_usage() - before;
        bed
    }

    fn new_chain(&mut self) -> Vec<[u8; 32]> {
        self.next += 1;
        chain(self.next - 1)
    }

    fn look_up(&self, keys: &[[u8; 32]]) -> u64 {
        look_up(&self.index, keys)
    }

    /// Puts a chain, evicting as it must.
    fn put(&mut self, keys: &[[u8; 32]], mode: PutMode) {
        let mut slots = Vec::with_capacity(keys.len());
        let free = self.index.take_free(0, keys.len(), &mut slots);
        if free < keys.len() {
            let mut evicted = Vec::new();
            self.index.evict_least(0, keys.len() - free, &mut evicted);
            slots.extend(evicted.iter().map(|one| one.slot));
        }
        self.put_in(keys, &slots, mode);
    }

    fn put_in(&mut self, keys: &[[u8; 32]], slots: &[SlotId], mode: PutMode) {
        let batch = self.index.begin_batch(keys.len());
        let hashes: Vec<u64> = keys.iter().map(|key| self.index.hash(key)).collect();
        self.index.prefetch(&hashes);
        for (at, (key, &slot)) in keys.iter().zip(slots).enumerate().rev() {
            let hash = hashes[at];
            let shard = self.index.shard_of(hash);
            self.generation += 1;
            let mut shard = self.index.lock(shard, LockPurpose::Operation);
            let place = batch.at(at);
            match shard.reserve(hash, key, &[slot], self.generation, mode, place) {
                Reserve::Reserved(reservation) => {
                    shard.publish(reservation, key, entry(slot));
                }
                Reserve::Exists(_) => self.index.give_back(&[slot]),
            }
        }
    }

    /// Some chain of the newest ones, half of the slots.
    fn recent(&self, draws: &mut Draws) -> Vec<[u8; 32]> {
        let recent = u64::from(SLOTS) / CHAIN / 2;
        chain(self.next - 1 - draws.below(recent))
    }
}

/// Looks up a chain as a store does, and ends the leases. Returns the number of hits.
fn look_up(index: &Index, keys: &[[u8; 32]]) -> u64 {
    let batch = index.begin_batch(keys.len());
    let hashes: Vec<u64> = keys.iter().map(|key| index.hash(key)).collect();
    index.prefetch(&hashes);
    let mut leases: Vec<Option<Lease>> = Vec::with_capacity(keys.len());
    let mut judged: Vec<Judged> = Vec::with_capacity(keys.len());
    for (at, (key, &hash)) in keys.iter().zip(&hashes).enumerate() {
        let mut shard = index.lock(index.shard_of(hash), LockPurpose::Operation);
        let lease = shard.lease(hash, key, batch.at(at));
        if index.judges() {
            judged.push(Judged {
                hash,
                found: lease.is_some(),
                note: lease.as_ref().map_or(Note::default(), Lease::note),
            });
        }
        leases.push(lease);
    }
    if index.judges() {
        index.judge(batch, Purpose::Lease, &mut judged);
        for (lease, judged) in leases.iter_mut().zip(&judged) {
            if let Some(lease) = lease {
                lease.set_note(judged.note);
            }
        }
    }
    let mut hits = 0;
    for lease in leases.into_iter().rev().flatten() {
        hits += 1;
        index
            .lock(lease.shard(), LockPurpose::Operation)
            .release(lease);
    }
    hits
}

fn hits(bed: &mut Bed, round: u64) -> f64 {
    let mut draws = Draws::new(round);
    timed(&mut (0..CHAINS), |_| {
        let keys = bed.recent(&mut draws);
        black_box(bed.look_up(&keys));
    })
}

fn hits_of_two_threads(bed: &mut Bed, round: u64) -> f64 {
    let barrier = Barrier::new(2);
    let work = |seed: u64| {
        let mut draws = Draws::new(seed);
        barrier.wait();
        timed(&mut (0..CHAINS), |_| {
            let keys = bed.recent(&mut draws);
            black_box(bed.look_up(&keys));
        })
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| work(1_000 + round));
        (work(2_000 + round), other.join().unwrap_or(f64::NAN))
    });
    one.max(other) / 2.0
}

fn misses(bed: &mut Bed, round: u64) -> f64 {
    let never_put = 1 << 40 | round << 20;
    timed(&mut (0..CHAINS), |at| {
        black_box(bed.look_up(&chain(never_put + u64::from(at))));
    })
}

/// Puts chains that are there: no eviction, since each frees the slot that it replaces.
fn replaces(bed: &mut Bed, round: u64) -> f64 {
    let mut evicted = Vec::new();
    bed.index.evict_least(0, CHAIN as usize, &mut evicted);
    let spare: Vec<SlotId> = evicted.iter().map(|one| one.slot).collect();
    bed.index.give_back(&spare);
    let mut draws = Draws::new(round);
    timed(&mut (0..CHAINS), |_| {
        let keys = bed.recent(&mut draws);
        bed.put(&keys, PutMode::Replace);
    })
}

/// Puts new chains, whose lookups are not in the time.
fn puts(bed: &mut Bed, _: u64) -> f64 {
    let chains: Vec<Vec<[u8; 32]>> = (0..CHAINS).map(|_| bed.new_chain()).collect();
    for keys in &chains {
        bed.look_up(keys);
    }
    timed(&mut chains.into_iter(), |keys| {
        bed.put(&keys, PutMode::KeepExisting);
    })
}

/// Evicts one entry at a time, then fills the index again.
fn evictions(bed: &mut Bed, _: u64) -> f64 {
    let mut evicted = Vec::with_capacity(CHAINS as usize * CHAIN as usize);
    let time = timed(&mut (0..CHAINS), |_| {
        for _ in 0..CHAIN {
            bed.index.evict_least(0, 1, &mut evicted);
        }
    });
    let slots: Vec<SlotId> = evicted.iter().map(|one| one.slot).collect();
    drop(evicted);
    for slots in slots.chunks(CHAIN as usize) {
        let keys = bed.new_chain();
        bed.look_up(&keys);
        bed.put_in(&keys, slots, PutMode::KeepExisting);
    }
    time
}

/// The choice of the shard alone, which is the policy's part of an eviction outside of the shard.
fn choices(shared: &dyn SharedPolicy) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        timed(&mut (0..CHAINS), |_| {
            for _ in 0..CHAIN {
                black_box(shared.next_shard(0));
            }
        })
    });
    median(rounds.collect())
}

/// Time of a key, of chains of [`CHAIN`]. Time of the processor, so that other work on the machine matters little.
fn timed<T>(items: &mut dyn ExactSizeIterator<Item = T>, mut step: impl FnMut(T)) -> f64 {
    let chains = items.len();
    let start = processor_time();
    for item in items {
        step(item);
    }
    let time = processor_time().saturating_sub(start);
    time.as_secs_f64() * 1e9 / (chains as f64 * CHAIN as f64)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn chain(number: u64) -> Vec<[u8; 32]> {
    (0..CHAIN).map(|at| key(number * CHAIN + at)).collect()
}

fn entry(slot: SlotId) -> NewEntry<'static> {
    NewEntry {
        slot,
        more: &[],
        payload_len: 65_536,
        payload_checksum: 1,
        placement: 0,
        expiry: 0,
        metadata: &[],
        verified: true,
    }
}
