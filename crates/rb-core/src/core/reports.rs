//! Starts operations, and reports events.

use crate::core::inner::Inner;
use crate::counters::Timer;
use crate::events::{Event, shielded};
use crate::trace::{Span, Trace};

impl Inner {
    /// Starts an operation, with its span.
    #[inline]
    pub(crate) fn begin(&self, span: impl FnOnce(&Trace) -> Span) -> Timer {
        Timer::new(self.options.timed, span(&self.counters.trace))
    }

    /// Starts to time a part of an operation.
    pub(crate) fn timer(&self) -> Timer {
        Timer::new(self.options.timed, Span::none())
    }

    /// Reports an event, and notifies the observer. The caller holds no lock.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.counters.trace.observed(event);
        if let Some(events) = &self.options.events {
            shielded(|| events.event(event));
        }
    }
}
