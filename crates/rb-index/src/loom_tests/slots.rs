//! Models of a slot: eviction, reuse, the free list, quarantine, and the snapshot.

use super::*;

#[test]
fn loom_evict_against_a_lease() {
    model(Bounds { quick: 5, full: 9 }, 3, |world| {
        world.put(KEY);
        let evictor = start(&world, World::evict);
        let other = start(&world, |world| world.put(OTHER));
        world.get(KEY);
        evictor.join().unwrap();
        other.join().unwrap();
    });
}

/// The shards publish their next victims outside their locks: by the time one is visited, a lease
/// may hold it (both are equally old, so the shard of `FAR` is first). An entry without a lease is
/// found anyway.
#[test]
fn loom_evict_finds_what_is_there() {
    model(Bounds { quick: 9, full: 9 }, 3, |world| {
        world.put(KEY);
        world.put(FAR);
        let reader = start(&world, |world| (world.get(FAR), world.get(FAR)));
        let toucher = start(&world, |world| {
            world.guard(KEY).touch(HASH, KEY, Place::default())
        });
        assert_eq!(world.evict(), 1);
        reader.join().unwrap();
        toucher.join().unwrap();
        assert_eq!(world.counts().live, 1);
    });
}

#[test]
fn loom_slot_reuse_against_a_reader() {
    model(Bounds { quick: 4, full: 8 }, 3, |world| {
        world.put(KEY);
        let reuser = start(&world, |world| {
            world.remove(KEY);
            let mut taken = Vec::new();
            world.index.take_free(0, 3, &mut taken);
            taken.iter().for_each(|&slot| world.write(slot, GARBAGE));
            world.index.give_back(&taken);
        });
        let reader = start(&world, |world| world.get(KEY));
        world.get(KEY);
        reuser.join().unwrap();
        reader.join().unwrap();
        assert_eq!(world.counts().free, 3);
    });
}

#[test]
fn loom_free_list_hands_a_slot_to_one_owner() {
    fn own_some(world: &World) {
        let mut taken = Vec::new();
        world.index.take_free(0, 2, &mut taken);
        // Two concurrent owners of a slot would write without synchronisation.
        taken.iter().for_each(|&slot| world.write(slot, GARBAGE));
        world.index.give_back(&taken);
    }
    model(Bounds { quick: 4, full: 8 }, 3, |world| {
        let others = [start(&world, own_some), start(&world, own_some)];
        let bad = world.index.mark_bad(SlotId(1));
        own_some(&world);
        others.into_iter().for_each(|other| other.join().unwrap());
        let counts = world.counts();
        assert_eq!(
            (counts.free, counts.bad),
            (3 - u64::from(bad), u64::from(bad))
        );
    });
}

/// A failed write lands late, while the slot is quarantined; it is never read, and the slot comes
/// back once.
#[test]
fn loom_quarantine_against_a_late_write() {
    model(Bounds { quick: 3, full: 5 }, 2, |world| {
        let failing = start(&world, |world| {
            let Some(slot) = world.take_slot() else {
                return;
            };
            let reservation = world.reserve(KEY, &[slot], PutMode::Replace);
            world
                .guard(KEY)
                .cancel(reservation.expect("it replaces"), KEY);
            world.index.quarantine(slot);
            world.write(slot, GARBAGE);
            world.index.settle_quarantined(slot, Fate::Free);
        });
        let writer = start(&world, |world| world.put(KEY));
        world.put(OTHER);
        world.get(OTHER);
        failing.join().unwrap();
        writer.join().unwrap();
        let counts = world.counts();
        assert_eq!((counts.quarantined, counts.reserved), (0, 0));
    });
}

/// A slot that waits for its discard goes to one owner. Discarded content is not needed by a
/// restart, and nothing uses the slot in the meantime.
#[test]
fn loom_discard_against_removes_and_puts() {
    model(Bounds { quick: 3, full: 5 }, 2, |world| {
        world.index.discard_freed(0, true);
        world.put(KEY);
        let discarder = start(&world, |world| {
            world.commit();
            let mut taken = Vec::new();
            world.index.take_freed(0, 2, &mut taken);
            let log = world.log.lock().expect("no model panics with it");
            let durable = world.durable.load(Ordering::Relaxed) as usize;
            for &slot in &taken {
                let owner = log[..durable]
                    .iter()
                    .rposition(|record| record.slots.contains(&slot));
                let left = owner.is_none_or(|at| {
                    let later = &log[at + 1..durable];
                    later.iter().any(|record| record.key == log[at].key)
                });
                assert!(
                    left,
                    "a restart would look for {slot:?}, which is discarded"
                );
            }
            drop(log);
            taken.iter().for_each(|&slot| world.write(slot, GARBAGE));
            world.index.discarded(&taken);
        });
        let writer = start(&world, |world| world.put(OTHER));
        world.remove(KEY);
        world.put(KEY);
        world.get(KEY);
        discarder.join().unwrap();
        writer.join().unwrap();
        assert_eq!(world.counts().discarding, 0);
    });
}

#[test]
fn loom_snapshot_against_writers() {
    model(Bounds { quick: 4, full: 8 }, 4, |world| {
        // First in the slab, so that its removal leaves a hole before the entry that stays.
        world.put(OTHER);
        let (standing, _) = world.put(KEY).expect("there are four slots");
        let writer = start(&world, |world| {
            world.remove(OTHER);
            world.put(OTHER).map(|(generation, _)| generation)
        });
        let reader = start(&world, |world| world.get(KEY));
        let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
        while world.guard(KEY).snapshot(&mut cursor, 1, &mut |entry| {
            seen.push((entry.key.to_vec(), entry.located.generation));
        }) {}
        let new = writer.join().unwrap();
        reader.join().unwrap();
        let of = |key: &[u8]| -> Vec<u64> {
            let shown = seen.iter().filter(|(shown, _)| shown == key);
            shown.map(|(_, generation)| *generation).collect()
        };
        assert_eq!(of(KEY), [standing], "what stays is shown exactly once");
        assert!(
            of(OTHER)
                .iter()
                .all(|&shown| shown == 1 || Some(shown) == new),
            "only what was there is shown"
        );
    });
}

/// An eviction leaves no record, so the key may return as long as one of the two newest bases has it.
#[test]
fn loom_a_key_of_a_base_may_return() {
    model(Bounds { quick: 4, full: 8 }, 1, |world| {
        world.put(KEY);
        (0..2).for_each(|_| world.write_base());
        let evictor = start(&world, World::evict);
        let writer = start(&world, |world| (0..2).for_each(|_| world.write_base()));
        let look = |world: &World| {
            let guard = world.guard(KEY);
            let absent = guard.get(HASH, KEY).is_none();
            let bases = world.bases.load(Ordering::Relaxed);
            assert!(!absent || bases & 0b11 == 0 || guard.may_return(HASH));
        };
        look(&world);
        evictor.join().unwrap();
        look(&world);
        writer.join().unwrap();
        (0..2).for_each(|_| world.write_base());
        assert!(!world.guard(KEY).may_return(HASH));
    });
}

/// A put drew its generation before it took its slot, so a later owner of a slot could have the
/// lower one. Recovery takes the highest claim of a slot, and dropped a value that was acknowledged
/// and synced.
#[test]
fn loom_the_owners_of_a_slot_ascend() {
    model(Bounds { quick: 4, full: 6 }, 1, |world| {
        let others = [
            start(&world, |world| world.put(KEY)),
            start(&world, |world| world.put(FAR)),
        ];
        world.put(OTHER);
        world.remove(OTHER);
        others.into_iter().for_each(|other| drop(other.join()));
        world.put(OTHER);
    });
}

/// A put that takes a slot, fails before it writes and gives the slot back does not change the
/// result of a replay.
#[test]
fn loom_take_fail_give_back() {
    model(Bounds { quick: 3, full: 5 }, 2, |world| {
        let failing = start(&world, |world| {
            let Some(slot) = world.take_slot() else {
                return;
            };
            if let Some(reservation) = world.reserve(KEY, &[slot], PutMode::Replace) {
                world.guard(KEY).cancel(reservation, KEY);
            }
            world.index.give_back(&[slot]);
        });
        let writer = start(&world, |world| world.put(FAR));
        world.put(KEY);
        world.remove(KEY);
        world.put(OTHER);
        failing.join().unwrap();
        writer.join().unwrap();
        assert_eq!(world.counts().reserved, 0);
    });
}

/// The slot freed by a replacement or a remove waits for its record: each slot handed out as free
/// is checked against the durable records.
#[test]
fn loom_freed_slots_wait_for_their_records() {
    model(Bounds { quick: 3, full: 5 }, 3, |world| {
        world.put(KEY);
        world.commit();
        let committer = start(&world, World::commit);
        let other = start(&world, |world| world.put(FAR));
        world.put(KEY);
        world.remove(KEY);
        world.put(OTHER);
        committer.join().unwrap();
        other.join().unwrap();
    });
}

/// A put of two slots, an eviction, and readers of a value of two slots: an evicted entry gives both
/// slots, and a lease keeps both.
#[test]
fn loom_several_against_eviction_and_a_lease() {
    model(Bounds { quick: 3, full: 5 }, 4, |world| {
        world.put_several(KEY, 2);
        let evictor = start(&world, |world| {
            let mut evicted = Vec::new();
            let freed = world.index.evict_least(0, 1, &mut evicted);
            let slots: Vec<SlotId> = evicted.iter().flat_map(Evicted::slots).collect();
            assert_eq!(freed, slots.len(), "an eviction gives all slots or none");
            // Every entry of this model has two.
            assert!([0, 2].contains(&freed), "an eviction gave {slots:?}");
            slots.iter().for_each(|slot| world.write(*slot, GARBAGE));
            world.index.free_evicted(&slots);
        });
        let writer = start(&world, |world| world.put_several(OTHER, 2));
        world.get(KEY);
        evictor.join().unwrap();
        writer.join().unwrap();
        world.get(KEY);
        assert_eq!(world.counts().reserved, 0);
    });
}

/// The last lease of a removed value frees all its slots, and none is free before.
#[test]
fn loom_several_are_freed_by_the_last_lease() {
    model(Bounds { quick: 4, full: 8 }, 3, |world| {
        world.put_several(KEY, 2);
        let reuser = start(&world, |world| {
            world.remove(KEY);
            let mut taken = Vec::new();
            world.index.take_free(0, 3, &mut taken);
            world.index.take_early(0, 3 - taken.len(), &mut taken);
            taken.iter().for_each(|&slot| world.write(slot, GARBAGE));
            world.index.give_back(&taken);
        });
        let reader = start(&world, |world| world.get(KEY));
        world.get(KEY);
        reuser.join().unwrap();
        reader.join().unwrap();
        assert_eq!(world.counts().free, 3);
    });
}

/// Runs puts that each need all slots: one evicts everything; each other one evicts that value later, or
/// gets nothing and evicts nothing. None is left with a part.
#[test]
fn loom_collectors_do_not_share_out_the_slots() {
    model(Bounds { quick: 3, full: 5 }, 3, |world| {
        world.put(KEY);
        world.put_several(FAR, 2);
        let others = [
            start(&world, |world| world.put_several(OTHER, 3)),
            start(&world, |world| world.put_several(FAR, 3)),
        ];
        let mine = world.put_several(KEY, 3);
        let others = others.map(|other| other.join().unwrap());
        assert!(
            mine.is_some() || others.iter().any(Option::is_some),
            "three puts of all slots, and none got them"
        );
        assert_eq!(world.counts().reserved, 0);
    });
}
