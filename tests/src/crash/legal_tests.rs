//! Tests the oracle on handmade histories: each exception holds, and nothing beyond it.

use super::super::history::{Reuse, State, Step, Why};
use super::super::legal::LegalKey;
use super::super::oracle::Oracle;
use super::super::values::slots_of;
use super::super::version::{ABSENT, KEYS, Version};

const SLOT: u32 = 3;

/// A key with two versions: 1 in [`SLOT`], durable since step 4, and 2, put at step 6.
fn replaced(each_batch: bool) -> Oracle {
    let mut oracle = Oracle::new();
    put(&mut oracle, 1, SLOT, 2, false);
    oracle.durable(0, 1, 4, Why::Sync);
    put(&mut oracle, 2, SLOT + 1, 6, each_batch);
    oracle
}

fn put(oracle: &mut Oracle, version: Version, slot: u32, at: Step, each_batch: bool) {
    let state = State {
        each_batch,
        ..State::new(version, version.into(), vec![slot], at)
    };
    let number = oracle.put(0, state).unwrap();
    oracle.answered(0, number);
}

fn legal(oracle: &Oracle, at: Step) -> Vec<Version> {
    key(oracle, at, false).versions
}

fn key(oracle: &Oracle, at: Step, loses: bool) -> LegalKey {
    oracle.legal_at(at, &|_, _| loses).keys.swap_remove(0)
}

#[test]
fn what_is_durable_is_there_or_something_later() {
    let oracle = replaced(false);
    // Until step 4 the first put may be lost; the second one took effect after 6 steps.
    let expected = [
        (2, vec![ABSENT]),
        (3, vec![ABSENT, 1]),
        (4, vec![1]),
        (6, vec![1]),
        (7, vec![1, 2]),
    ];
    for (at, versions) in expected {
        assert_eq!(legal(&oracle, at), versions, "at step {at}");
    }
    let why = oracle.explain(7, 0, ABSENT);
    assert!(
        why.contains("version 1 is durable because of a sync"),
        "{why}"
    );
    let why = oracle.explain(6, 0, 2);
    assert!(why.contains("put at step 6, after the crash"), "{why}");
}

#[test]
fn what_was_replaced_or_removed_durably_does_not_return() {
    let mut oracle = replaced(false);
    oracle.durable(0, 2, 9, Why::Sync);
    assert_eq!(legal(&oracle, 9), [2]);
    let (removed, was_there) = oracle.removed(0, State::new(ABSENT, 3, Vec::new(), 10));
    assert!(was_there);
    assert_eq!(legal(&oracle, 11), [ABSENT, 2]);
    oracle.durable(0, removed, 12, Why::Sync);
    assert_eq!(legal(&oracle, 12), [ABSENT]);
    let why = oracle.explain(12, 0, 2);
    assert!(
        why.contains("it was changed to version 0, and version 0 is durable"),
        "{why}"
    );
}

/// An evicted key may be missing once the observer was notified, and may still return.
#[test]
fn an_eviction_must_be_reported_before_it_can_be_found() {
    let mut oracle = replaced(false);
    oracle.durable(0, 2, 8, Why::Answered);
    oracle.evicted(0, 2, &[SLOT + 1]).unwrap();
    assert_eq!(legal(&oracle, 20), [2]);
    assert!(
        oracle
            .explain(20, 0, ABSENT)
            .contains("the observer notified never")
    );
    oracle.notified(0, 2, 12).unwrap();
    assert_eq!(legal(&oracle, 12), [2]);
    assert_eq!(legal(&oracle, 13), [ABSENT, 2]);
    assert!(
        oracle.notified(0, 1, 13).is_err(),
        "version 1 was not evicted"
    );
}

/// C2: a former value's slot may be reused before its change is durable only if the store reports it, and never if the
/// change completes only once it is durable.
#[test]
fn an_early_reuse_must_be_reported() {
    for (each_batch, early, missing) in [
        (false, true, true),
        (false, false, false),
        (true, true, false),
    ] {
        let mut oracle = replaced(each_batch);
        assert_eq!(oracle.taken(SLOT, Reuse { at: 7, early }), Ok(()));
        assert_eq!(legal(&oracle, 7), [1, 2], "not taken yet");
        let versions: &[Version] = if missing { &[ABSENT, 1, 2] } else { &[1, 2] };
        assert_eq!(
            legal(&oracle, 8),
            versions,
            "each batch {each_batch}, early {early}"
        );
        let why = oracle.explain(8, 0, ABSENT);
        assert!(why.contains("was used again at step 7"), "{why}");
        // Once the change is durable, the former value does not matter.
        oracle.durable(0, 2, 10, Why::Sync);
        assert_eq!(legal(&oracle, 10), [2]);
    }
    let mut oracle = replaced(false);
    let live = oracle.taken(SLOT + 1, Reuse { at: 7, early: true });
    assert!(live.is_err(), "the key's value is in that slot");
}

/// A record may reach the device without the bytes: then the entry is there, and its read is a miss. This must not
/// happen to durable values.
#[test]
fn only_what_is_not_durable_may_be_hollow() {
    let oracle = replaced(false);
    let legal = key(&oracle, 8, true);
    assert_eq!(
        (legal.versions.as_slice(), legal.hollow.as_slice()),
        (&[1, 2][..], &[2][..])
    );
    assert!(legal.may_miss(2) && !legal.may_miss(1));
    assert_eq!(key(&oracle, 8, false).hollow, [] as [Version; 0]);
}

#[test]
fn gets_and_results_are_judged_by_what_was_there_during_the_operation() {
    let mut oracle = replaced(false);
    let since = oracle.since(&[0])[0];
    assert!(oracle.was(0, since, 2, 2) && !oracle.was(0, since, 1, 1));
    assert_eq!(
        (oracle.first_live(0, since), oracle.first_change(0, since)),
        (Some(2), None)
    );
    oracle.missed(0, since);
    assert!(
        oracle.clone().settle().is_err(),
        "nothing explains the miss"
    );
    oracle.evicted(0, 2, &[SLOT + 1]).unwrap();
    assert_eq!(oracle.settle(), Ok(()));
    let later = oracle.since(&[0])[0];
    assert!(!oracle.was(0, later, 2, 2), "it was gone before");
    assert_eq!(oracle.first_live(0, later), None);
    put(&mut oracle, 3, SLOT, 9, false);
    assert!(oracle.was(0, later, 3, 3));
    assert_eq!(oracle.first_change(0, later), Some(3));
    assert!(oracle.dropped(0, 3).is_err(), "its bytes are sound");
    let again = State::new(4, 3, vec![SLOT], 10);
    assert!(oracle.put(0, again).is_err(), "generation 3 was used");
}

/// The entries that a restart finds are compared with what the run left, and are durable from then on.
#[test]
fn a_restart_without_a_crash_loses_nothing() {
    let found = |first| {
        let mut found: Vec<Option<(Version, u64, Vec<u32>)>> = vec![None; KEYS];
        found[0] = first;
        found
    };
    let mut oracle = replaced(false);
    oracle.durable(0, 2, 8, Why::Close);
    let illegal = oracle.opened(&found(Some((2, 2, vec![SLOT + 1]))), 9);
    assert!(illegal.is_empty());
    for (lost, words) in [
        (None, "key 0 is missing"),
        (Some((1, 1, vec![SLOT])), "key 0 is version 1"),
    ] {
        let mut oracle = oracle.clone();
        assert_eq!(oracle.opened(&found(lost), 9), [0]);
        let why = oracle.explain_restart(0);
        assert!(
            why.starts_with(words) && why.contains("because of a close"),
            "{why}"
        );
    }
}

/// A version that fills three slots.
fn version_of_three() -> Version {
    first_of(3, 10)
}

/// The first version from `from` on that fills so many slots.
fn first_of(slots: usize, from: Version) -> Version {
    let mut versions = from..;
    let found = versions.find(|version| slots_of(*version) == slots);
    found.unwrap_or_default()
}

/// The values 1 in [`SLOT`] and, since step 6, a value in the slots 7, 4 and 9.
fn grown() -> (Oracle, Version) {
    let (mut oracle, version) = (Oracle::new(), version_of_three());
    put(&mut oracle, 1, SLOT, 2, false);
    oracle.durable(0, 1, 4, Why::Sync);
    let state = State::new(version, version.into(), vec![7, 4, 9], 6);
    let number = oracle.put(0, state).unwrap();
    oracle.answered(0, number);
    (oracle, version)
}

/// Every slot of a value counts, not only the first: for taking, for reuse, for bytes that a crash loses, for eviction.
#[test]
fn a_value_of_several_slots_has_all_of_them() {
    let (oracle, version) = grown();
    let next = first_of(1, version);
    for slot in [7, 4, 9] {
        let mut oracle = oracle.clone();
        let reuse = Reuse { at: 7, early: true };
        let taken = oracle.taken(slot, reuse);
        assert!(
            taken.is_err_and(|why| why.contains("the value of key 0 is in it")),
            "slot {slot}"
        );
        let other = State::new(1, 1000, vec![slot], 7);
        let put = oracle.put(1, other);
        assert!(
            put.is_err_and(|why| why.contains("the value of key 0 is in it")),
            "slot {slot}"
        );
    }
    for lost in [7, 4, 9] {
        let loses = |slot: u32, _: Step| slot == lost;
        let key = oracle.legal_at(8, &loses).keys.swap_remove(0);
        assert!(key.may_miss(version), "slot {lost}");
    }
    let key = oracle
        .legal_at(8, &|slot, _| slot == SLOT)
        .keys
        .swap_remove(0);
    assert!(!key.may_miss(version));
    for slot in [7, 4, 9] {
        let mut oracle = oracle.clone();
        oracle.durable(0, 2, 8, Why::Sync);
        put(&mut oracle, next, 8, 9, false);
        assert_eq!(legal(&oracle, 12), [version, next]);
        let reuse = Reuse {
            at: 10,
            early: true,
        };
        assert_eq!(oracle.taken(slot, reuse), Ok(()));
        assert_eq!(legal(&oracle, 12), [ABSENT, version, next], "slot {slot}");
    }
    for part in [&[7][..], &[7, 4], &[4, 7, 9], &[7, 4, 9, 3]] {
        let evicted = oracle.clone().evicted(0, version.into(), part);
        assert!(evicted.is_err_and(|why| why.contains("it had [7, 4, 9]")));
    }
    assert_eq!(
        oracle.clone().evicted(0, version.into(), &[7, 4, 9]),
        Ok(())
    );
}

#[test]
fn a_put_names_as_many_slots_as_its_value_fills_each_once() {
    let version = version_of_three();
    for (slots, words) in [
        (vec![7], "and fills 3"),
        (vec![7, 4], "and fills 3"),
        (vec![7, 4, 9, 2], "and fills 3"),
        (vec![7, 4, 7], "twice"),
    ] {
        let state = State::new(version, version.into(), slots, 6);
        let put = Oracle::new().put(0, state);
        assert!(put.is_err_and(|why| why.contains(words)));
    }
}
