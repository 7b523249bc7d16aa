//! Reasons why a part of the metadata cannot be used.

use std::fmt::{self, Display};

use rb_format::Corruption;

use crate::error::{Error, error_chain};

/// Reason why a part of the metadata cannot be used.
pub(crate) enum Unusable {
    /// Damaged, or the device cannot read it. Another copy may be usable.
    Damage(String),
    /// Possibly sound, but not readable by this build.
    Unreadable(Corruption),
    /// Never written in this store and epoch.
    Absent(String),
    /// The device or its queue failed, which says nothing about the content.
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

impl From<Corruption> for Unusable {
    fn from(why: Corruption) -> Unusable {
        let words = why.to_string();
        Unusable::with(why, words)
    }
}

impl Unusable {
    pub(crate) fn of(what: impl Display, why: Corruption) -> Unusable {
        let words = format!("{what}: {why}");
        Unusable::with(why, words)
    }

    fn with(why: Corruption, words: String) -> Unusable {
        match why {
            Corruption::CodecDisabled { .. } => Unusable::Unreadable(why),
            why if why.is_unknown_version() => Unusable::Unreadable(why),
            Corruption::WrongEpoch { .. } | Corruption::WrongStore { .. } => {
                Unusable::Absent(words)
            }
            // Format clears what it does not write. Anything else that is not of the format has
            // overwritten a structure.
            Corruption::Magic { found, .. } if found == [0; 8] => Unusable::Absent(words),
            _ => Unusable::Damage(words),
        }
    }
}

impl Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Damage(why) | Unusable::Absent(why) => f.write_str(why),
            Unusable::Unreadable(why) => why.fmt(f),
            Unusable::NoAnswer(error) => f.write_str(&error_chain(error)),
        }
    }
}
