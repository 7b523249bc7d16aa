//! Asks the process that has a store open for writing.

use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::background::monitor::place::{check_socket, socket_of_file, sockets_of_all};
use crate::background::monitor::socket;
use crate::background::monitor::wire::{ANSWER_MAX, Answer, Ask, Node};

pub use crate::background::monitor::once::ScrubProgress;
pub use crate::background::monitor::wire::Session;

/// Pause before the next attempt to connect to a process that many ask.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// Most characters of a reason that another process gives.
const WORDS_MAX: usize = 300;

/// Why there is no answer about an open store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// There is nothing at the path, or this user may not look.
    #[error("{path}: {why}")]
    NoStore {
        /// The path.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// No process listens for this store.
    #[error(
        "no process answers for {path}: it is not open for writing, or without a monitor that this user may ask"
    )]
    NotOpen {
        /// The path.
        path: PathBuf,
    },
    /// A process has the socket open and does not answer.
    #[error("{why} ({socket})")]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// The reason.
        why: String,
    },
    /// The process refused what was asked for.
    #[error("refused: {why} ({socket})")]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// Its reason.
        why: String,
    },
}

/// Asks the process that has the store at `path` open for writing how it is. Takes a second at
/// most for each process that is asked and does not answer.
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
            why: why.chars().take(WORDS_MAX).collect(),
        },
        _ => MonitorError::NoAnswer {
            socket,
            why: "the answer belongs to another question".into(),
        },
    }
}

/// Asks the process that has the store open, at each place where its socket can be. Never reads the store, whose device may hang.
fn ask(path: &Path, ask: Ask) -> Result<(PathBuf, Answer), MonitorError> {
    let found = fs::metadata(path).map_err(|why| MonitorError::NoStore {
        path: path.to_path_buf(),
        why: why.to_string(),
    })?;
    let (node, owner) = (Node::of(&found), found.uid());
    let is_file = found.is_file();
    let next_to_it = is_file.then(|| socket_of_file(path)).flatten();
    let mut silent = None;
    for socket in next_to_it.iter().cloned().chain(sockets_of_all()) {
        // Which store it is for is only known from its answer.
        match ask_at(&socket, owner, Ask::Session) {
            Ok(Answer::Session(session)) if session.node == node => {
                let answer = match ask {
                    Ask::Session => Ok(Answer::Session(session)),
                    ask @ Ask::Scrub { .. } => ask_at(&socket, owner, ask),
                };
                return match answer {
                    Ok(answer) => Ok((socket, answer)),
                    Err(why) => Err(no_answer(socket, &why)),
                };
            }
            // Another store, no socket, or one that this user may not ask.
            Ok(_) => {}
            Err(why) if is_absent(&why) => {}
            // One that is not next to the file belongs to another store, most likely.
            Err(_) if is_file && next_to_it.as_ref() != Some(&socket) => {}
            Err(why) => silent = silent.or(Some(no_answer(socket, &why))),
        }
    }
    Err(silent.unwrap_or_else(|| MonitorError::NotOpen {
        path: path.to_path_buf(),
    }))
}

fn no_answer(socket: PathBuf, why: &io::Error) -> MonitorError {
    let why = match why.kind() {
        io::ErrorKind::TimedOut => "the process does not answer within a second".into(),
        // Its queue is full: it is stopped, or many ask.
        io::ErrorKind::WouldBlock => {
            "the process does not answer within a second, or many ask it".into()
        }
        _ => why.to_string(),
    };
    MonitorError::NoAnswer { socket, why }
}

/// Returns whether an error says that no process listens there, or not to this user.
fn is_absent(why: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied,
    };
    matches!(
        why.kind(),
        ConnectionRefused
            | InvalidFilename
            | InvalidInput
            | NotADirectory
            | NotFound
            | PermissionDenied
    )
}

fn ask_at(socket: &Path, store_owner: u32, ask: Ask) -> io::Result<Answer> {
    check_socket(socket, store_owner)?;
    let deadline = socket::deadline();
    let stream = loop {
        match socket::connect_to(socket) {
            // Others wait already.
            Err(why) if why.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(RETRY_EVERY);
            }
            connected => break connected?,
        }
    };
    socket::send(&stream, &ask.encode(), deadline)?;
    let line = socket::receive(&stream, ANSWER_MAX, deadline)?;
    Answer::decode(&line).map_err(io::Error::other)
}
