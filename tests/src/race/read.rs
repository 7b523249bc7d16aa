//! Reading values, and what their bytes say.

use rb_core::{Error, Lookup, Store};

use super::event::Answer;
use super::shape::{Image, Key};
use crate::marked::version_of;
use crate::tally::words;

/// Gets keys.
///
/// # Errors
/// Bytes that were never put for their key, and errors of a healthy store.
pub(super) fn read(store: &Store, image: &Image, keys: &[Key]) -> Result<Vec<Answer>, String> {
    let names: Vec<_> = keys.iter().map(|&key| image.name(key)).collect();
    answers(keys, store.get_many(&slices(&names)))
}

/// What the answers of a get say.
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

/// What a busy store may answer.
///
/// # Errors
/// Anything else must not be.
pub(super) fn refusal(error: &Error) -> Result<Answer, String> {
    match error {
        Error::NoSpace { .. } | Error::Busy { .. } => Ok(Answer::Refused),
        other => Err(format!("refused: {}", words(other))),
    }
}

pub(super) fn slices(names: &[Vec<u8>]) -> Vec<&[u8]> {
    names.iter().map(Vec::as_slice).collect()
}
