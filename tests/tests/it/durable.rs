//! Tests of durability: sync, and batches that are durable when they complete (C2).

use std::time::Duration;

use rb_core::Durability;

use crate::support::FileFixture;

#[test]
fn what_was_synced_is_there_after_a_crash() {
    let fixture = FileFixture::new(16384, 64);
    let store = fixture.open_with(|options| options.sync_interval = Duration::from_hours(1));
    store.put(b"synced", b"1").unwrap();
    store.sync().unwrap();
    store.put(b"not synced", b"2").unwrap();
    let image = fixture.image();
    let after = image.open();
    assert!(after.get(b"synced").unwrap().unwrap() == b"1"[..]);
    assert!(
        after.get(b"not synced").unwrap().is_none(),
        "its record was not written yet"
    );
}

#[test]
fn each_batch_is_durable_when_it_completes() {
    let fixture = FileFixture::new(16384, 64);
    let store = fixture.open_with(|options| {
        options.durability = Durability::EachBatch;
        options.sync_interval = Duration::from_hours(1);
    });
    store.put(b"a", b"1").unwrap();
    store
        .put_many_async(vec![rb_core::Put::new(b"b", b"2")], Default::default())
        .wait()
        .remove(0)
        .unwrap();
    assert!(store.get(b"a").unwrap().is_some());
    let after = fixture.image().open();
    assert!(after.contains(b"a") && after.contains(b"b"));
    store.remove(b"a").unwrap();
    assert!(!fixture.image().open().contains(b"a"));
}

#[test]
fn the_sync_interval_makes_work_durable_without_being_asked() {
    let fixture = FileFixture::new(16384, 64);
    let store = fixture.open_with(|options| options.sync_interval = Duration::from_millis(5));
    store.put(b"k", b"v").unwrap();
    let start = std::time::Instant::now();
    while !fixture.image().open().contains(b"k") {
        assert!(
            start.elapsed().as_secs() < 20,
            "an interval of 5 ms has long passed"
        );
    }
}

#[test]
fn a_store_dropped_without_close_loses_nothing() {
    let fixture = FileFixture::new(16384, 64);
    let store = fixture.open_with(|options| options.sync_interval = Duration::from_hours(1));
    store.put(b"k", b"v").unwrap();
    drop(store);
    let store = fixture.open();
    assert!(!store.recovery().clean);
    assert!(store.get(b"k").unwrap().unwrap() == b"v"[..]);
}
