//! The conversation with the monitor: one line of JSON each way.
//!
//! A field that an older process does not send has its default; a question or an answer of a newer version is refused by
//! name.

use std::fs::Metadata;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
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
    #[serde(default)]
    pub version: String,
    /// The file or device that it has open.
    pub(crate) node: Node,
    /// The path by which it opened the store.
    #[serde(default)]
    pub path: PathBuf,
    /// The socket over which it answered.
    #[serde(skip)]
    pub socket: PathBuf,
    /// UUID of the store.
    #[serde(default)]
    pub uuid: String,
    /// Label of the store.
    #[serde(default)]
    pub label: Vec<u8>,
    /// Name of the engine in use.
    #[serde(default)]
    pub engine: String,
    /// Time at which it opened the store.
    #[serde(default = "unknown_time")]
    pub opened: SystemTime,
    /// Capacity of the slots of each class in bytes.
    #[serde(default)]
    pub slot_bytes: Vec<u64>,
    /// Requests in flight that a queue can have.
    #[serde(default)]
    pub queue_depth: u32,
    /// Least time since the last use of the least recently used entry: too short by up to 1/32 of the session, and no longer
    /// than the session. `None` without entries.
    #[serde(default)]
    pub oldest_use: Option<Duration>,
    /// The scrub that was last asked for in this session.
    #[serde(default)]
    pub scrub: Option<ScrubProgress>,
    /// Its counters.
    #[serde(default)]
    pub stats: StoreStats,
}

fn unknown_time() -> SystemTime {
    SystemTime::UNIX_EPOCH
}

/// A file by its file system and inode, or a device by its number: paths and UUIDs may be those of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) device: u64,
    /// 0 for a device.
    pub(crate) inode: u64,
}

impl Node {
    pub(crate) fn of(metadata: &Metadata) -> Node {
        let kind = metadata.file_type();
        match kind.is_block_device() || kind.is_char_device() {
            true => Node {
                device: metadata.rdev(),
                inode: 0,
            },
            false => Node {
                device: metadata.dev(),
                inode: metadata.ino(),
            },
        }
    }
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
