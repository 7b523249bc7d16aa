//! Tests of full devices: which entries are evicted, which are not, and what is reported (C4, C5).

use rb_core::{ClassRequest, Error, Put, PutOptions, Share};

use crate::support::{FileFixture, KIB, Watch, key, value};

#[test]
fn a_full_store_evicts_the_least_recently_used_and_reports_it() {
    let fixture = FileFixture::new(16 * KIB as u64, 8);
    let watch = Watch::new();
    let store = fixture.open_with(|options| {
        options.shards = Some(1);
        options.events = Some(watch.clone());
    });
    for n in 0..8 {
        store.put(&key(n), &value(n, 1000)).unwrap();
    }
    store.get(&key(0)).unwrap().unwrap();
    store.touch_many(&[&key(1)]);
    store.put(&key(8), &value(8, 1000)).unwrap();
    store.put(&key(9), &value(9, 1000)).unwrap();
    assert_eq!(watch.lines(), ["evicted key-2", "evicted key-3"]);
    assert!(store.contains(&key(0)) && store.contains(&key(1)));
    assert_eq!(store.stats().index.evictions, 2);
    store.audit().unwrap();
}

#[test]
fn the_first_key_of_a_batch_outlives_its_tail() {
    let fixture = FileFixture::new(16 * KIB as u64, 8);
    let store = fixture.open_with(|options| options.shards = Some(1));
    let keys: Vec<_> = (0..8).map(key).collect();
    let puts = keys.iter().map(|k| Put::new(k, b"v")).collect();
    assert!(
        store
            .put_many(puts, PutOptions::default())
            .iter()
            .all(Result::is_ok)
    );
    for n in 0..5 {
        store.put(&key(100 + n), b"v").unwrap();
        let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        assert_eq!(store.longest_prefix(&asked), 7 - n as usize);
    }
}

#[test]
fn recency_survives_a_clean_restart() {
    let fixture = FileFixture::new(16 * KIB as u64, 64);
    let store = fixture.open_with(|options| options.shards = Some(1));
    for n in 0..64 {
        store.put(&key(n), b"v").unwrap();
    }
    // Recency is coarse, so the two halves are used well apart.
    for _ in 0..4 {
        for n in 0..32 {
            store.touch_many(&[&key(n)]);
        }
    }
    store.close().unwrap();
    drop(store);
    let store = fixture.open_with(|options| options.shards = Some(1));
    for n in 0..32 {
        store.put(&key(100 + n), b"v").unwrap();
    }
    assert!(
        (0..32).all(|n| store.contains(&key(n))),
        "the recently used half stayed"
    );
    assert!(
        (32..64).all(|n| !store.contains(&key(n))),
        "the other half was evicted"
    );
}

#[test]
fn leased_slots_are_neither_evicted_nor_reused() {
    let fixture = FileFixture::new(16 * KIB as u64, 4);
    let store = fixture.open();
    for n in 0..4 {
        store.put(&key(n), &value(n, 2000)).unwrap();
    }
    let keys: Vec<_> = (0..4).map(key).collect();
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut pins: Vec<_> = store.lookup_and_pin(&asked).into_iter().flatten().collect();
    assert_eq!(pins.len(), 4);
    assert!(matches!(
        store.put(b"new", b"v"),
        Err(Error::NoSpace {
            slots: 1,
            slot_bytes: 16384
        })
    ));
    // A leased entry can be removed: the entry is gone immediately, its slot when the lease ends.
    assert!(store.remove(&key(1)).unwrap().is_some());
    assert!(store.get(&key(1)).unwrap().is_none());
    assert!(matches!(
        store.put(b"new", b"v"),
        Err(Error::NoSpace { .. })
    ));
    assert_eq!(store.stats().index.classes[0].retired, 1);
    drop(pins.remove(1));
    store.put(b"new", b"v").unwrap();
    assert!(
        store.put(b"newer", &value(0, 16 * KIB)).is_ok(),
        "evicts the unleased one"
    );
    store.unpin(pins);
    for n in [0, 2, 3] {
        assert!(store.get(&key(n)).unwrap().unwrap() == value(n, 2000)[..]);
    }
    store.audit().unwrap();
}

#[test]
fn values_of_mixed_sizes_go_to_the_smallest_class_that_fits() {
    let mib = 1024 * KIB as u64;
    let share = |slot_kib: u64, percent| ClassRequest {
        slot_bytes: slot_kib << 10,
        share: Share::Percent(percent),
    };
    let fixture = FileFixture::with(
        vec![share(64, 25), share(256, 25), share(1024, 50)],
        |options| {
            options.bytes = Some(64 * mib);
        },
    );
    let size = |n: u64| {
        [
            1,
            60 * KIB,
            64 * KIB,
            65 * KIB,
            256 * KIB,
            300 * KIB,
            1024 * KIB,
        ][n as usize % 7]
    };
    let check = |store: &rb_core::Store, when: &str| {
        let mut wrong = 0;
        for n in 0..300 {
            let len = size(n);
            if let Some(found) = store.get(&key(n)).unwrap() {
                wrong += usize::from(found != value(n, len)[..]);
            }
        }
        assert_eq!(wrong, 0, "{when}");
        store.audit().unwrap();
    };
    let store = fixture.open();
    let capacity: Vec<u64> = store
        .stats()
        .index
        .classes
        .iter()
        .map(|c| c.capacity)
        .collect();
    assert_eq!(capacity.len(), 3);
    for n in 0..300 {
        store.put(&key(n), &value(n, size(n))).unwrap();
    }
    let stats = store.stats().index;
    for (class, found) in stats.classes.iter().enumerate() {
        assert_eq!(found.capacity, capacity[class]);
        assert!(found.live > 0, "class {class} is in use: {found:?}");
    }
    // 129 of 300 values are at most 64 KiB; the class has more slots than that and lost none.
    assert_eq!(stats.classes[0].live, 129.min(capacity[0]));
    assert_eq!(
        stats.classes[2].live, capacity[2],
        "the class of the largest is full"
    );
    assert!(stats.evictions > 0);
    check(&store, "before the restart");
    store.close().unwrap();
    drop(store);
    let store = fixture.open();
    assert_eq!(store.stats().index.classes, stats.classes);
    check(&store, "after it");
}
