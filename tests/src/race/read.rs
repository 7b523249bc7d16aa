//! Reads values and identifies them by their bytes.

use rb_core::{Error, Lookup, Store};

use super::event::Answer;
use super::shape::{Image, Key};
use crate::marked::version_of;
use crate::tally::words;

/// Gets keys.
///
/// # Errors
/// Bytes that were never put for their key, and errors that a healthy store must not return.
pub(super) fn read(store: &Store, image: &Image, keys: &[Key]) -> Result<Vec<Answer>, String> {
    let names: Vec<_> = keys.iter().map(|&key| image.name(key)).collect();
    answers(keys, store.get_many(&slices(&names)))
}

/// Identifies the results of a get.
///
/// # Errors
/// As [`read`].
pub(super) fn answers(keys: &[Key], lookups: Vec<Lookup>) -> Result<Vec<Answer>, String> {
    let answer = |(&key, lookup): (&Key, Lookup)| match lookup {
        Ok(None) => Ok(Answer::Absent),
        Ok(Some(value)) => Ok(Answer::Value {
            version: version_of(key, &value)?,
            generation: value.generation(),
        }),
        Err(error) => refusal(&error),
    };
    keys.iter().zip(lookups).map(answer).collect()
}

/// Maps the errors that a busy store may return.
///
/// # Errors
/// Any other error is a violation.
pub(super) fn refusal(error: &Error) -> Result<Answer, String> {
    match error {
        Error::NoSpace { .. } | Error::Busy { .. } => Ok(Answer::Refused),
        other => Err(format!("refused: {}", words(other))),
    }
}

pub(super) fn slices(names: &[Vec<u8>]) -> Vec<&[u8]> {
    names.iter().map(Vec::as_slice).collect()
}
