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

/// Time limit for the vhost-user handshake.
const GREETING: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 4_000 });

/// Descriptors of the virtqueue, largest first: the maximum of QEMU's server, the default of
/// libblkio, and a size that every server supports.
const QUEUE_SIZES: [u32; 3] = [1024, 256, 128];

/// Descriptors used by a part: header, memory or range, status.
const DESCRIPTORS_PER_PART: u32 = 3;

/// A connected server.
#[derive(Debug)]
pub(crate) struct Server {
    // The port is dropped first: its queue lies in memory of the driver, which it also keeps alive.
    pub(super) port: Arc<Port>,
    pub(super) driver: Arc<Driver>,
    pub(crate) limits: Limits,
    pub(crate) capacity_bytes: u64,
}

impl Server {
    /// Connects to the server that listens at `path`.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if the server does not respond: a server that accepts one client lets
    /// others wait. [`OpenError::Socket`] with libblkio's message.
    pub(crate) fn connect(path: &Path, access: Access) -> Result<Self, OpenError> {
        let mut last = None;
        for size in QUEUE_SIZES {
            match greet(path, access, size)? {
                Ok(server) => return Ok(server),
                // Only a refused queue size is worth another attempt.
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

/// Converts an error of the server, or of libblkio on its behalf.
fn of_socket(path: &Path, (step, error): (&'static str, blkio::Error)) -> OpenError {
    OpenError::Socket {
        path: path.into(),
        step,
        reason: error.message().to_owned(),
    }
}

/// Performs the handshake in a separate thread, because libblkio waits for the server without
/// limit. A connection that is established too late is closed again.
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
    // Only inode numbers are kept: a duplicate descriptor would keep another user's connection open
    // while this one waits.
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

/// Returns the connection made since `before`; `None` if another one was made too.
fn new_connection(before: &[u64]) -> Option<UnixStream> {
    let mut new = connections().filter(|(inode, _)| !before.contains(inode));
    let (_, connection) = new.next()?;
    new.next().is_none().then_some(connection)
}
