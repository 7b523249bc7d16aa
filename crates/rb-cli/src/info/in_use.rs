//! Finds the process that has a store open for writing, without disturbing it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rb_core::monitor::{self, MonitorError};

use crate::watch::alarms;

/// The process that has a store open for writing.
pub(super) struct User {
    pub(super) process: u32,
    /// False if it has no monitor, is stopped or hangs.
    pub(super) answers: bool,
    /// Descriptions of what does not work as it should.
    pub(super) alarms: Vec<String>,
}

/// Returns the process that has the store open for writing; `None` if there is none, or none that can be found: a block
/// device that is open without a monitor looks the same as one that is not open.
pub(super) fn user(path: &Path) -> Option<User> {
    match monitor::session(path) {
        Ok(session) => Some(User {
            process: session.process,
            answers: true,
            alarms: alarms(&session.stats),
        }),
        Err(MonitorError::NoStore { .. }) => None,
        Err(_) => holder_of_lock(path).map(|process| User {
            process,
            answers: false,
            alarms: Vec::new(),
        }),
    }
}

/// Returns the process that holds the lock of a file, as /proc/locks names it: `1: FLOCK ADVISORY WRITE 708 00:13:1234 0 EOF`.
fn holder_of_lock(path: &Path) -> Option<u32> {
    let file = fs::metadata(path).ok()?;
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", process, at, ..] = words[..] else {
            return None;
        };
        let process = process.parse().ok().filter(|_| at == place)?;
        // A process of another namespace has the number 0. A killed one holds its locks for a moment longer.
        fs::exists(format!("/proc/{process}"))
            .is_ok_and(|is| is)
            .then_some(process)
    })
}
