//! Limits of the time one call may wait, for resources and for the device.

use std::time::Duration;

use rb_io::Patience;

use crate::core::inner::Inner;

/// The deadlines of one call, shared by all of its rounds.
#[derive(Clone, Copy)]
pub(crate) struct Waits {
    /// For buffers, log space and an I/O queue. When it is over, the call fails with `Busy`.
    pub(crate) resources: Patience,
    /// For completions from the device. When it is over, the call fails with `TimedOut`.
    pub(crate) device: Patience,
}

impl Waits {
    pub(crate) fn of(inner: &Inner) -> Waits {
        Waits {
            resources: Patience::new(inner.busy_wait()),
            device: Patience::new(inner.options.io_deadline),
        }
    }

    /// The deadlines of an async call in several parts, which wait for the device's work on the parts
    /// before them, too. A store without threads never waits.
    pub(crate) fn of_parts(inner: &Inner) -> Waits {
        let mut waits = Waits::of(inner);
        if !inner.is_manual() {
            let limit = inner.busy_wait().max(inner.options.io_deadline);
            waits.resources = Patience::new(limit);
        }
        waits
    }

    /// The waits of two parts of a call that waited together.
    pub(crate) fn longer(self, other: Waits) -> Waits {
        let longer = |one: Patience, other: Patience| match one.left() <= other.left() {
            true => one,
            false => other,
        };
        Waits {
            resources: longer(self.resources, other.resources),
            device: longer(self.device, other.device),
        }
    }

    /// Time during which the process was stopped while this call waited; no deadline counts it.
    pub(crate) fn lost(&self) -> Duration {
        self.resources.lost() + self.device.lost()
    }
}
