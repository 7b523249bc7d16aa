//! The conversation with the monitor: one line of JSON each way.
//!
//! A field that an older process does not send has its default; a question or an answer of a newer version is refused by
//! name.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::background::monitor::once::ScrubProgress;
use crate::stats::StoreStats;

/// Version of questions and answers.
const VERSION: u32 = 1;

/// Longest question in bytes.
pub(crate) const ASK_MAX: usize = 1024;

/// Longest answer in bytes.
pub(crate) const ANSWER_MAX: usize = 1 << 20;

/// A question to the process that has a store open.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// How it is.
    Session,
    /// To scrub it once.
    Scrub {
        /// Limit of the bytes read per second.
        bytes_per_second: NonZeroU64,
    },
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Session(Box<Session>),
    Started,
    Refused(String),
}

/// An open store as the process says that has it open for writing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Session {
    /// Process id, in the process's own namespace.
    pub process: u32,
    /// Version of the library in the process.
    pub version: String,
    /// The path by which it opened the store.
    pub path: PathBuf,
    /// The socket over which it answered.
    #[serde(skip)]
    pub socket: PathBuf,
    /// UUID of the store.
    pub uuid: String,
    /// Label of the store.
    pub label: Vec<u8>,
    /// Name of the engine in use.
    pub engine: String,
    /// Time at which it opened the store.
    pub opened: SystemTime,
    /// Entries that it recovered.
    pub recovered: u64,
    /// True if the session before was closed.
    pub clean: bool,
    /// Capacity of the slots of each class in bytes.
    pub slot_bytes: Vec<u64>,
    /// Requests in flight that a queue can have.
    pub queue_depth: u32,
    /// Least time since the last use of the least recently used entry: too short by up to 1/32 of the session, and no longer
    /// than the session. `None` without entries.
    pub oldest_use: Option<Duration>,
    /// The scrub that was last asked for in this session.
    pub scrub: Option<ScrubProgress>,
    /// Its counters.
    pub stats: StoreStats,
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    version: u32,
    #[serde(bound(deserialize = "T: Deserialize<'de>"))]
    says: T,
}

/// The part of a line that every version has.
#[derive(Deserialize)]
struct AnyLine {
    version: u32,
}

impl Ask {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// # Errors
    /// A message: not a question, or one of another version.
    pub(crate) fn decode(line: &[u8]) -> Result<Ask, String> {
        decode(line)
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// # Errors
    /// A message: not an answer, or one of another version.
    pub(crate) fn decode(line: &[u8]) -> Result<Answer, String> {
        decode(line)
    }
}

fn encode(says: &impl Serialize) -> Vec<u8> {
    let line = Line {
        version: VERSION,
        says,
    };
    let mut line = serde_json::to_vec(&line).expect("numbers and text can be written as JSON");
    line.push(b'\n');
    line
}

fn decode<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Result<T, String> {
    let any: AnyLine = serde_json::from_slice(line).map_err(|why| why.to_string())?;
    if any.version != VERSION {
        let version = any.version;
        return Err(format!(
            "it is of version {version}, only {VERSION} is known"
        ));
    }
    let line: Line<T> = serde_json::from_slice(line).map_err(|why| why.to_string())?;
    Ok(line.says)
}
