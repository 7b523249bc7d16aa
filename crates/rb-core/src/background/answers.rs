//! Answers other processes that ask about the open store.
//!
//! A thread waits for connections. It costs nothing until one is made, and the figures are then those of this moment,
//! also if every operation hangs. One connection is served at a time, each for a second at most.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::background::monitor::Monitor;
use crate::background::monitor::socket;
use crate::background::monitor::wire::{ASK_MAX, Answer, Ask, Session};
use crate::background::{Services, snapshot};
use crate::core::inner::Inner;

/// Pause after the system could not accept a connection, for instance for lack of file descriptors.
const WAIT_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Serves connections until the monitor is stopped.
pub(crate) fn serve(inner: &Arc<Inner>, background: &Services, monitor: &Monitor) {
    loop {
        match monitor.accept() {
            Ok(Some(stream)) => {
                // The other process may be gone: it is its own loss.
                drop(answer(inner, background, monitor, &stream));
                monitor.served();
            }
            Ok(None) => return,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if background.stop.pause(WAIT_AFTER_FAILURE) => {}
            Err(_) => return,
        }
    }
}

fn answer(
    inner: &Arc<Inner>,
    background: &Services,
    monitor: &Monitor,
    stream: &UnixStream,
) -> io::Result<()> {
    let deadline = socket::deadline();
    let line = socket::receive(stream, ASK_MAX, deadline)?;
    let answer = match Ask::decode(&line) {
        Ok(Ask::Session) => Answer::Session(Box::new(session(inner, background, monitor))),
        Ok(Ask::Scrub { bytes_per_second }) => {
            match monitor
                .scrub
                .start(inner, &background.stop, bytes_per_second)
            {
                Ok(()) => Answer::Started,
                Err(why) => Answer::Refused(why),
            }
        }
        Err(why) => Answer::Refused(why),
    };
    socket::send(stream, &answer.encode(), deadline)
}

fn session(inner: &Inner, background: &Services, monitor: &Monitor) -> Session {
    let geometry = &inner.geometry;
    Session {
        process: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: monitor.node,
        path: inner.path.clone(),
        socket: monitor.path().to_path_buf(),
        uuid: inner.identity.uuid.to_string(),
        label: inner.superblock.label().to_vec(),
        engine: inner.device.name().to_owned(),
        opened: monitor.opened,
        slot_bytes: (0..geometry.classes() as u8)
            .map(|class| geometry.class_capacity(class))
            .collect(),
        queue_depth: inner.options.queue_depth,
        oldest_use: monitor.ages.oldest(inner),
        scrub: monitor.scrub.progress(),
        stats: snapshot::take(inner, background),
    }
}
