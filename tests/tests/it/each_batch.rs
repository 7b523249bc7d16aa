//! Tests of what `EachBatch` promises beyond its own writes: results that refer to durable values, and the value that
//! was there before (C2). Also tests that an observer is notified of an eviction before a base makes it durable.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rb_core::{Durability, Put, PutMode, PutOptions, PutOutcome, PutResult, Store, StoreOptions};
use rb_io::OpKind;
use rb_testkit::Moment;

use crate::support::{AtEviction, Sim, slots_of};

pub(crate) const EACH: PutOptions = PutOptions {
    mode: PutMode::Replace,
    durability: Some(Durability::EachBatch),
    lifetime: None,
    hints: rb_core::Hints::new(),
};
const KEEP: PutOptions = PutOptions {
    mode: PutMode::KeepExisting,
    ..EACH
};

fn put(store: &Store, key: &[u8], value: &[u8], options: PutOptions) -> PutResult {
    store
        .put_many(vec![Put::new(key, value)], options)
        .remove(0)
}

fn put_async(store: &Store, key: &[u8], value: &[u8], options: PutOptions) -> PutResult {
    let operation = store.put_many_async(vec![Put::new(key, value)], options);
    operation.wait().remove(0)
}

fn found(sim: &Sim, key: &[u8]) -> Option<Vec<u8>> {
    let found = sim.crash().open().get(key).unwrap();
    found.map(|value| value.to_vec())
}

type PutAs = fn(&Store, &[u8], &[u8], PutOptions) -> PutResult;
const WAYS: [PutAs; 2] = [put, put_async];

/// A put that keeps existing values completed immediately. After a crash the value it referred to was gone, and the
/// caller, which had learned that it exists, never put it again.
#[test]
fn a_key_that_is_reported_to_exist_is_there_after_a_crash() {
    for put_as in WAYS {
        let sim = Sim::new(4);
        let store = sim.open();
        store.put(b"k", b"first").unwrap();
        let answer = put_as(&store, b"k", b"second", KEEP).unwrap();
        assert_eq!(answer, PutOutcome::Existed);
        assert_eq!(found(&sim, b"k").as_deref(), Some(&b"first"[..]));
    }
}

/// If every duplicate flushed, an engine that stores existing values would wait for the device each time.
#[test]
fn a_durable_key_is_reported_to_exist_without_a_flush() {
    let sim = Sim::new(4);
    let store = sim.open();
    store.put(b"k", b"first").unwrap();
    store.sync().unwrap();
    // Neither its shard's other keys nor the rest of the log matter.
    store.put(b"other", b"not durable").unwrap();
    let flushes = sim.device.counts().flushes;
    for put_as in WAYS {
        assert_eq!(
            put_as(&store, b"k", b"second", KEEP).unwrap(),
            PutOutcome::Existed
        );
    }
    assert_eq!(sim.device.counts().flushes, flushes);
}

/// A put that was superseded while it was written completed before the newer value was durable.
#[test]
fn what_superseded_a_put_is_there_after_a_crash() {
    for (removes, put_as) in [
        (false, put as PutAs),
        (true, put),
        (false, put_async),
        (true, put_async),
    ] {
        let sim = Sim::new(4);
        let store = sim.open();
        put(&store, b"k", b"former", EACH).unwrap();
        let overtaking = Mutex::new(Some(store.clone()));
        let slots = slots_of(&store);
        sim.device.observe(move |moment, ops| {
            let writes =
                |op: &rb_testkit::MemOp| op.op == OpKind::Write && slots.contains(&op.offset);
            if moment == Moment::Before && ops.iter().any(writes) {
                let Some(store) = overtaking.lock().unwrap().take() else {
                    return;
                };
                match removes {
                    true => drop(store.remove(b"k").unwrap()),
                    false => drop(store.put(b"k", b"later").unwrap()),
                }
            }
        });
        let answer = put_as(&store, b"k", b"overtaken", EACH).unwrap();
        assert_eq!(answer, PutOutcome::Superseded);
        let expected = (!removes).then_some(&b"later"[..]);
        assert_eq!(found(&sim, b"k").as_deref(), expected);
    }
}

/// The slot of the former value was free as soon as its replacement was published. Another put overwrote it before the
/// replacement was durable: a crash then found neither.
#[test]
fn the_former_value_stays_until_its_replacement_is_durable() {
    let sim = Sim::new(3);
    let store = sim.open();
    put(&store, b"k", b"former", EACH).unwrap();
    // Only flushes touch this byte.
    sim.device.hold(0..1);
    let replacing = {
        let store = store.clone();
        std::thread::spawn(move || put(&store, b"k", b"replacement", EACH))
    };
    sim.wait_for_held(1);
    for key in [b"a", b"b"] {
        put(&store, key, b"another", PutOptions::default()).unwrap();
    }
    assert_eq!(
        store.stats().index.evictions,
        1,
        "rather than write over it"
    );
    assert_eq!(found(&sim, b"k").as_deref(), Some(&b"former"[..]));
    sim.device.release();
    assert!(replacing.join().unwrap().unwrap().is_written());
}

/// If every other slot is leased, a put commits rather than fail: the waiting slots are free then.
#[test]
fn a_put_commits_for_slots_that_wait_for_nothing_else() {
    let sim = Sim::new(2);
    let store = sim.open_with(|options| options.durability = Durability::EachBatch);
    store.put(b"a", b"1").unwrap();
    store.put(b"b", b"1").unwrap();
    let locks = store.lookup_and_pin(&[b"a"]);
    assert!(locks[0].is_some());
    sim.device.hold(0..1);
    let (removing, putting) = (store.clone(), store.clone());
    let removing = std::thread::spawn(move || removing.remove(b"b"));
    sim.wait_for_held(1);
    let putting = std::thread::spawn(move || putting.put(b"c", b"1"));
    // It waits for the commit that is under way.
    std::thread::sleep(Duration::from_millis(100));
    assert!(!putting.is_finished());
    sim.device.release();
    assert!(removing.join().unwrap().unwrap().is_some());
    assert!(putting.join().unwrap().unwrap().is_written());
    let index = store.stats().index;
    assert_eq!((index.evictions, index.classes[0].taken_early), (0, 0));
}

/// Returns what a crash leaves of `evicted` right after the observer was notified of its eviction and `act` has run.
fn after_eviction(act: fn(&Store)) -> Option<Vec<u8>> {
    let sim = Arc::new(Sim::new(2));
    let observer = AtEviction::new();
    let events = Arc::clone(&observer);
    let store = sim.open_with(|options: &mut StoreOptions| options.events = Some(events));
    store.put(b"evicted", b"1").unwrap();
    store.put(b"stays", b"1").unwrap();
    store.sync().unwrap();
    let seen = Arc::new(Mutex::new(None));
    let (crashed, result, acting) = (Arc::clone(&sim), Arc::clone(&seen), store.clone());
    observer.set(move || {
        assert!(
            !acting.contains(b"evicted"),
            "it is the one that was evicted"
        );
        act(&acting);
        *result.lock().unwrap() = Some(found(&crashed, b"evicted"));
    });
    store.put(b"new", b"1").unwrap();
    let seen = seen.lock().unwrap().take();
    seen.expect("the observer was notified")
}

/// A checkpoint between an eviction and its notification made the eviction durable: after a crash the key was gone, and
/// no observer had been notified.
#[test]
fn a_base_keeps_what_is_evicted_until_the_observer_knows() {
    let left = after_eviction(|store| store.checkpoint().unwrap());
    assert_eq!(left.as_deref(), Some(&b"1"[..]));
}

/// A base that still has the evicted entry must not undo a remove whose record lies before its position.
#[test]
fn a_base_does_not_undo_a_remove_of_what_is_evicted() {
    let left = after_eviction(|store| {
        store.remove(b"evicted").unwrap();
        store.checkpoint().unwrap();
    });
    assert_eq!(left, None);
}
