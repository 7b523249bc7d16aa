//! How long one call may wait, for what others have and for the device.

use std::time::Duration;

use rb_io::Patience;

use crate::core::inner::Inner;

/// The deadlines of one call, for all of its rounds together.
#[derive(Clone, Copy)]
pub(crate) struct Waits {
    /// For buffers, log space and an I/O queue: then the call is `Busy`.
    pub(crate) resources: Patience,
    /// For answers of the device: then the call is `TimedOut`.
    pub(crate) device: Patience,
}

impl Waits {
    pub(crate) fn of(inner: &Inner) -> Waits {
        Waits {
            resources: Patience::new(inner.busy_wait()),
            device: Patience::new(inner.options.io_deadline),
        }
    }

    /// Time that its waits took and that was not counted.
    pub(crate) fn lost(&self) -> Duration {
        self.resources.lost() + self.device.lost()
    }
}
