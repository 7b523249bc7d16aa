//! The store's background services: commits, checkpoints, validation, scrubbing, discards, the monitor.

pub(crate) mod answers;
pub(crate) mod base_write;
pub(crate) mod checkpoint;
pub(crate) mod discard;
pub(crate) mod monitor;
pub(crate) mod scrub;
pub(crate) mod snapshot;
pub(crate) mod stop;
pub(crate) mod tasks;
pub(crate) mod validate;

use std::sync::Arc;

use checkpoint::Checkpointer;
use discard::Discards;
use monitor::Monitor;
use scrub::Scrubber;
use stop::Stop;
use validate::Validator;

/// The services of an open store. Each owns its state; the store's threads, or a simulator, call
/// its steps.
pub(crate) struct Services {
    /// `None` if the store is read-only.
    pub(crate) checkpointer: Option<Checkpointer>,
    pub(crate) validator: Validator,
    /// `None` if the store is not scrubbed.
    pub(crate) scrubber: Option<Scrubber>,
    /// `None` if freed slots are not discarded.
    pub(crate) discards: Option<Discards>,
    /// An error says why there is none.
    pub(crate) monitor: Result<Monitor, String>,
    /// Ends the threads that wait.
    pub(crate) stop: Arc<Stop>,
}

impl Services {
    /// Closes the services' queues. A service that hangs keeps its own.
    pub(crate) fn release(&self) {
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.release();
        }
        self.validator.release();
        if let Some(scrubber) = &self.scrubber {
            scrubber.release();
        }
        if let Some(discards) = &self.discards {
            discards.release();
        }
    }
}
