//! Models: the real index on loom's primitives, with a few threads, keys and slots.
//!
//! Run them with `cargo xtask loom [FILTER]`, which prints how many interleavings each explored.
//!
//! The content of a slot is a number that its owner writes while the slot is reserved, as a put
//! would write bytes. It is in a cell tracked by loom: two threads that access it without
//! synchronisation fail the model, even if the numbers are right. A log takes the records of each
//! change in the same hold of the shard's lock, as the store's does, so every model also checks the
//! result of a replay.

mod keys;
mod learned;
mod slots;

use loom::cell::Cell;
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::*;

const KEY: &[u8] = b"key";
const OTHER: &[u8] = b"other";
/// Selects shard 1 of 2, which holds all keys except [`FAR`].
const HASH: u64 = u64::MAX;
/// The one key in shard 0.
const FAR: &[u8] = b"far";
/// The content left by a failed write that lands late.
const GARBAGE: u64 = u64::MAX;

/// One record of the log: the slots of a put, none for a remove.
struct Record {
    key: &'static [u8],
    generation: u64,
    slots: Vec<SlotId>,
}

struct World {
    index: Index,
    /// The contents of the slots.
    held: Vec<Cell<u64>>,
    log: Mutex<Vec<Record>>,
    /// Number of log records that are durable.
    durable: AtomicU64,
    /// The right to evict for several slots, which the caller holds, as the store does.
    evicts: Mutex<()>,
    /// An atomic of the standard library: the caller draws numbers, always under the shard's lock.
    generations: AtomicU64,
    /// For each complete base, a bit that is set if it has [`KEY`]; the lowest is the newest one's.
    bases: AtomicU64,
}

impl World {
    fn new(slots: u32, policy: Option<&dyn PolicyFactory>) -> World {
        let options = IndexOptions {
            shards: 2,
            classes: vec![vec![0..slots]],
            secret: [0; 16],
        };
        let mut index = Index::new(options).expect("the options are right");
        if let Some(policy) = policy {
            index.use_policy(policy, &[]).expect("there is memory");
        }
        index.track_unrecorded().expect("there is memory");
        World {
            index,
            held: (0..slots).map(|_| Cell::new(0)).collect(),
            log: Mutex::new(Vec::new()),
            durable: AtomicU64::new(0),
            evicts: Mutex::new(()),
            generations: AtomicU64::new(0),
            bases: AtomicU64::new(0),
        }
    }

    fn guard(&self, key: &[u8]) -> ShardGuard<'_> {
        let shard = self.index.shard_of(hash(key));
        self.index.lock(shard, LockPurpose::Operation)
    }

    fn generation(&self) -> u64 {
        1 + self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// Reserves a key for a put that has its slots.
    fn reserve(&self, key: &[u8], slots: &[SlotId], mode: PutMode) -> Option<Reservation> {
        let mut guard = self.guard(key);
        match guard.reserve(
            hash(key),
            key,
            slots,
            self.generation(),
            mode,
            Place::default(),
        ) {
            Reserve::Reserved(reservation) => Some(reservation),
            Reserve::Exists(_) => None,
        }
    }

    /// Takes a slot: a free one whose former value is not needed any more; failing that, one freed
    /// by a change that is not durable, or an evicted one.
    fn take_slot(&self) -> Option<SlotId> {
        let (mut taken, mut evicted) = (Vec::new(), Vec::new());
        if self.index.take_free(0, 1, &mut taken) == 1 {
            self.assert_unneeded(taken[0]);
        } else if self.index.take_early(0, 1, &mut taken) == 0 {
            self.index.evict_least(0, 1, &mut evicted);
        }
        taken.pop().or_else(|| Some(evicted.pop()?.slot))
    }

    /// Writes a base of all shards.
    fn write_base(&self) {
        self.index.base_begins();
        let mut has_key = false;
        for shard in 0..self.index.shards() {
            let mut guard = self.index.lock(shard, LockPurpose::Background);
            let mut each = |entry: SnapshotEntry<'_>| has_key |= entry.key == KEY;
            guard.snapshot(&mut Cursor::default(), usize::MAX, &mut each);
            guard.snapshot_evicted(&mut each);
        }
        self.index.base_completed();
        let before = self.bases.load(Ordering::Relaxed);
        self.bases
            .store(before << 1 | u64::from(has_key), Ordering::Relaxed);
    }

    /// Evicts an entry and gives its slots back. Returns their number.
    fn evict(&self) -> usize {
        let mut evicted = Vec::new();
        let freed = self.index.evict_least(0, 1, &mut evicted);
        self.give_back(evicted);
        freed
    }

    /// Gives back the slots of evicted entries of one slot each, as their owner.
    fn give_back(&self, evicted: Vec<Evicted>) {
        for gone in evicted {
            self.write(gone.slot, GARBAGE);
            self.index.give_back(&[gone.slot]);
        }
    }

    /// Takes slots for one value, all or none: free ones, then those of evicted entries, alone in its
    /// class.
    fn take_together(&self, count: usize) -> Option<Vec<SlotId>> {
        let (mut taken, mut evicted) = (Vec::new(), Vec::new());
        {
            let _alone = self.evicts.lock().expect("no model panics with it");
            let there = self.index.free(0) + self.index.evictable(0);
            if there < count as u64 {
                return None;
            }
            self.index.take_free(0, count, &mut taken);
            taken.iter().for_each(|slot| self.assert_unneeded(*slot));
            let missing = count - taken.len();
            let early = self.index.take_early(0, missing, &mut taken);
            let missing = missing - early;
            if missing > 0 && self.index.evictable(0) >= missing as u64 {
                self.index.evict_least(0, missing, &mut evicted);
            }
        }
        let free = taken.len();
        taken.extend(evicted.iter().flat_map(Evicted::slots));
        if taken.len() < count {
            self.index.free_evicted(&taken[free..]);
            self.index.give_back(&taken[..free]);
            return None;
        }
        self.index.free_evicted(&taken[count..]);
        taken.truncate(count);
        Some(taken)
    }

    /// Asserts that a slot handed out as free holds nothing that a restart now would need, unless
    /// it was evicted: evictions leave no record.
    fn assert_unneeded(&self, slot: SlotId) {
        let log = self.log.lock().expect("no model panics with it");
        let durable = self.durable.load(Ordering::Relaxed) as usize;
        let in_slot = |record: &Record| record.slots.contains(&slot);
        let Some(owner) = log[..durable].iter().rposition(in_slot) else {
            return;
        };
        let overtakes = |record: &Record| record.key == log[owner].key;
        let (durably, later) = log[owner + 1..].split_at(durable - owner - 1);
        let needed = later.iter().any(overtakes) && !durably.iter().any(overtakes);
        assert!(
            !needed,
            "{slot:?} is free, and a restart would look for what it holds"
        );
    }

    /// Commits: all queued records become durable.
    fn commit(&self) {
        let queued = self.log.lock().expect("no model panics with it").len() as u64;
        self.durable.fetch_max(queued, Ordering::Relaxed);
        self.index.set_durable(queued);
    }

    /// Performs a put; returns its generation and outcome, or `None` if there was no slot.
    fn put(&self, key: &'static [u8]) -> Option<(u64, Published)> {
        self.put_as(key, PutMode::Replace)
    }

    fn put_as(&self, key: &'static [u8], mode: PutMode) -> Option<(u64, Published)> {
        let slot = self.take_slot()?;
        self.put_into(key, &[slot], mode)
    }

    /// Performs a put of a value of several slots.
    fn put_several(&self, key: &'static [u8], count: usize) -> Option<(u64, Published)> {
        let slots = self.take_together(count)?;
        self.put_into(key, &slots, PutMode::Replace)
    }

    fn put_into(
        &self,
        key: &'static [u8],
        slots: &[SlotId],
        mode: PutMode,
    ) -> Option<(u64, Published)> {
        let Some(reservation) = self.reserve(key, slots, mode) else {
            self.index.give_back(slots);
            return None;
        };
        self.write_into(key, slots, reservation)
    }

    fn write_into(
        &self,
        key: &'static [u8],
        slots: &[SlotId],
        reservation: Reservation,
    ) -> Option<(u64, Published)> {
        let generation = reservation.generation();
        slots.iter().for_each(|slot| self.write(*slot, generation));
        let mut guard = self.guard(key);
        let published = guard.publish(reservation, key, entry(slots));
        if matches!(published, Published::Inserted | Published::Replaced { .. }) {
            let ticket = self.record(key, generation, slots.to_vec());
            guard.recorded(ticket, false);
        }
        Some((generation, published))
    }

    /// Performs a remove; returns its generation.
    fn remove(&self, key: &'static [u8]) -> u64 {
        let mut guard = self.guard(key);
        let generation = self.generation();
        guard.remove(hash(key), key, generation);
        let ticket = self.record(key, generation, Vec::new());
        guard.recorded(ticket, false);
        generation
    }

    /// Appends a record, under the shard's lock. Returns its ticket.
    fn record(&self, key: &'static [u8], generation: u64, slots: Vec<SlotId>) -> u64 {
        let record = Record {
            key,
            generation,
            slots,
        };
        let mut log = self.log.lock().expect("no model panics with it");
        log.push(record);
        log.len() as u64
    }

    fn write(&self, slot: SlotId, what: u64) {
        self.held[slot.0 as usize].set(what);
    }

    /// Performs a get and checks the value.
    fn get(&self, key: &[u8]) -> Option<u64> {
        let mut guard = self.guard(key);
        let lease = guard.lease(hash(key), key, Place::default())?;
        let more: Vec<SlotId> = guard.more_slots(&lease).collect();
        drop(guard);
        let generation = self.read(&lease);
        for slot in more {
            let held = self.held[slot.0 as usize].get();
            assert_eq!(held, generation, "a further slot of a lease was reused");
        }
        self.guard(key).release(lease);
        Some(generation)
    }

    /// Reads a leased slot.
    fn read(&self, lease: &Lease) -> u64 {
        let Located {
            slot, generation, ..
        } = *lease.located();
        let held = self.held[slot.0 as usize].get();
        assert_eq!(held, generation, "a leased slot was reused");
        generation
    }

    fn live(&self, key: &[u8]) -> Option<u64> {
        let guard = self.guard(key);
        guard.get(hash(key), key).map(|located| located.generation)
    }

    fn counts(&self) -> ClassStats {
        self.index.stats().classes[0]
    }

    /// Checks the invariants that hold after all threads have ended, for any interleaving.
    fn check(&self) {
        assert_eq!(self.guard(KEY).pending_puts(), 0);
        assert_eq!(self.guard(FAR).pending_puts(), 0);
        self.index.audit().expect("the index must be whole");
        let log = self.log.lock().expect("no model panics with it");
        let replayed = self.replay(&log);
        for key in [KEY, OTHER, FAR] {
            let records: Vec<_> = log.iter().filter(|record| record.key == key).collect();
            assert!(
                records.is_sorted_by_key(|record| record.generation),
                "the records of {key:?} are not in the order of its changes"
            );
            // Evictions leave no record, so the last put may be gone.
            let live = self.guard(key).get(hash(key), key);
            if let Some(live) = live {
                let last = records.last().expect("a live key was put");
                let told = (last.generation, &last.slots[..]);
                let slots = slots_of(&self.index, key);
                assert_eq!(told, (live.generation, &slots[..]), "{key:?}");
                for slot in &slots {
                    assert_eq!(self.held[slot.0 as usize].get(), live.generation);
                }
                let shard = replayed.shard_of(hash(key));
                let found = replayed
                    .lock(shard, LockPurpose::Operation)
                    .get(hash(key), key);
                let found = found.map(|found| (found.generation, slots_of(&replayed, key)));
                assert_eq!(
                    found,
                    Some((live.generation, slots)),
                    "a replay of the log does not find {key:?}"
                );
            }
        }
        for slot in 0..self.held.len() as u32 {
            let owners = log
                .iter()
                .filter(|record| record.slots.contains(&SlotId(slot)));
            assert!(
                owners.is_sorted_by_key(|record| record.generation),
                "the generations of the owners of slot {slot} do not ascend in the log"
            );
        }
    }

    /// Replays the log as recovery does.
    fn replay(&self, log: &[Record]) -> Index {
        let options = IndexOptions {
            shards: 2,
            classes: vec![vec![0..self.held.len() as u32]],
            secret: [0; 16],
        };
        let index = Index::new(options).expect("the options are right");
        let loader = index.loader().expect("the index is empty");
        for record in log {
            let Record {
                key, generation, ..
            } = *record;
            match &record.slots[..] {
                [] => drop(loader.remove(hash(key), key, generation)),
                slots => drop(loader.load(hash(key), key, entry(slots), generation, 0)),
            }
        }
        loader.finish(0, 1);
        index
    }
}

/// Returns the slots of a live entry, in order.
fn slots_of(index: &Index, key: &[u8]) -> Vec<SlotId> {
    let mut guard = index.lock(index.shard_of(hash(key)), LockPurpose::Operation);
    let lease = guard.lease(hash(key), key, Place::default());
    let lease = lease.expect("the entry is live");
    let first = lease.located().slot;
    let slots = std::iter::once(first).chain(guard.more_slots(&lease));
    let slots = slots.collect();
    guard.release(lease);
    slots
}

fn entry(slots: &[SlotId]) -> NewEntry<'_> {
    NewEntry {
        slot: slots[0],
        more: &slots[1..],
        payload_len: 1,
        payload_checksum: 0,
        placement: 0,
        expiry: 0,
        metadata: &[],
        verified: true,
    }
}

fn hash(key: &[u8]) -> u64 {
    if key == FAR { 0 } else { HASH }
}

/// Largest number of preemptions per interleaving, in the quick form and in the full one.
struct Bounds {
    quick: usize,
    full: usize,
}

fn model<F: Fn(Arc<World>) + Sync + Send + 'static>(bounds: Bounds, slots: u32, threads: F) {
    model_of(None, bounds, slots, threads);
}

/// A model of an index with a policy; LRU without one.
fn model_of<F: Fn(Arc<World>) + Sync + Send + 'static>(
    policy: Option<&'static (dyn PolicyFactory + Sync)>,
    bounds: Bounds,
    slots: u32,
    threads: F,
) {
    let name = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let name = name.rsplit("::").next().unwrap_or(name);
    let only = std::env::var("RB_LOOM_ONLY").unwrap_or_default();
    if !name.contains(&only) {
        return;
    }
    let full = std::env::var_os("RB_LOOM_FULL").is_some();
    let bound = if full { bounds.full } else { bounds.quick };
    // Counted outside loom: otherwise a model that no longer interleaves would pass unnoticed.
    let explored = std::sync::Arc::new(AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&explored);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    let start = Instant::now();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let world = Arc::new(World::new(slots, policy.map(|policy| policy as _)));
        threads(Arc::clone(&world));
        world.check();
    });
    let (explored, took) = (explored.load(Ordering::Relaxed), start.elapsed());
    note(name, explored, bound, took.as_millis());
    assert!(
        explored >= 50,
        "only {explored} interleavings: the threads do not meet"
    );
}

/// Adds a line to the table that `cargo xtask loom` prints.
fn note(name: &str, explored: u64, bound: usize, milliseconds: u128) {
    let Some(path) = std::env::var_os("RB_LOOM_TABLE") else {
        return;
    };
    let table = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    writeln!(
        table.expect("the table opens"),
        "{name} {explored} {bound} {milliseconds}"
    )
    .expect("the table takes a line");
}

fn start<T: 'static>(
    world: &Arc<World>,
    run: impl FnOnce(&World) -> T + 'static,
) -> thread::JoinHandle<T> {
    let world = Arc::clone(world);
    thread::spawn(move || run(&world))
}
