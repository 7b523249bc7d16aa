//! Tests of placement ids: each write carries the right id, chosen by the caller or the policy, and slots are reused for
//! the same lifetime class.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rb_core::policy::{
    Admitted, IndexError, Judged, Lru, Place, Policies, PolicyFactory, Purpose, Room, SharedPolicy,
};
use rb_core::{Error, Lifetime, OpenError, Placement, PlacementId, Put, PutOptions, Store};
use rb_io::{Limit, Limits, OpKind};
use rb_testkit::MemOp;

use crate::support::{Sim, key, slots_of, value};

const METADATA: u16 = 1;
/// The ids of the lifetime classes 0 and 1.
const VALUES: [u16; 2] = [3, 4];

fn id(number: u16) -> PlacementId {
    PlacementId(NonZeroU16::new(number).unwrap())
}

fn sim(slots: u64) -> Sim {
    let limits = Limits {
        placements: Some(Limit::new(4, "test")),
        ..Limits::simple(512, 1 << 20, "test")
    };
    Sim::limited(slots, limits, 64, None)
}

fn placement() -> Placement {
    Placement {
        metadata: Some(id(METADATA)),
        lifetimes: VALUES.map(id).to_vec(),
    }
}

fn open(sim: &Sim) -> Store {
    sim.open_with(|options| options.placement = placement())
}

fn put(store: &Store, class: u8, keys: std::ops::Range<u64>) -> Vec<Result<(), Error>> {
    let options = PutOptions {
        lifetime: Some(Lifetime(class)),
        ..PutOptions::default()
    };
    let put = |n: u64| {
        let answers = store.put_many(vec![Put::new(&key(n), &value(n, 3000))], options);
        answers.into_iter().next().unwrap().map(drop)
    };
    keys.map(put).collect()
}

fn writes(sim: &Sim, from: usize) -> Vec<MemOp> {
    let mut ops = sim.device.log().split_off(from);
    ops.retain(|op| op.op == OpKind::Write);
    ops
}

fn slots(store: &Store, keys: std::ops::Range<u64>) -> Vec<u32> {
    let mut slots = Vec::new();
    store.for_each(|entry| {
        slots.extend(
            keys.clone()
                .any(|n| key(n) == *entry.key)
                .then_some(entry.slot),
        );
        true
    });
    slots.sort_unstable();
    slots
}

#[test]
fn every_write_goes_to_the_id_that_it_should() {
    let sim = sim(32);
    let formatted = sim.device.log().len();
    let store = open(&sim);
    for class in [0, 1] {
        let first = u64::from(class) * 8;
        put(&store, class, first..first + 8)
            .into_iter()
            .for_each(Result::unwrap);
    }
    store.sync().unwrap();
    store.checkpoint().unwrap();
    let area = slots_of(&store);
    let of = [slots(&store, 0..8), slots(&store, 8..16)];
    store.close().unwrap();
    let (mut metadata, mut values) = (0, 0);
    for op in writes(&sim, formatted) {
        let id = op.placement.map(|id| id.0.get());
        if !area.contains(&op.offset) {
            assert_eq!(id, Some(METADATA), "{op:?}");
            metadata += 1;
            continue;
        }
        let at = |slot: &u32| store.geometry().slot_offset(*slot) == Some(op.offset);
        let class = usize::from(of[1].iter().any(at));
        assert_eq!(id, Some(VALUES[class]), "{op:?}");
        values += 1;
    }
    // An incarnation block, log blocks, two bases.
    assert!(
        metadata >= 6 && values == 16,
        "{metadata} and {values} writes"
    );
    assert_eq!(
        sim.device.bytes_by_placement()[&Some(id(VALUES[1]))],
        8 * 8192
    );
}

/// Puts that keep existing values took free slots for their own id and returned them as if written with it.
#[test]
fn a_put_that_needs_no_slot_changes_no_id() {
    let sim = sim(8);
    let store = open(&sim);
    for n in 0..8 {
        put(&store, (n % 2) as u8, n..n + 1).remove(0).unwrap();
    }
    let of_class_1 = slots(&store, 7..8);
    (6..8).for_each(|n| drop(store.remove(&key(n))));
    // Until the removes are durable their slots are not free for any class.
    store.sync().unwrap();
    let options = PutOptions {
        mode: rb_core::PutMode::KeepExisting,
        ..PutOptions::default()
    };
    let names = [key(0), key(1)];
    let puts = names.iter().map(|name| Put::new(name, b"other"));
    store.put_many(puts.collect(), options);
    put(&store, 1, 9..10).remove(0).unwrap();
    assert_eq!(slots(&store, 9..10), of_class_1);
}

/// After a restart too: a live entry has the id with which its slot was written.
#[test]
fn a_freed_slot_goes_to_the_class_that_it_had() {
    let sim = sim(16);
    let mut store = open(&sim);
    let keep = |n: u64| n % 2;
    for n in 0..16 {
        put(&store, keep(n) as u8, n..n + 1).remove(0).unwrap();
    }
    for restarted in [false, true] {
        if restarted {
            store.close().unwrap();
            store = open(&sim);
        }
        let mut of_class: [Vec<u32>; 2] = [vec![], vec![]];
        store.for_each(|entry| {
            let n: u64 = std::str::from_utf8(&entry.key[4..])
                .unwrap()
                .parse()
                .unwrap();
            of_class[keep(n) as usize].push(entry.slot);
            true
        });
        for n in 0..16 {
            assert!(store.remove(&key(n)).unwrap().is_some());
        }
        store.sync().unwrap();
        // The class that comes first finds its own slots, not those that were freed first.
        for class in [1, 0] {
            for n in (0..16).filter(|n| keep(*n) == u64::from(class)) {
                put(&store, class, n..n + 1).remove(0).unwrap();
                let slot = slots(&store, n..n + 1)[0];
                assert!(
                    of_class[usize::from(class)].contains(&slot),
                    "restarted: {restarted}"
                );
            }
        }
    }
    assert_eq!(store.stats().index.evictions, 0);
    // When its own are used up, a class takes slots of others rather than evict.
    (0..8).for_each(|n| drop(store.remove(&key(2 * n))));
    put(&store, 1, 20..28).into_iter().for_each(Result::unwrap);
    assert_eq!(store.stats().index.evictions, 0);
    store.audit().unwrap();
}

/// Gives keys the lifetimes 0, 1, 2, 3, 0, ... in the order in which it is asked.
#[derive(Debug, Default)]
struct InTurn(AtomicU8);

impl PolicyFactory for InTurn {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        Ok(Policies {
            shared: Some(Arc::new(InTurn::default())),
            ..Policies::alone(room, || Lru::new(room.slots.len()))
        })
    }
}

impl SharedPolicy for InTurn {
    fn judge(&self, _: Place, _: Purpose, _: &mut [Judged]) {}

    fn admits(&self, _: u8, hashes: &[u64], _: usize) -> Admitted {
        Admitted {
            worth: hashes.len(),
            written: hashes.len(),
        }
    }

    fn next_shard(&self, _: u8) -> Option<usize> {
        None
    }

    fn lifetime(&self, _: u8, _: u64) -> u8 {
        self.0.fetch_add(1, Ordering::Relaxed) % 4
    }
}

/// Each value of a batch goes to the id of the lifetime that the policy expects of its key: with two ids, two of the
/// four lifetimes share one. A class that the caller names comes first.
#[test]
fn the_policy_chooses_the_ids_of_a_batch() {
    for (ids, expected) in [(&[1, 2, 3, 4][..], vec![4; 4]), (&[3, 4], vec![8; 2])] {
        let sim = sim(32);
        let store = sim.open_with(|options| {
            options.policy = Some(Arc::new(InTurn::default()));
            options.placement.lifetimes = ids.iter().copied().map(id).collect();
        });
        let area = slots_of(&store);
        let sent_to = |from: usize| {
            let writes = writes(&sim, from);
            let writes = writes.iter().filter(|op| area.contains(&op.offset));
            let sent: Vec<u16> = writes.map(|op| op.placement.unwrap().0.get()).collect();
            let of = |id: &u16| sent.iter().filter(|sent| *sent == id).count();
            ids.iter().map(of).collect::<Vec<_>>()
        };
        let values: Vec<_> = (0..16).map(|n| (key(n), value(n, 3000))).collect();
        let puts = values.iter().map(|(key, value)| Put::new(key, value));
        let before = sim.device.log().len();
        for answer in store.put_many(puts.collect(), PutOptions::default()) {
            answer.unwrap();
        }
        assert_eq!(sent_to(before), expected);
        let before = sim.device.log().len();
        put(&store, 1, 20..24).into_iter().for_each(Result::unwrap);
        assert_eq!(sent_to(before)[1], 4);
        store.audit().unwrap();
    }
}

#[test]
fn unknown_ids_and_classes_are_refused_with_words() {
    let known = sim(8);
    let unknown = Sim::new(8);
    let too_high = Placement {
        metadata: Some(id(5)),
        lifetimes: vec![],
    };
    let second = Placement {
        metadata: None,
        lifetimes: vec![id(4), id(9)],
    };
    for (sim, placement, words) in [
        (
            &known,
            too_high,
            "placement id 5 for metadata: the device has 1 to 4 (test)",
        ),
        (
            &known,
            second,
            "placement id 9 for lifetime class 1: the device has 1 to 4 (test)",
        ),
        (
            &unknown,
            placement(),
            "placement id 1 for metadata: the device takes none through the engine memory",
        ),
    ] {
        let before = sim.device.counts().writes;
        let refused = sim
            .try_open(|options| options.placement = placement)
            .unwrap_err();
        assert!(
            matches!(refused, OpenError::Placement { .. }),
            "{refused:?}"
        );
        assert_eq!(refused.to_string(), words);
        assert_eq!(sim.device.counts().writes, before);
    }
    let store = open(&known);
    let refused = put(&store, 2, 0..1).remove(0).unwrap_err().to_string();
    assert_eq!(
        refused,
        "lifetime class 2: this store was opened with 2 of them, counted from 0"
    );
}

/// Programs that name classes run on every device: where there are no ids, none are sent.
#[test]
fn without_ids_nothing_is_sent() {
    for sim in [sim(8), Sim::new(8)] {
        let store = sim.open();
        put(&store, 7, 0..8).into_iter().for_each(Result::unwrap);
        store.close().unwrap();
        let placed = sim.device.bytes_by_placement();
        assert_eq!(placed.keys().copied().collect::<Vec<_>>(), [None]);
    }
}
