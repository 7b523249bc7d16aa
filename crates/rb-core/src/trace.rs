//! Spans and events for `tracing`, with the feature of that name. Without it every function here is empty, and so is every
//! type.
//!
//! * Spans cover operations from the call to the result; `docs/monitoring/logging.md` lists them and the events.
//! * A span of an operation is never entered: the subscriber, an observer or a waker may run in the same thread, and an
//!   async operation ends in another one. Only recovery, which calls none of them, runs inside its span.
//! * A subscriber may block, panic or call the store. So it is called where no lock of a shard, the log or the index is
//!   held, and its panics are caught.
//! * No field has bytes of keys, values or metadata.

#[cfg(feature = "tracing")]
mod bound;
#[cfg(not(feature = "tracing"))]
mod off;
#[cfg(feature = "tracing")]
mod on;
#[cfg(feature = "tracing")]
mod span;

#[cfg(not(feature = "tracing"))]
pub(crate) use off::{Span, Trace, open, open_failed, recovery, stage};
#[cfg(feature = "tracing")]
pub(crate) use on::{Trace, open_failed};
#[cfg(feature = "tracing")]
pub(crate) use span::{Span, open, recovery, stage};
