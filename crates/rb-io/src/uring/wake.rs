//! Waking a thread that waits inside the kernel for completions.
//!
//! A poll on an eventfd is one more request in the ring. It is armed only when a blocking wait
//! begins while a waker exists, and stays armed until it fires; so a queue without wakers pays
//! nothing, and an idle one sleeps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::event::EventFd;
use crate::sys::ring::Ring;
use crate::wake::Waker;

#[derive(Debug)]
struct Shared {
    event: EventFd,
    /// A wake that no waiting call has consumed.
    pending: AtomicBool,
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
        };
        Ok(Self {
            shared: Arc::new(shared),
            armed: false,
        })
    }

    pub(super) fn waker(&self) -> Waker {
        let shared = Arc::clone(&self.shared);
        Waker::new(move || {
            // Only the first of several wakes has to call the kernel.
            if !shared.pending.swap(true, Ordering::AcqRel) {
                shared.event.raise();
            }
        })
    }

    /// Whether anyone could wake. Only this queue makes wakers, so while it is used nobody can
    /// appear behind its back unless there is one already.
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Makes sure that the next wake ends a wait in the kernel.
    pub(super) fn arm(&mut self, ring: &mut Ring) {
        if !self.armed {
            self.armed = ring.push_wake(&self.shared.event);
        }
    }

    /// The poll has ended; `fired` unless it was cancelled (its thread has exited).
    pub(super) fn ended(&mut self, fired: bool) {
        self.armed = false;
        if fired {
            self.shared.event.clear();
        }
    }

    /// Takes a pending wake.
    pub(super) fn consume(&self) -> bool {
        self.shared.pending.load(Ordering::Relaxed)
            && self.shared.pending.swap(false, Ordering::AcqRel)
    }
}
