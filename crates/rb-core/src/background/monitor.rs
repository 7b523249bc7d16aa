//! The monitor: a socket over which other processes of this host ask about the open store.
//!
//! Only the socket's owner and root can connect. A store that can have no socket works without one. The answers are in
//! `answers.rs`.

pub(crate) mod ages;
pub(crate) mod once;
pub(crate) mod place;
pub(crate) mod socket;
pub(crate) mod wire;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use rb_io::DeviceKind;
use rustix::net::{Shutdown, shutdown};

use crate::core::inner::Inner;
use ages::Ages;
use once::ScrubOnce;
use place::{Place, places};
use wire::Node;

/// The socket of an open store, and what is asked for over it.
pub(crate) struct Monitor {
    path: PathBuf,
    /// Device and inode of the socket's file: another process may have replaced it.
    file: (u64, u64),
    listener: UnixListener,
    /// The connection that is being served.
    served: Mutex<Option<UnixStream>>,
    stopped: AtomicBool,
    /// The file or device of the store.
    pub(crate) node: Node,
    pub(crate) opened: SystemTime,
    pub(crate) ages: Ages,
    pub(crate) scrub: ScrubOnce,
}

impl Monitor {
    /// Makes the socket of a store that is open for writing on a device of the given kind.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn of_store(inner: &Inner, kind: Option<DeviceKind>) -> Result<Monitor, String> {
        let options = &inner.options;
        let off = |why: &str| Err(why.to_owned());
        match kind {
            _ if !options.monitor => off("it is off"),
            _ if options.read_only => off("the store is open read-only"),
            _ if inner.is_manual() => off("the caller runs the background tasks"),
            None => off("the store is behind an engine of the caller's"),
            Some(kind) => {
                let folder = (kind == DeviceKind::File).then_some(&*inner.path);
                let node = fs::metadata(&inner.path).map_err(|why| why.to_string())?;
                Monitor::listen(&places(folder, &inner.identity.uuid), Node::of(&node))
            }
        }
    }

    /// Listens at the first of the places where that is possible.
    ///
    /// # Errors
    /// Each place with the reason why it is not possible there.
    fn listen(places: &[Place], node: Node) -> Result<Monitor, String> {
        let mut reasons = Vec::new();
        for place in places {
            match place.listen() {
                Ok((listener, file)) => {
                    return Ok(Monitor {
                        path: place.socket.clone(),
                        file,
                        listener,
                        served: Mutex::default(),
                        stopped: AtomicBool::new(false),
                        node,
                        opened: SystemTime::now(),
                        ages: Ages::default(),
                        scrub: ScrubOnce::default(),
                    });
                }
                Err(why) => reasons.push(format!("{}: {why}", place.socket.display())),
            }
        }
        Err(reasons.join("; "))
    }

    /// The path of the socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next connection; `None` if it was stopped.
    ///
    /// # Errors
    /// The system could not accept one, for instance for lack of file descriptors.
    pub(crate) fn accept(&self) -> io::Result<Option<UnixStream>> {
        let accepted = self.listener.accept();
        if self.stopped.load(Ordering::Acquire) {
            return Ok(None);
        }
        let (stream, _) = accepted?;
        *self.served.lock() = stream.try_clone().ok();
        // A stop that has not seen it here was before this look.
        let stopped = self.stopped.load(Ordering::Acquire);
        Ok((!stopped).then_some(stream))
    }

    /// Forgets the connection that was served.
    pub(crate) fn served(&self) {
        *self.served.lock() = None;
    }

    /// Ends the wait for a connection, and the connection that is being served. The socket's file is removed.
    pub(crate) fn stop(&self) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.file);
        if is_ours {
            drop(fs::remove_file(&self.path));
        }
        let _ = shutdown(&self.listener, Shutdown::Both);
        if let Some(served) = &*self.served.lock() {
            drop(served.shutdown(std::net::Shutdown::Both));
        }
    }
}

/// An opening that fails after the socket was made leaves none behind. A forked child drops no store.
impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}
