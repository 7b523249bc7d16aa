//! Tests of every legal number of shards, on real stores: the format has 64 hash ranges regardless of the index.

use std::collections::BTreeMap;
use std::path::Path;

use rb_core::{AuditOptions, AuditState, Store, audit};

use crate::support::{FileFixture, engines, key, value};

const SLOTS: u64 = 2048;
const KEYS: u64 = 1500;

/// The seed of each key's value.
type Known = BTreeMap<u64, u64>;

/// Puts, replaces and removes, with a checkpoint after each round.
fn change(store: &Store, known: &mut Known) {
    for round in 0..4 {
        for n in (0..KEYS).filter(|n| n % 4 == round || n % 7 == 0) {
            store.put(&key(n), &value(n + round, 600)).unwrap();
            known.insert(n, n + round);
        }
        for n in (0..KEYS).filter(|n| n % 5 == round) {
            store.remove(&key(n)).unwrap();
            known.remove(&n);
        }
        store.checkpoint().unwrap();
    }
}

#[track_caller]
fn holds(store: &Store, known: &Known) {
    assert_eq!(store.stats().index.entries, known.len() as u64);
    for n in 0..KEYS {
        let found = store.get(&key(n)).unwrap().map(|found| found.to_vec());
        let wanted = known.get(&n).map(|seed| value(*seed, 600));
        assert!(found == wanted, "key {n}");
    }
    store.audit().unwrap();
}

#[track_caller]
fn is_clean(path: &Path, known: &Known) {
    let options = AuditOptions {
        deep: true,
        ..AuditOptions::default()
    };
    let report = audit(path, &options).unwrap();
    assert_eq!(report.state, AuditState::Clean, "{report:#?}");
    assert_eq!(
        (report.payloads_read, report.unverified),
        (known.len() as u64, 0)
    );
}

/// With 128 to 1,024 shards, which were documented as legal, every checkpoint poisoned the store: a base had a section
/// for each shard, and its directory had space for fewer.
#[test]
fn stores_of_any_legal_number_of_shards_checkpoint_and_return() {
    for engine in engines() {
        for (shards, next) in [(1, 1024), (128, 1), (256, 64), (1024, 256)] {
            let fixture = FileFixture::new(4096, SLOTS).on(engine);
            let with = |fixture: &FileFixture, shards| {
                fixture.open_with(|options| options.shards = Some(shards))
            };
            let mut known = Known::new();
            let store = with(&fixture, shards);
            change(&store, &mut known);
            holds(&store, &known);
            store.sync().unwrap();
            // What a kill leaves, opened with another number.
            let killed = fixture.image();
            is_clean(&killed.path(), &known);
            let after = with(&killed, next);
            holds(&after, &known);
            after.close().unwrap();
            is_clean(&killed.path(), &known);
            // And what a close leaves, with the same.
            store.close().unwrap();
            is_clean(&fixture.path(), &known);
            let again = with(&fixture, shards);
            assert!(again.recovery().clean, "{shards} shards");
            holds(&again, &known);
            change(&again, &mut known);
            holds(&again, &known);
        }
    }
}

/// A number that is not a power of two, or more than 1,024, is refused with a message.
#[test]
fn other_numbers_of_shards_are_refused() {
    let fixture = FileFixture::new(4096, 8);
    for shards in [0, 3, 65, 1000, 2048, u32::MAX] {
        let mut options = fixture.options();
        options.shards = Some(shards);
        let refused = Store::open(fixture.path(), options)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("a power of two from 1 to 1024"),
            "{refused}"
        );
    }
}
