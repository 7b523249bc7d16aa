//! What can go wrong, in words: what was wrong, which value, which limit.
//!
//! A miss is not an error. Every operation on several keys answers key by key, so one failing
//! request fails one key (C7).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rb_format::{Corruption, LayoutError, StoreUuid, UnknownFeatures};

use crate::report::{Foreign, list};

/// Why an operation on one key, or on the store as a whole, did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key is empty or longer than the store was formatted for.
    #[error("a key of {len} bytes: keys of this store have 1 to {max} bytes")]
    KeyLength {
        /// Length of the key in bytes.
        len: usize,
        /// The longest key this store takes, in bytes.
        max: usize,
    },
    /// The value is empty or larger than the largest slot.
    #[error("a value of {len} bytes: values of this store have 1 to {max} bytes")]
    ValueLength {
        /// Length of the value in bytes.
        len: usize,
        /// Capacity of the largest slot in bytes.
        max: usize,
    },
    /// The metadata is longer than the store was formatted for.
    #[error(
        "metadata of {len} bytes: this store was formatted for at most {max} bytes of metadata"
    )]
    MetadataLength {
        /// Length of the metadata in bytes.
        len: usize,
        /// The longest metadata this store takes, in bytes.
        max: usize,
    },
    /// The caller's memory is smaller than the value.
    #[error("the value has {needed} bytes, the memory given for it {given}")]
    OutputTooSmall {
        /// Length of the value in bytes.
        needed: usize,
        /// Length of the caller's memory in bytes.
        given: usize,
    },
    /// The store was opened without a placement id for this lifetime class.
    #[error("lifetime class {class}: this store was opened with {classes} of them, counted from 0")]
    Lifetime {
        /// The class asked for.
        class: u8,
        /// How many there are.
        classes: usize,
    },
    /// Every slot that could hold the value is leased or reserved.
    #[error("no slot of {slot_bytes} bytes is free or can be evicted: all are leased or reserved")]
    NoSpace {
        /// Capacity of the slots of that class in bytes.
        slot_bytes: u64,
    },
    /// A bounded resource stayed exhausted for the configured wait.
    #[error("busy: no {what} became free within {waited:?}")]
    Busy {
        /// The resource.
        what: &'static str,
        /// How long the operation waited.
        waited: Duration,
    },
    /// One batch asks for more buffer memory than it may have: all of the store's, of an async put half.
    #[error(
        "the batch needs {needed} bytes of buffers at once, and may have {limit}; raise `buffer_bytes`, ask for fewer keys at once, or read into your own memory"
    )]
    BatchTooLarge {
        /// Bytes needed at once.
        needed: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// One async batch has more keys than the log takes records of at once.
    #[error(
        "the batch has {keys} keys, and the log of this store takes the records of {limit} at once"
    )]
    BatchTooLong {
        /// Keys of the batch.
        keys: usize,
        /// Its keys that go together.
        limit: usize,
    },
    /// The request did not finish before the deadline; its buffer stays with the kernel until it does.
    #[error("no answer from the device within {waited:?}")]
    TimedOut {
        /// The deadline.
        waited: Duration,
    },
    /// The device failed the request.
    #[error("the device failed the request")]
    Io(#[source] Arc<rb_io::IoError>),
    /// Writing stopped after a failed metadata write or flush; verified reads go on.
    #[error("writing is stopped until the store is reopened: {reason}")]
    Poisoned {
        /// The failure that stopped it.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// This process is a fork of the one that opened the store.
    #[error(
        "the store was opened by process {opened_by}, of which this is a fork: open it in this process"
    )]
    Forked {
        /// The process that opened it.
        opened_by: u32,
    },
    /// The store was opened read-only.
    #[error("the store was opened read-only")]
    ReadOnly,
    /// This opening has given out all its generations.
    #[error("this opening of the store has used all its {limit} generations; reopen it")]
    GenerationsExhausted {
        /// How many there are.
        limit: u64,
    },
    /// The operating system gave no memory, thread or random bytes.
    #[error("{what} could not be had: {why}")]
    Resource {
        /// What was asked for.
        what: &'static str,
        /// The system's answer.
        why: String,
    },
}

impl Error {
    /// Whether trying the same again later may succeed without any change by the caller.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::NoSpace { .. } | Error::Busy { .. } | Error::TimedOut { .. } => true,
            Error::Io(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Whether the device answered for one place that it cannot serve it, as opposed to the device or its queue not
    /// answering at all. Only the former may be taken for damage, or for a write that has ended.
    pub(crate) fn is_answer_for_place(&self) -> bool {
        match self {
            Error::Io(error) => {
                !matches!(**error, rb_io::IoError::QueueFailed { .. }) && !error.is_device_gone()
            }
            _ => false,
        }
    }

    /// Whether there was no space for a write: the file system under a sparse file, or the pool of a thin device, is
    /// full. The slot is none the worse for it.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Error::Io(error) if error.is_out_of_space())
    }

    /// Whether it says that what is on the device there is lost. "Not now", such as from a drive whose path is
    /// changing, says nothing about that.
    pub(crate) fn is_damage(&self) -> bool {
        self.is_answer_for_place() && !self.is_transient()
    }

    /// Whether writing has stopped for good in this opening.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        matches!(self, Error::Poisoned { .. })
    }
}

impl From<rb_io::IoError> for Error {
    fn from(error: rb_io::IoError) -> Error {
        Error::Io(Arc::new(error))
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The device or its engine could not be opened.
    #[error(transparent)]
    Device(#[from] rb_io::OpenError),
    /// A request failed while the store's metadata was read or written.
    #[error("{what} failed")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The answer.
        #[source]
        source: Error,
    },
    /// Neither superblock is there.
    #[error("{path} holds no raw-block store{}", found(.signature.as_deref()))]
    NotAStore {
        /// The device.
        path: PathBuf,
        /// The foreign signatures found there.
        signature: Option<String>,
    },
    /// Both superblocks are unusable, though at least one was once written.
    #[error("{path}: no usable superblock; copy A: {}; copy B: {}{}", copies[0], copies[1], found(.signature.as_deref()))]
    Superblock {
        /// The device.
        path: PathBuf,
        /// What is wrong with each copy.
        copies: Box<[Corruption; 2]>,
        /// The foreign signatures found there.
        signature: Option<String>,
    },
    /// The device was given to something else since the store last wrote to it, as far as its fixed blocks and
    /// unused areas show. Nothing was written.
    #[error("{path} carries {}; writing to the store may destroy what that belongs to: say so with `force`", list(.found))]
    Foreign {
        /// The device.
        path: PathBuf,
        /// What was found, and where.
        found: Vec<Foreign>,
    },
    /// Both superblocks are whole, and of different stores: what the device holds besides may be of either.
    #[error(
        "{path}: superblock copy A is of store {}, copy B of store {}: parts of two devices were mixed",
        stores[0],
        stores[1]
    )]
    Mixed {
        /// The device.
        path: PathBuf,
        /// The store that each copy names.
        stores: [StoreUuid; 2],
    },
    /// The store was written by a newer version of the format.
    #[error("{path}: {why}")]
    Version {
        /// The device.
        path: PathBuf,
        /// Which version was found and which are readable.
        why: Corruption,
    },
    /// The store uses features that this program does not know, and which say that it must not open the store, or
    /// not for writing.
    #[error("{path}: {why}")]
    Features {
        /// The device.
        path: PathBuf,
        /// Which features.
        why: UnknownFeatures,
    },
    /// What was written before through the page cache could not be made durable. What is there now is unknown to this
    /// opening, which read nothing.
    #[error("{}: what was written to it before cannot be made durable", path.display())]
    Cache {
        /// The device.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another host opens the device for writing at the same time. It has the store, or neither has: opening it again
    /// decides.
    #[error("another host opens the store at the same time: {why}")]
    Contended {
        /// What was seen of it.
        why: String,
    },
    /// The device is smaller than the layout in its superblock.
    #[error(
        "{path}: the layout needs {needed} bytes, the device has {found}: it was truncated, or copied to a smaller one"
    )]
    Truncated {
        /// The device.
        path: PathBuf,
        /// Bytes that the layout needs.
        needed: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The options name another geometry than the device has.
    #[error("{path}: {field} is {found} on the device, {expected} in the options")]
    Geometry {
        /// The device.
        path: PathBuf,
        /// Which value differs.
        field: &'static str,
        /// What the device has.
        found: String,
        /// What the options ask for.
        expected: String,
    },
    /// The store's metadata is sound, as far as this build can tell, but written in a way that this
    /// build cannot read. Going on without it would lose what it says.
    #[error("this build cannot read the store's metadata: {why}")]
    Build {
        /// What is missing.
        why: Corruption,
    },
    /// The store holds a value of several slots, which this program does not read.
    #[error("the {what} names a value of several slots: it was written by a newer program")]
    SeveralSlots {
        /// Where the value is named.
        what: &'static str,
    },
    /// The records of a slot are not in the order in which it was owned. Looked for in debug builds and under a
    /// simulator only; an audit reports it as damage.
    #[error("the delta log is out of order: {why}")]
    LogOrder {
        /// Which slot, blocks and generations.
        why: String,
    },
    /// All incarnation numbers of the store's epoch are used up. It can be read on.
    #[error(
        "store {uuid}: all {limit} openings for writing are used up; it still opens for reading, and starting it empty (StoreOptions::start_empty, which drops every entry) or formatting it gives it as many again"
    )]
    IncarnationsExhausted {
        /// The store.
        uuid: StoreUuid,
        /// How many there are.
        limit: u32,
    },
    /// A number that counts up is beyond what any store reaches, so it was never counted to.
    #[error("the {what} is {found}, over the limit of {limit} for writing; format the store again")]
    NumbersExhausted {
        /// Which number.
        what: &'static str,
        /// What it is.
        found: u64,
        /// The highest that a store is written with.
        limit: u64,
    },
    /// Metadata of this store can no longer be written.
    #[error("the store could not be made writable")]
    Writer(#[source] Error),
    /// A placement id was asked for that the device does not have.
    #[error("placement id {id} for {what}: {}", ids(*max, engine))]
    Placement {
        /// What is to be written with it.
        what: String,
        /// The id.
        id: u16,
        /// The highest id there is, and who says so; none if the device takes none through this engine.
        max: Option<(u16, &'static str)>,
        /// The engine.
        engine: &'static str,
    },
    /// An option has a value that cannot work.
    #[error("option {option} is {value}: {why}")]
    Option {
        /// Which option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is asked of it.
        why: &'static str,
    },
    /// The operating system gave no memory, thread or random bytes.
    #[error("{what} could not be had: {why}")]
    Resource {
        /// What was asked for.
        what: &'static str,
        /// The system's answer.
        why: String,
    },
}

fn ids(max: Option<(u16, &str)>, engine: &str) -> String {
    match max {
        Some((max, source)) => format!("the device has 1 to {max} ({source})"),
        None => format!("the device takes none through the engine {engine}"),
    }
}

fn found(signature: Option<&str>) -> String {
    signature.map_or_else(String::new, |name| format!(" (it carries {name})"))
}

/// Why [`Store::open_or_create`](crate::Store::open_or_create) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There was no store, and none could be formatted.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Why a device was not formatted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The device could not be opened, is in use, or could not be created.
    #[error(transparent)]
    Device(#[from] rb_io::OpenError),
    /// The device carries something that formatting would destroy.
    #[error("{path} carries {found}; formatting destroys it: say so with `force`")]
    Occupied {
        /// The device.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// Consent was not given.
    #[error("formatting destroys everything on {path} ({found}): say so with `consent`")]
    Consent {
        /// The device.
        path: PathBuf,
        /// What is there, in words.
        found: &'static str,
    },
    /// More was asked for than the device has.
    #[error("{path}: {wanted} bytes were asked for, the device has {existing}")]
    DeviceSize {
        /// The device.
        path: PathBuf,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes there are.
        existing: u64,
    },
    /// The slots were to be discarded.
    #[error("{path} takes no discards: format it without them")]
    NoDiscard {
        /// The device.
        path: PathBuf,
    },
    /// No layout fits the request.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A request failed.
    #[error("{what} failed")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The answer.
        #[source]
        source: Error,
    },
    /// The operating system gave no memory or random bytes.
    #[error("{what} could not be had: {why}")]
    Resource {
        /// What was asked for.
        what: &'static str,
        /// The system's answer.
        why: String,
    },
}

/// An error with all its sources, on one line.
pub(crate) fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
