//! Asks the process that has a store open for writing.

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rb_io::{Access, Device, DeviceKind, EngineKind};
use rustix::process::geteuid;

use crate::background::monitor::place::{places, places_of_others};
use crate::background::monitor::socket;
use crate::background::monitor::wire::{ANSWER_MAX, Answer, Ask};
use crate::check::inspect::superblock_copies;

pub use crate::background::monitor::once::ScrubProgress;
pub use crate::background::monitor::wire::Session;

/// Why there is no answer about an open store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The path cannot be read, or holds no store.
    #[error("{path}: {why}")]
    NoStore {
        /// The path.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// No process listens for this store.
    #[error("no process answers for {path}: it is not open for writing, or without a monitor")]
    NotOpen {
        /// The path.
        path: PathBuf,
    },
    /// A process has the socket open and does not answer.
    #[error("{socket}: {why}")]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// The reason.
        why: String,
    },
    /// The process refused what was asked for.
    #[error("{socket}: refused: {why}")]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// Its reason.
        why: String,
    },
}

/// Asks the process that has the store at `path` open for writing how it is. Takes a second at most.
///
/// # Errors
/// See [`MonitorError`].
pub fn session(path: &Path) -> Result<Session, MonitorError> {
    match ask(path, Ask::Session)? {
        (socket, Answer::Session(session)) => Ok(Session { socket, ..*session }),
        (socket, answer) => Err(unexpected(socket, &answer)),
    }
}

/// Asks the process that has the store at `path` open for writing to verify every value once. It drops damaged entries.
/// The progress is in [`Session::scrub`].
///
/// # Errors
/// See [`MonitorError`]; `Refused` if such a scrub is running.
pub fn scrub(path: &Path, bytes_per_second: NonZeroU64) -> Result<(), MonitorError> {
    match ask(path, Ask::Scrub { bytes_per_second })? {
        (_, Answer::Started) => Ok(()),
        (socket, answer) => Err(unexpected(socket, &answer)),
    }
}

fn unexpected(socket: PathBuf, answer: &Answer) -> MonitorError {
    match answer {
        Answer::Refused(why) => MonitorError::Refused {
            socket,
            why: why.clone(),
        },
        _ => MonitorError::NoAnswer {
            socket,
            why: "the answer belongs to another question".into(),
        },
    }
}

/// Asks at each place where the socket can be, until there is one.
fn ask(path: &Path, ask: Ask) -> Result<(PathBuf, Answer), MonitorError> {
    for place in sockets(path)? {
        match ask_at(&place, ask) {
            Ok(answer) => return Ok((place, answer)),
            Err(why) if is_absent(&why) => {}
            Err(why) => {
                let why = match why.kind() {
                    // The process is stopped, or many ask.
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        "the process does not answer within a second".into()
                    }
                    _ => why.to_string(),
                };
                return Err(MonitorError::NoAnswer { socket: place, why });
            }
        }
    }
    Err(MonitorError::NotOpen {
        path: path.to_path_buf(),
    })
}

/// Returns whether an error says that no process listens there, or not to this user.
fn is_absent(why: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(why.kind(), ConnectionRefused | NotADirectory | NotFound)
}

fn ask_at(place: &Path, ask: Ask) -> io::Result<Answer> {
    let owner = fs::symlink_metadata(place)?.uid();
    let user = geteuid();
    // Another user could have put it into a shared folder, to answer with a lie.
    if !user.is_root() && owner != user.as_raw() && owner != 0 {
        let why = format!("the socket belongs to another user, {owner}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let deadline = socket::deadline();
    let stream = socket::connect_to(place)?;
    socket::send(&stream, &ask.encode(), deadline)?;
    let line = socket::receive(&stream, ANSWER_MAX, deadline)?;
    Answer::decode(&line).map_err(io::Error::other)
}

/// Returns the paths of the sockets that a store can have.
fn sockets(path: &Path) -> Result<Vec<PathBuf>, MonitorError> {
    let no_store = |why: String| MonitorError::NoStore {
        path: path.to_path_buf(),
        why,
    };
    let device = Device::open(path, Access::ReadOnly).map_err(|why| no_store(why.to_string()))?;
    let is_file = device.kind() == DeviceKind::File;
    let opened = rb_io::open(std::sync::Arc::new(device), EngineKind::Posix)
        .map_err(|why| no_store(why.to_string()))?;
    let copies = superblock_copies(opened.engine.as_ref());
    let superblock = copies.into_iter().find_map(Result::ok);
    let uuid = superblock
        .ok_or_else(|| no_store("no usable superblock".into()))?
        .identity
        .uuid;
    let own = places(is_file.then_some(path), &uuid);
    let own = own.into_iter().map(|place| place.socket);
    Ok(own.chain(places_of_others(&uuid)).collect())
}
