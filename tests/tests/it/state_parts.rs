//! `Store::each_part` shows everything that decides what a store does next: the exhaustive search cuts off states that
//! look the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use rb_core::{Change, HeldLock, Simulator, Store, SwitchPoint};
use rb_io::OpKind;

use crate::support::{EIO, Sim, slots_of};

type Parts = BTreeMap<String, String>;

fn parts(store: &Store) -> Parts {
    let mut parts = Parts::new();
    store.each_part(&mut |name, part| {
        let known = parts.insert(name.to_owned(), part.to_string());
        assert_eq!(known, None, "{name} is shown twice");
    });
    parts
}

/// Returns the names of the parts that differ, without the numbers of shards.
fn changed(before: &Parts, after: &Parts) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    // The lifetime counters change with nearly everything.
    let names = names.filter(|name| *name != "lifetime");
    let differ = names.filter(|name| before.get(*name) != after.get(*name));
    let mut names: Vec<String> = differ
        .map(|name| name.trim_end_matches(|digit: char| digit == ' ' || digit.is_ascii_digit()))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Runs `act`, and returns which parts changed.
fn changed_by<T>(store: &Store, act: impl FnOnce() -> T) -> Vec<String> {
    let before = parts(store);
    act();
    changed(&before, &parts(store))
}

#[test]
fn what_changes_nothing_leaves_every_part_as_it_was() {
    let sim = Sim::new(4);
    let store = sim.open();
    store.put(b"k", b"1").unwrap();
    let nothing: [String; 0] = [];
    assert_eq!(changed_by(&store, || store.contains(b"k")), nothing);
    assert_eq!(changed_by(&store, || store.stats()), nothing);
    assert_eq!(changed_by(&store, || store.put(b"", b"1")), nothing);
    // The same operations over the same bytes lead to the same state.
    let same = |_: u32| {
        let sim = sim.crash();
        let store = sim.open_with(|options| {
            options.random = Arc::new(rb_core::SeededRandom::new(1));
            options.clock = Arc::new(rb_core::ManualClock::new());
        });
        store.put(b"k", b"2").unwrap();
        store.remove(b"k").unwrap();
        parts(&store)
    };
    assert_eq!(same(1), same(2));
}

#[test]
fn each_operation_shows_in_the_parts_that_it_changes() {
    let sim = Sim::new(4);
    let store = sim.open_with(|options| {
        options.shards = Some(1);
        options.clock = Arc::new(rb_core::ManualClock::new());
    });
    let put = changed_by(&store, || store.put(b"a", b"1").unwrap());
    assert_eq!(
        put,
        [
            "class",
            "generation",
            "index",
            "log",
            "shard",
            "slots",
            "ticket"
        ]
    );
    let synced = changed_by(&store, || store.sync().unwrap());
    assert_eq!(synced, ["committer", "log", "slots"]);
    let same_again = changed_by(&store, || store.put(b"a", b"1").unwrap());
    assert!(same_again.contains(&"shard".to_owned()), "{same_again:?}");
    store.put(b"b", b"1").unwrap();
    let order = changed_by(&store, || store.touch_many(&[b"a"]));
    assert_eq!(order, ["shard"]);
    let mut locks = Vec::new();
    let leased = changed_by(&store, || locks = store.lookup_and_pin(&[b"a"]));
    assert_eq!(leased, ["shard"]);
    let leased_twice = changed_by(&store, || locks.extend(store.lookup_and_pin(&[b"a"])));
    assert_eq!(leased_twice, ["shard"]);
    let removed = changed_by(&store, || store.remove(b"a").unwrap());
    assert_eq!(
        removed,
        [
            "class",
            "generation",
            "index",
            "log",
            "shard",
            "slots",
            "ticket"
        ]
    );
    let ended = changed_by(&store, || drop(locks));
    assert_eq!(ended, ["class", "shard", "slots"]);
    let checkpoint = changed_by(&store, || store.checkpoint().unwrap());
    assert!(
        checkpoint.contains(&"checkpointer".to_owned()),
        "{checkpoint:?}"
    );
    let closed = changed_by(&store, || store.close().unwrap());
    assert!(closed.contains(&"gate".to_owned()), "{closed:?}");
}

#[test]
fn an_entry_that_has_been_read_and_a_slot_that_failed_show() {
    let sim = Sim::new(4);
    let store = sim.open();
    store.put(b"a", b"1").unwrap();
    store.sync().unwrap();
    let sim = sim.crash();
    let store = sim.open();
    assert_eq!(changed_by(&store, || drop(store.get(b"a"))), ["shard"]);
    let slots = slots_of(&store);
    sim.device.fail_next(OpKind::Write, slots, EIO);
    let failed = changed_by(&store, || store.put(b"b", b"1").unwrap_err());
    assert!(failed.contains(&"quarantine".to_owned()), "{failed:?}");
    sim.device.fail_next(OpKind::Flush, 0..1, EIO);
    let poisoned = changed_by(&store, || store.sync().unwrap_err());
    assert!(poisoned.contains(&"poison".to_owned()), "{poisoned:?}");
}

/// Compares the parts at points of an operation with those before it.
#[derive(Default)]
struct AtPoints {
    store: Mutex<Option<(Store, Parts)>>,
    seen: Mutex<BTreeMap<SwitchPoint, Vec<String>>>,
}

impl fmt::Debug for AtPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtPoints")
    }
}

impl Simulator for AtPoints {
    fn switch(&self, point: SwitchPoint) {
        let store = self.store.lock().unwrap();
        if let Some((store, before)) = &*store {
            let changed = changed(before, &parts(store));
            self.seen.lock().unwrap().insert(point, changed);
        }
    }

    fn blocked(&self, lock: HeldLock) {
        panic!("{lock:?}");
    }

    fn changed(&self, _: &Change<'_>) {}
}

#[test]
fn what_an_operation_in_progress_has_shows() {
    let sim = Sim::new(2);
    let points = Arc::new(AtPoints::default());
    let store = sim.open_with(|options| options.simulator = Some(points.clone()));
    store.put(b"a", b"1").unwrap();
    let look = |act: &dyn Fn()| {
        let before = parts(&store);
        *points.store.lock().unwrap() = Some((store.clone(), before));
        act();
        *points.store.lock().unwrap() = None;
        std::mem::take(&mut *points.seen.lock().unwrap())
    };
    let has = |seen: &BTreeMap<SwitchPoint, Vec<String>>, point, part: &str| {
        let found = seen
            .get(&point)
            .is_some_and(|parts| parts.iter().any(|name| name == part));
        assert!(found, "{part} at {point:?}: {seen:?}");
    };
    let put = look(&|| {
        store.put(b"b", b"1").unwrap();
    });
    has(&put, SwitchPoint::PutPlanned, "gate");
    has(&put, SwitchPoint::PutAdmitted, "log");
    has(&put, SwitchPoint::Reserved, "generation");
    // The only new part: a put of the key is in progress.
    has(&put, SwitchPoint::Reserved, "shard");
    let put = look(&|| {
        store.put(b"c", b"1").unwrap();
    });
    // The entry is gone, and the observer has not been notified.
    has(&put, SwitchPoint::Evicted, "shard");
    has(&put, SwitchPoint::Evicted, "class");
    let sync = look(&|| store.sync().unwrap());
    has(&sync, SwitchPoint::CommitTaken, "committer");
    let checkpoint = look(&|| store.checkpoint().unwrap());
    has(&checkpoint, SwitchPoint::CheckpointBegins, "checkpointer");
    let close = look(&|| store.close().unwrap());
    has(&close, SwitchPoint::CloseDrained, "held");
}
