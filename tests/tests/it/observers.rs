//! Tests of observers and wakers that call the store: no lock is held when they are called.

use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use rb_core::{Background, Event, Events, ManualClock, Store};
use rb_io::OpKind;
use rb_testkit::Moment;

use crate::support::{EIO, Sim, ends_within, key};

const LONG: Duration = Duration::from_secs(5);

/// An observer that calls the store when writing was poisoned.
#[derive(Debug)]
struct Caller {
    store: Mutex<Option<Store>>,
    call: fn(&Store),
}

impl Events for Caller {
    fn event(&self, event: &Event<'_>) {
        if let Event::Poisoned { .. } = event {
            let store = self.store.lock().unwrap().take();
            store.iter().for_each(self.call);
        }
    }
}

/// The event of a failed commit or checkpoint was sent while its lock was held, so an observer that called the store
/// deadlocked.
#[test]
fn an_observer_of_a_failure_may_call_the_store() {
    let calls: [fn(&Store); 3] = [
        |store| drop(store.step_commit()),
        |store| drop(store.sync()),
        |store| drop(store.checkpoint()),
    ];
    for (number, call) in calls.into_iter().enumerate() {
        let sim = Sim::new(8);
        let caller = Arc::new(Caller {
            store: Mutex::default(),
            call,
        });
        let events = caller.clone();
        let store = sim.open_with(|options| options.events = Some(events));
        store.put(b"k", b"v").unwrap();
        *caller.store.lock().unwrap() = Some(store.clone());
        sim.device.fail_always(OpKind::Flush, 0..1, EIO);
        assert!(
            ends_within(LONG, move || drop(store.checkpoint())),
            "call {number} hangs"
        );
        assert!(
            caller.store.lock().unwrap().is_none(),
            "the observer was not notified"
        );
    }
}

/// An observer that requests a checkpoint when a slot becomes bad.
#[derive(Debug, Default)]
struct Rescuer(Mutex<Option<Store>>, Mutex<Vec<bool>>);

impl Events for Rescuer {
    fn event(&self, event: &Event<'_>) {
        if let Event::BadSlot { .. } = event
            && let Some(store) = self.0.lock().unwrap().take()
        {
            self.1.lock().unwrap().push(store.checkpoint().is_ok());
        }
    }
}

/// The commit inside a checkpoint sent its events while the checkpoint's lock was held: an observer that requested a
/// checkpoint deadlocked.
#[test]
fn an_observer_of_a_checkpoints_own_commit_may_ask_for_another() {
    let sim = Sim::new(8);
    let rescuer = Arc::new(Rescuer::default());
    let events = rescuer.clone();
    let clock = Arc::new(ManualClock::new());
    let of_store = clock.clone();
    let store = sim.open_with(|options| {
        options.events = Some(events);
        options.clock = of_store;
    });
    let bad = store.geometry().slot_offset(1).unwrap();
    sim.device.fail_always(OpKind::Write, bad..bad + 8192, EIO);
    *rescuer.0.lock().unwrap() = Some(store.clone());
    let ended = ends_within(LONG, move || {
        for n in 0..60 {
            // A slot whose write failed rests for ten seconds.
            clock.advance(Duration::from_secs(2));
            drop(store.put(&key(n), b"v"));
            store.put(b"to commit", b"v").ok();
            store.checkpoint().unwrap();
        }
    });
    assert!(ended, "the checkpoint hangs");
    assert_eq!(
        *rescuer.1.lock().unwrap(),
        [true],
        "notified other than once"
    );
}

/// An observer that is slow on a dropped entry: it waits for a signal, for at most two seconds.
#[derive(Debug)]
struct Slow(Mutex<mpsc::Receiver<()>>);

impl Events for Slow {
    fn event(&self, event: &Event<'_>) {
        if let Event::Dropped { .. } = event {
            let _received = self.0.lock().unwrap().recv_timeout(Duration::from_secs(2));
        }
    }
}

/// The driver delayed the wake-ups of a round until the observer returned: callers whose results were ready waited for
/// the observer, too.
#[test]
fn a_slow_observer_delays_no_other_caller() {
    let sim = Sim::new(8);
    let (go_on, slow) = mpsc::channel();
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.events = Some(Arc::new(Slow(Mutex::new(slow))));
    });
    for n in 0..2 {
        store.put(&key(n), b"v").unwrap();
    }
    let slot = |n| store.geometry().slot_offset(n).unwrap();
    sim.device.corrupt(slot(1) + 4096..slot(1) + 4097);
    // Both gets complete in one round: the first with its only read, the second with the read that
    // follows a failed verification.
    sim.device.hold(slot(0)..slot(1));
    let (device, second) = (sim.device.clone(), slot(1)..slot(2));
    sim.device.observe(move |moment, ops| {
        if moment == Moment::After && ops.iter().any(|op| second.contains(&op.offset)) {
            device.hold(second.clone());
        }
    });
    let whole = store.get_many_async(&[&key(0)]);
    let rotten = store.get_many_async(&[&key(1)]);
    let waiter = std::thread::spawn(move || {
        let start = Instant::now();
        assert!(whole.wait()[0].as_ref().unwrap().is_some());
        start.elapsed()
    });
    sim.wait_for_held(2);
    std::thread::sleep(Duration::from_millis(20));
    sim.device.release();
    let waited = waiter.join().unwrap();
    go_on.send(()).unwrap();
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    assert!(rotten.wait()[0].as_ref().unwrap().is_none());
}

/// An executor that polls in place: the woken task puts and syncs.
struct InPlace(Store, Mutex<mpsc::Sender<bool>>);

impl Wake for InPlace {
    fn wake(self: Arc<Self>) {
        let done = self.0.put(b"next", b"v").is_ok() && self.0.sync().is_ok();
        let _ = self.1.lock().unwrap().send(done);
    }
}

/// The committing thread woke waiters of a sync while it held the lock of the commit: a task that continued in place
/// blocked every later commit.
#[test]
fn a_woken_task_may_use_the_store_in_place() {
    let sim = Sim::new(8);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        // Nothing is committed unless requested.
        options.sync_interval = Duration::from_hours(1);
    });
    store.put(b"k", b"v").unwrap();
    let (sender, done) = mpsc::channel();
    let waker = Waker::from(Arc::new(InPlace(store.clone(), Mutex::new(sender))));
    // Flushes wait, so the sync is pending when it is polled.
    sim.device.hold(0..1);
    let mut sync = store.sync_async();
    let polled = Pin::new(&mut sync).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    sim.wait_for_held(1);
    sim.device.release();
    assert_eq!(done.recv_timeout(LONG), Ok(true));
    sync.wait().unwrap();
}
