//! The reason of a failed command, on one line.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use rb_core::{Foreign, FormatError, OpenError};

use crate::key::{KeyError, show_key};
use crate::size::{SizeError, counted};

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The arguments are invalid.
    #[error("{why}")]
    Usage {
        /// The argument, and what is valid.
        why: String,
    },
    /// Formatting would destroy data, without consent.
    #[error(
        "{path} is not empty ({found}); formatting destroys everything on it: give --yes to agree"
    )]
    Consent {
        /// The device or file.
        path: PathBuf,
        /// Its content.
        found: &'static str,
    },
    /// The store for a bench has entries that no bench put.
    #[error(
        "{path} holds a store with entries that `rb bench` did not put: --fresh --yes makes a new one in its place"
    )]
    BenchOther {
        /// The store.
        path: PathBuf,
    },
    /// The store for a bench is empty, and filling it needs consent.
    #[error("{path} holds an empty store: give --yes to let the bench fill it")]
    BenchEmpty {
        /// The store.
        path: PathBuf,
    },
    /// Formatting would destroy another program's data.
    #[error(
        "{path} carries {found}; formatting destroys it: give --yes --force to `rb format` to agree"
    )]
    Occupied {
        /// The device or file.
        path: PathBuf,
        /// Its content.
        found: String,
    },
    /// The device could not be formatted.
    #[error("formatting failed")]
    Format {
        /// The cause.
        #[source]
        source: FormatError,
    },
    /// The index of a simulation could not be made.
    #[error("making the index failed")]
    Index {
        /// The cause.
        #[source]
        source: rb_index::IndexError,
    },
    /// The store could not be opened.
    #[error("opening {path} failed")]
    Open {
        /// The device or file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: OpenError,
    },
    /// The device holds another program's data.
    #[error(
        "{path} carries {}; writing to the store may destroy it: give --force to put or rm if the device is the store's, or to fsck --repair to overwrite it",
        list(found)
    )]
    Foreign {
        /// The device or file.
        path: PathBuf,
        /// The data, and its offset.
        found: Vec<Foreign>,
    },
    /// The store to audit is open for writing.
    #[error(
        "{path} is in use, and an audit of a store that changes reports false damage: stop the writer, or give --force to audit it anyway"
    )]
    InUse {
        /// The device or file.
        path: PathBuf,
        /// The process that has it open.
        #[source]
        source: OpenError,
    },
    /// The process that has the store open did not answer, or none has it open.
    #[error("asking the process that has the store open failed")]
    Monitor {
        /// The cause.
        #[source]
        source: rb_core::monitor::MonitorError,
    },
    /// Clearing drops every entry, and there was no consent.
    #[error("{path} has {entries}, and clearing drops them: give --yes to agree")]
    ClearConsent {
        /// The store.
        path: PathBuf,
        /// Their number, with the noun.
        entries: String,
    },
    /// A repair writes, and there was no consent.
    #[error("{path} is damaged, and a repair writes to it: give --yes to agree")]
    RepairConsent {
        /// The device or file.
        path: PathBuf,
    },
    /// Writing would make a loss of metadata final.
    #[error(
        "{path} lost metadata ({why}), and writing makes that final: only what the headers of the slots show is kept, and a removed key may have returned; give --accept-lost-metadata to accept that"
    )]
    LostMetadata {
        /// The device or file.
        path: PathBuf,
        /// The metadata, and the cause.
        why: String,
    },
    /// A value or a page would overwrite the store that it comes from, or another store.
    #[error("{output} is the store itself or another one: nothing else overwrites a store")]
    OverStore {
        /// The target.
        output: PathBuf,
    },
    /// A value would overwrite a device without consent.
    #[error(
        "{path} is a device ({found}), and the value would overwrite its content: give --yes to agree"
    )]
    OverDevice {
        /// The device.
        path: PathBuf,
        /// Its content.
        found: &'static str,
    },
    /// A value would overwrite another program's data.
    #[error("{path} carries {found}; the value would overwrite it: give --yes --force to agree")]
    OverForeign {
        /// The device.
        path: PathBuf,
        /// Its content.
        found: String,
    },
    /// Some gets or puts of a replay failed, so its numbers are not those of the trace.
    #[error("{} and {} failed; the first: {first}", counted(*gets, "get"), counted(*puts, "put"))]
    Replay {
        /// Number of failed gets.
        gets: u64,
        /// Number of failed puts.
        puts: u64,
        /// The first error.
        first: String,
    },
    /// An operation on the store failed.
    #[error("{what} failed")]
    Store {
        /// The operation.
        what: &'static str,
        /// The cause.
        #[source]
        source: rb_core::Error,
    },
    /// An operation on one key failed.
    #[error("{what} {} failed", show_key(key))]
    Key {
        /// The operation.
        what: &'static str,
        /// The key.
        key: Vec<u8>,
        /// The cause.
        #[source]
        source: rb_core::Error,
    },
    /// A file of the user could not be read or written.
    #[error("{what} {path} failed")]
    File {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A line of a trace is not a request.
    #[error("{path}, line {line}, column {column}, is not a request with hash_ids: {why}")]
    Trace {
        /// The trace.
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// The cause.
        why: String,
    },
    /// A child process failed.
    #[error("the child process {what}: {why}")]
    Child {
        /// The child's purpose.
        what: &'static str,
        /// The cause.
        why: String,
    },
    /// The store broke its contract.
    #[error("the store broke its contract: {what}")]
    Contract {
        /// The violation.
        what: String,
    },
    /// Standard output could not be written.
    #[error("writing to standard output failed")]
    Output {
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Failure {
    /// Makes a [`Failure::Usage`].
    pub(crate) fn usage(why: impl Into<String>) -> Failure {
        Failure::Usage { why: why.into() }
    }

    /// Returns whether the reader of standard output closed the pipe.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns the failure and all its sources on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(error) = next {
            let words = error.to_string();
            // The text of some errors includes that of their source.
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
    fn the_chain_is_one_line_without_repetition() {
        let source = io::Error::other("disk\non fire");
        let failure = Failure::File {
            what: "reading",
            path: "a b".into(),
            source: io::Error::other(source),
        };
        assert_eq!(failure.chain(), "reading a b failed: disk on fire");
    }
}
