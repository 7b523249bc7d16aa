//! Models: the real index on loom's primitives, with two or three threads and three slots.
//!
//! `RUSTFLAGS="--cfg rb_loom" cargo test -p rb-index --release --lib loom`
//!
//! What a slot "holds" is a number that its owner writes while it is reserved, as a put would write
//! bytes. A reader with a lease must see the number of the generation it leased.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use crate::*;

const SLOTS: u32 = 3;
const KEY: &[u8] = b"key";
/// Of shard 1 of 2.
const HASH: u64 = u64::MAX;

struct World {
    index: Index,
    /// What the slots hold.
    held: [AtomicU64; SLOTS as usize],
    /// The standard library's: drawing numbers is the caller's business and always under the shard's lock.
    generations: std::sync::atomic::AtomicU64,
}

impl World {
    fn new() -> World {
        let options = IndexOptions {
            shards: 2,
            classes: vec![vec![0..SLOTS]],
        };
        World {
            index: Index::new(options).expect("the options are right"),
            held: std::array::from_fn(|_| AtomicU64::new(0)),
            generations: std::sync::atomic::AtomicU64::new(0),
        }
    }

    fn guard(&self) -> ShardGuard<'_> {
        self.index.lock(self.index.shard_of(HASH), Visit::Operation)
    }

    fn generation(&self) -> u64 {
        1 + self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// The way of a put; the generation and what became of it.
    fn put(&self, key: &[u8]) -> (u64, Published) {
        let mut guard = self.guard();
        let generation = self.generation();
        let reserve = guard.reserve(HASH, key, generation, PutMode::Replace);
        let Reserve::Reserved(reservation) = reserve else {
            panic!("Replace always reserves")
        };
        drop(guard);
        let mut taken = Vec::new();
        assert_eq!(self.index.take_free(0, 1, &mut taken), 1);
        self.write(taken[0], generation);
        let entry = NewEntry {
            slot: taken[0],
            payload_len: 1,
            payload_checksum: 0,
            placement: 0,
            metadata: &[],
            proven: true,
        };
        (generation, self.guard().publish(reservation, key, entry))
    }

    fn write(&self, slot: SlotId, what: u64) {
        self.held[slot.0 as usize].store(what, Ordering::Relaxed);
    }

    /// The way of a get, with the check that makes it one.
    fn get(&self, key: &[u8]) -> Option<u64> {
        let lease = self.guard().lease(HASH, key)?;
        let Located {
            slot, generation, ..
        } = *lease.located();
        let held = self.held[slot.0 as usize].load(Ordering::Relaxed);
        assert_eq!(held, generation, "a leased slot was reused");
        self.guard().release(lease);
        Some(generation)
    }

    fn live(&self, key: &[u8]) -> Option<u64> {
        self.guard()
            .get(HASH, key)
            .map(|located| located.generation)
    }
}

fn model(threads: impl Fn(Arc<World>) + Sync + Send + 'static) {
    // A model that no longer interleaves would pass for nothing: the schedules are counted.
    let schedules = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&schedules);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let world = Arc::new(World::new());
        threads(Arc::clone(&world));
        assert_eq!(world.guard().pending_puts(), 0);
        world.index.audit().expect("the index must be whole");
    });
    let schedules = schedules.load(Ordering::Relaxed);
    assert!(
        schedules >= 15,
        "only {schedules} schedules: the threads do not meet"
    );
}

fn start<T: 'static>(
    world: &Arc<World>,
    run: impl FnOnce(&World) -> T + 'static,
) -> thread::JoinHandle<T> {
    let world = Arc::clone(world);
    thread::spawn(move || run(&world))
}

#[test]
fn loom_put_against_put_of_one_key() {
    model(|world| {
        let other = start(&world, |world| world.put(KEY));
        let (mine, _) = world.put(KEY);
        let (theirs, _) = other.join().unwrap();
        assert_eq!(world.live(KEY), Some(mine.max(theirs)));
        assert_eq!(world.index.stats().classes[0].free, 2);
    });
}

#[test]
fn loom_put_and_remove_against_a_lease() {
    model(|world| {
        world.put(KEY);
        let reader = start(&world, |world| world.get(KEY));
        let remover = start(&world, |world| {
            let mut guard = world.guard();
            let generation = world.generation();
            guard.remove(HASH, KEY, generation);
            generation
        });
        let (put, _) = world.put(KEY);
        let removed = remover.join().unwrap();
        reader.join().unwrap();
        assert_eq!(world.live(KEY), (put > removed).then_some(put));
        let stats = world.index.stats().classes[0];
        assert_eq!(stats.free, if put > removed { 2 } else { 3 });
    });
}

#[test]
fn loom_evict_against_a_lease() {
    model(|world| {
        world.put(KEY);
        let evictor = start(&world, |world| {
            let mut evicted = Vec::new();
            world.guard().evict(0, 1, &mut evicted);
            for gone in evicted {
                world.write(gone.slot, 99);
                world.index.give_back(&[gone.slot]);
            }
        });
        let other = start(&world, |world| world.put(b"other"));
        world.get(KEY);
        evictor.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn loom_a_leased_slot_is_not_handed_out() {
    model(|world| {
        world.put(KEY);
        let reuser = start(&world, |world| {
            let mut guard = world.guard();
            let generation = world.generation();
            guard.remove(HASH, KEY, generation);
            drop(guard);
            let mut taken = Vec::new();
            world.index.take_free(0, 3, &mut taken);
            taken.iter().for_each(|&slot| world.write(slot, 99));
            world.index.give_back(&taken);
        });
        let reader = start(&world, |world| world.get(KEY));
        world.get(KEY);
        reuser.join().unwrap();
        reader.join().unwrap();
        assert_eq!(world.index.stats().classes[0].free, 3);
    });
}

#[test]
fn loom_free_list_hands_a_slot_to_one_owner() {
    fn own_some(world: &World) {
        let mut taken = Vec::new();
        world.index.take_free(0, 2, &mut taken);
        for slot in &taken {
            let before = world.held[slot.0 as usize].fetch_add(1, Ordering::Relaxed);
            assert_eq!(before, 0, "two owners of a slot");
        }
        for slot in &taken {
            world.held[slot.0 as usize].fetch_sub(1, Ordering::Relaxed);
        }
        world.index.give_back(&taken);
    }
    model(|world| {
        let others = [start(&world, own_some), start(&world, own_some)];
        own_some(&world);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(world.index.stats().classes[0].free, 3);
    });
}

#[test]
fn loom_snapshot_against_writers() {
    model(|world| {
        let (standing, _) = world.put(KEY);
        let (passing, _) = world.put(b"passing");
        let writer = start(&world, |world| {
            let mut guard = world.guard();
            let generation = world.generation();
            guard.remove(HASH, b"passing", generation);
            drop(guard);
            world.put(b"new").0
        });
        let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
        while world.guard().snapshot(&mut cursor, 1, &mut |entry| {
            seen.push((entry.key.to_vec(), entry.located.generation));
        }) {}
        let new = writer.join().unwrap();
        assert_eq!(seen.iter().filter(|(key, _)| key == KEY).count(), 1);
        for (key, generation) in &seen {
            let put = match &key[..] {
                KEY => standing,
                b"passing" => passing,
                _ => new,
            };
            assert_eq!(*generation, put, "{key:?}");
        }
    });
}
