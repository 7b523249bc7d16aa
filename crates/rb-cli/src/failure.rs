//! Why a command failed, in one line.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use rb_core::{Foreign, FormatError, OpenError};

use crate::key::{KeyError, show_key};
use crate::size::SizeError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The command line says something that cannot be done.
    #[error("{why}")]
    Usage {
        /// What, and what would be right.
        why: String,
    },
    /// Formatting would destroy what is there, and nobody agreed to that.
    #[error(
        "{path} is not empty ({found}); formatting destroys everything on it: say --yes if that is meant"
    )]
    Consent {
        /// The device or file.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A store that a bench was to use has entries that no bench put.
    #[error(
        "{path} holds a store with other entries than those of `rb bench`: --fresh --yes makes a new one in its place"
    )]
    BenchOther {
        /// The store.
        path: PathBuf,
    },
    /// A store that a bench was to use is empty, and filling it needs consent.
    #[error("{path} holds an empty store: say --yes if the bench may fill it")]
    BenchEmpty {
        /// The store.
        path: PathBuf,
    },
    /// Formatting would destroy something that is not ours.
    #[error(
        "{path} carries {found}; formatting destroys it: say --yes --force to `rb format` if that is meant"
    )]
    Occupied {
        /// The device or file.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The device could not be formatted.
    #[error("formatting failed")]
    Format {
        /// Why.
        #[source]
        source: FormatError,
    },
    /// The store could not be opened.
    #[error("opening {path} failed")]
    Open {
        /// The device or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The device holds another program's data.
    #[error(
        "{path} carries {}; writing to the store may destroy what that belongs to: say --force (of put, rm, or fsck --repair, which writes over it) if the device is the store's",
        list(found)
    )]
    Foreign {
        /// The device or file.
        path: PathBuf,
        /// What was found, and where.
        found: Vec<Foreign>,
    },
    /// A store that is to be audited moves.
    #[error(
        "{path} is in use, and an audit of what moves finds damage that is not there: stop the writer, or say --force to look all the same"
    )]
    InUse {
        /// The device or file.
        path: PathBuf,
        /// Who has it.
        #[source]
        source: OpenError,
    },
    /// A repair writes, and nobody agreed to that.
    #[error("{path} is damaged; repairing it writes to it: say --yes if that is meant")]
    RepairConsent {
        /// The device or file.
        path: PathBuf,
    },
    /// Writing would make a loss of metadata final.
    #[error(
        "{path} lost metadata ({why}), and writing makes that final: only what the headers of the slots prove is kept, and a removed key may have returned; say --accept-lost-metadata if that is acceptable"
    )]
    LostMetadata {
        /// The device or file.
        path: PathBuf,
        /// Which metadata, and how.
        why: String,
    },
    /// A value would be written over the store that it comes from, or over another.
    #[error("{output} is the store itself or another one: a value is not written over it")]
    OverStore {
        /// Where the value was to go.
        output: PathBuf,
    },
    /// A value would be written over a device without consent.
    #[error(
        "{path} is a device ({found}), and the value would be written over what is on it: say --yes if that is meant"
    )]
    OverDevice {
        /// The device.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A value would be written over another program's data.
    #[error(
        "{path} carries {found}; the value would be written over it: say --yes --force if that is meant"
    )]
    OverForeign {
        /// The device.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// Some gets or puts of a replay failed, so that its numbers are not those of the trace.
    #[error("{gets} gets and {puts} puts failed; the first: {first}")]
    Replay {
        /// Failed gets.
        gets: u64,
        /// Failed puts.
        puts: u64,
        /// What the first one met.
        first: String,
    },
    /// The store could not do something as a whole.
    #[error("{what} failed")]
    Store {
        /// What was being done.
        what: &'static str,
        /// Why.
        #[source]
        source: rb_core::Error,
    },
    /// The store could not do something with one key.
    #[error("{what} {} failed", show_key(key))]
    Key {
        /// What was being done.
        what: &'static str,
        /// The key.
        key: Vec<u8>,
        /// Why.
        #[source]
        source: rb_core::Error,
    },
    /// A file of the user could not be read or written.
    #[error("{what} {path} failed")]
    File {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of a trace is not what it should be.
    #[error("{path}, line {line}: not a request of a trace")]
    Trace {
        /// The trace.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A child process of ours did not do its part.
    #[error("the child process {what}: {why}")]
    Child {
        /// What it was for.
        what: &'static str,
        /// What became of it.
        why: String,
    },
    /// The store broke its contract: what this command is there to find.
    #[error("the store broke its contract: {what}")]
    Contract {
        /// How.
        what: String,
    },
    /// Standard output could not be written.
    #[error("writing to standard output failed")]
    Output {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Failure {
    /// A command line that cannot be.
    pub(crate) fn usage(why: impl Into<String>) -> Failure {
        Failure::Usage { why: why.into() }
    }

    /// Whether the reader of our output went away.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The failure and all its sources on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(error) = next {
            let words = error.to_string();
            // Some errors already say what their source says.
            if !text.contains(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            next = error.source();
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn list(found: &[Foreign]) -> String {
    let words: Vec<_> = found.iter().map(ToString::to_string).collect();
    words.join(", ")
}

impl From<SizeError> for Failure {
    fn from(error: SizeError) -> Failure {
        Failure::usage(error.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Failure {
        Failure::usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_one_line_and_says_nothing_twice() {
        let source = io::Error::other("disk\non fire");
        let failure = Failure::File {
            what: "reading",
            path: "a b".into(),
            source: io::Error::other(source),
        };
        assert_eq!(failure.chain(), "reading a b failed: disk on fire");
    }
}
