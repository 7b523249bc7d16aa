//! Counts the costs of a batch: submissions to the kernel, and locks.

use rb_core::{EngineKind, Put, PutOptions};

use crate::support::{FileFixture, KIB, io_uring_works, key, value};

const BATCH: u64 = 32;

#[test]
fn a_batch_that_fits_the_queue_is_one_submission() {
    if !io_uring_works("one submission per batch") {
        return;
    }
    let fixture = FileFixture::new(64 * KIB as u64, 64).on(EngineKind::IoUring);
    let store = fixture.open();
    let values: Vec<_> = (0..BATCH).map(|n| value(n, 64 * KIB)).collect();
    let keys: Vec<_> = (0..BATCH).map(key).collect();
    // The first call creates the queue.
    store.put(b"warm", b"up").unwrap();
    let count = || {
        let queues = store.stats().queues;
        (queues.submissions, queues.enters)
    };

    let before = count();
    let puts = keys
        .iter()
        .zip(&values)
        .map(|(k, v)| Put::new(k, v))
        .collect();
    assert!(
        store
            .put_many(puts, PutOptions::default())
            .iter()
            .all(Result::is_ok)
    );
    let after_put = count();
    assert_eq!(
        after_put.0 - before.0,
        2,
        "submissions of a put of {BATCH} keys: one for each MiB that was checksummed"
    );

    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    assert!(
        store
            .get_many(&asked)
            .iter()
            .all(|lookup| matches!(lookup, Ok(Some(_))))
    );
    let after_get = count();
    assert_eq!(
        after_get.0 - after_put.0,
        1,
        "submissions of a get of {BATCH} keys"
    );
    assert_eq!(
        after_get.1 - after_put.1,
        1,
        "io_uring_enter calls of a get of {BATCH} keys"
    );
}

#[test]
fn each_touched_shard_is_locked_once_per_phase() {
    const SHARDS: u64 = 8;
    let fixture = FileFixture::new(16 * KIB as u64, 256);
    let store = fixture.open_with(|options| options.shards = Some(SHARDS as u32));
    let keys: Vec<_> = (0..BATCH).map(key).collect();
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let locks = || {
        let index = store.stats().index;
        (index.operation_locks, index.eviction_locks)
    };

    let before = locks();
    let puts = keys.iter().map(|k| Put::new(k, b"value")).collect();
    assert!(
        store
            .put_many(puts, PutOptions::default())
            .iter()
            .all(Result::is_ok)
    );
    let put = locks();
    // Two phases: reserve, publish. 32 keys surely use more than one of 8 shards.
    assert!(
        (4..=2 * SHARDS).contains(&(put.0 - before.0)),
        "{} locks",
        put.0 - before.0
    );

    assert!(
        store
            .get_many(&asked)
            .iter()
            .all(|lookup| matches!(lookup, Ok(Some(_))))
    );
    let get = locks();
    assert_eq!(
        get.0 - put.0,
        put.0 - before.0,
        "two phases as well: lease, release"
    );

    store.touch_many(&asked);
    assert!(store.contains_many(&asked).iter().all(|found| *found));
    assert!(store.remove_many(&asked).iter().all(Result::is_ok));
    let rest = locks();
    assert_eq!(rest.0 - get.0, 3 * (put.0 - before.0) / 2, "one phase each");
    assert_eq!(rest.1, 0, "nothing had to be evicted from other shards");
}

/// The driver's queue was missing from the counters: a program that only used async operations saw no I/O at all.
#[test]
fn async_operations_are_counted_as_blocking_ones_are() {
    let fixture = FileFixture::new(16 * KIB as u64, 256);
    let store = fixture.open();
    let keys: Vec<_> = (0..BATCH).map(key).collect();
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let puts = keys.iter().map(|k| Put::new(k, b"value")).collect();
    let put = store.put_many(puts, PutOptions::default());
    assert!(put.iter().all(Result::is_ok));

    let parts = || store.stats().queues.parts;
    let before = parts();
    assert_eq!(store.get_many(&asked).len(), asked.len());
    let blocking = parts() - before;
    assert!(blocking >= BATCH, "{blocking} parts of {BATCH} gets");
    // More than once: the driver's thread and its queue stay.
    for round in 1..=3 {
        let before = parts();
        let submissions = store.stats().queues.submissions;
        assert_eq!(store.get_many_async(&asked).wait().len(), asked.len());
        assert_eq!(parts() - before, blocking, "round {round}");
        assert!(store.stats().queues.submissions > submissions);
    }
}
