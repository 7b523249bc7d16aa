//! Errors of libblkio, with the step that failed.

use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::sys::libblkio::from_blkio;

/// The result of a libblkio call; an error carries the property or step that failed.
pub(crate) type Step<T> = Result<T, (&'static str, blkio::Error)>;

/// Attaches the step to an error.
pub(super) fn at(step: &'static str) -> impl Fn(blkio::Error) -> (&'static str, blkio::Error) {
    move |error| (step, error)
}

/// Converts a libblkio error to [`OpenError::Engine`].
pub(super) fn refused((step, error): (&'static str, blkio::Error)) -> OpenError {
    let source = from_blkio(&error);
    let reason = match error.message() {
        // The message often repeats the error number and nothing else.
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
