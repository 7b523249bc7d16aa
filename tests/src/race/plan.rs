//! The plan of a session.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rb_core::EngineKind;

use super::shape::{Image, Session};

/// Ending of a session, unless it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The last handle is dropped.
    Drop,
    Close,
}

/// Parameters of a session.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) path: PathBuf,
    pub(super) engine: EngineKind,
    pub(super) image: Image,
    pub(super) session: Session,
    /// The first version that it may put; each is put once in a run.
    pub(super) first_version: u64,
    pub(super) time: Duration,
    pub(super) end: End,
    /// True if every key is read before the threads begin, so that entries whose bytes are gone are dropped.
    pub(super) reads_first: bool,
}

/// Number sequences shared by all threads.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) version: AtomicU64,
}

impl Numbers {
    pub(super) fn versions(&self, count: usize) -> u64 {
        self.version.fetch_add(count as u64, Ordering::Relaxed)
    }
}
