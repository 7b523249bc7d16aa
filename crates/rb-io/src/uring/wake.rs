//! Wakes a thread that waits inside the kernel for completions.
//!
//! A poll on an eventfd is an additional request in the ring. It is armed only when a blocking wait
//! begins while a waker exists, and stays armed until it fires; so a queue without wakers pays
//! nothing, and an idle one sleeps. A waker makes a system call only if the owner sleeps in the
//! kernel.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::encode::Encoder;
use crate::sys::event::EventFd;
use crate::sys::ring::Ring;
use crate::wake::Waker;

#[derive(Debug)]
struct Shared {
    event: EventFd,
    /// A wake that no waiting call has consumed.
    pending: AtomicBool,
    /// True if the owner waits in the kernel or is about to. The owner sets this before it reads
    /// `pending`, and a waker sets `pending` before it reads this, so at least one of the two sees
    /// the other.
    asleep: AtomicBool,
}

#[derive(Debug)]
pub(super) struct WakeSource {
    shared: Arc<Shared>,
    armed: bool,
}

impl WakeSource {
    pub(super) fn new() -> io::Result<Self> {
        let shared = Shared {
            event: EventFd::new()?,
            pending: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
            armed: false,
        })
    }

    pub(super) fn waker(&self) -> Waker {
        let shared = Arc::clone(&self.shared);
        Waker::new(move || {
            // Only the first of several wakes makes the system call.
            if !shared.pending.swap(true, Ordering::SeqCst) && shared.asleep.load(Ordering::SeqCst)
            {
                shared.event.raise();
            }
        })
    }

    /// Returns whether a waker exists. Only this queue creates wakers, so while it is in use no
    /// waker can appear concurrently unless one exists already.
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Makes sure that the next wake ends a wait in the kernel, until [`awake`](Self::awake).
    /// Returns false if a wake was already pending.
    pub(super) fn arm<E: Encoder>(&mut self, ring: &mut Ring<E>) -> bool {
        if !self.armed {
            self.armed = ring.push_wake(&self.shared.event);
        }
        // SeqCst here and in the waker: with a weaker order each could read the old value of the
        // other, and the wake would be lost.
        self.shared.asleep.store(true, Ordering::SeqCst);
        !self.shared.pending.load(Ordering::SeqCst)
    }

    /// Marks the end of the wait. An event raised after this causes one spurious wakeup of the next
    /// wait.
    pub(super) fn awake(&self) {
        self.shared.asleep.store(false, Ordering::Relaxed);
    }

    /// Handles the completion of the poll; `fired` is false if it was cancelled (its thread has
    /// exited).
    pub(super) fn ended(&mut self, fired: bool) {
        self.armed = false;
        if fired {
            self.shared.event.clear();
        }
    }

    /// Takes a pending wake.
    pub(super) fn consume(&self) -> bool {
        // Without a wake, the common case, nothing is written to memory that wakers share.
        self.shared.pending.load(Ordering::Relaxed)
            && self.shared.pending.swap(false, Ordering::AcqRel)
    }
}
