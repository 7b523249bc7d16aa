//! Tests of what a commit covers, and what it does not: operations that arrive while one runs (C2).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rb_core::{Clock, Store};
use rb_io::OpKind;
use rb_testkit::Moment;

use crate::support::{EIO, ENOSPC, Sim, ends_within, key, range_of, slots_of};

/// A record that is queued while a commit writes is not part of that commit, so the next sync must write it.
#[test]
fn a_commit_does_not_make_durable_what_came_while_it_wrote() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"first", b"1").unwrap();
    sim.device.hold(range_of(&store.superblock().log));
    let syncing = {
        let store = store.clone();
        std::thread::spawn(move || store.sync())
    };
    sim.wait_for_held(1);
    store.put(b"second", b"2").unwrap();
    sim.device.release();
    syncing.join().unwrap().unwrap();
    store.sync().unwrap();
    let after = sim.crash().open();
    assert!(after.get(b"first").unwrap().unwrap() == b"1"[..]);
    assert!(after.get(b"second").unwrap().unwrap() == b"2"[..]);
}

/// A write that failed while a flush was under way may land after it: only a flush that began later frees the slot.
#[test]
fn a_flush_does_not_free_a_slot_whose_write_failed_during_it() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(&key(0), b"v").unwrap();
    // Only flushes touch this byte.
    sim.device.hold(0..1);
    let committing = {
        let store = store.clone();
        std::thread::spawn(move || store.step_commit())
    };
    sim.wait_for_held(1);
    // For lack of space: after any other error a slot rests for longer than the flush.
    sim.device
        .fail_next(OpKind::Write, slots_of(&store), ENOSPC);
    assert!(store.put(&key(1), b"v").is_err());
    sim.device.release();
    committing.join().unwrap().unwrap();
    let quarantined = || store.stats().index.classes[0].quarantined;
    assert_eq!(quarantined(), 1, "after a flush that began too early");
    store.sync().unwrap();
    assert_eq!(quarantined(), 0);
}

/// A clock that lets another thread act once, when a put asks for the time of its record. It waits only for a while,
/// because the other thread may have to wait for the put.
#[derive(Default)]
struct Between {
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Between")
    }
}

impl Clock for Between {
    fn now(&self) -> Duration {
        let act = self.act.lock().unwrap().take();
        if let Some(act) = act {
            let (sender, done) = mpsc::channel();
            let thread = std::thread::spawn(move || {
                act();
                let _ = sender.send(());
            });
            let _ = done.recv_timeout(Duration::from_millis(300));
            *self.thread.lock().unwrap() = Some(thread);
        }
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) {}
}

/// A put's entry and its record appear while the shard's lock is held once. Otherwise a remove and a checkpoint could
/// come in between: the base would know neither the key nor its removal, and the put's record after it would bring the
/// key back.
#[test]
fn nothing_comes_between_a_puts_entry_and_its_record() {
    let sim = Sim::new(8);
    let clock = Arc::new(Between::default());
    let store: Store = sim.open_with(|options| options.clock = clock.clone());
    let other = store.clone();
    *clock.act.lock().unwrap() = Some(Box::new(move || {
        drop(other.remove(b"k"));
        other.checkpoint().unwrap();
    }));
    store.put(b"k", b"v").unwrap();
    let thread = clock.thread.lock().unwrap().take().unwrap();
    thread.join().unwrap();
    store.sync().unwrap();
    assert!(!store.contains(b"k"));
    assert!(!sim.crash().open().contains(b"k"), "it came back");
}

/// A flush of the checkpoint failed. A concurrent commit flushed successfully before it learned of the failure, and
/// reported as durable what the failed flush should have covered.
#[test]
fn no_flush_begins_during_one_that_fails() {
    let sim = Sim::new(32);
    let store = sim.open();
    store.put(b"before", b"v").unwrap();
    store.sync().unwrap();
    let (other, device) = (store.clone(), Arc::clone(&sim.device));
    let (sender, synced) = mpsc::channel();
    let done = AtomicBool::new(false);
    sim.device.observe(move |moment, ops| {
        if ops.iter().all(|op| op.op != OpKind::Flush) {
            return;
        }
        if moment == Moment::Before && !done.load(Relaxed) {
            device.fail_next(OpKind::Flush, 0..u64::MAX, EIO);
        }
        if moment == Moment::After && !done.swap(true, Relaxed) {
            let (other, sender) = (other.clone(), sender.clone());
            let sync = move || {
                other.put(b"other", b"v").unwrap();
                sender.send(other.sync()).unwrap();
            };
            // If it must wait for the flush, this times out.
            ends_within(Duration::from_millis(100), sync);
        }
    });
    store.checkpoint().unwrap_err();
    let error = synced.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(error.unwrap_err().is_poisoned());
}

/// A failed commit released its lock before it stopped writing: another commit that waited for the lock continued, and
/// reported as durable what the first had failed to write.
#[test]
fn no_commit_comes_after_one_that_failed() {
    for round in 0..100 {
        let sim = Sim::new(32);
        let store = sim.open();
        let log = range_of(&store.superblock().log);
        let threads = [b"a", b"b", b"c"].map(|key| {
            let store = store.clone();
            std::thread::spawn(move || {
                let mut synced = 0_u32;
                while store.put(key, &synced.to_le_bytes()).is_ok() && store.sync().is_ok() {
                    synced += 1;
                }
                (key, synced)
            })
        });
        std::thread::sleep(Duration::from_micros(300));
        sim.device.fail_next(OpKind::Write, log, EIO);
        let ended = threads.map(|thread| thread.join().unwrap());
        let after = sim.crash().open();
        for (key, synced) in ended {
            let found = after.get(key).unwrap();
            let found = found.map(|value| u32::from_le_bytes(value[..].try_into().unwrap()));
            assert!(
                synced == 0 || found.is_some_and(|found| found >= synced - 1),
                "round {round}: {synced} syncs of {key:?} went well, found {found:?}"
            );
        }
    }
}
