//! Models of the learned policy: its shards show the ends of their lists, a shared search compares them, and lookups are
//! judged with no lock of a shard held.

use super::*;

static LEARNED: std::sync::LazyLock<Learned> = std::sync::LazyLock::new(Learned::default);

fn learned<F: Fn(Arc<World>) + Sync + Send + 'static>(bounds: Bounds, slots: u32, threads: F) {
    model_of(Some(&*LEARNED), bounds, slots, threads);
}

impl World {
    /// Looks up a batch as a store does: first shard by shard, then all keys together are judged, then the leases end.
    fn look_up(&self, keys: &[&[u8]]) {
        let batch = self.index.begin_batch(keys.len());
        let leases: Vec<Option<Lease>> = (0..)
            .zip(keys)
            .map(|(at, key)| self.guard(key).lease(hash(key), key, batch.at(at)))
            .collect();
        let judged = keys.iter().zip(&leases).map(|(key, lease)| Judged {
            hash: hash(key),
            found: lease.is_some(),
            note: lease.as_ref().map_or(Note::default(), Lease::note),
        });
        let mut judged: Vec<Judged> = judged.collect();
        self.index.judge(batch, Purpose::Lease, &mut judged);
        for ((key, lease), judged) in keys.iter().zip(leases).zip(judged) {
            if let Some(mut lease) = lease {
                self.read(&lease);
                lease.set_note(judged.note);
                self.guard(key).release(lease);
            }
        }
    }

    /// Evicts for a new key, if the policy admits it, and gives the slot back.
    fn evict_for(&self, key: &[u8]) -> (usize, bool) {
        let mut evicted = Vec::new();
        let (slots, refused) = self.index.evict_for(0, &[Some(hash(key))], &mut evicted);
        assert_eq!(slots, evicted.len(), "every entry has one slot");
        self.give_back(evicted);
        (slots, refused)
    }
}

/// The search remembers the end of a list that a lease, a touch or another eviction has taken since. An entry without a
/// lease is found anyway.
#[test]
fn loom_learned_evicts_what_is_there() {
    learned(Bounds { quick: 3, full: 5 }, 3, |world| {
        world.put(KEY);
        world.put(FAR);
        let reader = start(&world, |world| world.look_up(&[FAR]));
        let toucher = start(&world, |world| {
            world.guard(KEY).touch(HASH, KEY, Place::default())
        });
        assert_eq!(world.evict(), 1);
        reader.join().unwrap();
        toucher.join().unwrap();
        assert_eq!(world.counts().live, 1);
    });
}

/// A batch is judged while its keys are evicted, removed and put: its notes reach entries that may have gone, and the
/// lists stay whole.
#[test]
fn loom_learned_judges_what_others_change() {
    learned(Bounds { quick: 2, full: 4 }, 2, |world| {
        world.put(KEY);
        let reader = start(&world, |world| world.look_up(&[KEY, OTHER]));
        let writer = start(&world, |world| {
            world.remove(KEY);
            world.put(OTHER)
        });
        world.look_up(&[FAR, KEY]);
        world.put(FAR);
        reader.join().unwrap();
        writer.join().unwrap();
        // What is there can be evicted, all of it.
        let live = world.counts().live as usize;
        let mut evicted = Vec::new();
        assert_eq!(world.index.evict_least(0, live, &mut evicted), live);
        world.give_back(evicted);
    });
}

/// With one entry there, one of two evictions for new keys gets it. The other is refused, or finds nothing.
#[test]
fn loom_learned_evicts_an_entry_once() {
    learned(Bounds { quick: 4, full: 7 }, 2, |world| {
        world.put(KEY);
        let others = [FAR, OTHER].map(|key| start(&world, move |world| world.evict_for(key)));
        world.look_up(&[KEY]);
        let [one, other] = others.map(|other| other.join().unwrap());
        let live = world.counts().live as usize;
        assert_eq!(one.0 + other.0 + live, 1, "{one:?} {other:?}");
        // Both may have met the lease, which has ended.
        let (slots, refused) = world.evict_for(FAR);
        assert!(slots == live || refused, "{slots} of {live}");
    });
}
