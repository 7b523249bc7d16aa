//! Steps of libblkio that fail, and how that is reported.

use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::sys::libblkio::from_blkio;

/// A property or a step of libblkio that failed.
pub(crate) type Step<T> = Result<T, (&'static str, blkio::Error)>;

/// Names the step that an error belongs to.
pub(super) fn at(step: &'static str) -> impl Fn(blkio::Error) -> (&'static str, blkio::Error) {
    move |error| (step, error)
}

/// What libblkio refused.
pub(super) fn refused((step, error): (&'static str, blkio::Error)) -> OpenError {
    let source = from_blkio(&error);
    let reason = match error.message() {
        // Often it has no more to say than the number.
        words if words == source.to_string() => "refused".to_owned(),
        words => words.to_owned(),
    };
    OpenError::Engine {
        kind: EngineKind::Libblkio,
        step,
        reason,
        source: Some(source),
    }
}
