//! Why a part of the metadata cannot be used.

use std::fmt::{self, Display};

use rb_format::Corruption;

use crate::error::{Error, error_chain};

/// Why a part of the metadata cannot be used.
pub(crate) enum Unusable {
    /// It is damaged, or on a place that the device cannot read: another copy may serve.
    Damage(String),
    /// It may be sound, but this build cannot read it.
    Unreadable(Corruption),
    /// It names a value of several slots, which this program does not read.
    SeveralSlots(&'static str),
    /// Nothing of this store and epoch was written there yet.
    Absent(String),
    /// The device or its queue does not answer: that says nothing about what is on it.
    NoAnswer(Error),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Unusable {
        match error.is_damage() {
            true => Unusable::Damage(error_chain(&error)),
            false => Unusable::NoAnswer(error),
        }
    }
}

impl Unusable {
    pub(crate) fn of(what: impl Display, why: Corruption) -> Unusable {
        let words = format!("{what}: {why}");
        match why {
            Corruption::CodecDisabled { .. } => Unusable::Unreadable(why),
            why if why.is_unknown_version() => Unusable::Unreadable(why),
            Corruption::WrongEpoch { .. } | Corruption::WrongStore { .. } => {
                Unusable::Absent(words)
            }
            why if why.is_absent() => Unusable::Absent(words),
            _ => Unusable::Damage(words),
        }
    }
}

impl Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Damage(why) | Unusable::Absent(why) => f.write_str(why),
            Unusable::Unreadable(why) => why.fmt(f),
            Unusable::SeveralSlots(what) => write!(f, "{what}: a value of several slots"),
            Unusable::NoAnswer(error) => f.write_str(&error_chain(error)),
        }
    }
}
