//! Errors, each with a message that names the cause, the value and the limit.
//!
//! A miss is not an error. Every operation on several keys returns one result per key, so one failing
//! request fails one key (C7).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rb_format::{Corruption, LABEL_LEN, LayoutError, StoreUuid, UnknownFeatures};

use crate::report::{Foreign, counted, list};

/// The error of an operation on one key, or on the store as a whole.
///
/// ```
/// use rb_core::Error;
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// # let store = Store::open_or_create(&options, StoreOptions::default())?;
/// let refused = store.put(b"key", &vec![0; 2_000_000]).unwrap_err();
/// assert!(matches!(refused, Error::ValueLength { len: 2_000_000, max: 1_048_576 }));
/// assert_eq!(refused.to_string(), "a value of 2000000 bytes: values of this store have 1 to 1048576 bytes");
/// assert!(!refused.is_transient());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key is empty or longer than the store was formatted for.
    #[error("a key of {}: keys of this store have 1 to {}", bytes(*len), bytes(*max))]
    KeyLength {
        /// Length of the key in bytes.
        len: usize,
        /// The longest key of this store in bytes.
        max: usize,
    },
    /// The value is empty, or longer than the slots of the largest class hold: all of them together, at most 256.
    #[error("a value of {}: values of this store have 1 to {max} bytes", bytes(*len))]
    ValueLength {
        /// Length of the value in bytes.
        len: usize,
        /// The longest value of this store in bytes.
        max: usize,
    },
    /// The metadata is longer than the store was formatted for.
    #[error(
        "metadata of {}: this store was formatted for at most {} of metadata",
        bytes(*len),
        bytes(*max)
    )]
    MetadataLength {
        /// Length of the metadata in bytes.
        len: usize,
        /// The longest metadata of this store in bytes.
        max: usize,
    },
    /// The caller's memory is smaller than the value.
    #[error("the value has {}, the memory given for it {given}", bytes(*needed))]
    OutputTooSmall {
        /// Length of the value in bytes.
        needed: usize,
        /// Length of the caller's memory in bytes.
        given: usize,
    },
    /// The store was opened without a placement id for this lifetime class.
    #[error("lifetime class {class}: this store was opened with {classes} of them, counted from 0")]
    Lifetime {
        /// The class requested.
        class: u8,
        /// The number of classes.
        classes: usize,
    },
    /// The expiry of a put is over, or not after the time at which the store was formatted.
    #[error("an expiry {expires:?} after the beginning of 1970: it must be later than {after:?}")]
    Expiry {
        /// The expiry, since the beginning of 1970.
        expires: Duration,
        /// The later of the present and the time of the format, since the beginning of 1970.
        after: Duration,
    },
    /// The memory for a get is a shared loan; a read needs an exclusive one.
    #[error("the memory for the value is a shared loan: a read needs an exclusive one")]
    SharedLoan,
    /// Too many slots of the value's class are leased or reserved.
    #[error(
        "fewer than {slots} slots of {slot_bytes} bytes are free or can be evicted: the others are leased or reserved"
    )]
    NoSpace {
        /// Number of slots that the value takes.
        slots: usize,
        /// Capacity of the slots of that class in bytes.
        slot_bytes: u64,
    },
    /// A bounded resource stayed exhausted for the configured wait.
    #[error("busy: no {what} became free within {waited:?}")]
    Busy {
        /// The resource.
        what: &'static str,
        /// The time that the operation waited.
        waited: Duration,
    },
    /// The batch needs more buffer memory than one batch may take: all of the store's, or half of it for an async put.
    #[error(
        "the batch needs {needed} bytes of buffers, and may have {limit}; raise `buffer_bytes`, use smaller batches, or read into your own memory"
    )]
    BatchTooLarge {
        /// Bytes that the batch needs.
        needed: usize,
        /// Bytes that one batch may take.
        limit: usize,
    },
    /// The request did not complete before the deadline; its buffer stays with the kernel until it does.
    #[error("no answer from the device within {waited:?}")]
    TimedOut {
        /// The deadline.
        waited: Duration,
    },
    /// The device failed the request.
    #[error("the device failed the request")]
    Io(#[source] Arc<rb_io::IoError>),
    /// A metadata write or flush failed, so writing has stopped; verified reads continue.
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
        /// Id of the process that opened it.
        opened_by: u32,
    },
    /// The store was opened read-only.
    #[error("the store was opened read-only")]
    ReadOnly,
    /// This session has used all its generations.
    #[error("this session of the store has used all its {limit} generations; reopen it")]
    GenerationsExhausted {
        /// The number of generations in a session.
        limit: u64,
    },
    /// The operating system refused memory, a thread or random bytes.
    #[error("the system refused {what}: {why}")]
    Resource {
        /// The resource requested.
        what: &'static str,
        /// The system's error.
        why: String,
    },
}

impl Error {
    /// Returns true if the same call may succeed later without a change by the caller.
    ///
    /// ```
    /// use std::time::Duration;
    /// use rb_core::Error;
    ///
    /// assert!(Error::Busy { what: "buffers", waited: Duration::from_secs(5) }.is_transient());
    /// assert!(!Error::Closed.is_transient());
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::NoSpace { .. } | Error::Busy { .. } | Error::TimedOut { .. } => true,
            Error::Io(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Returns true if the device responded that it cannot serve one place, as opposed to the device or its queue not
    /// responding at all. Only the former may be taken for damage, or for a write that has ended.
    pub(crate) fn is_answer_for_place(&self) -> bool {
        match self {
            Error::Io(error) => {
                !matches!(**error, rb_io::IoError::QueueFailed { .. }) && !error.is_device_gone()
            }
            _ => false,
        }
    }

    /// Returns true if the request was given up before all of it was sent, and nothing of it lands any more.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self, Error::Io(error) if error.is_given_up())
    }

    /// Returns true if there was no space for a write: the file system under a sparse file, or the pool of a thin device,
    /// is full. The slot stays usable.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Error::Io(error) if error.is_out_of_space())
    }

    /// Returns true if the data at the place is lost. A transient error, such as that of a drive whose path is changing,
    /// does not show that.
    pub(crate) fn is_damage(&self) -> bool {
        self.is_answer_for_place() && !self.is_transient()
    }

    /// Returns true if the device refused the memory of a transfer.
    pub(crate) fn is_memory_refused(&self) -> bool {
        matches!(self, Error::Io(error) if error.is_memory_refused())
    }

    /// Returns the place on the device that failed, in bytes.
    pub(crate) fn device_offset(&self) -> Option<u64> {
        match self {
            Error::Io(error) => error.offset(),
            _ => None,
        }
    }

    /// Returns true if writing has stopped until the store is reopened.
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

/// The error of opening a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The device or its engine could not be opened.
    #[error(transparent)]
    Device(#[from] rb_io::OpenError),
    /// A request failed while the store's metadata was read or written.
    #[error("{what} failed")]
    Io {
        /// The step that failed.
        what: &'static str,
        /// The error of the request.
        #[source]
        source: Error,
    },
    /// The device has no superblock.
    #[error("{path} holds no raw-block store{}{}", found(.signature.as_deref()), remains(*trace))]
    NotAStore {
        /// The device.
        path: PathBuf,
        /// The foreign signatures found there.
        signature: Option<String>,
        /// Offset in bytes of a structure that an earlier store left: its superblock copies were erased, or a format did
        /// not end.
        trace: Option<u64>,
    },
    /// Both superblocks are unusable, though at least one was once written.
    #[error("{path}: no usable superblock; copy A: {}; copy B: {}{}", copies[0].reason(), copies[1].reason(), found(.signature.as_deref()))]
    Superblock {
        /// The device.
        path: PathBuf,
        /// The damage of each copy.
        copies: Box<[Corruption; 2]>,
        /// The foreign signatures found there.
        signature: Option<String>,
    },
    /// The fixed blocks or unused areas of the device carry data of another program, which was written after the store last
    /// wrote. Nothing was written.
    #[error("{path} carries {}; writing to the store may destroy that data: set `force` to write anyway", list(.found))]
    Foreign {
        /// The device.
        path: PathBuf,
        /// The data found.
        found: Vec<Foreign>,
    },
    /// Both superblocks are valid and belong to different stores; the rest of the device may belong to either.
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
        /// The version found and the readable versions.
        why: Corruption,
    },
    /// The store uses features unknown to this program that forbid it to open the store, or to open it for writing.
    #[error("{path}: {why}")]
    Features {
        /// The device.
        path: PathBuf,
        /// The features.
        why: UnknownFeatures,
    },
    /// Earlier writes through the page cache could not be made durable, so the content of the device is unknown. Nothing was
    /// read.
    #[error("{}: what was written to it before cannot be made durable", path.display())]
    Cache {
        /// The device.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Another host opens the device for writing at the same time. At most one of the two succeeded; retry to find out.
    #[error("another host opens the store at the same time: {why}")]
    Contended {
        /// The evidence of the other host.
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
        /// Size of the device in bytes.
        found: u64,
    },
    /// [`StoreOptions::expected`](crate::StoreOptions::expected) differs from the store on the device.
    #[error("{path}: {field} is {found} on the device, {expected} in the options")]
    Geometry {
        /// The device.
        path: PathBuf,
        /// Name of the value that differs.
        field: &'static str,
        /// The value on the device.
        found: String,
        /// The value in the options.
        expected: String,
    },
    /// The store's metadata appears valid, but this build cannot read it, for instance because it lacks a feature. Opening
    /// without it would lose entries.
    #[error("this build cannot read the store's metadata: {why}")]
    Build {
        /// The reason.
        why: Corruption,
    },
    /// The log records of a slot are not in the order of its owners. Checked in debug builds and under a
    /// simulator only; an audit reports it as damage.
    #[error("the delta log is out of order: {why}")]
    LogOrder {
        /// The slot, blocks and generations.
        why: String,
    },
    /// All incarnation numbers of the store's epoch are used up. The store can still be opened read-only.
    #[error(
        "store {uuid}: all {limit} openings for writing are used up; it still opens for reading, and starting it empty (StoreOptions::start_empty, which drops every entry) or formatting it gives it as many again"
    )]
    IncarnationsExhausted {
        /// The store.
        uuid: StoreUuid,
        /// The number of incarnations.
        limit: u32,
    },
    /// A sequence number is implausibly large, so the metadata is corrupt.
    #[error("the {what} is {found}, over the limit of {limit} for writing; format the store again")]
    NumbersExhausted {
        /// Name of the number.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The highest value with which a store is written.
        limit: u64,
    },
    /// The first writes of the session failed.
    #[error("the store could not be made writable")]
    Writer(#[source] Error),
    /// The options name a placement id that the device does not have.
    #[error("placement id {id} for {what}: {}", ids(*max, engine))]
    Placement {
        /// The writes that the id was meant for.
        what: String,
        /// The id.
        id: u16,
        /// The highest id and its source; `None` if the device takes no ids through this engine.
        max: Option<(u16, &'static str)>,
        /// The engine.
        engine: &'static str,
    },
    /// The store has no slot of this number.
    #[error("slot {slot}: this store has {}, numbered from 0", counted((*slots).into(), "slot"))]
    NoSuchSlot {
        /// The number.
        slot: u32,
        /// Number of slots of the store.
        slots: u32,
    },
    /// An option has a value that cannot work.
    #[error("option {option} is {value}: {why}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// The requirement that it violates.
        why: &'static str,
    },
    /// The operating system refused memory, a thread or random bytes.
    #[error("the system refused {what}: {why}")]
    Resource {
        /// The resource requested.
        what: &'static str,
        /// The system's error.
        why: String,
    },
}

fn bytes(number: usize) -> String {
    counted(number as u64, "byte")
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

fn remains(trace: Option<u64>) -> String {
    trace.map_or_else(String::new, |offset| {
        format!(", only remains of one (byte {offset}): its superblock copies were erased, or a format did not end")
    })
}

/// The error of [`Store::open_or_create`](crate::Store::open_or_create).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There was no store, and none could be formatted.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// The error of [`format`](crate::format()).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The device could not be opened, is in use, or could not be created.
    #[error(transparent)]
    Device(#[from] rb_io::OpenError),
    /// The device carries data of another program, or an unreadable store, and `force` is not set.
    #[error("{path} carries {found}; formatting destroys it: set `force` to format anyway")]
    Occupied {
        /// The device.
        path: PathBuf,
        /// The data found.
        found: String,
    },
    /// The device is not empty, and `consent` is not set.
    #[error("formatting destroys everything on {path} ({found}): set `consent` to format anyway")]
    Consent {
        /// The device.
        path: PathBuf,
        /// The data found.
        found: &'static str,
    },
    /// The requested size exceeds that of the device.
    #[error("{path}: {wanted} bytes were asked for, the device has {existing}")]
    DeviceSize {
        /// The device.
        path: PathBuf,
        /// Bytes requested.
        wanted: u64,
        /// Size of the device in bytes.
        existing: u64,
    },
    /// `discard` is set, and the device takes no discards.
    #[error("{path} takes no discards: format it without them")]
    NoDiscard {
        /// The device.
        path: PathBuf,
    },
    /// The label is too long, or ends with a zero, which could not be read back.
    #[error(
        "label of length {len}{}: a label has at most {LABEL_LEN} bytes and does not end with a zero byte",
        if *len > LABEL_LEN { "" } else { " that ends with a zero byte" }
    )]
    Label {
        /// Length of the label in bytes.
        len: usize,
    },
    /// No layout fits the request.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A request failed.
    #[error("{what} failed")]
    Io {
        /// The step that failed.
        what: &'static str,
        /// The error of the request.
        #[source]
        source: Error,
    },
    /// The operating system refused memory or random bytes.
    #[error("the system refused {what}: {why}")]
    Resource {
        /// The resource requested.
        what: &'static str,
        /// The system's error.
        why: String,
    },
}

/// The beginning of the reason why writing stopped, if another session has taken the device over.
pub(crate) const OTHER_WRITER: &str = "another writer has the device";

/// Formats an error with all its sources on one line.
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
