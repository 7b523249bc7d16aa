//! Tests of a store that another host has opened over, without notice: it makes no further promises, and soon stops
//! writing (C8).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use rb_core::{Put, PutMode, PutOptions, PutOutcome};
use rb_io::OpKind;
use rb_testkit::Moment;

use crate::support::{EIO, Sim, base_headers, key, range_of, slots_of, value};

/// A sync with nothing to commit did not check for another writer: it promised values that another host had dropped.
#[test]
fn a_sync_with_nothing_to_commit_sees_that_the_store_was_opened_over() {
    for is_async in [false, true] {
        let sim = Sim::with_ring(8, 64);
        let former = sim.open();
        former.put(&key(1), &value(1, 500)).unwrap();
        former.sync().unwrap();
        former.sync().unwrap();
        let last = sim.open_with(|options| options.start_empty = true);
        let keep = PutOptions {
            mode: PutMode::KeepExisting,
            ..PutOptions::default()
        };
        let put = former
            .put_many(vec![Put::new(&key(1), &value(1, 500))], keep)
            .remove(0)
            .unwrap();
        assert_eq!(put, PutOutcome::Existed);
        let synced = match is_async {
            false => former.sync(),
            true => former.sync_async().wait(),
        };
        assert!(
            synced.is_err_and(|why| why.is_poisoned()),
            "{is_async}: promised what is gone"
        );
        assert!(former.put(&key(2), &value(2, 500)).is_err());
        last.put(&key(3), &value(3, 500)).unwrap();
        last.sync().unwrap();
    }
}

/// A checkpoint checked for other writers when it began and when its sections were written, which may take minutes: it
/// continued to write sections over the base that another host had written in the meantime.
#[test]
fn a_long_checkpoint_stops_soon_after_the_store_was_opened_over() {
    let sim = Sim::with_ring(64, 64);
    let former = sim.open();
    for n in 0..40 {
        former.put(&key(n), &value(n, 500)).unwrap();
    }
    former.checkpoint().unwrap();
    let superblock = former.superblock().clone();
    let headers: Vec<_> = base_headers(&superblock).collect();
    let (reached, wait_reached) = channel();
    let (go, wait_go) = channel::<()>();
    let pause = Mutex::new((reached, wait_go));
    let sections = Arc::new(AtomicUsize::new(0));
    let written = Arc::clone(&sections);
    let checkpointing = std::thread::scope(|scope| {
        let sim = &sim;
        let (bases, former) = (superblock.bases().map(range_of), &former);
        let thread = scope.spawn(move || {
            let this = std::thread::current().id();
            sim.device.observe(move |moment, ops| {
                let is_section = |offset| {
                    bases.iter().any(|base| base.contains(&offset)) && !headers.contains(&offset)
                };
                let is_section = ops
                    .iter()
                    .any(|op| op.op == OpKind::Write && is_section(op.offset));
                if moment != Moment::Before || std::thread::current().id() != this || !is_section {
                    return;
                }
                if written.fetch_add(1, Ordering::Relaxed) == 2 {
                    let pause = pause.lock().unwrap();
                    pause.0.send(()).unwrap();
                    pause.1.recv().unwrap();
                }
            });
            former.checkpoint()
        });
        wait_reached.recv().unwrap();
        let last = sim.open();
        last.checkpoint().unwrap();
        last.checkpoint().unwrap();
        go.send(()).unwrap();
        thread.join().unwrap()
    });
    assert!(checkpointing.is_err());
    // The section that was already under way, and no more.
    assert_eq!(sections.load(Ordering::Relaxed), 3);
}

/// A sync that had no record to wait for, only a slot whose write had failed, never completed.
#[test]
fn a_sync_that_waits_for_a_flush_only_completes() {
    let sim = Sim::with_ring(8, 64);
    let store = sim.open();
    store.sync().unwrap();
    sim.device.fail_always(OpKind::Write, slots_of(&store), EIO);
    store.put(&key(2), &value(2, 500)).unwrap_err();
    let synced = store.sync_async();
    assert!(synced.is_done());
    synced.wait().unwrap();
}
