//! A disk behind a Unix socket: the server of a vhost-user-blk device.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::driver::{Driver, Kind, new};
use super::port::Port;
use super::step::{Step, at};
use crate::device::access::Access;
use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::limits::Limits;
use crate::sys::libblkio::connections;

/// How long a server may take for its greeting.
const GREETING: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 4_000 });

/// Descriptors of the virtqueue, the most first: what QEMU's server takes at most, what libblkio asks for by
/// itself, and what every server has.
const QUEUE_SIZES: [u32; 3] = [1024, 256, 128];

/// Descriptors that a part takes: header, memory or range, status.
const DESCRIPTORS_PER_PART: u32 = 3;

/// A connected server.
#[derive(Debug)]
pub(crate) struct Server {
    // The port first: its queue lies in memory of the driver, which it keeps, too.
    pub(super) port: Arc<Port>,
    pub(super) driver: Arc<Driver>,
    pub(crate) limits: Limits,
    pub(crate) capacity_bytes: u64,
}

impl Server {
    /// Connects to the server that listens at `path`.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when it does not answer: a server of one client leaves others waiting.
    /// [`OpenError::Socket`] with what libblkio said.
    pub(crate) fn connect(path: &Path, access: Access) -> Result<Self, OpenError> {
        let mut last = None;
        for size in QUEUE_SIZES {
            match greet(path, access, size)? {
                Ok(server) => return Ok(server),
                // Only the size of the queue is worth another try.
                Err((step @ "start", error)) if error.errno() != blkio::Errno::ROFS => {
                    last = Some((step, error));
                }
                Err(error) => return Err(of_socket(path, error)),
            }
        }
        Err(last.map_or(
            OpenError::NotInBuild {
                kind: EngineKind::Libblkio,
            },
            |error| of_socket(path, error),
        ))
    }
}

/// What the server at a socket refused, or libblkio for it.
fn of_socket(path: &Path, (step, error): (&'static str, blkio::Error)) -> OpenError {
    OpenError::Socket {
        path: path.into(),
        step,
        reason: error.message().to_owned(),
    }
}

/// The greeting, in a thread of its own: libblkio waits for the server without end. A connection that comes
/// too late is closed again.
fn greet(path: &Path, access: Access, queue_size: u32) -> Result<Step<Server>, OpenError> {
    let Some(socket) = path.to_str().map(str::to_owned) else {
        let source = std::io::Error::other("the path is not UTF-8, which libblkio needs");
        return Err(OpenError::Path {
            path: path.into(),
            step: "connect",
            source,
        });
    };
    let (send, receive) = mpsc::channel();
    let thread = std::thread::Builder::new().name("rb-vhost-user".into());
    let spawned = thread.spawn(move || drop(send.send(connect(&socket, access, queue_size))));
    spawned.map_err(|source| OpenError::Path {
        path: path.into(),
        step: "start of a thread",
        source,
    })?;
    receive.recv_timeout(GREETING).map_err(|_| OpenError::InUse {
        path: path.into(),
        ended: false,
        reason: format!("its server did not answer within {GREETING:?}; it may serve one client at a time, and have one"),
    })
}

fn connect(socket: &str, access: Access, queue_size: u32) -> Step<Server> {
    let mut blkio = new(Kind::VhostUser, access)?;
    blkio.set_str("path", socket).map_err(at("path"))?;
    // Their numbers only: a copy would keep a connection of someone else open while this one waits.
    let before: Vec<u64> = connections().map(|(inode, _)| inode).collect();
    blkio.connect().map_err(at("connect"))?;
    let hangup = new_connection(&before);
    let size = i32::try_from(queue_size).unwrap_or(i32::MAX);
    blkio
        .set_i32("queue-size", size)
        .map_err(at("queue-size"))?;
    let queue = blkio.start().map_err(at("start"))?.queues.pop();
    let driver = Arc::new(Driver::started(Kind::VhostUser, blkio));
    let none = || blkio::Error::new(blkio::Errno::NODEV, "the driver made no queue");
    let queue = queue.ok_or_else(none).map_err(at("start"))?;
    let depth = queue_size / DESCRIPTORS_PER_PART;
    let limits = driver.limits(None)?;
    let capacity = driver.capacity_bytes()?;
    Ok(Server {
        port: Arc::new(Port::over(queue, &driver, depth, hangup)?),
        driver,
        limits,
        capacity_bytes: capacity - capacity % u64::from(limits.block.value.max(1)),
    })
}

/// The connection that was made since; none if another was, too.
fn new_connection(before: &[u64]) -> Option<UnixStream> {
    let mut new = connections().filter(|(inode, _)| !before.contains(inode));
    let (_, connection) = new.next()?;
    new.next().is_none().then_some(connection)
}
