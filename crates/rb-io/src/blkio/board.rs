//! Delivers completed parts to one of our queues and wakes its waiter.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::request::{Part, PartDone};
use crate::sys::event::EventFd;

/// A part that libblkio has finished: all of it was moved, or it failed.
pub(super) struct Ended {
    pub(super) part: Part,
    pub(super) result: io::Result<()>,
}

impl Ended {
    pub(super) fn into_done(self) -> PartDone {
        let Part {
            token, buf, len, ..
        } = self.part;
        PartDone {
            token,
            buf,
            result: self.result.map(|()| len),
        }
    }
}

/// Delivers completed parts to one of our queues and wakes its waiter.
#[derive(Debug)]
pub(crate) struct Board {
    ended: Mutex<Vec<Ended>>,
    pub(super) event: EventFd,
    woken: AtomicBool,
}

impl Board {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            ended: Mutex::default(),
            event: EventFd::new()?,
            woken: AtomicBool::new(false),
        })
    }

    /// Delivers a completed part. `own` is the board of the calling queue, which needs no wakeup.
    pub(super) fn put(self: &Arc<Self>, ended: Ended, own: &Arc<Self>) {
        self.ended.lock().push(ended);
        if !Arc::ptr_eq(self, own) {
            self.event.raise();
        }
    }

    pub(super) fn take(&self) -> Vec<Ended> {
        std::mem::take(&mut *self.ended.lock())
    }

    pub(super) fn wake(&self) {
        // Only the first of several wakes makes the system call.
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.event.raise();
        }
    }

    pub(super) fn consume_wake(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ended({:?}, {:?})", self.part.op, self.result)
    }
}
