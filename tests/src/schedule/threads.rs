//! Reusable threads for operations, and how one wakes another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// Position of a thread that waits until it is given the baton.
#[derive(Debug)]
pub(super) struct Seat {
    thread: Thread,
    go: AtomicBool,
}

impl Seat {
    /// Creates a seat for this thread.
    pub(super) fn new() -> Arc<Seat> {
        Arc::new(Seat {
            thread: std::thread::current(),
            go: AtomicBool::new(false),
        })
    }

    /// Waits for [`Seat::go`]. Called by the thread whose seat it is.
    pub(super) fn wait(&self) {
        while !self.go.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }

    pub(super) fn go(&self) {
        self.go.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Work of a thread; returns the seat to wake when the thread can be reused.
pub(super) type Job = Box<dyn FnOnce() -> Option<Arc<Seat>> + Send>;

/// An idle thread.
struct Idle {
    seat: Arc<Seat>,
    job: Arc<Mutex<Option<Job>>>,
}

static IDLE: Mutex<Vec<Idle>> = Mutex::new(Vec::new());

/// Runs a job in an idle thread, or in a new one.
///
/// # Panics
/// If the system has no more threads.
pub(super) fn spawn(job: Job) {
    let idle = lock(&IDLE).pop();
    match idle {
        Some(idle) => {
            *lock(&idle.job) = Some(job);
            idle.seat.go();
        }
        None => {
            let thread = std::thread::Builder::new().name("operation".into());
            thread
                .spawn(move || work(job))
                .expect("a thread for an operation");
        }
    }
}

fn work(mut job: Job) {
    let (seat, next) = (Seat::new(), Arc::new(Mutex::new(None)));
    loop {
        let after = job();
        // Becomes idle first, then wakes the next one, which may need a thread immediately.
        let idle = Idle {
            seat: Arc::clone(&seat),
            job: Arc::clone(&next),
        };
        lock(&IDLE).push(idle);
        if let Some(after) = after {
            after.go();
        }
        job = loop {
            seat.wait();
            if let Some(job) = lock(&next).take() {
                break job;
            }
        };
    }
}

/// A panic of an operation is caught elsewhere, and leaves nothing half done here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
