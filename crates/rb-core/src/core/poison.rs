//! The latch that stops writing after a failed metadata write or flush (C7).
//!
//! After a failed flush it is unknown which of the writes before it are on the device, and a second
//! flush that succeeds says nothing about them. So writing stops until the store is reopened and
//! recovery has read what is really there. Verified reads go on.
//!
//! It is set before the lock under which the failure happened is released, so that the next holder sees it. Who is
//! to be reported may call the store, and is reported when no lock is held any more.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

#[derive(Debug, Default)]
pub(crate) struct Poison {
    reason: OnceLock<String>,
    reported: AtomicBool,
}

impl Poison {
    /// Stops writing. The reason of the first call is kept.
    pub(crate) fn set(&self, reason: String) {
        self.reason.get_or_init(|| reason);
    }

    /// The reason, once: for the caller that notifies the others.
    pub(crate) fn to_tell(&self) -> Option<&str> {
        self.reason()
            .filter(|_| !self.reported.swap(true, Ordering::Relaxed))
    }

    /// Why writing stopped, if it did.
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
