//! The monitor: answers other processes of this host about the open store, over a socket beside it.
//!
//! A thread waits for connections. It costs nothing until one is made, and the figures are then those of this moment,
//! also if every operation hangs. One connection is served at a time, each for a second at most. Only the socket's owner
//! and root can connect. A store that can have no socket works without one.

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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustix::net::{Shutdown, shutdown};

use crate::background::Services;
use crate::background::snapshot;
use crate::core::inner::Inner;
use ages::Ages;
use once::ScrubOnce;
use place::Place;
use wire::{Answer, Ask};

/// Pause after the system could not accept a connection, for instance for lack of file descriptors.
const WAIT_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The socket of an open store, and what is asked for over it.
pub(crate) struct Monitor {
    path: PathBuf,
    /// Device and inode of the socket's file: another process may have replaced it.
    file: (u64, u64),
    listener: UnixListener,
    /// The connection that is being served.
    served: Mutex<Option<UnixStream>>,
    stopped: AtomicBool,
    opened: SystemTime,
    pub(crate) ages: Ages,
    pub(crate) scrub: ScrubOnce,
}

impl Monitor {
    /// Listens at the first of the places where that is possible.
    ///
    /// # Errors
    /// Each place with the reason why it is not possible there.
    pub(crate) fn listen(places: &[Place]) -> Result<Monitor, String> {
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

    /// Serves connections until stopped.
    pub(crate) fn serve(&self, inner: &Arc<Inner>, background: &Arc<Services>) {
        loop {
            let accepted = self.listener.accept();
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
            match accepted {
                Ok((stream, _)) => {
                    *self.served.lock() = stream.try_clone().ok();
                    // The other process may be gone: it is its own loss.
                    drop(self.answer(inner, background, &stream));
                    *self.served.lock() = None;
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if background.stop.pause(WAIT_AFTER_FAILURE) => {}
                Err(_) => return,
            }
        }
    }

    fn answer(
        &self,
        inner: &Arc<Inner>,
        background: &Arc<Services>,
        stream: &UnixStream,
    ) -> io::Result<()> {
        let deadline = socket::deadline();
        let line = socket::receive(stream, wire::ASK_MAX, deadline)?;
        let answer = match Ask::decode(&line) {
            Ok(Ask::Session) => Answer::Session(Box::new(self.session(inner, background))),
            Ok(Ask::Scrub { bytes_per_second }) => {
                match self.scrub.start(inner, background, bytes_per_second) {
                    Ok(()) => Answer::Started,
                    Err(why) => Answer::Refused(why),
                }
            }
            Err(why) => Answer::Refused(why),
        };
        socket::send(stream, &answer.encode(), deadline)
    }

    fn session(&self, inner: &Inner, background: &Services) -> wire::Session {
        wire::Session {
            process: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            path: inner.path.clone(),
            socket: self.path.clone(),
            uuid: inner.identity.uuid.to_string(),
            label: inner.superblock.label().to_vec(),
            engine: inner.device.name().to_owned(),
            opened: self.opened,
            recovered: inner.recovery.entries,
            clean: inner.recovery.clean,
            slot_bytes: (0..inner.geometry.classes() as u8)
                .map(|class| inner.geometry.class_capacity(class))
                .collect(),
            queue_depth: inner.options.queue_depth,
            oldest_use: self.ages.oldest(inner),
            scrub: self.scrub.progress(),
            stats: snapshot::take(inner, background),
        }
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
