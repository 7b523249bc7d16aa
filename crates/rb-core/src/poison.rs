//! The latch that stops writing after a failed metadata write or flush (C7).
//!
//! After a failed flush nobody knows which of the writes before it are on the device, and a second
//! flush that succeeds says nothing about them. So writing stops until the store is reopened and
//! recovery has read what is really there. Verified reads go on.

use std::sync::OnceLock;

use crate::error::Error;

#[derive(Debug, Default)]
pub(crate) struct Poison(OnceLock<String>);

impl Poison {
    /// Stops writing. True for the first call, whose reason is kept.
    pub(crate) fn set(&self, reason: String) -> bool {
        self.0.set(reason).is_ok()
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
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
