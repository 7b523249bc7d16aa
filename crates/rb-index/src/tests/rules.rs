//! The rules one by one: reservations, leases, slot states, stats.

use std::collections::HashSet;

use crate::*;

pub(crate) fn new_entry(slot: SlotId) -> NewEntry<'static> {
    NewEntry {
        slot,
        more: &[],
        payload_len: slot.0 + 1,
        payload_checksum: 9,
        placement: 513,
        expiry: 0,
        metadata: b"shape",
        verified: true,
    }
}

fn index(slots: u32) -> Index {
    Index::new(IndexOptions {
        shards: 1,
        classes: vec![vec![0..slots]],
        secret: [0; 16],
    })
    .unwrap()
}

fn take(index: &Index) -> SlotId {
    let mut taken = Vec::new();
    assert_eq!(index.take_free(0, 1, &mut taken), 1);
    taken[0]
}

fn reserve(guard: &mut ShardGuard<'_>, key: &[u8], slot: SlotId, generation: u64) -> Reservation {
    match guard.reserve(
        1,
        key,
        &[slot],
        generation,
        PutMode::Replace,
        Place::default(),
    ) {
        Reserve::Reserved(reservation) => reservation,
        Reserve::Exists(found) => panic!("{found:?}"),
    }
}

fn put(index: &Index, key: &[u8], generation: u64) -> Published {
    let slot = take(index);
    let mut guard = index.lock(0, LockPurpose::Operation);
    let reservation = reserve(&mut guard, key, slot, generation);
    guard.publish(reservation, key, new_entry(slot))
}

#[test]
fn a_later_remove_cancels_a_put_under_way_and_an_earlier_one_does_not() {
    let index = index(4);
    let (slot, a, b) = (take(&index), take(&index), take(&index));
    let mut guard = index.lock(0, LockPurpose::Operation);
    let old = reserve(&mut guard, b"k", slot, 5);
    let new = reserve(&mut guard, b"k", a, 7);
    let other = reserve(&mut guard, b"other", b, 4);
    assert_eq!(guard.pending_puts(), 3);
    assert_eq!(guard.remove(1, b"k", 6), None);
    assert_eq!(
        guard.publish(old, b"k", new_entry(slot)),
        Published::Removed
    );
    assert_eq!(guard.publish(new, b"k", new_entry(a)), Published::Inserted);
    assert_eq!(
        guard.publish(other, b"other", new_entry(b)),
        Published::Inserted
    );
    assert_eq!(
        guard.remove(1, b"k", 7),
        None,
        "a generation does not remove itself"
    );
    assert_eq!(guard.remove(1, b"k", 8).unwrap().generation, 7);
    assert_eq!(guard.pending_puts(), 0);
    drop(guard);
    index.audit().unwrap();
}

#[test]
fn an_older_put_never_follows_a_newer_one_even_if_that_is_evicted() {
    let index = index(4);
    let (a, b) = (take(&index), take(&index));
    let mut guard = index.lock(0, LockPurpose::Operation);
    let old = reserve(&mut guard, b"k", b, 5);
    let new = reserve(&mut guard, b"k", a, 6);
    assert_eq!(guard.publish(new, b"k", new_entry(a)), Published::Inserted);
    let mut evicted = Vec::new();
    assert_eq!(guard.evict(0, 1, &mut evicted), 1);
    assert_eq!((&*evicted[0].key, evicted[0].generation), (&b"k"[..], 6));
    assert_eq!(
        guard.publish(old, b"k", new_entry(b)),
        Published::Superseded
    );
    drop(guard);
    index.give_back(&[evicted[0].slot]);
    index.audit().unwrap();
    assert_eq!(index.stats().classes[0].free, 4);
}

#[test]
fn keep_existing_yields_at_reservation_and_at_publication() {
    let index = index(4);
    let slot = take(&index);
    let mut guard = index.lock(0, LockPurpose::Operation);
    let Reserve::Reserved(early) =
        guard.reserve(1, b"k", &[slot], 9, PutMode::KeepExisting, Place::default())
    else {
        panic!("nothing is live yet");
    };
    drop(guard);
    assert_eq!(put(&index, b"k", 3), Published::Inserted);
    let mut guard = index.lock(0, LockPurpose::Operation);
    assert_eq!(
        guard.publish(early, b"k", new_entry(slot)),
        Published::Exists
    );
    let Reserve::Exists(found) = guard.reserve(
        1,
        b"k",
        &[slot],
        10,
        PutMode::KeepExisting,
        Place::default(),
    ) else {
        panic!("generation 3 is live");
    };
    assert_eq!(
        (found.generation, found.placement, found.verified),
        (3, 513, true)
    );
    drop(guard);
    index.audit().unwrap();
}

#[test]
fn a_leased_slot_outlives_remove_and_replace_and_frees_with_the_last_lease() {
    let index = index(3);
    assert_eq!(put(&index, b"k", 1), Published::Inserted);
    let mut guard = index.lock(0, LockPurpose::Operation);
    let first = guard.lease(1, b"k", Place::default()).unwrap();
    let second = guard.lease(1, b"k", Place::default()).unwrap();
    assert_eq!(guard.evict(0, 1, &mut Vec::new()), 0);
    drop(guard);
    let displaced = first.located().slot;
    assert_eq!(
        put(&index, b"k", 2),
        Published::Replaced {
            slot: displaced,
            generation: 1,
            payload_len: first.located().payload_len
        }
    );
    let mut guard = index.lock(0, LockPurpose::Operation);
    assert_eq!(guard.metadata(&first), b"shape");
    assert!(
        !guard.invalidate(&first),
        "generation 1 is not live any more"
    );
    assert_eq!(guard.get(1, b"k").unwrap().generation, 2);
    guard.release(first);
    assert_eq!(index.stats().classes[0].retired, 1);
    guard.release(second);
    assert_eq!(index.stats().classes[0].retired, 0);
    drop(guard);
    index.audit().unwrap();
    assert_eq!(index.stats().classes[0].free, 2);
}

#[test]
fn invalidation_affects_exactly_one_generation() {
    let index = index(3);
    put(&index, b"k", 4);
    let mut guard = index.lock(0, LockPurpose::Operation);
    assert!(!guard.invalidate_generation(1, b"k", 3));
    let lease = guard.lease(1, b"k", Place::default()).unwrap();
    guard.set_verified(&lease);
    assert!(guard.invalidate(&lease));
    assert!(!guard.invalidate(&lease));
    assert!(guard.lease(1, b"k", Place::default()).is_none());
    guard.release(lease);
    drop(guard);
    put(&index, b"k", 5);
    let mut guard = index.lock(0, LockPurpose::Operation);
    assert!(guard.invalidate_generation(1, b"k", 5));
    drop(guard);
    index.audit().unwrap();
    assert_eq!(index.stats().classes[0].free, 3);
}

#[test]
fn a_quarantined_slot_is_not_handed_out_until_it_is_settled() {
    let index = index(2);
    let (a, b) = (take(&index), take(&index));
    index.quarantine(a);
    index.quarantine(b);
    assert_eq!(index.take_free(0, 2, &mut Vec::new()), 0);
    index.audit().unwrap();
    index.settle_quarantined(a, Fate::Free);
    index.settle_quarantined(b, Fate::Bad);
    assert_eq!(take(&index), a);
    assert_eq!(index.take_free(0, 1, &mut Vec::new()), 0);
    assert!(!index.mark_bad(a), "it is reserved");
    index.give_back(&[a]);
    assert!(index.mark_bad(a));
    index.audit().unwrap();
    assert_eq!(index.stats().classes[0].bad, 2);
}

#[test]
fn slots_freed_twice_or_never_taken_are_refused_and_audited() {
    let index = index(3);
    let slot = take(&index);
    index.give_back(&[slot]);
    index.audit().unwrap();
    index.give_back(&[slot]);
    index.give_back(&[SlotId(99)]);
    index.quarantine(slot);
    assert_eq!(index.stats().illegal_transitions, 3);
    assert_eq!(index.stats().classes[0].free, 3);
    assert!(index.audit().unwrap_err().contains("3 illegal"));
}

#[test]
fn a_foreign_lease_changes_nothing() {
    let (here, there) = (index(2), index(2));
    put(&here, b"k", 1);
    put(&there, b"k", 2);
    let lease = there
        .lock(0, LockPurpose::Operation)
        .lease(1, b"k", Place::default())
        .unwrap();
    let mut guard = here.lock(0, LockPurpose::Operation);
    guard.set_verified(&lease);
    assert!(!guard.invalidate(&lease));
    assert_eq!(guard.metadata(&lease), b"");
    guard.release(lease);
    drop(guard);
    assert_eq!(here.stats().illegal_transitions, 1);
    assert_eq!(here.stats().entries, 1);
}

#[test]
fn a_snapshot_shows_each_standing_entry_once_in_bounded_steps() {
    let index = index(2000);
    for generation in 1..=1000 {
        put(&index, format!("key {generation}").as_bytes(), generation);
    }
    let lease = index
        .lock(0, LockPurpose::Operation)
        .lease(1, b"key 7", Place::default())
        .unwrap();
    let (mut cursor, mut seen, mut steps, mut leases) = (Cursor::default(), Vec::new(), 0, 0);
    loop {
        let guard = index.lock(0, LockPurpose::Background);
        let more = guard.snapshot(&mut cursor, 64, &mut |entry| {
            assert_eq!(entry.metadata, b"shape");
            seen.push((entry.key.to_vec(), entry.located.generation));
            leases += entry.leases;
        });
        drop(guard);
        steps += 1;
        if !more {
            break;
        }
        // Churn on both sides of the cursor; the first 900 keys stay.
        let victim = 900 + steps;
        let key = format!("key {victim}");
        index
            .lock(0, LockPurpose::Operation)
            .remove(1, key.as_bytes(), 10_000);
        put(&index, format!("new {steps}").as_bytes(), 20_000 + steps);
    }
    assert!(steps >= 16);
    assert_eq!(leases, 1);
    seen.sort();
    for generation in 1..=900_u64 {
        let key = format!("key {generation}").into_bytes();
        assert_eq!(
            seen.iter().filter(|(seen, _)| *seen == key).count(),
            1,
            "key {generation}"
        );
    }
    index.lock(0, LockPurpose::Operation).release(lease);
    index.audit().unwrap();
}

#[test]
fn hashes_are_divided_evenly_among_the_shards() {
    for shards in [1, 2, 64, 1024] {
        let index = Index::new(IndexOptions {
            shards,
            classes: vec![vec![0..8]],
            secret: [0; 16],
        })
        .unwrap();
        // Each shard has the same number of hashes, in ascending order.
        let span = u64::MAX / index.shards() as u64;
        for shard in 0..index.shards() {
            let first = shard as u64 * (span.wrapping_add(1));
            assert_eq!(index.shard_of(first), shard);
            assert_eq!(index.shard_of(first + span), shard);
        }
    }
    let counts = [0, 1, 256, 511, 512, 16_384, 1 << 40].map(Index::default_shards);
    assert_eq!(counts, [1, 1, 1, 1, 2, 64, 64]);
}

/// The position of a key depends on the secret: keys that collide under one secret do not under
/// another.
#[test]
fn the_secret_places_keys() {
    let make = |secret| {
        let classes = vec![vec![0..1]];
        Index::new(IndexOptions {
            shards: 1024,
            classes,
            secret,
        })
        .unwrap()
    };
    let shards_of = |secret| {
        let index = make(secret);
        let shard_of = |key: u32| index.shard_of(index.hash(&key.to_le_bytes()));
        (0..1000).map(shard_of).collect::<Vec<usize>>()
    };
    let (one, same, other) = (shards_of([1; 16]), shards_of([1; 16]), shards_of([2; 16]));
    assert_eq!(one, same);
    let met = one.iter().zip(&other).filter(|(one, other)| one == other);
    // About one in 1000 by chance.
    assert!(met.count() < 20);
    let used: HashSet<_> = one.iter().collect();
    // 1000 keys in 1024 places at random take about 638.
    assert!(used.len() > 500, "{}", used.len());
}

#[test]
fn wrong_options_are_named() {
    let make = |shards, classes| {
        Index::new(IndexOptions {
            shards,
            classes,
            secret: [0; 16],
        })
        .unwrap_err()
    };
    assert_eq!(
        make(3, vec![vec![0..1]]),
        IndexError::ShardCount {
            shards: 3,
            limit: 1024
        }
    );
    assert_eq!(
        make(0, vec![vec![0..1]]),
        IndexError::ShardCount {
            shards: 0,
            limit: 1024
        }
    );
    assert_eq!(
        make(1, vec![]),
        IndexError::ClassCount {
            classes: 0,
            limit: 64
        }
    );
    let overlap = make(1, vec![vec![10..20], vec![0..11]]);
    assert_eq!(
        overlap,
        IndexError::Overlap {
            slot: 10,
            first: 1,
            second: 0
        }
    );
    #[expect(clippy::reversed_empty_ranges, reason = "the mistake under test")]
    let reversed = make(1, vec![vec![5..4]]);
    assert_eq!(
        reversed,
        IndexError::ReversedRun {
            class: 0,
            start: 5,
            end: 4
        }
    );
}

#[test]
fn a_panic_with_a_guard_leaves_the_index_usable() {
    let index = index(2);
    put(&index, b"k", 1);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut guard = index.lock(0, LockPurpose::Operation);
        guard.touch(1, b"k", Place::default());
        panic!("a caller's mistake");
    }));
    assert!(panicked.is_err());
    assert!(index.lock(0, LockPurpose::Eviction).get(1, b"k").is_some());
    index.audit().unwrap();
    let stats = index.stats();
    assert_eq!(
        (
            stats.operation_locks,
            stats.eviction_locks,
            stats.contended_locks
        ),
        (2, 1, 0)
    );
}

/// The slot of a replaced value was free immediately: after a crash before the commit of the
/// replacement, the slot was overwritten and the replacement missing, so a synced value was lost.
#[test]
fn a_slot_waits_until_what_freed_it_is_durable() {
    let index = index(3);
    put(&index, b"k", 1);
    let replace = |generation, ticket, strict| {
        let slot = take(&index);
        let mut guard = index.lock(0, LockPurpose::Operation);
        let reservation = reserve(&mut guard, b"k", slot, generation);
        guard.publish(reservation, b"k", new_entry(slot));
        guard.recorded(ticket, strict);
    };
    let taken = |index: &Index| {
        let mut out = Vec::new();
        (
            index.take_free(0, 3, &mut out),
            index.take_early(0, 3, &mut out),
        )
    };
    replace(2, 1, false);
    replace(3, 2, true);
    assert_eq!(index.stats().classes[0].free, 2);
    assert_eq!(taken(&index), (0, 1), "the strict one waits");
    assert!(index.awaits_durability(0));
    assert_eq!(index.stats().classes[0].taken_early, 1);
    index.set_durable(1);
    assert_eq!(taken(&index), (0, 0));
    index.set_durable(2);
    assert_eq!(taken(&index), (1, 0));
    assert!(!index.awaits_durability(0));
    index.audit().unwrap();
}

/// A slot that was taken early and given back unwritten still holds the former value, which a crash
/// may need.
#[test]
fn a_slot_that_is_given_back_waits_again() {
    let index = index(2);
    put(&index, b"k", 1);
    let mut guard = index.lock(0, LockPurpose::Operation);
    guard.remove(1, b"k", 2);
    guard.recorded(1, false);
    drop(guard);
    let mut out = Vec::new();
    assert_eq!(index.take_free(0, 2, &mut out), 1);
    assert_eq!(index.take_early(0, 2, &mut out), 1);
    index.give_back(&out);
    assert_eq!(index.take_free(0, 2, &mut Vec::new()), 0);
    index.set_durable(1);
    assert_eq!(index.take_free(0, 2, &mut Vec::new()), 2);
}

/// The slot of a leased entry is freed with its last lease, perhaps before the record of the remove
/// is durable.
#[test]
fn the_end_of_a_lease_does_not_end_the_wait() {
    let index = index(1);
    put(&index, b"k", 1);
    let mut guard = index.lock(0, LockPurpose::Operation);
    let lease = guard.lease(1, b"k", Place::default()).unwrap();
    guard.remove(1, b"k", 2);
    guard.recorded(7, true);
    guard.release(lease);
    drop(guard);
    let mut out = Vec::new();
    assert_eq!(index.take_free(0, 1, &mut out), 0);
    assert_eq!(index.take_early(0, 1, &mut out), 0);
    index.set_durable(7);
    assert_eq!(index.take_free(0, 1, &mut out), 1);
}

#[test]
fn an_entry_is_volatile_until_its_record_is_durable() {
    let index = index(4);
    for (generation, key) in [(1, b"a"), (2, b"b")] {
        let slot = take(&index);
        let mut guard = index.lock(0, LockPurpose::Operation);
        let reservation = reserve(&mut guard, key, slot, generation);
        guard.publish(reservation, key, new_entry(slot));
        guard.recorded(generation * 10, true);
    }
    let mut guard = index.lock(0, LockPurpose::Operation);
    // For changes that are not durable the shard's last ticket is returned, which is never too
    // early.
    assert_eq!(
        (guard.ticket_of(1, b"a"), guard.ticket_of(1, b"b")),
        (20, 20)
    );
    assert_eq!((guard.ticket_of(1, b"c"), guard.last_ticket()), (0, 20));
    index.set_durable(10);
    assert_eq!(
        (guard.ticket_of(1, b"a"), guard.ticket_of(1, b"b")),
        (0, 20)
    );
    guard.remove(1, b"b", 3);
    guard.recorded(30, true);
    assert_eq!(guard.ticket_of(1, b"b"), 0);
    index.set_durable(30);
    assert_eq!(guard.ticket_of(1, b"a"), 0);
}

/// A base written between an eviction and the observer's notification made the eviction durable
/// first. A base that still included the entry after a remove of its key undid the remove.
#[test]
fn an_eviction_is_shown_until_it_is_delivered_or_overtaken() {
    let shown = |index: &Index| {
        let mut shown = Vec::new();
        let mut guard = index.lock(0, LockPurpose::Background);
        guard.snapshot_evicted(&mut |entry| {
            assert_eq!(entry.metadata, b"shape");
            shown.push((entry.key[0], entry.located.generation));
        });
        shown
    };
    let mut index = index(3);
    index.keep_evicted();
    for (generation, key) in [(1, b"a"), (2, b"b"), (3, b"c")] {
        put(&index, key, generation);
    }
    let mut evicted = Vec::new();
    assert_eq!(index.evict_least(0, 3, &mut evicted), 3);
    assert_eq!(shown(&index), [(b'a', 1), (b'b', 2), (b'c', 3)]);
    index.give_back(&evicted.iter().map(|gone| gone.slot).collect::<Vec<_>>());
    let mut guard = index.lock(0, LockPurpose::Operation);
    guard.delivered(b"a", 9);
    guard.delivered(b"a", 1);
    guard.remove(1, b"b", 4);
    drop(guard);
    assert_eq!(shown(&index), [(b'c', 3)]);
    put(&index, b"c", 5);
    assert_eq!(shown(&index), []);
    index.audit().unwrap();
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "whose former owner has 5")]
fn a_generation_that_was_drawn_before_its_slot_was_taken_stops_a_debug_build() {
    let index = index(1);
    put(&index, b"a", 5);
    let mut guard = index.lock(0, LockPurpose::Operation);
    guard.remove(1, b"a", 6);
    drop(guard);
    put(&index, b"b", 4);
}

#[test]
fn an_entry_expires_at_its_time_and_not_before() {
    let index = index(3);
    let slot = take(&index);
    let mut guard = index.lock(0, LockPurpose::Operation);
    assert!(!guard.may_expire());
    let reservation = reserve(&mut guard, b"k", slot, 1);
    let entry = NewEntry {
        expiry: 10,
        ..new_entry(slot)
    };
    assert_eq!(guard.publish(reservation, b"k", entry), Published::Inserted);
    drop(guard);
    put(&index, b"forever", 2);
    let mut guard = index.lock(0, LockPurpose::Operation);
    assert!(guard.may_expire());
    assert_eq!(guard.expire(1, b"k", 9), None);
    assert_eq!(guard.expire(1, b"forever", u32::MAX), None);
    let lease = guard.lease(1, b"k", Place::default()).unwrap();
    assert!(guard.is_leased(1, b"k") && !guard.is_leased(1, b"forever"));
    assert_eq!(guard.expire(1, b"k", 10).unwrap().generation, 1);
    assert_eq!(guard.expire(1, b"k", 10), None);
    assert!(guard.get(1, b"k").is_none() && !guard.is_leased(1, b"k"));
    drop(guard);
    assert_eq!(index.stats().classes[0].retired, 1);
    index.lock(0, LockPurpose::Operation).release(lease);
    assert_eq!(index.stats().classes[0].retired, 0);
    index.audit().unwrap();
}
