//! Observers and wakers call the store: no lock is held when they are told.

use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use rb_core::{Background, Event, Events, Store};
use rb_io::OpKind;

use crate::support::{EIO, Sim, ends_within, key};

const LONG: Duration = Duration::from_secs(5);

/// Calls the store when it hears that writing was poisoned.
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

/// The event of a failed commit or checkpoint was sent with its lock held, so an observer that
/// called the store waited for itself.
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
        assert!(caller.store.lock().unwrap().is_none(), "it was told");
    }
}

/// Asks for a checkpoint when it hears of a bad slot.
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

/// The commit inside a checkpoint sent its events with the checkpoint's lock held: an observer that asked
/// for a checkpoint waited for itself.
#[test]
fn an_observer_of_a_checkpoints_own_commit_may_ask_for_another() {
    let sim = Sim::new(2);
    let rescuer = Arc::new(Rescuer::default());
    let events = rescuer.clone();
    let store = sim.open_with(|options| options.events = Some(events));
    let bad = store.geometry().slot_offset(1).unwrap();
    sim.device.fail_always(OpKind::Write, bad..bad + 8192, EIO);
    *rescuer.0.lock().unwrap() = Some(store.clone());
    let ended = ends_within(LONG, move || {
        for n in 0..20 {
            drop(store.put(&key(n), b"v"));
            store.put(b"to commit", b"v").ok();
            store.checkpoint().unwrap();
        }
    });
    assert!(ended, "the checkpoint hangs");
    assert_eq!(*rescuer.1.lock().unwrap(), [true], "it was told once");
}

/// An executor that polls in place: the woken task puts and syncs.
struct InPlace(Store, Mutex<mpsc::Sender<bool>>);

impl Wake for InPlace {
    fn wake(self: Arc<Self>) {
        let done = self.0.put(b"next", b"v").is_ok() && self.0.sync().is_ok();
        let _ = self.1.lock().unwrap().send(done);
    }
}

/// Who waited for a sync was woken by the committing thread under the lock of the commit: a task
/// that went on in place stopped every commit for good.
#[test]
fn a_woken_task_may_use_the_store_in_place() {
    let sim = Sim::new(8);
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        // Nothing is committed unless it is asked for.
        options.sync_interval = Duration::from_secs(3600);
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
