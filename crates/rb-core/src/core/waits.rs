//! How long one call may wait, for what others have and for the device.

use rb_io::Patience;

use crate::core::inner::Inner;

/// The deadlines of one call, for all of its rounds together.
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
}
