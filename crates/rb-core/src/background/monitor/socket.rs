//! Sockets of the monitor: lines with a deadline.

use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen,
    send as send_bytes, socket_with,
};

/// Longest time for a question and its answer.
const DEADLINE: Duration = Duration::from_secs(1);

/// Connections that wait while one is served; further ones are refused by the kernel.
const BACKLOG: i32 = 16;

/// The end of a conversation that begins now.
pub(crate) fn deadline() -> Instant {
    Instant::now() + DEADLINE
}

/// Creates a socket at a path where nothing is, with mode 0600.
pub(crate) fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let socket = new_socket(SocketFlags::CLOEXEC)?;
    // The kernel gives the file the mode that the socket has when it is bound.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Connects without waiting.
///
/// # Errors
/// `WouldBlock` if too many wait already, because the process does not serve them.
pub(crate) fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    connect(&socket, &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn new_socket(flags: SocketFlags) -> Result<std::os::fd::OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Sends a line. A peer that is gone is an error and not a signal.
pub(crate) fn send(stream: &UnixStream, line: &[u8], deadline: Instant) -> io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match send_bytes(stream, rest, SendFlags::NOSIGNAL) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}

/// Receives a line of at most `max` bytes, without its end.
pub(crate) fn receive(stream: &UnixStream, max: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut part = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let read = match (&mut &*stream).read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(why),
        };
        let end = part[..read].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&part[..end.unwrap_or(read)]);
        if line.len() > max {
            return Err(io::Error::other(format!("a line of more than {max} bytes")));
        }
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// The time left, which is more than 0.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}
