//! Batches that miss their deadline: what they give back at once, and what they leave behind.

use std::sync::Mutex;
use std::time::Duration;

use rb_core::{Arena, Background, Error, LookupAt, Put, PutOptions, Store, StoreOptions};

use crate::support::{KIB, Sim, in_time, key, value};

const LEN: usize = 4096;

fn options(options: &mut StoreOptions) {
    options.background = Background::Threads;
    options.shards = Some(1);
    options.io_deadline = Duration::from_millis(150);
    options.busy_wait = Duration::from_millis(50);
    options.direct_min = 1;
    // Only the test writes while the device hangs.
    options.sync_interval = Duration::from_hours(1);
}

fn is_late<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::TimedOut { .. }))
}

fn get_at(
    store: &Store,
    keys: &[&[u8]],
    arena: &Arena,
    begin: usize,
    is_async: bool,
) -> Vec<LookupAt> {
    let lend = |at: usize| arena.lend_exclusive(at * 2 * LEN + begin, LEN).unwrap();
    let loans = (0..keys.len()).map(lend).collect();
    match is_async {
        true => store.get_many_at_async(keys, loans).wait(),
        false => store.get_many_at(keys, loans),
    }
}

/// One read of a batch arrives, and the other one hangs. The memory of the first was kept until the second had ended. And
/// if it was a copy, the end of the batch found a value that was nowhere: the thread panicked with the shard's lock, and
/// the leases stayed.
#[test]
fn what_has_arrived_is_given_back_at_the_deadline() {
    for (is_async, begin) in [(false, 0), (false, 8), (true, 0), (true, 8)] {
        let case = format!("async {is_async}, {begin} bytes into a block");
        let sim = Sim::new(8);
        let store = sim.open_with(options);
        for n in 0..2 {
            store.put(&key(n), &value(n, LEN)).unwrap();
        }
        store.sync().unwrap();
        let hanging = Mutex::new(0);
        store.for_each(|entry| {
            if *entry.key == *key(1) {
                *hanging.lock().unwrap() = entry.slot;
            }
            true
        });
        let hanging = hanging.into_inner().unwrap();
        let at = store.geometry().slot_offset(hanging).unwrap();
        sim.device.hold(at..at + 2 * LEN as u64);
        let arena = Arena::allocate(64 * KIB).unwrap();
        let names = [key(0), key(1)];
        let keys = [&names[0][..], &names[1]];
        let late = get_at(&store, &keys, &arena, begin, is_async);
        assert!(late.iter().all(is_late), "{case}: {late:?}");
        let lent = || arena.bytes() - arena.available();
        let kept = if begin == 0 { LEN } else { 0 };
        assert!(in_time(|| lent() == kept), "{case}: {} bytes", lent());
        sim.device.release();
        assert!(in_time(|| lent() == 0), "{case}");
        let found = get_at(&store, &keys, &arena, begin, true);
        assert!(
            found.iter().all(|found| matches!(found, Ok(Some(_)))),
            "{case}: {found:?}"
        );
        // No lease is left once the late batch has ended, which its memory does not show if it was a copy: everything can be
        // evicted.
        let all_evicted = || {
            for n in 100..116 {
                store.put(&key(n), &value(n, LEN)).unwrap();
            }
            store.contains_many(&keys) == [false; 2]
        };
        assert!(in_time(all_evicted), "{case}");
        store.audit().unwrap();
        store.close().unwrap();
    }
}

/// Writes that were not sent counted as failed writes, whose slots a flush has to make safe: a commit went to the device
/// that hung, and its failure stopped all writing. Nothing of them can land, so their slots are free.
#[test]
fn writes_that_were_not_sent_leave_nothing_behind() {
    let sim = Sim::new(64);
    let store = sim.open_with(|more| {
        options(more);
        more.queue_depth = 4;
    });
    store.put(&key(0), &value(0, LEN)).unwrap();
    store.sync().unwrap();
    sim.device.hold(0..u64::MAX);
    let names: Vec<_> = (1..9).map(key).collect();
    let values: Vec<_> = (1..9).map(|n| value(n, LEN)).collect();
    let puts = |range: std::ops::Range<usize>| {
        let puts = names[range.clone()].iter().zip(&values[range]);
        let puts = puts.map(|(key, value)| Put::new(key, value)).collect();
        store.put_many_async(puts, PutOptions::default())
    };
    let sent = puts(0..4);
    sim.wait_for_held(4);
    let unsent = puts(4..8);
    assert!(sent.wait().iter().all(is_late));
    assert!(unsent.wait().iter().all(is_late));
    let stats = || store.stats().index.classes[0];
    assert!(in_time(|| stats().reserved == 4), "{:?}", stats());
    assert_eq!((stats().quarantined, sim.device.held()), (0, 4));
    sim.device.release();
    // What was sent is written.
    assert!(in_time(|| stats().live == 5), "{:?}", stats());
    store.put(&key(20), &value(20, LEN)).unwrap();
    store.sync().unwrap();
    for n in 1..5 {
        assert!(store.get(&key(n)).unwrap().unwrap() == value(n, LEN)[..]);
    }
    assert!(!store.contains(&key(5)));
    store.audit().unwrap();
}
