//! The codes of the answers to each key of a batch.

use rb_core::{Error, PutOutcome};

pub(crate) const DONE: i8 = 0;
pub(crate) const EXISTED: i8 = 1;
pub(crate) const SUPERSEDED: i8 = 2;
pub(crate) const NOT_ADMITTED: i8 = 3;
pub(crate) const MISS: i8 = -1;
pub(crate) const TOO_LONG: i8 = -2;
pub(crate) const NO_SPACE: i8 = -3;
pub(crate) const BUSY: i8 = -4;
pub(crate) const IO_ERROR: i8 = -5;
pub(crate) const TIMED_OUT: i8 = -6;
pub(crate) const MISMATCH: i8 = -7;
pub(crate) const POISONED: i8 = -8;
pub(crate) const CLOSED: i8 = -9;
pub(crate) const INVALID: i8 = -10;
pub(crate) const REFUSED: i8 = -11;

/// All codes with their names.
pub(crate) const ALL: [(&str, i8); 15] = [
    ("DONE", DONE),
    ("EXISTED", EXISTED),
    ("SUPERSEDED", SUPERSEDED),
    ("NOT_ADMITTED", NOT_ADMITTED),
    ("MISS", MISS),
    ("TOO_LONG", TOO_LONG),
    ("NO_SPACE", NO_SPACE),
    ("BUSY", BUSY),
    ("IO_ERROR", IO_ERROR),
    ("TIMED_OUT", TIMED_OUT),
    ("MISMATCH", MISMATCH),
    ("POISONED", POISONED),
    ("CLOSED", CLOSED),
    ("INVALID", INVALID),
    ("REFUSED", REFUSED),
];

pub(crate) fn of_put(outcome: PutOutcome) -> i8 {
    match outcome {
        PutOutcome::Existed => EXISTED,
        PutOutcome::Superseded => SUPERSEDED,
        PutOutcome::NotAdmitted => NOT_ADMITTED,
        _ => DONE,
    }
}

pub(crate) fn of_error(error: &Error) -> i8 {
    match error {
        Error::ValueLength { .. } => TOO_LONG,
        Error::OutputTooSmall { .. } => MISMATCH,
        Error::NoSpace { .. } => NO_SPACE,
        Error::Busy { .. } => BUSY,
        Error::Io(_) => IO_ERROR,
        Error::TimedOut { .. } => TIMED_OUT,
        Error::Poisoned { .. } => POISONED,
        Error::Closed => CLOSED,
        Error::KeyLength { .. } | Error::MetadataLength { .. } | Error::Expiry { .. } => INVALID,
        _ => REFUSED,
    }
}
