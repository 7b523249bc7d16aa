//! Models of a key: puts, removes, leases, verification, and the order of records.

use super::*;

#[test]
fn loom_put_against_put_of_one_key() {
    model(Bounds { quick: 4, full: 6 }, 3, |world| {
        let others = [
            start(&world, |world| world.put(KEY)),
            start(&world, |world| world.put(KEY)),
        ];
        let mut last = world.put(KEY).map(|(generation, _)| generation);
        for other in others {
            last = last.max(other.join().unwrap().map(|(generation, _)| generation));
        }
        assert_eq!(world.live(KEY), last);
        assert_eq!(world.counts().free, 2);
    });
}

#[test]
fn loom_put_that_keeps_against_put_that_replaces() {
    model(Bounds { quick: 4, full: 8 }, 3, |world| {
        let keeper = start(&world, |world| world.put_as(KEY, PutMode::KeepExisting));
        let remover = start(&world, |world| world.remove(KEY));
        let (replaced, published) = world.put(KEY).expect("there are three slots");
        let kept = keeper.join().unwrap();
        let removed = remover.join().unwrap();
        if replaced > removed {
            assert!(matches!(
                published,
                Published::Inserted | Published::Replaced { .. } | Published::Superseded
            ));
            assert!(world.live(KEY).is_some(), "nothing came after the put");
        }
        if let (Some((_, Published::Replaced { .. })), _) | (_, Published::Exists) =
            (kept, published)
        {
            panic!("one that keeps replaced, or one that replaces kept");
        }
    });
}

#[test]
fn loom_put_and_remove_against_a_lease() {
    model(Bounds { quick: 4, full: 7 }, 3, |world| {
        world.put(KEY);
        let reader = start(&world, |world| world.get(KEY));
        let remover = start(&world, |world| world.remove(KEY));
        let (put, _) = world.put(KEY).expect("there are three slots");
        let removed = remover.join().unwrap();
        reader.join().unwrap();
        assert_eq!(world.live(KEY), (put > removed).then_some(put));
        assert_eq!(world.counts().free, if put > removed { 2 } else { 3 });
    });
}

/// With two slots, puts evict each other's entries: the older one must not be published after the
/// newer, even when no trace of the newer remains.
#[test]
fn loom_log_order_is_the_order_of_changes() {
    model(Bounds { quick: 3, full: 5 }, 2, |world| {
        let threads = [
            start(&world, |world| world.put(KEY)),
            start(&world, |world| world.put(KEY)),
        ];
        world.put(OTHER);
        world.put(FAR);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(world.counts().reserved, 0);
    });
}

/// A failed verification invalidates exactly the generation that was read.
#[test]
fn loom_invalidate_against_put() {
    model(Bounds { quick: 4, full: 8 }, 3, |world| {
        let (first, _) = world.put(KEY).expect("there are three slots");
        let reader = start(&world, |world| {
            let lease = world.guard(KEY).lease(HASH, KEY, Place::default())?;
            let generation = world.read(&lease);
            world.guard(KEY).invalidate(&lease);
            world.guard(KEY).release(lease);
            Some(generation)
        });
        let validator = start(&world, move |world| {
            world.guard(KEY).invalidate_generation(HASH, KEY, first)
        });
        let (second, _) = world.put(KEY).expect("there are three slots");
        validator.join().unwrap();
        let forgotten = reader.join().unwrap();
        assert_eq!(
            world.live(KEY),
            (forgotten != Some(second)).then_some(second)
        );
        let expected = if world.live(KEY).is_some() { 2 } else { 3 };
        assert_eq!(world.counts().free, expected);
    });
}
