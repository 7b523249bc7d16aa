//! Tests of what a host that accounts for its values relies on: lengths and classes of what disappears, removes that
//! spare what is in use (C5), listings, budgets, expiry (C1).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rb_core::{
    Arena, ClassRequest, Clock, DropReason, Durability, EntryInfo, Error, Event, Events,
    ListCursor, ListOrder, ManualClock, Put, PutMode, PutOptions, PutOutcome, RemoveMode,
    RemoveOutcome, Share, Store,
};

use crate::support::{Act, FileFixture, KIB, Sim, Watch, base_headers, corrupt, key, value};

/// Key, generation, length and class of an entry.
type Lost = (Vec<u8>, u64, u32, u8);

/// Collects what the store evicts and drops.
#[derive(Debug, Default)]
struct Gone(Mutex<Vec<Lost>>);

impl Events for Gone {
    fn event(&self, event: &Event<'_>) {
        let gone = match *event {
            Event::Evicted {
                key,
                generation,
                len,
                class,
            }
            | Event::Dropped {
                key,
                generation,
                len,
                class,
                reason: DropReason::FailedVerification | DropReason::Expired,
                ..
            } => (key.to_vec(), generation, len, class),
            ref other => panic!("{other:?}"),
        };
        self.0.lock().unwrap().push(gone);
    }
}

/// A store of 12 slots of 4 KiB and 12 of 64 KiB.
fn two_classes() -> FileFixture {
    let class = |slot_bytes, slots| ClassRequest {
        slot_bytes,
        share: Share::Slots(slots),
    };
    FileFixture::with(
        vec![class(4 * KIB as u64, 12), class(64 * KIB as u64, 12)],
        |_| {},
    )
}

#[test]
fn evictions_say_how_much_is_gone() {
    let fixture = two_classes();
    let gone = Arc::new(Gone::default());
    let store = fixture.open_with(|options| options.events = Some(gone.clone()));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in (0..200).map(|n| n * 4 + thread) {
                    let len = match n % 3 {
                        0 => 5000 + n as usize,
                        _ => 100 + n as usize,
                    };
                    store.put(&key(n), &value(n, len)).unwrap();
                }
            });
        }
    });
    let mut left = HashMap::new();
    store.for_each(|entry| left.insert(entry.key.to_vec(), entry.len).is_none());
    let gone = gone.0.lock().unwrap();
    assert_eq!(gone.len() + left.len(), 800, "each key was put once");
    for (name, generation, len, class) in &*gone {
        let n: u64 = std::str::from_utf8(&name[4..]).unwrap().parse().unwrap();
        let put = match n % 3 {
            0 => 5000 + n as u32,
            _ => 100 + n as u32,
        };
        assert!(*generation > 0 && !left.contains_key(name));
        assert_eq!(
            (*len, *class),
            (put, u8::from(n.is_multiple_of(3))),
            "key {n}"
        );
    }
}

#[test]
fn a_dropped_entry_says_how_much_is_gone() {
    let fixture = two_classes();
    let store = fixture.open();
    store.put(&key(0), &value(0, 3000)).unwrap();
    store.put(&key(1), &value(1, 30_000)).unwrap();
    let mut put = Vec::new();
    store.for_each(|entry| {
        let offset = store.geometry().slot_offset(entry.slot).unwrap();
        put.push((entry.key.to_vec(), entry.generation, entry.len, entry.class));
        corrupt(&fixture, offset + 4096, 8);
        true
    });
    store.close().unwrap();
    drop(store);
    let gone = Arc::new(Gone::default());
    let store = fixture.open_with(|options| options.events = Some(gone.clone()));
    for (name, ..) in &put {
        assert!(store.get(name).unwrap().is_none());
    }
    put.sort();
    assert_eq!((put[0].2, put[0].3), (3000, 0));
    assert_eq!((put[1].2, put[1].3), (30_000, 1));
    let mut gone = gone.0.lock().unwrap().clone();
    gone.sort();
    assert_eq!(gone, put);
}

#[test]
fn a_remove_answers_the_freed_length() {
    let fixture = two_classes();
    for durability in [Durability::Interval, Durability::EachBatch] {
        let store = fixture.open_with(|options| options.durability = durability);
        // One slot, one slot of the other class, three slots.
        let lens = [1, 5000, 150_000];
        for (n, len) in (0..).zip(lens) {
            store.put(&key(n), &value(n, len)).unwrap();
        }
        let names: Vec<_> = (0..4).map(key).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        assert_eq!(store.remove(&key(0)).unwrap(), Some(1));
        assert_eq!(store.remove(&key(0)).unwrap(), None);
        let removed = store.remove_many_async(&names[..2]).wait();
        assert!(matches!(removed[..], [Ok(None), Ok(Some(5000))]));
        let removed = store.remove_many(&names);
        assert!(matches!(
            removed[..],
            [Ok(None), Ok(None), Ok(Some(150_000)), Ok(None)]
        ));
        store.close().unwrap();
    }
}

#[test]
fn of_several_removes_one_frees_the_value() {
    let fixture = two_classes();
    let store = fixture.open();
    let freed = AtomicU64::new(0);
    for round in 0..50 {
        store.put(&key(round), &value(round, 1000)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let len = store.remove(&key(round)).unwrap().unwrap_or(0);
                    freed.fetch_add(u64::from(len), Ordering::Relaxed);
                });
            }
        });
    }
    assert_eq!(freed.into_inner(), 50 * 1000);
}

#[test]
fn a_leased_entry_outlives_a_remove_that_spares_it() {
    let sim = Sim::new(8);
    for is_async in [false, true] {
        let store = sim.open();
        store.put(&key(0), &value(0, 3000)).unwrap();
        store.put(&key(1), &value(1, 2000)).unwrap();
        let pins = store.lookup_and_pin(&[&key(0)]);
        let (names, mode) = ([key(0), key(1), key(2)], RemoveMode::UnlessLeased);
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let outcomes = match is_async {
            false => store.remove_many_with(&names, mode),
            true => store.remove_many_with_async(&names, mode).wait(),
        };
        assert!(
            matches!(
                outcomes[..],
                [
                    Ok(RemoveOutcome::Leased),
                    Ok(RemoveOutcome::Removed { len: 2000 }),
                    Ok(RemoveOutcome::Missing)
                ]
            ),
            "{outcomes:?}"
        );
        store.sync().unwrap();
        let after = sim.crash().open();
        assert!(crate::support::holds(&after, 0) && !after.contains(&key(1)));
        store.unpin(pins.into_iter().flatten().collect());
        let outcome = store.remove_many_with(&[&key(0)], mode).remove(0).unwrap();
        assert_eq!(outcome, RemoveOutcome::Removed { len: 3000 });
        // A lease of a former value does not count: the entry is another one.
        store.put(&key(0), b"former").unwrap();
        let former = store.lookup_and_pin(&[&key(0)]);
        store.put(&key(0), b"new").unwrap();
        let outcome = store.remove_many_with(&[&key(0)], mode).remove(0).unwrap();
        assert_eq!(outcome, RemoveOutcome::Removed { len: 3 });
        drop(former);
        store.audit().unwrap();
        store.close().unwrap();
    }
}

/// Pins, removes that spare what is pinned, and puts of what was removed, all at once: what is
/// pinned is there.
#[test]
fn nothing_pinned_is_removed() {
    const ROUNDS: u64 = 1000;
    let fixture = two_classes();
    let store = fixture.open();
    let done = AtomicBool::new(false);
    let (mut leased, mut removed) = (0, 0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let name = key(thread);
                    let pins = store.lookup_and_pin(&[&name]);
                    std::thread::sleep(Duration::from_micros(20));
                    let there = pins[0].is_none() || store.contains(&name);
                    if !there {
                        done.store(true, Ordering::Relaxed);
                    }
                    assert!(there, "a pinned entry was removed");
                }
            });
        }
        for n in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
            let name = key(n % 2);
            match *store.remove_many_with(&[&name], RemoveMode::UnlessLeased)[0]
                .as_ref()
                .unwrap()
            {
                RemoveOutcome::Removed { len } => {
                    assert_eq!(len, 100);
                    removed += 1;
                }
                RemoveOutcome::Leased => leased += 1,
                _ => {}
            }
            let options = PutOptions {
                mode: PutMode::KeepExisting,
                ..PutOptions::default()
            };
            let bytes = value(n, 100);
            let put = store.put_many(vec![Put::new(&name, &bytes)], options);
            assert!(put[0].is_ok());
            if n > ROUNDS && leased > 0 && removed > 0 {
                done.store(true, Ordering::Relaxed);
            }
        }
    });
    store.audit().unwrap();
}

/// The bytes that a host counts from the results of its calls and from events are the bytes that the
/// store has, before and after a restart.
#[test]
fn a_host_knows_how_many_bytes_there_are() {
    let fixture = two_classes();
    let gone = Arc::new(Gone::default());
    let store = fixture.open_with(|options| options.events = Some(gone.clone()));
    let (new, freed) = (AtomicU64::new(0), AtomicU64::new(0));
    let replaced = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, new, freed, replaced) = (&store, &new, &freed, &replaced);
            scope.spawn(move || {
                let count = |count: &AtomicU64, len: usize| {
                    count.fetch_add(len as u64, Ordering::Relaxed);
                };
                for n in 0..300_u64 {
                    let name = key((n * 7 + thread) % 40);
                    let bytes = value(n, 100 + (n as usize * 37) % 9000);
                    let outcome = match n % 4 {
                        0 => store.put_async(&name, &bytes).wait().unwrap(),
                        _ => store.put(&name, &bytes).unwrap(),
                    };
                    match outcome {
                        PutOutcome::Inserted => count(new, bytes.len()),
                        PutOutcome::Replaced { len } => {
                            count(new, bytes.len());
                            count(freed, len as usize);
                            count(replaced, 1);
                        }
                        PutOutcome::Superseded => {}
                        other => panic!("{other:?}"),
                    }
                    if n % 5 == 0 {
                        let removed = store.remove(&name).unwrap().unwrap_or(0);
                        count(freed, removed as usize);
                    }
                }
            });
        }
    });
    let evicted: u64 = gone
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|gone| u64::from(gone.2))
        .sum();
    let expected = new.into_inner() - freed.into_inner() - evicted;
    assert!(evicted > 0 && replaced.into_inner() > 0);
    store.close().unwrap();
    drop(store);
    let store = fixture.open();
    let mut bytes = 0;
    store.for_each(|entry| {
        bytes += u64::from(entry.len);
        true
    });
    assert_eq!(bytes, expected);
}

/// Lists everything in pages; no page is longer than the limit.
fn listed(store: &Store, order: ListOrder, limit: usize) -> Vec<EntryInfo> {
    let (mut all, mut next) = (Vec::new(), Some(ListCursor::from(order)));
    while let Some(from) = next.take() {
        let (page, more) = store.list(from, limit);
        assert!(page.len() <= limit);
        all.extend(page);
        next = more;
    }
    all
}

const ORDERS: [ListOrder; 3] = [
    ListOrder::Any,
    ListOrder::OldestFirst,
    ListOrder::NewestFirst,
];

/// A clock that acts when it is asked for the nth time from now.
#[derive(Default)]
struct ActingClock(Mutex<(u32, Option<Act>)>);

impl std::fmt::Debug for ActingClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ActingClock")
    }
}

impl Clock for ActingClock {
    fn now(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn sleep(&self, _: Duration) {}

    fn wall(&self) -> SystemTime {
        let act = {
            let mut acting = self.0.lock().unwrap();
            acting.0 = acting.0.saturating_sub(1);
            if acting.0 == 0 { acting.1.take() } else { None }
        };
        act.into_iter().for_each(|act| act());
        UNIX_EPOCH + Duration::from_hours(1)
    }
}

/// A page by age scans the index for the ranks, and again for the entries. A key that was replaced between the scans of the
/// last page had a rank above it, and was in no page, though the store had it throughout. Each scan asks for the time first.
#[test]
fn a_key_that_is_replaced_during_a_page_is_listed() {
    let mut acted = 0;
    for (replaced, page, call) in (0..5)
        .flat_map(|key| [1, 2].map(|page| (key, page)))
        .flat_map(|(key, page)| (1..5).map(move |call| (key, page, call)))
    {
        let clock = Arc::new(ActingClock::default());
        let sim = Sim::new(8);
        let store = sim.open_with(|options| {
            options.clock = Arc::clone(&clock) as _;
            options.shards = Some(1);
        });
        (0..5).for_each(|n| assert!(store.put(&key(n), b"value").unwrap().is_written()));
        let (mut found, mut next) = (Vec::new(), Some(ListOrder::OldestFirst.into()));
        for number in 1.. {
            let Some(from): Option<ListCursor> = next else {
                break;
            };
            if number == page {
                let acting = store.clone();
                let act =
                    move || assert!(acting.put(&key(replaced), b"newer").unwrap().is_written());
                *clock.0.lock().unwrap() = (call, Some(Box::new(act)));
            }
            let entries;
            (entries, next) = store.list(from, 3);
            found.extend(entries.into_iter().map(|entry| entry.key.to_vec()));
            if number == page {
                acted += u32::from(clock.0.lock().unwrap().1.take().is_none());
            }
        }
        found.sort();
        found.dedup();
        let all: Vec<_> = (0..5).map(key).collect();
        assert_eq!(found, all, "key {replaced}, page {page}, call {call}");
    }
    assert!(acted >= 20, "{acted}: before the first scan and the second");
}

#[test]
fn a_listing_has_each_entry_once_and_in_its_order() {
    let fixture = FileFixture::new(4 * KIB as u64, 1000);
    let mut store = fixture.open_with(|options| options.shards = Some(4));
    // Put in an order that is not that of the keys, and one key twice.
    let numbers: Vec<u64> = (0..700).map(|n| n * 379 % 700).collect();
    store.put(&key(numbers[600]), b"former").unwrap();
    for &n in &numbers {
        store.put(&key(n), &value(n, 100)).unwrap();
    }
    let names: Vec<Vec<u8>> = numbers.iter().map(|&n| key(n)).collect();
    for restarted in [false, true] {
        for limit in [1, 7, 100, 699, 700, 701, usize::MAX] {
            for order in ORDERS {
                let all = listed(&store, order, limit);
                let mut found: Vec<_> = all.iter().map(|entry| entry.key.to_vec()).collect();
                let ages: Vec<u64> = all.iter().map(|entry| entry.generation).collect();
                match order {
                    ListOrder::Any => found
                        .sort_by_key(|name| names.iter().position(|known| known == name).unwrap()),
                    ListOrder::OldestFirst => assert!(ages.is_sorted()),
                    ListOrder::NewestFirst => found.reverse(),
                }
                assert!(found == names, "{order:?}, pages of {limit}, {restarted}");
            }
        }
        // A cursor of an order outlives the session.
        let (page, next) = store.list(ListOrder::OldestFirst, 300);
        store.close().unwrap();
        assert!(store.list(ListOrder::Any, 10).0.is_empty());
        assert!(store.list(ListOrder::NewestFirst, 10).1.is_none());
        drop(store);
        store = fixture.open_with(|options| options.shards = Some(2));
        let (rest, _) = store.list(next.unwrap(), 400);
        let both = page.iter().chain(&rest).map(|entry| entry.key.to_vec());
        assert!(both.collect::<Vec<_>>() == names);
    }
}

#[test]
fn an_entry_that_stays_is_listed_once_while_others_come_and_go() {
    let fixture = FileFixture::new(4 * KIB as u64, 4000);
    let store = fixture.open_with(|options| options.shards = Some(4));
    for n in 0..500 {
        store.put(&key(n), b"stays").unwrap();
        store.put(&key(10_000 + n), b"goes").unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                for n in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                    let name = key(10_000 + n * 7 % 1000 + 1000 * thread);
                    store.put(&name, b"comes").unwrap();
                    let goes = key(10_000 + n * 11 % 1000 + 1000 * thread);
                    store.remove(&goes).unwrap();
                }
            });
        }
        for limit in [13, 100, 1000] {
            for order in [ListOrder::Any, ListOrder::NewestFirst] {
                let mut found = vec![0; 500];
                for entry in listed(&store, order, limit) {
                    let n: usize = std::str::from_utf8(&entry.key[4..])
                        .unwrap()
                        .parse()
                        .unwrap();
                    if let Some(count) = found.get_mut(n) {
                        *count += 1;
                    }
                }
                assert_eq!(found, vec![1; 500], "{order:?}, pages of {limit}");
            }
        }
        // The oldest first: those that stay are the oldest, except for what else is left from then.
        let mut next = Some(ListCursor::from(ListOrder::OldestFirst));
        let mut found = vec![0; 500];
        let mut ages = Vec::new();
        while found.iter().sum::<i32>() < 500 {
            let (page, more) = store.list(next.take().expect("not all were listed"), 50);
            for entry in page {
                ages.push(entry.generation);
                let n: usize = std::str::from_utf8(&entry.key[4..])
                    .unwrap()
                    .parse()
                    .unwrap();
                if let Some(count) = found.get_mut(n) {
                    *count += 1;
                }
            }
            next = more;
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(found, vec![1; 500]);
        assert!(ages.is_sorted());
    });
    store.audit().unwrap();
}

#[test]
fn a_budget_of_charges_is_what_the_slots_hold() {
    let fixture = two_classes();
    let watch = Watch::new();
    let store = fixture.open_with(|options| options.events = Some(watch.clone()));
    let offset = |slot| store.geometry().slot_offset(slot).unwrap();
    let (small, large) = (offset(1) - offset(0), offset(13) - offset(12));
    let charge = |len| store.charge(len).unwrap();
    assert_eq!([charge(1), charge(4096)], [small; 2]);
    assert_eq!([charge(4097), charge(64 * KIB)], [large; 2]);
    assert_eq!(charge(64 * KIB + 1), 2 * large);
    assert_eq!(charge(12 * 64 * KIB), 12 * large);
    for len in [0, 12 * 64 * KIB + 1] {
        let error = store.charge(len).unwrap_err();
        assert!(matches!(error, Error::ValueLength { .. }), "{error}");
    }
    // Values are put until the budget of the large class is spent: none was evicted, and the next
    // one evicts.
    let mut budget = 12 * large;
    for n in 0.. {
        let len = 5000 + (n as usize * 41_117) % 180_000;
        let bytes = charge(len);
        if bytes > budget {
            break;
        }
        budget -= bytes;
        store.put(&key(n), &value(n, len)).unwrap();
    }
    assert_eq!(watch.lines(), [""; 0]);
    let free = store.stats().index.classes[1].free;
    assert_eq!(free * large, budget);
    // More than what is free, and of the large class.
    let len = (free as usize * 64 * KIB + 1).max(5000);
    store.put(b"too much", &value(0, len)).unwrap();
    assert!(watch.count("evicted") > 0);
}

fn at(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(seconds)
}

/// Opens a store whose time of day the test sets, at `seconds`.
fn timed(sim: &Sim, seconds: f64) -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    clock.set_wall(at(seconds));
    let store = sim.open_with(|options| options.clock = clock.clone());
    (store, clock)
}

fn put_until(store: &Store, n: u64, seconds: f64) -> Result<PutOutcome, Error> {
    let (name, bytes) = (key(n), value(n, 3000));
    let put = Put::new(&name, &bytes).with_expiry(at(seconds));
    store.put_many(vec![put], PutOptions::default()).remove(0)
}

/// One kind of lookup; returns whether a key is there.
type Look = fn(&Store, &[u8]) -> bool;

const LOOKS: [Look; 11] = [
    |store, key| store.get(key).unwrap().is_some(),
    |store, key| store.get_async(key).wait().unwrap().is_some(),
    |store, key| store.get_many(&[key])[0].as_ref().unwrap().is_some(),
    |store, key| {
        let found = store.get_many_into(&[key], &mut [&mut [0; 3000]]).remove(0);
        found.unwrap().is_some()
    },
    |store, key| {
        let arena = Arena::allocate(1 << 16).unwrap();
        let loan = arena.lend_exclusive(0, 1 << 16).unwrap();
        store
            .get_many_at(&[key], vec![loan])
            .remove(0)
            .unwrap()
            .is_some()
    },
    |store, key| store.contains(key),
    |store, key| store.longest_prefix(&[key]) == 1,
    |store, key| store.touch_many(&[key]) == [true],
    |store, key| store.lookup_and_pin(&[key])[0].is_some(),
    |store, key| {
        let mut found = false;
        store.for_each(|entry| {
            found |= *entry.key == *key;
            true
        });
        found
    },
    |store, key| {
        let found = ORDERS.map(|order| {
            let all = listed(store, order, 3);
            all.iter().any(|entry| *entry.key == *key)
        });
        assert!(found == [found[0]; 3]);
        found[0]
    },
];

#[test]
fn no_lookup_finds_an_expired_value() {
    let sim = Sim::new(32);
    let (store, clock) = timed(&sim, 5.0);
    for n in 0..LOOKS.len() as u64 {
        put_until(&store, n, 10.2).unwrap();
    }
    put_until(&store, 20, 12.0).unwrap();
    store.put(&key(21), b"never expires").unwrap();
    let info = listed(&store, ListOrder::OldestFirst, 100);
    // Whole seconds, rounded up.
    assert_eq!(info[0].expires, Some(at(11.0)));
    assert_eq!(
        info.iter().rev().map(|info| info.expires).next(),
        Some(None)
    );
    clock.set_wall(at(10.999));
    for (n, look) in (0..).zip(LOOKS) {
        assert!(look(&store, &key(n)), "lookup {n}, before the time");
    }
    clock.set_wall(at(11.0));
    for (n, look) in (0..).zip(LOOKS) {
        assert!(!look(&store, &key(n)), "lookup {n}, after the time");
        assert!(look(&store, &key(20)) && look(&store, &key(21)));
    }
    // A listing drops nothing; the other lookups drop what they were asked for.
    let dropped = LOOKS.len() - 2;
    let stats = store.stats();
    assert_eq!(stats.expired, dropped as u64);
    assert_eq!((stats.dropped, stats.index.entries), (0, 4));
    assert_eq!(sim.watch.lines()[0], "dropped key-0 Expired");
    assert_eq!(sim.watch.count("dropped"), dropped);
    // What an operation has dropped does not come back with an earlier time.
    clock.set_wall(at(1.0));
    assert!(!store.contains(&key(0)));
    store.audit().unwrap();
}

#[test]
fn a_restart_keeps_the_expiry() {
    let sim = Sim::new(32);
    let (store, _) = timed(&sim, 5.0);
    for n in 0..8 {
        put_until(&store, n, 10.0 + n as f64).unwrap();
    }
    store.sync().unwrap();
    let from_log = sim.crash();
    store.close().unwrap();
    let from_base = sim.crash();
    let from_headers = sim.crash();
    for place in base_headers(store.superblock()) {
        from_headers.device.corrupt(place..place + 64);
    }
    drop(store);
    for (from, sim) in [
        ("log", from_log),
        ("base", from_base),
        ("slot headers", from_headers),
    ] {
        for now in [9.5, 10.0, 13.2, 17.0] {
            let sim = sim.crash();
            let (store, clock) = timed(&sim, now);
            let is_scan = store.recovery().lost_metadata.is_some();
            assert_eq!(is_scan, from == "slot headers");
            for n in 0..8 {
                let found = store.get(&key(n)).unwrap().is_some();
                assert_eq!(found, now < 10.0 + n as f64, "{n} from the {from} at {now}");
            }
            // And again: what expired in this session has no record.
            store.close().unwrap();
            let (store, _) = timed(&sim, now);
            for n in 0..8 {
                let found = store.contains(&key(n));
                assert_eq!(found, now < 10.0 + n as f64, "{n} after a close at {now}");
            }
            drop(clock);
        }
    }
}

#[test]
fn an_expired_entry_yields_to_puts_and_removes() {
    let sim = Sim::new(8);
    let (store, clock) = timed(&sim, 0.0);
    for n in 0..3 {
        put_until(&store, n, 10.0).unwrap();
    }
    let pins = store.lookup_and_pin(&[&key(0)]);
    clock.set_wall(at(10.0));
    // One that keeps, one that replaces, a remove: each reports the former value.
    let keep = PutOptions {
        mode: PutMode::KeepExisting,
        ..PutOptions::default()
    };
    let kept = store
        .put_many(vec![Put::new(&key(0), b"new")], keep)
        .remove(0);
    assert_eq!(kept.unwrap(), PutOutcome::Inserted);
    assert_eq!(sim.watch.take_lines(), ["dropped key-0 Expired"]);
    let replaced = store.put(&key(1), b"new").unwrap();
    assert_eq!(replaced, PutOutcome::Replaced { len: 3000 });
    assert_eq!(store.remove(&key(2)).unwrap(), Some(3000));
    assert_eq!(sim.watch.lines(), [""; 0]);
    assert_eq!(store.get(&key(0)).unwrap().unwrap(), b"new"[..]);
    // The slot of the pinned value is not reused before the pin ends.
    assert_eq!(store.stats().index.classes[0].retired, 1);
    store.unpin(pins.into_iter().flatten().collect());
    assert_eq!(store.stats().index.classes[0].retired, 0);
    // The new values have no expiry.
    clock.set_wall(at(1e9));
    assert_eq!(store.contains_many(&[&key(0), &key(1)]), [true; 2]);
    store.audit().unwrap();
}

#[test]
fn an_expiry_that_is_over_is_refused() {
    let fixture = FileFixture::with(
        vec![ClassRequest {
            slot_bytes: 4 * KIB as u64,
            share: Share::Slots(8),
        }],
        |options| options.formatted_at = 1000,
    );
    let clock = Arc::new(ManualClock::new());
    let store = fixture.open_with(|options| options.clock = clock.clone());
    // The first two at 0 s, before the store was formatted, the others at 2000.5 s.
    for (now, seconds) in [
        (0.0, 500.0),
        (0.0, 1000.0),
        (2000.5, 1999.0),
        (2000.5, 2000.5),
    ] {
        clock.set_wall(at(now));
        let error = put_until(&store, 0, seconds).unwrap_err();
        assert!(matches!(error, Error::Expiry { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            format!(
                "an expiry {:?} after the beginning of 1970: it must be later than {:?}",
                Duration::from_secs_f64(seconds),
                Duration::from_secs_f64(f64::max(now, 1000.0)),
            )
        );
    }
    assert_eq!(store.stats().puts, 0);
    assert!(put_until(&store, 0, 2000.6).is_ok() && store.contains(&key(0)));
    // A time beyond the 4 bytes is the last that they hold.
    put_until(&store, 1, 1e12).unwrap();
    let info = listed(&store, ListOrder::NewestFirst, 1).remove(0);
    assert_eq!(info.expires, Some(at(1000.0 + f64::from(u32::MAX))));
    clock.set_wall(at(1000.0 + f64::from(u32::MAX) - 1.0));
    assert!(store.contains(&key(1)) && !store.contains(&key(0)));
    clock.set_wall(at(1000.0 + f64::from(u32::MAX)));
    assert!(!store.contains(&key(1)));
}

/// Puts and lookups in several threads while time passes. Each value names its time: none is found
/// by a lookup that began after it. Lengths add up.
#[test]
fn nothing_is_served_after_its_time_while_time_passes() {
    let fixture = two_classes();
    let formatted = fixture.open().superblock().formatted_at;
    let gone = Arc::new(Gone::default());
    let clock = Arc::new(ManualClock::new());
    let from = UNIX_EPOCH + Duration::from_secs(formatted);
    clock.set_wall(from);
    let store = fixture.open_with(|options| {
        options.clock = clock.clone();
        options.events = Some(gone.clone());
    });
    let now = || clock.wall().duration_since(from).unwrap();
    let (new, freed, hits) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let (store, clock, now) = (&store, &clock, &now);
            let (new, freed, hits) = (&new, &freed, &hits);
            scope.spawn(move || {
                for n in 0..1500_u64 {
                    let name = key((n * 7 + thread) % 16);
                    let before = now();
                    if let Some(found) = store.get(&name).unwrap() {
                        let until: [u8; 8] = found[..8].try_into().unwrap();
                        let until = Duration::from_secs(u64::from_le_bytes(until));
                        assert!(before < until, "found at {before:?}, expired at {until:?}");
                        hits.fetch_add(1, Ordering::Relaxed);
                    }
                    let until = now().as_secs() + 1 + n % 4;
                    let bytes = [&until.to_le_bytes()[..], &value(n, 100)].concat();
                    let put =
                        Put::new(&name, &bytes).with_expiry(from + Duration::from_secs(until));
                    let mode = match n % 3 {
                        0 => PutMode::Replace,
                        _ => PutMode::KeepExisting,
                    };
                    let options = PutOptions {
                        mode,
                        ..PutOptions::default()
                    };
                    match store.put_many(vec![put], options).remove(0) {
                        Ok(outcome) => {
                            let written = if outcome.is_written() { 108 } else { 0 };
                            new.fetch_add(written, Ordering::Relaxed);
                            if let PutOutcome::Replaced { len } = outcome {
                                freed.fetch_add(len.into(), Ordering::Relaxed);
                            }
                        }
                        Err(Error::Expiry { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    clock.advance(Duration::from_millis(40));
                }
            });
        }
    });
    let dropped = gone.0.lock().unwrap();
    let expired: u64 = dropped.iter().map(|gone| u64::from(gone.2)).sum();
    assert!(expired > 0 && hits.into_inner() > 100);
    assert!(store.stats().expired > 0);
    let left = store.stats().index.entries * 108;
    assert_eq!(new.into_inner() - freed.into_inner() - expired, left);
    store.audit().unwrap();
}
