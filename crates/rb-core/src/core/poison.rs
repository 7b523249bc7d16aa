//! The latch that stops writing after a failed metadata write or flush (C7).
//!
//! After a failed flush it is unknown which of the writes before it are on the device, and a second
//! flush that succeeds says nothing about them. So writing stops until the store is reopened and
//! recovery has read what is really there. Verified reads continue.
//!
//! The latch is set before the lock that covers the failure is released, so that the next holder
//! sees it. Waiters and observers may call the store, so they are notified later, when no lock is
//! held.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

#[derive(Debug, Default)]
pub(crate) struct Poison {
    reason: OnceLock<String>,
    reported: AtomicBool,
}

impl Poison {
    /// Stops writing. Only the first reason is kept.
    pub(crate) fn set(&self, reason: String) {
        self.reason.get_or_init(|| reason);
    }

    /// Returns the reason to the first caller only, which must notify the waiters.
    pub(crate) fn first_report(&self) -> Option<&str> {
        self.reason()
            .filter(|_| !self.reported.swap(true, Ordering::Relaxed))
    }

    /// The reason why writing stopped; `None` if it did not.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.reason() {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned {
                reason: reason.to_owned(),
            }),
        }
    }
}
